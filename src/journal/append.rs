//! Writing to the journal: append, refuse, move on to the next segment.

#![allow(clippy::disallowed_methods, reason = "patience is no matter of the time of day")]

use std::sync::Arc;
use std::time::Duration;

use super::segment::Segment;
use super::slot::Slot;
use super::sync::coarse_millis;
use super::{Journal, Refusal, State};
use crate::planted::{Planted, planted};
use crate::sync::{Instant, Ordering, look_again};

/// What the next segment is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Write,
    Snapshot,
}

impl Journal {
    /// Writes `slot`. Called under the guard of its user's shard, between deciding and applying: the segment looked up before
    /// the guard could be one that a finished snapshot no longer replays.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has been written then.
    #[inline]
    pub fn append(&self, slot: Slot) -> Result<(), Refusal> {
        let state = &*self.state;
        state.check()?;
        #[cfg(feature = "faults")]
        let Some(slot) = self.watched(slot) else { return Ok(()) };
        loop {
            let segment = state.current.load();
            if segment.append(slot) {
                return Ok(());
            }
            state.move_on(&segment, Purpose::Write)?;
        }
    }

    /// The slot to write in place of this one.
    #[cfg(feature = "faults")]
    fn watched(&self, slot: Slot) -> Option<Slot> {
        static LATE: std::sync::Mutex<Option<Slot>> = std::sync::Mutex::new(None);
        crate::faults::at(crate::faults::Place::Decided, self.state.plan.directory.path());
        if planted(Planted::AcknowledgedBeforeSlot) {
            return LATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(slot);
        }
        Some(slot)
    }

    /// Why a write would be refused now.
    pub fn refusal(&self) -> Option<Refusal> {
        let full = || {
            let current = self.state.current.load();
            (current.is_full() && !self.state.may_move_on(&current, Purpose::Write))
                .then_some(Refusal::NoRoom)
        };
        self.state.check().err().or_else(full)
    }

    /// A snapshot begins, until [`end_snapshot`](Self::end_snapshot): seals the segment in service and gives the number of the next
    /// one. Every slot that is in an earlier one was reserved by a writer that then held the guard of its shard, or holds it still.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if the next one is not ready within `patience`, [`Refusal::Displaced`].
    pub fn rotate(&self, patience: Duration) -> Result<u64, Refusal> {
        let deadline = Instant::now() + patience;
        loop {
            let current = self.state.current.load_full();
            if current.next().is_some() {
                self.state.is_snapshot_under_way.store(true, Ordering::Release);
                current.seal();
                self.state.move_on(&current, Purpose::Snapshot)?;
                let current = self.state.current.load();
                // A snapshot that begins with one that somebody has removed is none that a start takes.
                let directory = &self.state.plan.directory;
                if current.is_in_place(directory) {
                    return Ok(current.number);
                }
                // Where the directory is not in its place, no segment is.
                if directory.check_place().is_err() {
                    return Err(Refusal::Displaced);
                }
                continue;
            }
            if Instant::now() >= deadline {
                return Err(Refusal::NoRoom);
            }
            look_again(Duration::from_millis(1));
        }
    }
}

impl State {
    #[inline]
    fn check(&self) -> Result<(), Refusal> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Refusal::SyncFailed);
        }
        if self.is_displaced.load(Ordering::Acquire) {
            return Err(Refusal::Displaced);
        }
        if self.is_removed.load(Ordering::Acquire) {
            return Err(Refusal::Removed);
        }
        if self.is_overdue() { Err(Refusal::Overdue) } else { Ok(()) }
    }

    /// Whether the disk has not answered for too long. The syncer itself cannot raise a flag: it is the one that hangs.
    #[inline]
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue_after != u64::MAX
            && !planted(Planted::HungDiskIgnored)
            && coarse_millis().saturating_sub(self.synced_at.load(Ordering::Acquire)) > self.overdue_after
    }

    /// While no further segment can be prepared, the last one is not for writes: a snapshot has to begin in one of its own, and
    /// what it then removes is the room for others.
    fn may_move_on(&self, full: &Segment, purpose: Purpose) -> bool {
        full.next().is_some_and(|next| {
            purpose == Purpose::Snapshot
                || next.next().is_some()
                || !self.is_short_of_room.load(Ordering::Acquire)
        })
    }

    /// Puts the segment behind `full` into service, if nobody else has.
    #[cold]
    fn move_on(&self, full: &Arc<Segment>, purpose: Purpose) -> Result<(), Refusal> {
        match full.next().filter(|_| self.may_move_on(full, purpose)) {
            Some(next) => {
                // Whoever comes second finds another segment in service, and tries that one.
                self.current.compare_and_swap(full, Arc::clone(next));
                Ok(())
            }
            None if self.current.load().number == full.number => Err(Refusal::NoRoom),
            None => Ok(()),
        }
    }
}
