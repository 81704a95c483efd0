//! Time as the engine knows it: whole Unix seconds, read from a [`Clock`].
//!
//! Everything that depends on the time of day takes it from a clock that is handed in, so that a test can stand still or
//! jump ([`ManualClock`]). The real clock is [`SystemClock`](crate::SystemClock).

use std::fmt;
use std::time::Duration;

use crate::sync::{AtomicU32, Ordering};

/// A second since 1970-01-01T00:00:00Z, up to the year 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u32);

impl UnixSeconds {
    /// The last second there is: 2106-02-07T06:28:15Z.
    pub const MAX: Self = Self(u32::MAX);

    /// This second.
    pub const fn new(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// `seconds` later; the last second there is when that lies beyond it.
    #[must_use]
    pub const fn plus(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// `seconds` earlier; second 0 when that lies before it.
    #[must_use]
    pub const fn minus(self, seconds: u32) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// How many seconds this is after `earlier`; 0 when it is not.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Two seconds that must agree, in one word for an atomic: `upper` in bits 63 to 32, `lower` in the others.
pub(crate) const fn pack(upper: UnixSeconds, lower: UnixSeconds) -> u64 {
    (upper.0 as u64) << 32 | lower.0 as u64
}

/// `(upper, lower)` of a packed word.
#[allow(clippy::cast_possible_truncation)] // each half is what it holds
pub(crate) const fn unpack(word: u64) -> (UnixSeconds, UnixSeconds) {
    (UnixSeconds((word >> 32) as u32), UnixSeconds(word as u32))
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a heal keeps its user online: 1 second to 1 day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(u32);

/// A ttl of no time at all, or of more than a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ttl is from 1 second to 1 day ({MAX} seconds)", MAX = Ttl::MAX.as_seconds())]
pub struct InvalidTtl;

impl Ttl {
    /// 7 seconds, as the original service had it.
    pub const DEFAULT: Self = Self(7);
    /// One day.
    pub const MAX: Self = Self(24 * 60 * 60);

    /// A ttl of that many seconds.
    ///
    /// # Errors
    /// [`InvalidTtl`] outside 1 second to 1 day.
    pub const fn from_seconds(seconds: u32) -> Result<Self, InvalidTtl> {
        if seconds == 0 || seconds > Self::MAX.0 { Err(InvalidTtl) } else { Ok(Self(seconds)) }
    }

    /// The number of seconds.
    pub const fn as_seconds(self) -> u32 {
        self.0
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The current second. Never earlier than one that was given before, to any thread.
    fn now(&self) -> UnixSeconds;

    /// How long until second `at` begins; zero when it has begun.
    fn until(&self, at: UnixSeconds) -> Duration;

    /// Called once a second by the sweeper, so that a clock that follows another one can do so. Tells `found` when that
    /// other clock was found to have been set; if this one now jumps after it, before it does, so that nobody sees the new
    /// time who cannot know how it came about.
    fn follow(&self, found: &mut dyn FnMut(ClockStep)) {
        let _ = found;
    }
}

/// The wall clock has been set by more than the engine's clock corrects in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockStep {
    /// It is ahead. Nothing happens unless that holds for a minute.
    Ahead {
        /// By how many seconds.
        seconds: u64,
    },
    /// It has been ahead for a minute, and the engine's clock now follows: the seconds between never passed here.
    Adopted {
        /// The last second before the jump.
        from: UnixSeconds,
        /// The first second after it.
        to: UnixSeconds,
    },
    /// It is behind. The engine's clock goes on, a twentieth slower, until the other has caught up.
    Behind {
        /// By how many seconds.
        seconds: u64,
    },
}

/// A clock that moves when it is told to.
///
/// ```
/// use heartbeat::{Clock, ManualClock, UnixSeconds};
///
/// let clock = ManualClock::at(UnixSeconds::new(1_638_360_000));
/// clock.advance(7);
/// assert_eq!(clock.now(), UnixSeconds::new(1_638_360_007));
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU32);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn at(start: UnixSeconds) -> Self {
        Self(AtomicU32::new(start.0))
    }

    /// Moves it forwards, up to the last second there is. It cannot be moved back: no clock of the engine's can.
    pub fn advance(&self, seconds: u32) {
        let advance = |now: u32| Some(now.saturating_add(seconds));
        // Never refused: `advance` always gives a second.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, advance);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::SeqCst))
    }

    /// A second per second, as if the clock moved: whoever waits must look again anyway.
    fn until(&self, at: UnixSeconds) -> Duration {
        Duration::from_secs(u64::from(at.since(self.now())))
    }
}
