//! One session: when a user came, until when they counted as online, and how it ended.

use crate::time::UnixSeconds;

/// Whether a user counts as online in some second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The second lies before the deadline of the user's live session.
    Online,
    /// It does not, or there is no such session, or no such user.
    Offline,
}

impl Status {
    /// `online` or `offline`, as every answer spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has not: a heal can still extend it. `offline_at` is its deadline.
    Live,
    /// Nobody healed until its deadline had passed.
    Lapsed,
    /// The user left.
    Left,
}

/// A stretch of time in which a user was online: every second `t` with `online_at <= t < offline_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The second of the heal that opened it.
    pub online_at: UnixSeconds,
    /// The first second in which the user no longer counts as online; for a live session its deadline.
    pub offline_at: UnixSeconds,
    /// How it ended.
    pub end: End,
}

impl Session {
    /// Its length in seconds.
    pub const fn seconds(&self) -> u32 {
        self.offline_at.since(self.online_at)
    }

    /// Opened and left in one second. Such a session is kept, because a heal in that second reopens it, and never shown.
    pub const fn is_empty(&self) -> bool {
        self.seconds() == 0
    }

    /// The latest second, up to `now`, in which the user counted as online because of it.
    pub fn last_seen(&self, now: UnixSeconds) -> UnixSeconds {
        self.offline_at.minus(1).min(now).max(self.online_at)
    }
}
