//! What of the snapshots and segments on disk is kept, and what is removed: snapshots first, then the segments that no kept one
//! needs, oldest first.
//!
//! Two generations are kept: should the newest turn out to be damaged, the one before and a longer replay give the same. After
//! a forget the older one still knows the user, and after a failed sync its segments may lack what was acknowledged: then only
//! the new one is. On a full disk the older one is given up, too, and that is told: without room no heal is taken.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::persist::Persistence;
use crate::damage::ReadError;
use crate::directory::{DirectoryId, FileError};
use crate::journal::{JournalReport, SegmentFile};
use crate::snapshot::Snapshot;

/// Every segment before this one, and every snapshot: what must go last.
pub(super) fn older_than(persistence: &Persistence, first_segment: u64) -> Result<Vec<PathBuf>, FileError> {
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
pub(super) fn newest_whole(persistence: &Persistence, last: u64) -> Result<Option<u64>, FileError> {
    let newest = generations(persistence, last, &[])?.pop();
    let newest =
        newest.filter(|newest| Snapshot::open(&newest.path).is_ok_and(|found| found.verify().is_ok()));
    Ok(newest.map(|newest| newest.number))
}

/// Which generations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
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
pub(super) fn prune(
    persistence: &Persistence,
    newest: u64,
    keeps: Keeps,
    damaged: &[u64],
) -> Result<(), FileError> {
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
pub(super) fn given_back(persistence: &Persistence, newest: u64) -> Result<u64, FileError> {
    let mut generations = generations(persistence, newest, &[])?;
    let first = generations.pop().and_then(|newest| newest.first_segment).unwrap_or(0);
    let segments = segments_before(persistence, first)?;
    let dropped = generations.iter().map(|generation| &generation.path).chain(&segments);
    // What has another name keeps its blocks, of 512 bytes as stat(2) counts them.
    let found = dropped.filter_map(|path| path.metadata().ok()).filter(|found| found.nlink() == 1);
    Ok(found.map(|found| found.blocks() * 512).sum())
}
