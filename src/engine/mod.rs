//! The engine: takes heals and leaves, answers who is online and since when, notices who has gone.
//!
//! It is synchronous and has no log, no metrics and no runtime of its own; the layers around it publish what it returns.
//!
//! ```text
//!   heal of someone online      shared guard of the shard → clock → compare-and-swap of one word
//!   heal that opens, leave,
//!   forget, sweep of a user     exclusive guard of the shard → clock → change
//!   status, timeline            shared guard of the shard → clock → read
//! ```
//!
//! Order of every write: take the guard, *then* read the clock, decide, apply, release. With the clock read before the
//! guard, a heal that stalls in between opens a session in the past. A shared guard is never turned into an exclusive one:
//! it is given up, and under the new one the clock is read and everything decided again.
//!
//! No answer depends on the sweeper having run: when a session ends is arithmetic (see `rules`), and a session that has
//! not been swept yet is read as what it is.

mod buckets;
mod figures;
mod live;
mod roster;
mod rules;
mod sweep;
mod timeline;

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::session::{Session, Status};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::time::{Clock, Ttl, UnixSeconds, pack, unpack};
use crate::user_id::UserId;

pub use figures::Figures;
pub use sweep::{SweepFault, Sweeper, SweeperReport, Swept};

use buckets::Buckets;
use figures::Counts;
use live::{Live, LiveWord};
use roster::{Place, Roster, User};
use rules::{Healed, Outage, Rules, lapse, leave, status};
use timeline::Timeline;

/// What a heal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// The user was offline and is online now.
    Opened,
    /// The live session lasts longer now.
    Extended,
    /// Nothing: another heal in the same second had done it.
    Unchanged,
}

/// What a leave did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The live session has ended.
    Left,
    /// There was none.
    NotLive,
}

/// Why a write was refused. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The user is not known, and as many are known as the engine was told to keep.
    #[error("the service knows as many users as it may")]
    UsersFull,
}

/// What is known of one user in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Whether the user counts as online now.
    pub status: Status,
    /// The latest session; `None` for a user who has only ever left in the second of coming.
    pub latest: Option<Session>,
    /// The latest second in which the user counted as online. After such an empty session, its second.
    pub last_seen: UnixSeconds,
    /// How many sessions there are.
    pub sessions: u64,
    /// The seconds in all of them, up to now.
    pub online_seconds: u64,
}

/// Settings of an engine. All have defaults.
#[derive(Clone)]
pub struct Builder {
    ttl: Ttl,
    grace: u32,
    users_max: u64,
    clock: Option<Arc<dyn Clock>>,
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

    /// Where the time comes from. [`SystemClock`] by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// An engine that knows nobody yet.
    pub fn build(self) -> Engine {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::start()));
        let rules = Rules { ttl: self.ttl, grace: self.grace };
        let start = clock.now();
        Engine {
            roster: Roster::new(),
            buckets: Buckets::new(start, rules.due(UnixSeconds::new(self.ttl.as_seconds()), None).as_u32()),
            swept_at: AtomicU32::new(start.as_u32()),
            sweeping: Mutex::new(()),
            outage: AtomicU64::new(0),
            counts: Counts::default(),
            users_max: self.users_max,
            rules,
            clock,
        }
    }
}

/// Who is online, and everybody's timeline. Share it by `Arc`; every method can be called from any thread.
pub struct Engine {
    roster: Roster,
    buckets: Buckets,
    /// The second last swept, to its end; the buckets' own position moves on when a sweep begins.
    swept_at: AtomicU32,
    /// Held by whoever sweeps. Of two at once, one could set the buckets' position back to where the other has been, and an
    /// entry filed there would be found too late.
    sweeping: Mutex<()>,
    /// The last outage, `from` in the upper half, `to` in the lower; 0 when there was none.
    outage: AtomicU64,
    counts: Counts,
    users_max: u64,
    rules: Rules,
    clock: Arc<dyn Clock>,
}

impl Engine {
    /// Settings for a new engine.
    pub fn builder() -> Builder {
        Builder { ttl: Ttl::DEFAULT, grace: 0, users_max: u64::MAX, clock: None }
    }

    /// Takes one heartbeat: `user` is online from now until one ttl from now at least.
    ///
    /// Of a user who is online it takes no lock exclusively and allocates nothing.
    ///
    /// # Errors
    /// [`WriteError::UsersFull`] if the user would be one too many.
    #[inline]
    pub fn heal(&self, user: UserId) -> Result<Heal, WriteError> {
        let extended = self.roster.view(user, |known| {
            let now = self.clock.now();
            let live = known.live.load()?;
            match self.rules.heal(live, || self.outage(), now) {
                // Another heal may have come between the load and here, and then this one changes nothing.
                Healed::Extended(extended) if known.live.extend(live, extended) => Some(Heal::Extended),
                Healed::Extended(_) | Healed::Unchanged => Some(Heal::Unchanged),
                Healed::Over => None,
            }
        });
        match extended.flatten() {
            Some(heal) => Ok(heal),
            None => self.open(user),
        }
    }

    /// The rest of a heal that found no live session; decides again, under the exclusive guard.
    #[cold]
    fn open(&self, user: UserId) -> Result<Heal, WriteError> {
        self.roster.change_or_add(user, |place| {
            let now = self.clock.now();
            match place {
                Place::Known(known) => Ok(self.heal_exclusively(user, known, now)),
                Place::New(added) => {
                    if !self.counts.try_add_user(self.users_max) {
                        return Err(WriteError::UsersFull);
                    }
                    let mut known = User { live: LiveWord::none(), closed: Timeline::default(), armed: 0 };
                    let heal = self.heal_exclusively(user, &mut known, now);
                    *added = Some(known);
                    Ok(heal)
                }
            }
        })
    }

    fn heal_exclusively(&self, user: UserId, known: &mut User, now: UnixSeconds) -> Heal {
        if let Some(live) = known.live.load() {
            match self.rules.heal(live, || self.outage(), now) {
                Healed::Unchanged => return Heal::Unchanged,
                Healed::Extended(extended) => {
                    known.live.extend(live, extended);
                    return Heal::Extended;
                }
                Healed::Over => self.close_lapsed(known, live),
            }
        }
        let opened = self.rules.open(now);
        let live = match known.closed.last() {
            Some(last) if last.is_left_in(now) => {
                known.closed.pop();
                self.counts.reopened();
                Live { online_at: last.online_at(), ..opened }
            }
            last => {
                let ttl = self.rules.ttl.as_seconds();
                self.counts.opened(last.is_some_and(|last| now.since(last.offline_at()) <= ttl));
                opened
            }
        };
        known.live.replace(Some(live));
        // An entry of an earlier session serves as well: it is found no later than this one is due.
        if known.armed == 0 {
            known.armed = self.buckets.arm(user, self.due(live));
        }
        Heal::Opened
    }

    /// Ends `user`'s live session now.
    pub fn leave(&self, user: UserId) -> Leave {
        let left = self.roster.change(user, |known| {
            let now = self.clock.now();
            let live = self.close_if_over(known, now)?;
            known.closed.push(leave(live, now));
            known.live.replace(None);
            self.counts.left();
            Some(Leave::Left)
        });
        left.flatten().unwrap_or(Leave::NotLive)
    }

    /// Removes `user` and the whole timeline; gives how many sessions there were to see.
    pub fn forget(&self, user: UserId) -> u64 {
        self.roster
            .remove(user, |known| {
                let now = self.clock.now();
                // One that is over has lapsed, whether or not the sweep has been here.
                let live = self.close_if_over(known, now);
                let sessions = known.closed.len() as u64 + u64::from(live.is_some());
                self.counts.forgot(sessions, live.is_some());
                self.shown(known, live, now).count() as u64
            })
            .unwrap_or(0)
    }

    /// Whether `user` is online; an unknown one is offline.
    #[inline]
    pub fn status(&self, user: UserId) -> Status {
        self.roster.view(user, |known| status(known.live.load(), self.clock.now())).unwrap_or(Status::Offline)
    }

    /// `user`'s sessions by `online_at`, the live one last with its deadline as `offline_at`; empty for an unknown one.
    ///
    /// Copies the timeline while the shard's shared guard is held.
    pub fn timeline(&self, user: UserId) -> Vec<Session> {
        self.roster
            .view(user, |known| self.shown(known, known.live.load(), self.clock.now()).collect())
            .unwrap_or_default()
    }

    /// `user` in a few numbers; `None` for a user never seen.
    pub fn profile(&self, user: UserId) -> Option<Profile> {
        self.roster.view(user, |known| {
            let now = self.clock.now();
            let live = known.live.load();
            let last = live
                .map(|live| self.rules.show(live, self.outage(), now))
                .or_else(|| known.closed.last().map(timeline::Closed::session));
            let mut profile = Profile {
                status: status(live, now),
                latest: None,
                last_seen: last.map_or(now, |session| session.last_seen(now)),
                sessions: 0,
                online_seconds: 0,
            };
            for session in self.shown(known, live, now) {
                profile.sessions += 1;
                profile.online_seconds += u64::from(session.offline_at.min(now).since(session.online_at));
                profile.latest = Some(session);
            }
            profile
        })
    }

    /// Counts: users, sessions, who is online. Constant time.
    pub fn figures(&self) -> Figures {
        self.counts.read(UnixSeconds::new(self.swept_at.load(Ordering::Acquire)))
    }

    /// The engine's current second.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// How long a heal keeps its user online.
    pub fn ttl(&self) -> Ttl {
        self.rules.ttl
    }

    /// `live` is handed in because a heal may extend it at any time: an answer reads it once.
    fn shown<'a>(
        &self,
        known: &'a User,
        live: Option<Live>,
        now: UnixSeconds,
    ) -> impl Iterator<Item = Session> + use<'a> {
        let live = live.map(|live| self.rules.show(live, self.outage(), now));
        known.closed.iter().map(timeline::Closed::session).chain(live).filter(|session| !session.is_empty())
    }

    /// The live session; one that is over is closed first, and then there is none.
    fn close_if_over(&self, known: &mut User, now: UnixSeconds) -> Option<Live> {
        let live = known.live.load()?;
        if self.rules.is_over(live, self.outage(), now) {
            self.close_lapsed(known, live);
            return None;
        }
        Some(live)
    }

    fn close_lapsed(&self, known: &mut User, live: Live) {
        known.closed.push(lapse(live));
        known.live.replace(None);
        self.counts.lapsed();
    }

    fn due(&self, live: Live) -> UnixSeconds {
        self.rules.due(live.deadline, self.outage())
    }

    fn outage(&self) -> Option<Outage> {
        let word = self.outage.load(Ordering::Acquire);
        (word != 0).then(|| {
            let (from, to) = unpack(word);
            Outage { from, to }
        })
    }

    fn note_outage(&self, outage: Outage) {
        self.outage.store(pack(outage.from, outage.to), Ordering::Release);
    }
}
