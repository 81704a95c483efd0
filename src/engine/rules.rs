//! What a heal and a leave mean: arithmetic on one user's sessions, without a clock, a lock or a map.
//!
//! ```text
//!   online_at              deadline        deadline + grace
//!      ├──────── online ──────┤── offline ───────┤── offline, closed ──▶
//!      ├───────── a heal extends this session ───┤── a heal opens another ──▶
//! ```
//!
//! Both edges are clients' business since the original service: in the very second of the deadline a user reads as offline,
//! and a heal in that second still extends the session.

use super::live::Live;
use super::outages::Outages;
use super::timeline::{Closed, ClosedEnd};
use crate::session::{End, Session, Status};
use crate::time::{Ttl, UnixSeconds};

/// A time in which the service was not there to take heals: `from <= t < to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    pub from: UnixSeconds,
    pub to: UnixSeconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub ttl: Ttl,
    /// Seconds after the deadline in which a heal still continues the session.
    pub grace: u32,
}

/// What a heal does to a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Healed {
    /// Another heal in this second has been here already.
    Unchanged,
    /// It lasts longer now.
    Extended(Live),
    /// It has ended; the heal opens another.
    Over,
}

impl Rules {
    /// So many seconds after an outage a heal still continues a session whose deadline fell into it.
    pub const fn reach(self) -> u32 {
        self.ttl.as_seconds().saturating_add(self.grace)
    }

    /// The last second in which a heal extends a session with this deadline.
    pub fn extendable_until(self, deadline: UnixSeconds, outages: Outages) -> UnixSeconds {
        let mut until = deadline.plus(self.grace);
        // Our absence must not cut everybody's session: count from when we were back. So it is with what that granted, if we
        // were gone again before it was over.
        let mut end = deadline;
        while let Some(outage) = outages.around(end) {
            until = until.max(outage.to.plus(self.reach()));
            end = until;
        }
        until
    }

    /// The second in which a session with this deadline is closed and announced, if nobody heals.
    pub fn due(self, deadline: UnixSeconds, outages: Outages) -> UnixSeconds {
        self.extendable_until(deadline, outages).plus(1)
    }

    /// Whether the session is over for good, swept or not.
    pub fn is_over(self, live: Live, outages: Outages, now: UnixSeconds) -> bool {
        now > self.extendable_until(live.deadline, outages)
    }

    /// Asks for the outages only if it makes a difference, which is not while the user is online.
    #[inline]
    pub fn heal(self, live: Live, outages: impl FnOnce() -> Outages, now: UnixSeconds) -> Healed {
        let deadline = now.plus(self.ttl.as_seconds());
        if deadline <= live.deadline {
            Healed::Unchanged
        } else if now <= live.deadline || !self.is_over(live, outages(), now) {
            Healed::Extended(Live { deadline, ..live })
        } else {
            Healed::Over
        }
    }

    pub fn open(self, now: UnixSeconds) -> Live {
        Live { online_at: now, deadline: now.plus(self.ttl.as_seconds()) }
    }

    /// The live session as its user's timeline shows it: over if it is, whether or not it has been swept.
    pub fn show(self, live: Live, outages: Outages, now: UnixSeconds) -> Session {
        let end = if self.is_over(live, outages, now) { End::Lapsed } else { End::Live };
        Session { online_at: live.online_at, offline_at: live.deadline, end }
    }
}

/// A session that ended for want of heals.
pub(crate) fn lapse(live: Live) -> Closed {
    Closed::new(live.online_at, live.deadline, ClosedEnd::Lapsed)
}

/// A session whose user leaves at `now`: never longer than it would have been.
pub(crate) fn leave(live: Live, now: UnixSeconds) -> Closed {
    Closed::new(live.online_at, now.min(live.deadline), ClosedEnd::Left)
}

pub(crate) fn status(live: Option<Live>, now: UnixSeconds) -> Status {
    match live {
        Some(live) if now < live.deadline => Status::Online,
        _ => Status::Offline,
    }
}
