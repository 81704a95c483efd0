//! How many there are: counts that the engine keeps and the outer layers publish.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};
use crate::time::UnixSeconds;

/// Counts at one moment. Each is exact; taken while the engine works, they need not be of the very same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Users known.
    pub users: u64,
    /// Live sessions: those that a heal can still extend. A session leaves this count when it is swept, in second
    /// deadline + grace + 1, or when its user leaves.
    pub online: u64,
    /// The second that was last swept.
    pub at: UnixSeconds,
    /// Sessions in all timelines, live and closed ones; the empty ones (opened and left in one second) too.
    pub sessions: u64,
    /// Sessions opened, and reopened in the second of a leave, since the engine started.
    pub opened: u64,
    /// Sessions that ended because nobody healed, since the engine started.
    pub lapsed: u64,
    /// Sessions that ended because their user left, since the engine started.
    pub left: u64,
    /// Live sessions that ended because their user was forgotten, since the engine started.
    pub forgotten: u64,
    /// Sessions that opened within one ttl of their user's previous end: their clients heal too seldom for the ttl.
    pub flaps: u64,
    /// Heals of unknown users that were refused because of the limit on users.
    pub users_refused: u64,
}

/// The counts themselves. Only opening, closing and forgetting touch them, and those hold a lock anyway.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    users: CachePadded<AtomicU64>,
    /// With release and acquire order: it is compared with the events that change it.
    online: CachePadded<AtomicU64>,
    sessions: CachePadded<AtomicU64>,
    timeline_bytes: AtomicU64,
    opened: AtomicU64,
    lapsed: AtomicU64,
    left: AtomicU64,
    forgotten: AtomicU64,
    flaps: AtomicU64,
    users_refused: AtomicU64,
}

impl Counts {
    /// Counts one more user, unless there are `limit` already.
    pub fn try_add_user(&self, limit: u64) -> bool {
        let added = self
            .users
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |users| (users < limit).then_some(users + 1));
        if added.is_err() {
            self.users_refused.fetch_add(1, Ordering::Relaxed);
        }
        added.is_ok()
    }

    /// The user counted last did not come about.
    pub fn remove_user(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// Retention has dropped so many closed sessions.
    pub fn dropped(&self, sessions: u64) {
        if sessions > 0 {
            self.sessions.fetch_sub(sessions, Ordering::Relaxed);
        }
    }

    /// A timeline took so many bytes of the heap and takes so many now.
    pub fn resized(&self, before: u64, after: u64) {
        if before != after {
            // Modulo 2^64, so that one that shrinks is taken off.
            self.timeline_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// So many were there when the engine started.
    pub fn recovered(&self, users: u64, online: u64, sessions: u64) {
        self.users.fetch_add(users, Ordering::Relaxed);
        self.online.fetch_add(online, Ordering::Relaxed);
        self.sessions.fetch_add(sessions, Ordering::Relaxed);
    }

    pub fn opened(&self, is_flap: bool) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.online.fetch_add(1, Ordering::Release);
        self.opened.fetch_add(1, Ordering::Relaxed);
        if is_flap {
            self.flaps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A closed session was brought in.
    pub fn imported(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A session that had been left is live again. It is no new one, but its user comes online once more.
    pub fn reopened(&self) {
        self.online.fetch_add(1, Ordering::Release);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub fn lapsed(&self) {
        self.online.fetch_sub(1, Ordering::Release);
        self.lapsed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn left(&self) {
        self.online.fetch_sub(1, Ordering::Release);
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// A user with `sessions` in the timeline is gone.
    pub fn forgot(&self, sessions: u64, was_online: bool) {
        self.users.fetch_sub(1, Ordering::Relaxed);
        self.sessions.fetch_sub(sessions, Ordering::Relaxed);
        if was_online {
            self.online.fetch_sub(1, Ordering::Release);
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes of the heap that hold closed sessions.
    pub fn timeline_bytes(&self) -> u64 {
        self.timeline_bytes.load(Ordering::Relaxed)
    }

    pub fn online(&self) -> u64 {
        self.online.load(Ordering::Acquire)
    }

    pub fn read(&self, at: UnixSeconds) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            users: read(&self.users),
            online: self.online(),
            at,
            sessions: read(&self.sessions),
            opened: read(&self.opened),
            lapsed: read(&self.lapsed),
            left: read(&self.left),
            forgotten: read(&self.forgotten),
            flaps: read(&self.flaps),
            users_refused: read(&self.users_refused),
        }
    }
}
