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
//! the new one is.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::path::Path;
use std::sync::TryLockError;
use std::time::{Duration, Instant};

use super::persist::Persistence;
use super::roster::SHARDS;
use super::{Engine, Live};
use crate::directory::FileError;
use crate::journal::Refusal;
use crate::snapshot::{Copied, Header, Writer};
use crate::sync::Ordering;
use crate::user_id::UserId;

/// How long a snapshot waits for the next segment.
const PATIENCE: Duration = Duration::from_secs(10);
/// While heals arrive, after each shard it rests so many times as long as the shard took: a tenth of one core.
const REST: u32 = 9;

/// A snapshot that has been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// Why no snapshot was taken. Nothing on disk has changed then.
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
        let is_clean_only = persistence.journal.refusal() == Some(Refusal::SyncFailed);
        let first_segment = persistence.journal.rotate(PATIENCE)?;
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
        if !is_clean_only {
            persistence.journal.wait(persistence.journal.next_sync())?;
        }
        let written = writer.finish(engine_time, &self.outages())?;
        if is_clean_only {
            persistence.journal.resume();
        }
        let keeps_older = !is_clean_only && snapshots.forgotten == forgotten;
        (snapshots.forgotten, snapshots.first_segment) = (forgotten, first_segment);
        let taken = SnapshotTaken {
            number: written.number,
            bytes: written.bytes,
            users: written.users,
            sessions: written.sessions,
            elapsed: start.elapsed(),
            longest_hold,
        };
        persistence.note_taken(engine_time, &taken);
        prune(persistence, &written.path, keeps_older)?;
        Ok(taken)
    }

    fn copy_shards(&self, persistence: &Persistence, writer: &mut Writer<'_>) -> Result<Duration, FileError> {
        let (mut copied, mut longest_hold) = (Copied::default(), Duration::ZERO);
        let mut written_to = persistence.journal.position();
        for shard in 0..SHARDS {
            let start = Instant::now();
            copied.clear();
            self.copy_shard(shard, &mut copied);
            longest_hold = longest_hold.max(start.elapsed());
            if copied.is_empty() {
                continue;
            }
            writer.write_shard(u32::try_from(shard).unwrap_or(u32::MAX), &copied)?;
            let position = persistence.journal.position();
            // After a failed sync nothing arrives, and the sooner it is done the better.
            if std::mem::replace(&mut written_to, position) != position {
                std::thread::park_timeout(start.elapsed() * REST);
            }
        }
        Ok(longest_hold)
    }

    fn copy_shard(&self, shard: usize, copied: &mut Copied) {
        let now = self.clock.now();
        let mut gone: Vec<UserId> = Vec::new();
        self.roster.walk(shard, |user, known| {
            self.retain(known, now);
            if known.is_empty() {
                gone.push(user);
                return;
            }
            let live = known.live.load().map_or(0, Live::pack);
            copied.push(user, live, known.closed.words());
        });
        for user in gone {
            self.remove_if_empty(user);
        }
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

/// Removes what is older than the two newest generations, or than the newest alone.
fn prune(persistence: &Persistence, newest: &Path, keeps_older: bool) -> Result<(), FileError> {
    let contents = persistence.directory.list()?;
    let kept = if keeps_older { 2 } else { 1 };
    let (dropped, kept) = contents.snapshots.split_at(contents.snapshots.len().saturating_sub(kept));
    persistence.directory.remove(dropped.iter().map(|snapshot| snapshot.path.as_path()))?;
    // Without one that can be read, nothing says which segments are needed: then all of them are kept.
    let Some(oldest) = kept.first().and_then(|oldest| crate::snapshot::Snapshot::open(&oldest.path).ok())
    else {
        return Ok(());
    };
    debug_assert!(kept.iter().any(|snapshot| snapshot.path == newest));
    let first = oldest.header().first_segment;
    let needless = contents.segments.iter().filter(|segment| segment.number < first);
    persistence.directory.remove(needless.map(|segment| segment.path.as_path()))
}
