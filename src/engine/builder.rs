//! What an engine is made with. How one is made from a data directory is in `recover`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Engine;
use super::buckets::Buckets;
use super::events::Events;
use super::figures::Counts;
use super::outages::{Outages, RecentOutages};
use super::retention::Retention;
use super::roster::Roster;
use super::rules::Rules;
use crate::clock::SystemClock;
use crate::sync::{AtomicU32, Mutex};
use crate::time::{Clock, Ttl, UnixSeconds};

/// Settings of an engine. All have defaults.
#[derive(Clone)]
pub struct Builder {
    pub(super) ttl: Ttl,
    pub(super) grace: u32,
    users_max: u64,
    retention: Retention,
    events_held: usize,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            ttl: Ttl::DEFAULT,
            grace: 0,
            users_max: u64::MAX,
            retention: Retention::default(),
            events_held: 0,
            clock: None,
        }
    }
}

impl Builder {
    /// How long a heal keeps its user online. 7 seconds by default.
    #[must_use]
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// For how many seconds after the deadline a heal still continues the session. 0 by default.
    #[must_use]
    pub fn grace_seconds(mut self, grace: u32) -> Self {
        self.grace = grace;
        self
    }

    /// How many users may be known: a heal of another one is refused. Unlimited by default.
    #[must_use]
    pub fn users_max(mut self, users: u64) -> Self {
        self.users_max = users;
        self
    }

    /// Closed sessions that ended more than so many seconds ago are dropped, a while later. None by default.
    #[must_use]
    pub fn retain_seconds(mut self, seconds: u32) -> Self {
        self.retention.seconds = Some(seconds);
        self
    }

    /// How many sessions of one user are kept, the live one included: the oldest are dropped. All by default.
    #[must_use]
    pub fn retain_sessions(mut self, sessions: usize) -> Self {
        self.retention.sessions = Some(sessions);
        self
    }

    /// How many of the latest transitions are held for [`Engine::events`], 24 bytes each, taken at once. None by default, and then
    /// nothing is published.
    #[must_use]
    pub fn events_held(mut self, events: usize) -> Self {
        self.events_held = events;
        self
    }

    /// Where the time comes from. [`SystemClock`] by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// An engine that knows nobody yet and forgets everybody when it is dropped.
    pub fn build(self) -> Engine {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::start()));
        // Different in each process: it keys the hash of nothing but this.
        let seed = RandomState::new().hash_one(clock.now().as_u32());
        self.build_with(Roster::new(seed), clock)
    }

    pub(super) fn build_with(self, roster: Roster, clock: Arc<dyn Clock>) -> Engine {
        let rules = Rules { ttl: self.ttl, grace: self.grace };
        let start = clock.now();
        Engine {
            roster,
            buckets: Buckets::new(
                start,
                rules.due(UnixSeconds::new(self.ttl.as_seconds()), Outages::default()).as_u32(),
            ),
            swept_at: AtomicU32::new(start.as_u32()),
            sweeping: Mutex::new(()),
            recent_outages: RecentOutages::default(),
            counts: Counts::default(),
            events: Events::held(self.events_held),
            users_max: self.users_max,
            retention: self.retention,
            rules,
            clock,
            persistence: None,
        }
    }
}
