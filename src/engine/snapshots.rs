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
//!
//! Two generations are kept: should the newest turn out to be damaged, the one before and a longer replay give the same. After
//! a forget the older one still knows the user, and after a failed sync its segments may lack what was acknowledged: then only
//! the new one is. On a full disk the older one is given up, too, and that is told: without room no heal is taken.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::persist::{Persistence, Snapshots};
use super::roster::SHARDS;
use super::timeline::Closed;
use super::{Engine, Live};
use crate::damage::ReadError;
use crate::directory::{DirectoryId, FileError};
use crate::journal::{Journal, JournalReport, Refusal, SegmentFile};
use crate::planted::{Planted, planted};
use crate::snapshot::{self, Copied, Header, Snapshot, Writer};
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

/// Every segment before this one, and every snapshot: what must go last.
fn older_than(persistence: &Persistence, first_segment: u64) -> Result<Vec<PathBuf>, FileError> {
    let contents = persistence.directory.list()?;
    let segments = contents.segments.into_iter().filter(|segment| segment.number < first_segment);
    Ok(contents.snapshots.into_iter().chain(segments).map(|file| file.path).collect())
}

/// A snapshot on disk, as far as it matters for what may be removed.
struct Generation {
    path: PathBuf,
    number: u64,
    /// `None` if it cannot be read, or is known to be damaged.
    first_segment: Option<u64>,
}

/// Our own snapshots up to number `newest`, oldest first. What somebody has put beside them, with a higher number or from another
/// directory, is no generation of ours, and stays.
fn generations(
    persistence: &Persistence,
    newest: u64,
    damaged: &[u64],
) -> Result<Vec<Generation>, FileError> {
    let contents = persistence.directory.list()?;
    let own = contents.snapshots.into_iter().filter(|file| file.number <= newest).filter_map(|file| {
        let first_segment = match Snapshot::header_of(&file.path) {
            Ok(header) if is_own(persistence, header.directory, header.number, file.number) => {
                Some(header.first_segment).filter(|_| !damaged.contains(&file.number))
            }
            Err(ReadError::Damaged(_)) => None,
            Ok(_) | Err(_) => return None,
        };
        Some(Generation { path: file.path, number: file.number, first_segment })
    });
    Ok(own.collect())
}

fn is_own(persistence: &Persistence, directory: DirectoryId, number: u64, named: u64) -> bool {
    directory == persistence.journal.directory_id() && number == named
}

/// The newest of our snapshots if all of it can be read: only then may the one before be given up.
fn newest_whole(persistence: &Persistence, last: u64) -> Result<Option<u64>, FileError> {
    let newest = generations(persistence, last, &[])?.pop();
    let newest =
        newest.filter(|newest| Snapshot::open(&newest.path).is_ok_and(|found| found.verify().is_ok()));
    Ok(newest.map(|newest| newest.number))
}

/// Which generations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Both,
    /// What is older is not clean.
    Newest,
    /// What is older has to make room: so many bytes are wanted.
    NewestForRoom(u64),
}

/// Removes what is older than the two newest generations, or than the newest alone. Never the newest, nor what it needs.
///
/// # Errors
/// The first file that cannot be removed; the others are, unless a generation that could not be removed needs them.
fn prune(persistence: &Persistence, newest: u64, keeps: Keeps, damaged: &[u64]) -> Result<(), FileError> {
    let generations = generations(persistence, newest, damaged)?;
    let readable = || generations.iter().rev().filter(|generation| generation.first_segment.is_some());
    // It was written a moment ago, and without it nothing is certain.
    if readable().next().is_none_or(|found| found.number != newest) {
        return Ok(());
    }
    let older = readable().nth(1).map(|older| older.number);
    let oldest_kept = older.filter(|_| keeps == Keeps::Both).unwrap_or(newest);
    if let (Keeps::NewestForRoom(wanted), Some(snapshot)) = (keeps, older) {
        let (free, _) = persistence.directory.room()?;
        persistence.journal.report(JournalReport::GivenUp { snapshot, wanted, free });
    }
    let dropped = generations.iter().filter(|generation| generation.number < oldest_kept);
    let removed = persistence.directory.remove_each(dropped.map(|generation| generation.path.as_path()));
    let left = generations.iter().filter(|generation| generation.path.exists());
    let Some(first) = left.filter_map(|generation| generation.first_segment).min() else { return removed };
    let needless = segments_before(persistence, first)?;
    removed.and(persistence.directory.remove_each(needless.iter().map(PathBuf::as_path)))
}

/// Our own segments with lower numbers.
fn segments_before(persistence: &Persistence, first: u64) -> Result<Vec<PathBuf>, FileError> {
    let segments = persistence.directory.list()?.segments.into_iter().filter(|segment| {
        let is_ours = |found: SegmentFile| {
            is_own(persistence, found.header.directory, found.header.number, segment.number)
        };
        segment.number < first
            && SegmentFile::open_of_any_length(&segment.path).is_ok_and(|(found, _)| is_ours(found))
    });
    Ok(segments.map(|segment| segment.path).collect())
}

/// Bytes that the disk gets back if only the generation `newest` is kept.
fn given_back(persistence: &Persistence, newest: u64) -> Result<u64, FileError> {
    let mut generations = generations(persistence, newest, &[])?;
    let first = generations.pop().and_then(|newest| newest.first_segment).unwrap_or(0);
    let segments = segments_before(persistence, first)?;
    let dropped = generations.iter().map(|generation| &generation.path).chain(&segments);
    // What has another name keeps its blocks, of 512 bytes as stat(2) counts them.
    let found = dropped.filter_map(|path| path.metadata().ok()).filter(|found| found.nlink() == 1);
    Ok(found.map(|found| found.blocks() * 512).sum())
}
