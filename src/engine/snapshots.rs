//! Taking a snapshot of everything while writes go on.
//!
//! ```text
//!   1  rotate: from now on slots go into segment s
//!   2  shard by shard: exclusive guard ─ copy ─ release ─ encode ─ write
//!   3  sync the journal from s on
//!   4  footer with the engine's time ─ sync ─ rename ─ sync the directory
//!   5  remove what no kept generation needs: snapshots first, then segments, oldest first
//! ```
//!
//! Every slot in a segment before `s` was written under its shard's guard before that shard was copied, so the snapshot has
//! what it says; every slot from `s` on is replayed. Without step 3 a power loss could leave a snapshot that contains a leave
//! whose slot is gone, and replaying an earlier slot would undo the leave.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use super::generations::{Keeps, given_back, newest_whole, older_than, prune};
use super::pace::Pace;
use super::persist::{Persistence, Snapshots};
use super::roster::SHARDS;
use super::timeline::Closed;
use super::{Engine, Live};
use crate::directory::FileError;
use crate::journal::{Journal, Refusal};
use crate::planted::{Planted, planted};
use crate::snapshot::{self, Copied, Header, Writer};
use crate::sync::Ordering;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// How long a snapshot waits for the next segment.
const PATIENCE: Duration = Duration::from_secs(10);

/// A snapshot that has been taken.
#[derive(Debug, Clone)]
pub struct SnapshotTaken {
    /// Its number.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Users in it.
    pub users: u64,
    /// Closed sessions in it.
    pub sessions: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The longest that one shard's guard was held.
    pub longest_hold: Duration,
    /// The first of the older files that could not be removed. They take room, and do no other harm.
    pub not_removed: Option<Arc<FileError>>,
}

/// Why no snapshot was taken. What is on disk is as good as before; if there was no room, the older generation may be gone.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The engine is not a persistent one.
    #[error("this engine keeps nothing on disk")]
    NotPersistent,
    /// Another one is being taken.
    #[error("a snapshot is under way")]
    UnderWay,
    /// The journal could not be rotated or synced.
    #[error("the journal could not be synced")]
    Journal(#[from] Refusal),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Engine {
    /// Writes everything to a new file. Writes go on meanwhile; each shard's wait for as long as copying that shard takes.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn snapshot(&self) -> Result<SnapshotTaken, SnapshotError> {
        let persistence = self.persistence.as_ref().ok_or(SnapshotError::NotPersistent)?;
        let mut snapshots = match persistence.snapshots.try_lock() {
            Ok(snapshots) => snapshots,
            Err(TryLockError::WouldBlock) => return Err(SnapshotError::UnderWay),
            // The one that panicked has left a number behind at most.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let start = Instant::now();
        let refusal = persistence.journal.refusal();
        let is_clean_only = refusal == Some(Refusal::SyncFailed);
        // Before anything is done: rotating takes a segment, and on a full disk there is no other.
        self.make_room(persistence, &snapshots)?;
        let _under_way = UnderWay(&persistence.journal);
        let first_segment = persistence.journal.rotate(PATIENCE)?;
        let older = if planted(Planted::PrunedBeforeDurable) {
            older_than(persistence, first_segment)?
        } else {
            Vec::new()
        };
        // Whoever was counted before this holds the guard of the user's shard, or held it: the copy will not have the user.
        let forgotten = persistence.forgotten.load(Ordering::SeqCst);
        // If it fails, its file may be there all the same: a number is tried once.
        snapshots.last += 1;
        let header = Header {
            directory: persistence.journal.directory_id(),
            number: snapshots.last,
            first_segment,
            ttl: self.rules.ttl,
            grace_seconds: self.rules.grace,
        };
        let mut writer = Writer::create(&persistence.directory, header)?;
        let longest_hold = self.copy_shards(persistence, &mut writer)?;
        let engine_time = self.clock.now();
        if !is_clean_only && !planted(Planted::SnapshotWithoutBarrier) {
            persistence.journal.wait(persistence.journal.next_sync())?;
        }
        if planted(Planted::PrunedBeforeDurable) {
            let _ = persistence.directory.remove_each(older.iter().map(PathBuf::as_path));
        }
        let written = writer.finish(engine_time, &self.outages())?;
        if is_clean_only {
            persistence.journal.resume();
        }
        if refusal == Some(Refusal::Removed) {
            persistence.journal.replaced();
        }
        let is_older_clean = (!is_clean_only || planted(Planted::OlderKeptAfterFailedSync))
            && (snapshots.forgotten == forgotten || planted(Planted::ForgottenKept));
        let keeps = match () {
            () if !is_older_clean => Keeps::Newest,
            () if persistence.journal.is_disk_full() => Keeps::NewestForRoom(self.wanted_bytes(persistence)),
            () => Keeps::Both,
        };
        (snapshots.forgotten, snapshots.first_segment) = (forgotten, first_segment);
        let taken = SnapshotTaken {
            number: written.number,
            bytes: written.bytes,
            users: written.users,
            sessions: written.sessions,
            elapsed: start.elapsed(),
            longest_hold,
            not_removed: prune(persistence, written.number, keeps, &snapshots.damaged).err().map(Arc::new),
        };
        persistence.note_taken(engine_time, &taken);
        Ok(taken)
    }

    /// No snapshot of what is known now is longer.
    pub(super) fn snapshot_bytes_at_most(&self) -> u64 {
        let figures = self.figures();
        snapshot::bytes_at_most(figures.users, figures.sessions, SHARDS)
    }

    /// Lets the journal know how much of the disk it has to leave for a snapshot.
    pub(super) fn leave_for_snapshot(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.journal.leave_for_snapshot(self.snapshot_bytes_at_most());
        }
    }

    /// With less than this no segment is prepared.
    pub(super) fn wanted_bytes(&self, persistence: &Persistence) -> u64 {
        persistence.journal.segment_bytes() + self.snapshot_bytes_at_most()
    }

    /// Sees to it that there is room for a snapshot: if there is none, by giving up the generation before the newest. Not where
    /// that would be too little: then nothing would be gained by it.
    fn make_room(&self, persistence: &Persistence, snapshots: &Snapshots) -> Result<(), FileError> {
        let bytes = self.snapshot_bytes_at_most();
        let free = || Ok::<_, FileError>(persistence.directory.room()?.0);
        if free()? < bytes
            && let Some(newest) = newest_whole(persistence, snapshots.last)?
            && free()? + given_back(persistence, newest)? >= bytes
        {
            prune(persistence, newest, Keeps::NewestForRoom(bytes), &snapshots.damaged)?;
        }
        if free()? >= bytes {
            return Ok(());
        }
        let full = FileError::while_doing("write a snapshot to", persistence.directory.path());
        Err(full(io::Error::from(io::ErrorKind::StorageFull)))
    }

    fn copy_shards(&self, persistence: &Persistence, writer: &mut Writer<'_>) -> Result<Duration, FileError> {
        let (mut copied, mut longest_hold) = (Copied::default(), Duration::ZERO);
        let mut oldest_end = UnixSeconds::new(u32::MAX);
        // After a failed sync nothing arrives, and the sooner it is done the better.
        let mut pace = Pace::new(persistence.journal.position());
        for shard in 0..SHARDS {
            let start = Instant::now();
            copied.clear();
            oldest_end = oldest_end.min(self.copy_shard(shard, &mut copied));
            longest_hold = longest_hold.max(start.elapsed());
            if copied.is_empty() {
                continue;
            }
            writer.write_shard(u32::try_from(shard).unwrap_or(u32::MAX), &copied)?;
            std::thread::park_timeout(pace.rest(persistence.journal.position(), start.elapsed()));
        }
        persistence.oldest_end.store(oldest_end.as_u32(), Ordering::Relaxed);
        Ok(longest_hold)
    }

    /// Whether a snapshot would find a session that is too old to keep. Nobody else looks at users who stay away.
    pub(super) fn has_aged_sessions(&self) -> bool {
        self.persistence.as_ref().is_some_and(|persistence| {
            let oldest_end = UnixSeconds::new(persistence.oldest_end.load(Ordering::Relaxed));
            self.figures().users > 0 && self.retention.is_too_old(oldest_end, self.clock.now())
        })
    }

    /// Gives the second in which the first of the sessions ended, or the last in which a heal could still extend it.
    fn copy_shard(&self, shard: usize, copied: &mut Copied) -> UnixSeconds {
        let now = self.clock.now();
        let mut gone: Vec<UserId> = Vec::new();
        let mut oldest_end = UnixSeconds::new(u32::MAX);
        self.roster.walk(shard, |user, known| {
            self.retain(known, now);
            if known.is_empty() {
                gone.push(user);
                return;
            }
            let live = known.live.load();
            let first = known.closed.iter().next().map(Closed::offline_at);
            oldest_end = first
                .or(live.map(|live| self.due(live).minus(1)))
                .map_or(oldest_end, |end| oldest_end.min(end));
            copied.push(user, live.map_or(0, Live::pack), known.closed.words());
        });
        for user in gone {
            self.remove_if_empty(user);
        }
        oldest_end
    }

    /// A user of whom retention has left nothing is not known any more.
    pub(super) fn remove_if_empty(&self, user: UserId) {
        self.roster.remove_if(user, |known| {
            let is_empty = known.is_empty();
            if is_empty {
                self.counts.remove_user();
                self.counts.resized(known.closed.heap_bytes(), 0);
            }
            (is_empty, ())
        });
    }
}

/// A snapshot, until it has been taken or has failed.
struct UnderWay<'a>(&'a Journal);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.end_snapshot();
    }
}
