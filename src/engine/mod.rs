//! The engine: takes heals and leaves, answers who is online and since when, notices who has gone.
//!
//! It is synchronous and has no log, no metrics and no runtime of its own; the layers around it publish what it returns.
//!
//! ```text
//!   heal of someone online      shared guard of the shard → clock → journal slot → compare-and-swap of one word
//!   heal that opens, leave,
//!   forget                      exclusive guard of the shard → clock → journal slot → change
//!   sweep of a user             exclusive guard of the shard → change
//!   status, timeline            shared guard of the shard → clock → read
//! ```
//!
//! Order of every write: take the guard, *then* read the clock and look up the journal's segment, decide, write the slot,
//! apply, release. With the clock read before the guard, a heal that stalls in between opens a session in the past; with the
//! segment, it writes into one that a finished snapshot no longer replays. A shared guard is never turned into an exclusive
//! one: it is given up, and under the new one the clock is read and everything decided again. What the journal refuses has
//! changed nothing.
//!
//! What a user's online state becomes is published last, under the same guard (see `events`): whoever reads it waits for nobody, and
//! nobody waits for them.
//!
//! No answer depends on the sweeper having run: when a session ends is arithmetic (see `rules`), and a session that has
//! not been swept yet is read as what it is.

mod buckets;
mod builder;
mod census;
mod chain;
mod events;
#[cfg(all(test, not(shuttle)))]
mod exhaustive;
mod figures;
mod fold;
mod generations;
mod history;
mod import;
mod live;
mod loaded;
mod merge;
mod outages;
mod pace;
mod persist;
mod recover;
mod replayed;
mod retention;
mod roster;
mod rules;
mod rules_then;
mod snapshots;
mod snapshotter;
mod sweep;
mod threads;
mod timeline;
mod verify;

use std::sync::Arc;

use crate::journal::{Kind, Refusal};
use crate::planted::{Planted, planted};
use crate::session::{Session, Status};
use crate::sync::{AtomicU32, Mutex, Ordering};
use crate::time::{Clock, Ttl, UnixSeconds};
use crate::user_id::UserId;

pub use builder::Builder;
pub use census::{Concurrency, Curve, Peak, Point};
pub(crate) use chain::ids_told;
pub use events::{Change, Event, Events, Overrun};
pub use figures::Figures;
pub use history::{Extract, History, Order, UserStats};
pub use import::{Imported, Rejection};
pub(crate) use live::Live;
pub(crate) use merge::{Merge, MergeError, Merged};
#[cfg(feature = "service")]
pub(crate) use pace::Pace;
#[cfg(feature = "service")]
pub(crate) use persist::Ticket;
pub use persist::{DiskState, JournalState};
pub use recover::{ChainError, Disk, OpenError, Progress, Recovery};
pub use snapshots::{SnapshotError, SnapshotTaken};
pub use snapshotter::{SnapshotPlan, Snapshotter, SnapshotterReport};
pub use sweep::{SweepFault, Sweeper, SweeperReport, Swept};
pub(crate) use timeline::Closed;
pub(crate) use verify::verify_locked;
pub use verify::{
    Beginning, Mark, SegmentFacts, SegmentFound, SnapshotFacts, SnapshotFound, Verification, verify,
};

use buckets::Buckets;
use figures::Counts;
use outages::{Outages, RecentOutages};
use persist::Persistence;
use retention::Retention;
use roster::{Place, Roster, User};
use rules::{Healed, Outage, Rules, lapse, leave, status};

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

/// Why a write was refused. Nothing has changed then, with one exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The user is not known, and as many are known as the engine was told to keep.
    #[error("the service knows as many users as it may")]
    UsersFull,
    /// The journal takes no writes. In [`Durability::Always`](crate::Durability::Always) the write may have happened: whether
    /// it survives a power loss is unknown, and repeating it is safe.
    #[error(transparent)]
    Journal(#[from] Refusal),
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

/// Who is online, and everybody's timeline. Share it by `Arc`; every method can be called from any thread.
pub struct Engine {
    roster: Roster,
    buckets: Buckets,
    /// The second last swept, to its end; the buckets' own position moves on when a sweep begins.
    swept_at: AtomicU32,
    /// Held by whoever sweeps. Of two at once, one could set the buckets' position back to where the other has been, and an
    /// entry filed there would be found too late.
    sweeping: Mutex<()>,
    recent_outages: RecentOutages,
    counts: Counts,
    /// None for an engine that nobody follows.
    events: Option<Events>,
    users_max: u64,
    retention: Retention,
    rules: Rules,
    clock: Arc<dyn Clock>,
    /// None for an engine that forgets.
    persistence: Option<Persistence>,
}

impl Engine {
    /// Settings for a new engine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Takes one heartbeat: `user` is online from now until one ttl from now at least. When this returns, the heartbeat is
    /// as durable as the engine's mode promises.
    ///
    /// Of a user who is online it takes no lock exclusively and allocates nothing.
    ///
    /// # Errors
    /// [`WriteError::UsersFull`] if the user would be one too many, [`WriteError::Journal`] if the journal takes no writes.
    #[inline]
    pub fn heal(&self, user: UserId) -> Result<Heal, WriteError> {
        let heal = self.heal_unconfirmed(user)?;
        if planted(Planted::UnchangedNotConfirmed) && heal == Heal::Unchanged {
            return Ok(heal);
        }
        self.confirm()?;
        Ok(heal)
    }

    /// The same without waiting for the disk: not to be acknowledged before what [`Engine::ticket`] then gives is kept.
    #[inline]
    pub(crate) fn heal_unconfirmed(&self, user: UserId) -> Result<Heal, WriteError> {
        let extended = self.roster.view(user, |known| {
            let now = self.clock.now();
            let Some(live) = known.live.load() else { return Ok(None) };
            match self.rules.heal(live, || self.recent_outages(), now) {
                Healed::Extended(extended) => {
                    self.write(user, Kind::Live, extended.online_at, extended.deadline)?;
                    // Another heal may have come between the load and here, and then this one changes nothing.
                    let is_later = known.live.extend(live, extended);
                    Ok(Some(if is_later { Heal::Extended } else { Heal::Unchanged }))
                }
                Healed::Unchanged => Ok(Some(Heal::Unchanged)),
                Healed::Over => Ok(None),
            }
        });
        match extended.unwrap_or(Ok(None)) {
            Ok(Some(heal)) => Ok(heal),
            Ok(None) => self.open(user),
            Err(refusal) => Err(refusal),
        }
    }

    /// The rest of a heal that found no live session; decides again, under the exclusive guard.
    #[cold]
    fn open(&self, user: UserId) -> Result<Heal, WriteError> {
        self.roster.change_or_add(user, |place| {
            let now = self.clock.now();
            match place {
                Place::Known(known) => self.heal_exclusively(user, known, now),
                Place::New(added) => {
                    if !self.counts.try_add_user(self.users_max) {
                        return Err(WriteError::UsersFull);
                    }
                    let mut known = User::default();
                    let heal = self.heal_exclusively(user, &mut known, now);
                    if heal.is_ok() {
                        *added = Some(known);
                    } else {
                        self.counts.remove_user();
                    }
                    heal
                }
            }
        })
    }

    fn heal_exclusively(&self, user: UserId, known: &mut User, now: UnixSeconds) -> Result<Heal, WriteError> {
        let over = known.live.load();
        if let Some(live) = over {
            match self.rules.heal(live, || self.recent_outages(), now) {
                Healed::Unchanged => return Ok(Heal::Unchanged),
                Healed::Extended(extended) => {
                    self.write(user, Kind::Live, extended.online_at, extended.deadline)?;
                    known.live.extend(live, extended);
                    return Ok(Heal::Extended);
                }
                Healed::Over => {}
            }
        }
        let left_now = known.closed.last().filter(|last| over.is_none() && last.is_left_in(now));
        let opened = self.rules.open(now);
        let live = left_now.map_or(opened, |last| Live { online_at: last.online_at(), ..opened });
        self.write(user, Kind::Live, live.online_at, live.deadline)?;
        if let Some(over) = over {
            self.close_lapsed(user, known, over);
        }
        let ttl = self.rules.ttl.as_seconds();
        let is_flap = known.closed.last().is_some_and(|last| now.since(last.offline_at()) <= ttl);
        if left_now.is_some() {
            known.closed.pop();
        }
        known.live.replace(Some(live));
        self.announce(user, Change::Online, now, |counts| match left_now {
            Some(_) => counts.reopened(),
            None => counts.opened(is_flap),
        });
        // An entry of an earlier session serves as well: it is found no later than this one is due.
        if known.armed == 0 {
            known.armed = self.buckets.arm(user, self.due(live));
        }
        Ok(Heal::Opened)
    }

    /// Ends `user`'s live session now.
    ///
    /// # Errors
    /// [`WriteError::Journal`] if the journal takes no writes.
    pub fn leave(&self, user: UserId) -> Result<Leave, WriteError> {
        let leave = self.leave_unconfirmed(user)?;
        self.confirm()?;
        Ok(leave)
    }

    pub(crate) fn leave_unconfirmed(&self, user: UserId) -> Result<Leave, WriteError> {
        let left = self.roster.change(user, |known| {
            let now = self.clock.now();
            let Some(live) = self.close_if_over(user, known, now) else { return Ok(Leave::NotLive) };
            let left = leave(live, now);
            self.write(user, Kind::Left, left.online_at(), left.offline_at())?;
            self.push_closed(known, left);
            known.live.replace(None);
            self.announce(user, Change::Left, left.offline_at(), Counts::left);
            Ok(Leave::Left)
        });
        left.unwrap_or(Ok(Leave::NotLive))
    }

    /// Removes `user` and the whole timeline; gives how many sessions there were to see. With the next snapshot they are gone
    /// from the disk, too.
    ///
    /// # Errors
    /// [`WriteError::Journal`] if the journal takes no writes.
    pub fn forget(&self, user: UserId) -> Result<u64, WriteError> {
        let forgotten = self.forget_unconfirmed(user)?;
        self.confirm()?;
        Ok(forgotten)
    }

    pub(crate) fn forget_unconfirmed(&self, user: UserId) -> Result<u64, WriteError> {
        loop {
            if let Some(forgotten) = self.forget_known(user).or_else(|| self.forget_unknown(user)) {
                return forgotten;
            }
        }
    }

    /// `None` if the user is not known.
    fn forget_known(&self, user: UserId) -> Option<Result<u64, WriteError>> {
        self.roster.remove_if(user, |known| {
            let now = self.clock.now();
            if let Err(refusal) = self.write_forgotten(user, now) {
                return (false, Err(refusal.into()));
            }
            // One that is over has lapsed, whether or not the sweep has been here.
            let live = self.close_if_over(user, known, now);
            let sessions = known.closed.len() as u64 + u64::from(live.is_some());
            match live {
                Some(live) => {
                    let at = now.min(live.deadline);
                    self.announce(user, Change::Forgotten, at, |counts| counts.forgot(sessions, true));
                }
                None => self.counts.forgot(sessions, false),
            }
            self.counts.resized(known.closed.heap_bytes(), 0);
            (true, Ok(self.shown(known, live, now).count() as u64))
        })
    }

    /// Retention may have dropped a user whom the disk still knows, and who must not come back. `None` if the user is known
    /// again meanwhile.
    fn forget_unknown(&self, user: UserId) -> Option<Result<u64, WriteError>> {
        if self.persistence.is_none() {
            return Some(Ok(0));
        }
        let forgotten = self.roster.change_or_add(user, |place| match place {
            Place::Known(_) => Ok::<_, WriteError>(None),
            Place::New(_) => Ok(self.write_forgotten(user, self.clock.now()).map(|()| Some(0))?),
        });
        forgotten.transpose()
    }

    fn write_forgotten(&self, user: UserId, now: UnixSeconds) -> Result<(), Refusal> {
        self.note_forgotten();
        self.write(user, Kind::Forgotten, now, now)
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
                .map(|live| self.rules.show(live, self.recent_outages(), now))
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
        let live = live.map(|live| self.rules.show(live, self.recent_outages(), now));
        known.closed.iter().map(timeline::Closed::session).chain(live).filter(|session| !session.is_empty())
    }

    /// The live session; one that is over is closed first, and then there is none.
    fn close_if_over(&self, user: UserId, known: &mut User, now: UnixSeconds) -> Option<Live> {
        let live = known.live.load()?;
        if self.rules.is_over(live, self.recent_outages(), now) {
            self.close_lapsed(user, known, live);
            return None;
        }
        Some(live)
    }

    fn close_lapsed(&self, user: UserId, known: &mut User, live: Live) {
        self.push_closed(known, lapse(live));
        known.live.replace(None);
        self.announce(user, Change::Lapsed, live.deadline, Counts::lapsed);
    }

    fn push_closed(&self, known: &mut User, session: Closed) {
        self.resize(known, |known| known.closed.push(session));
    }

    /// Drops what retention does not keep of a timeline.
    fn retain(&self, known: &mut User, now: UnixSeconds) {
        self.counts.dropped(self.resize(known, |known| self.retention.apply(known, now)));
    }

    /// Changes a timeline, and counts what it takes of the heap from then on.
    fn resize<R>(&self, known: &mut User, change: impl FnOnce(&mut User) -> R) -> R {
        let before = known.closed.heap_bytes();
        let changed = change(known);
        self.counts.resized(before, known.closed.heap_bytes());
        changed
    }

    /// Bytes of the heap that hold closed sessions. Constant time.
    pub fn timeline_bytes(&self) -> u64 {
        self.counts.timeline_bytes()
    }

    /// Bytes of the roster's tables. Takes each shard's shared guard in turn.
    pub fn roster_bytes(&self) -> u64 {
        self.roster.table_bytes()
    }

    fn due(&self, live: Live) -> UnixSeconds {
        self.rules.due(live.deadline, self.recent_outages())
    }

    fn recent_outages(&self) -> Outages {
        self.recent_outages.read()
    }

    fn note_outage(&self, outage: Outage) {
        self.recent_outages.note(outage, self.rules.reach());
    }
}
