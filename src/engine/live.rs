//! The packed word of a live session: when it opened and until when it lasts, in one atomic.
//!
//! ```text
//!   63            32 31             0
//!   ├── online_at ──┼─── deadline ──┤      0 = no live session (a deadline is never 0: a ttl is at least a second)
//! ```
//!
//! The two numbers must agree, so they are one word. Whoever extends holds a shared guard: then the upper half cannot
//! change (only an exclusive guard opens or closes), and the greater word is the later deadline.

use crate::sync::{AtomicU64, Ordering};
use crate::time::{UnixSeconds, pack, unpack};

/// A live session, read from its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub online_at: UnixSeconds,
    pub deadline: UnixSeconds,
}

impl Live {
    /// As it stands in a snapshot, too.
    pub const fn pack(self) -> u64 {
        pack(self.online_at, self.deadline)
    }

    pub const fn unpack(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        let (online_at, deadline) = unpack(word);
        Some(Self { online_at, deadline })
    }
}

/// The word itself.
#[derive(Debug)]
pub(crate) struct LiveWord(AtomicU64);

impl LiveWord {
    pub fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn of(live: Live) -> Self {
        Self(AtomicU64::new(live.pack()))
    }

    #[inline]
    pub fn load(&self) -> Option<Live> {
        Live::unpack(self.0.load(Ordering::Acquire))
    }

    /// Makes the session, read as `live` from here, last until `extended.deadline` at least, and says whether that is later
    /// than before. The caller has held a guard since reading it.
    #[inline]
    pub fn extend(&self, live: Live, extended: Live) -> bool {
        debug_assert_eq!(live.online_at, extended.online_at);
        // Hardly ever has another heal come in between. If so, the later deadline counts.
        self.0.compare_exchange(live.pack(), extended.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
            || self.extend_after_another(extended)
    }

    #[cold]
    fn extend_after_another(&self, extended: Live) -> bool {
        let before = self.0.fetch_max(extended.pack(), Ordering::AcqRel);
        debug_assert_eq!(
            before >> 32,
            extended.pack() >> 32,
            "a session was opened or closed under a shared guard"
        );
        before < extended.pack()
    }

    /// Replaces the session; needs the exclusive guard, as `&mut` says.
    pub fn replace(&mut self, live: Option<Live>) {
        *self = live.map_or_else(Self::none, Self::of);
    }
}
