//! What a persistent engine has beside the memory: the journal, the directory, and what is to be known of snapshots.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rules::Outage;
use super::snapshots::SnapshotTaken;
use super::{Engine, WriteError};
use crate::directory::{Directory, FileError, Numbered};
use crate::durability::Durability;
use crate::journal::{Journal, Kind, Refusal, SLOT_BYTES, Slot};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

#[cfg(feature = "service")]
pub(crate) use crate::journal::Ticket;

pub(super) struct Persistence {
    pub journal: Journal,
    pub directory: Arc<Directory>,
    /// All of them, oldest first.
    pub outages: Mutex<Vec<Outage>>,
    /// How often a user was forgotten: the generations on disk from before the last still know somebody.
    pub forgotten: AtomicU64,
    /// Held while a snapshot is taken.
    pub snapshots: Mutex<Snapshots>,
    /// The last one that this process took.
    pub last_taken: Mutex<Option<(UnixSeconds, SnapshotTaken)>>,
    /// No session that the last snapshot found ended before this second; 0 before the first one.
    pub oldest_end: AtomicU32,
    pub restart_grace: bool,
}

impl Persistence {
    /// Keeps it over restarts. First in memory: a snapshot that does not see it there has rotated before, and replays the slot.
    pub fn keep_outage(&self, outage: Outage) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).push(outage);
        // On a full disk it is not in the journal, but in the next snapshot.
        let _ = self.journal.append(Slot::outage(outage.from, outage.to));
    }

    pub fn note_taken(&self, at: UnixSeconds, taken: &SnapshotTaken) {
        *self.last_taken.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, taken.clone()));
    }
}

/// How the journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalState {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The number of the segment in service.
    pub segment: u64,
    /// Slots in it.
    pub slots: u32,
    /// Slots written since the start, in all segments.
    pub written: u64,
    /// How long ago the last sync that succeeded began.
    pub unsynced: Duration,
    /// Writes are refused once that is longer ago; `None` if the mode sets no limit.
    pub unsynced_limit: Option<Duration>,
    /// Syncs since the start.
    pub syncs: u64,
    /// Why a write would be refused now.
    pub refusal: Option<Refusal>,
}

/// What the data directory takes, and what room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskState {
    /// Segments of the journal, the prepared ones too.
    pub segments: u64,
    /// Their length.
    pub segment_bytes: u64,
    /// Length of all snapshots.
    pub snapshot_bytes: u64,
    /// What the file system has left for us.
    pub free_bytes: u64,
    /// What it holds.
    pub size_bytes: u64,
    /// With less left than this no further segment is prepared: a segment, and the room that a snapshot would take.
    pub reserved_bytes: u64,
}

/// What is known of the snapshots on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshots {
    /// The number of the last one that was tried; 0 if there is none.
    pub last: u64,
    /// `Persistence::forgotten` when the last one was begun.
    pub forgotten: u64,
    /// The segment from which the last one is replayed; 0 if there is none.
    pub first_segment: u64,
    /// Those that the start found damaged, though their headers may be whole: if they could not be put aside, they are no
    /// generation that could stand in for another.
    pub damaged: Vec<u64>,
}

impl Engine {
    /// Writes a slot, under the guard of the user's shard. Without a journal there is nothing to do.
    #[inline]
    pub(super) fn write(
        &self,
        user: UserId,
        kind: Kind,
        online_at: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<(), Refusal> {
        match &self.persistence {
            Some(persistence) => persistence.journal.append(Slot { kind, user, online_at, until }),
            None => Ok(()),
        }
    }

    /// Waits until what this thread has written is as durable as the mode promises.
    pub(super) fn confirm(&self) -> Result<(), WriteError> {
        match &self.persistence {
            Some(Persistence { journal, .. }) => {
                Ok(journal.ticket().map_or(Ok(()), |ticket| journal.wait(ticket))?)
            }
            None => Ok(()),
        }
    }

    pub(super) fn note_forgotten(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.forgotten.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What must be kept before anything written so far may be acknowledged; `None` if it may be at once.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.persistence.as_ref()?.journal.ticket()
    }

    /// Whether the promise has been kept; `None` while that is open.
    #[cfg(feature = "service")]
    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Result<(), WriteError>> {
        let persistence = self.persistence.as_ref()?;
        persistence.journal.outcome(ticket).map(|outcome| Ok(outcome?))
    }

    /// Calls `listener`, on a thread of the journal, whenever a promise has been kept or broken: that of the ticket which it is
    /// given, and of all before.
    #[cfg(feature = "service")]
    pub(crate) fn on_sync(&self, listener: impl Fn(Ticket) + Send + Sync + 'static) {
        if let Some(persistence) = &self.persistence {
            persistence.journal.on_sync(listener);
        }
    }

    /// Syncs the journal and notes that the service was alive until now. Dropping the engine does so, too; this is for whoever
    /// cannot tell who else holds it.
    pub fn close(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.journal.close();
        }
    }

    /// How much journal a restart would have to replay: slots in the segment in service, earlier segments whole. 0 also while
    /// a snapshot is being taken.
    pub fn journal_bytes_since_snapshot(&self) -> u64 {
        let Some(persistence) = &self.persistence else { return 0 };
        let Ok(snapshots) = persistence.snapshots.try_lock() else { return 0 };
        let (segment, slots) = persistence.journal.position();
        let whole = segment.saturating_sub(snapshots.first_segment.max(1));
        whole * persistence.journal.segment_bytes() + u64::from(slots) * SLOT_BYTES
    }

    /// The journal's state; `None` for an engine that forgets. Makes no system call that could block.
    pub fn journal_state(&self) -> Option<JournalState> {
        let journal = &self.persistence.as_ref()?.journal;
        let (segment, slots) = journal.position();
        Some(JournalState {
            durability: journal.durability(),
            segment,
            slots,
            written: journal.written(),
            unsynced: journal.unsynced(),
            unsynced_limit: journal.unsynced_limit(),
            syncs: journal.syncs(),
            refusal: journal.refusal(),
        })
    }

    /// The last snapshot that this engine took, and its second; `None` before the first.
    pub fn last_snapshot(&self) -> Option<(UnixSeconds, SnapshotTaken)> {
        let persistence = self.persistence.as_ref()?;
        persistence.last_taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is on disk; `None` for an engine that forgets. Reads the directory.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn disk_state(&self) -> Result<Option<DiskState>, FileError> {
        let Some(persistence) = &self.persistence else { return Ok(None) };
        let contents = persistence.directory.list()?;
        // One that is gone meanwhile takes no room.
        let length = |files: &[Numbered]| {
            files.iter().filter_map(|file| file.path.metadata().ok()).map(|file| file.len()).sum()
        };
        let (free_bytes, size_bytes) = persistence.directory.room()?;
        Ok(Some(DiskState {
            segments: contents.segments.len() as u64,
            segment_bytes: length(&contents.segments),
            snapshot_bytes: length(&contents.snapshots),
            free_bytes,
            size_bytes,
            reserved_bytes: self.wanted_bytes(persistence),
        }))
    }

    /// As if a sync had failed.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn fail_journal(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.journal.fail();
        }
    }

    /// Whether the disk has no room for another segment of the journal.
    pub fn is_short_of_room(&self) -> bool {
        self.persistence.as_ref().is_some_and(|persistence| persistence.journal.is_short_of_room())
    }

    /// As if the disk had not answered for longer than it may.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn hang_journal(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.journal.hang();
        }
    }

    /// Why a write would be refused now; `None` while writes are taken.
    pub fn refusal(&self) -> Option<Refusal> {
        self.persistence.as_ref()?.journal.refusal()
    }

    /// Where the journal is written to, which every write changes; `None` without one.
    #[cfg(feature = "service")]
    pub(crate) fn journal_position(&self) -> Option<(u64, u32)> {
        Some(self.persistence.as_ref()?.journal.position())
    }

    /// The times in which the service was not there, `from <= t < to`, oldest first; also those that its clock jumped over.
    pub fn outages(&self) -> Vec<(UnixSeconds, UnixSeconds)> {
        let Some(persistence) = &self.persistence else { return Vec::new() };
        let outages = persistence.outages.lock().unwrap_or_else(PoisonError::into_inner);
        outages.iter().map(|outage| (outage.from, outage.to)).collect()
    }
}
