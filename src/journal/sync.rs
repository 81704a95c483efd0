//! The syncer: tells the disk, notes how far it has got, and lets go of segments that are done with.
//!
//! Syncs have numbers (generations). One that *began* after a slot was committed covers it, so whoever must wait for the disk
//! asks for the next generation to begin: one sync serves all who wait, and a slot that another writer has reserved and not yet
//! stored holds nobody up.
//!
//! ```text
//!   commit ── ticket = begun + 1 ─────────── wait ──────────▶ succeeded ≥ ticket
//!                          begun: 8     9 ──── fdatasync ───▶ succeeded: 9
//! ```
//!
//! The synced mark is the end of the unbroken run of slots seen committed *before* `fdatasync` was called, never the tail.

#![allow(clippy::disallowed_methods, reason = "when the disk is told is no matter of the time of day")]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[cfg(not(shuttle))]
use rustix::time::{ClockId, clock_gettime};

use super::mark::Mark;
use super::segment::Segment;
use super::{Journal, JournalReport, Refusal, State};
use crate::durability::Durability;
use crate::planted::{Planted, planted};
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicU64, Condvar, Instant, Mutex, OnceLock, Ordering, PoisonError};

/// The alive second is stamped this often.
const STAMP: Duration = Duration::from_secs(1);
/// How often whoever waits looks whether the disk has hung for too long.
const LOOK: Duration = Duration::from_secs(1);
/// After each sync the pages of twice as many slots are brought in as came since the one before, within these limits. A page
/// that is brought in counts as changed and is written by the next sync: with a fixed million, one heal a second cost 24 MiB
/// of writes a second.
const POPULATE_SLOTS: std::ops::RangeInclusive<u32> = 1 << 9..=1 << 20;

/// In `always` the next sync comes at once, and each page more makes it longer.
const POPULATE_SLOTS_ALWAYS: u32 = 1 << 5;

/// Milliseconds on a clock that costs 5 ns, is late by a timer tick, and stands still while the machine sleeps.
#[inline]
#[cfg(not(shuttle))]
pub(super) fn coarse_millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Under the checker no time passes.
#[cfg(shuttle)]
pub(super) fn coarse_millis() -> u64 {
    0
}

/// The promise of a sync: the slots committed before it was given are on disk once this generation has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Told of each sync that has ended.
type Listener = Box<dyn Fn(Ticket) + Send + Sync>;

/// Generations of syncs.
#[derive(Default)]
pub(super) struct Syncs {
    /// The last to begin.
    begun: AtomicU64,
    /// The last to end, either way.
    ended: AtomicU64,
    /// The last to succeed.
    succeeded: AtomicU64,
    /// The latest that somebody waits for.
    wanted: AtomicU64,
    pub syncer: OnceLock<Thread>,
    turn: Mutex<()>,
    ended_signal: Condvar,
    listeners: Mutex<Vec<Listener>>,
}

impl Syncs {
    fn end(&self, generation: u64, succeeded: bool) {
        if succeeded {
            self.succeeded.store(generation, Ordering::SeqCst);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(generation, Ordering::SeqCst);
        drop(turn);
        self.ended_signal.notify_all();
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener(Ticket(generation));
        }
    }
}

#[cfg(all(test, not(shuttle)))]
impl Syncs {
    /// The last to begin.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

#[cfg(all(test, not(shuttle)))]
impl Ticket {
    /// That of this generation.
    pub const fn of(generation: u64) -> Self {
        Self(generation)
    }
}

impl Journal {
    /// In `always`, what to wait for before what has been written so far may be acknowledged; in the other modes nothing.
    #[inline]
    pub fn ticket(&self) -> Option<Ticket> {
        (self.state.plan.durability == Durability::Always).then(|| self.next_sync())
    }

    /// Asks for a sync that begins from now on, in whatever mode.
    pub fn next_sync(&self) -> Ticket {
        let syncs = &self.state.syncs;
        let ticket = syncs.begun.load(Ordering::SeqCst) + 1;
        if syncs.wanted.fetch_max(ticket, Ordering::SeqCst) < ticket
            && let Some(syncer) = syncs.syncer.get()
        {
            syncer.unpark();
        }
        Ticket(ticket)
    }

    /// Whether the promise has been kept; `None` while that is open.
    pub fn outcome(&self, ticket: Ticket) -> Option<Result<(), Refusal>> {
        let syncs = &self.state.syncs;
        // Looked at first, as it is set last: else a sync that succeeds between the two looks would count as failed.
        let has_ended = syncs.ended.load(Ordering::SeqCst) >= ticket.0;
        if syncs.succeeded.load(Ordering::SeqCst) >= ticket.0 {
            Some(Ok(()))
        } else if has_ended {
            Some(Err(Refusal::SyncFailed))
        } else {
            // Whoever waits for a disk that hangs is told so, and can ask again elsewhere or later.
            self.state.is_overdue().then_some(Err(Refusal::Overdue))
        }
    }

    /// How many have begun.
    pub fn syncs(&self) -> u64 {
        self.state.syncs.begun.load(Ordering::Relaxed)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// [`Refusal::SyncFailed`], [`Refusal::Overdue`]: whether what was written will survive a power loss is unknown.
    pub fn wait(&self, ticket: Ticket) -> Result<(), Refusal> {
        let syncs = &self.state.syncs;
        let mut turn = syncs.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = self.outcome(ticket) {
                return outcome;
            }
            // A sync that hangs signals nothing.
            let waited = syncs.ended_signal.wait_timeout(turn, LOOK);
            turn = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Calls `listener` on the syncer's thread whenever a sync has ended, with the ticket of those it was for.
    #[cfg(feature = "service")]
    pub fn on_sync(&self, listener: impl Fn(Ticket) + Send + Sync + 'static) {
        let mut listeners = self.state.syncs.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    /// After a failed sync, once everything in memory has been written to new files and synced there, and a new segment is in
    /// service: takes writes again.
    pub fn resume(&self) {
        let state = &self.state;
        state.synced_at.store(coarse_millis(), Ordering::Release);
        state.failed.store(false, Ordering::Release);
    }

    /// After a segment was removed, once a snapshot of everything is on disk and one that is in its place is in service: takes
    /// writes again.
    pub fn replaced(&self) {
        self.state.is_removed.store(false, Ordering::Release);
    }
}

/// A segment that the syncer still holds.
struct Held {
    segment: Arc<Segment>,
    /// The mark that was last set.
    synced: u32,
    /// A sync failed in it: it is never synced again.
    is_lost: bool,
    /// The mark itself is on disk, too.
    is_done: bool,
}

impl Held {
    fn new(segment: Arc<Segment>) -> Self {
        Self { segment, synced: 0, is_lost: false, is_done: false }
    }
}

/// The syncer's own part.
pub(super) struct Syncer {
    state: Arc<State>,
    /// From the oldest not yet let go to the one in service.
    held: VecDeque<Held>,
    /// Slots in the segments that were let go.
    let_go: u64,
    /// The segment in service and its slots, as of the last sync.
    position: (u64, u32),
}

impl Syncer {
    pub fn new(state: Arc<State>, first: Arc<Segment>) -> Self {
        Self { state, held: VecDeque::from([Held::new(first)]), let_go: 0, position: (0, 0) }
    }

    /// Until the journal is dropped.
    pub fn run(&mut self) {
        let is_process = self.state.plan.durability == Durability::Process;
        let (mut next_stamp, mut next_sync) = (Instant::now(), Instant::now());
        while !self.state.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            if now >= next_stamp {
                self.stamp();
                next_stamp = now + STAMP;
            }
            let is_due = !is_process && now >= next_sync;
            if is_due || self.is_wanted() {
                self.sync();
                next_sync = now + self.state.plan.sync_interval;
            }
            self.let_go();
            if !self.is_wanted() {
                let next = if is_process { next_stamp } else { next_stamp.min(next_sync) };
                thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
        self.sync();
        self.stamp();
        // The stamp, and the marks. It is the end: who would be told of a failure?
        let _ = self.state.current.load().sync();
    }

    fn is_wanted(&self) -> bool {
        let syncs = &self.state.syncs;
        syncs.wanted.load(Ordering::SeqCst) > syncs.begun.load(Ordering::SeqCst)
    }

    fn stamp(&self) {
        if planted(Planted::AliveNotStamped) {
            return;
        }
        self.state.current.load().stamp_alive(self.state.plan.clock.now());
    }

    /// One generation.
    fn sync(&mut self) {
        let (began_at, start) = (coarse_millis(), Instant::now());
        let generation = self.state.syncs.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = if self.state.failed.load(Ordering::Acquire) { None } else { Some(self.sync_held()) };
        match outcome {
            Some(Ok(files)) => {
                self.state.synced_at.store(began_at, Ordering::Release);
                self.state.syncs.end(generation, true);
                if files > 0 {
                    (self.state.plan.report)(JournalReport::Synced(start.elapsed()));
                }
                self.populate();
            }
            Some(Err(error)) => {
                self.state.failed.store(!planted(Planted::ResumedWithoutSnapshot), Ordering::Release);
                self.state.syncs.end(generation, false);
                (self.state.plan.report)(JournalReport::SyncFailed(error));
            }
            None => self.state.syncs.end(generation, false),
        }
    }

    /// Brings in the pages that are about to be written to.
    fn populate(&mut self) {
        let current = self.state.current.load();
        let position = (current.number, current.reserved());
        let (number, reserved) = std::mem::replace(&mut self.position, position);
        let arrived = if number == position.0 { position.1.saturating_sub(reserved) } else { position.1 };
        if arrived > 0 {
            let (least, most) = POPULATE_SLOTS.into_inner();
            let least = match self.state.plan.durability {
                Durability::Always => POPULATE_SLOTS_ALWAYS,
                Durability::Process | Durability::Interval => least,
            };
            current.populate(arrived.saturating_mul(2).clamp(least, most));
        }
    }

    /// Gives how many files there was something to sync in.
    fn sync_held(&mut self) -> io::Result<u32> {
        self.hold_up_to_current();
        let mut files = 0;
        for held in &mut self.held {
            let segment = &held.segment;
            // Everything reserved had been seen committed before the last sync of this segment.
            if held.is_lost || held.synced == segment.reserved() {
                continue;
            }
            if planted(Planted::SealedNotSynced) && segment.is_full() {
                held.synced = segment.reserved();
                continue;
            }
            let mut committed = segment.committed_from(held.synced);
            if planted(Planted::MarkFromTail) {
                committed = segment.reserved();
            }
            if planted(Planted::MarkBeforeSync) {
                segment.set(Mark::Synced, committed);
            }
            let mut synced = segment.sync();
            if planted(Planted::FailedSyncRetried) && synced.is_err() {
                synced = segment.sync();
            }
            if let Err(error) = synced {
                self.lose();
                return Err(error);
            }
            held.synced = committed;
            segment.set(Mark::Synced, committed);
            files += 1;
        }
        Ok(files)
    }

    /// The kernel has dropped what it could not write, and calls those pages clean: a sync that succeeded later would say
    /// nothing about them. Only a snapshot of the memory helps.
    fn lose(&mut self) {
        for held in &mut self.held {
            held.is_lost = true;
        }
    }

    fn hold_up_to_current(&mut self) {
        let current = self.state.current.load().number;
        while let Some(next) = self
            .held
            .back()
            .filter(|last| last.segment.number < current)
            .and_then(|last| last.segment.next().cloned())
        {
            self.held.push_back(Held::new(next));
        }
        let Some(current) = self.held.back().map(|held| held.segment.number) else { return };
        // Not what is reserved: while a segment is being sealed that is too much.
        let committed = |held: &Held| u64::from(held.segment.committed_from(held.synced));
        let sealed: u64 = self.held.iter().take(self.held.len() - 1).map(committed).sum();
        *self.state.counted.lock().unwrap_or_else(PoisonError::into_inner) = (current, self.let_go + sealed);
    }

    /// Unmaps segments that are sealed, committed and synced, and that no writer looks at any more. Also in `process`, where
    /// nothing else is synced: a segment is left behind in good order.
    fn let_go(&mut self) {
        self.hold_up_to_current();
        while self.held.len() > 1 {
            let held = &mut self.held[0];
            if !held.is_lost && !held.is_done {
                if held.synced != held.segment.reserved() {
                    if self.state.plan.durability == Durability::Process {
                        self.sync();
                        let held = &self.held[0];
                        if held.is_lost || held.synced != held.segment.reserved() {
                            return;
                        }
                        continue;
                    }
                    return;
                }
                // The mark was set after the sync that it speaks of. It is only a mark: if this sync fails, it speaks of less.
                let _ = held.segment.sync();
                held.is_done = true;
            }
            // This one is ours; any other belongs to a writer that is about to find the segment full.
            if Arc::strong_count(&self.held[0].segment) > 1 {
                return;
            }
            self.let_go += u64::from(self.held[0].segment.reserved());
            self.held.pop_front();
        }
    }
}
