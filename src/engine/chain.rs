//! Which segments are the journal: each names the one before it, back to where replay begins.
//!
//! ```text
//!   snapshot 3 ─▶ segment 5 ◀── 6 ◀────────── 9 ◀── 10          number of the previous one, in each header
//!                                   7 ◀── 8                     prepared before a restart and never used
//! ```
//!
//! A new segment takes the number after the highest there is, so a number is never used twice while a file of it is there;
//! and it names the last one that has slots, so what was prepared and never used can be removed at any time.

use std::path::{Path, PathBuf};

use super::recover::OpenError;
use crate::directory::{Contents, DirectoryId, Numbered};
use crate::journal::SegmentFile;
use crate::snapshot::Snapshot;

/// The files do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A segment is missing.
    #[error("{} is missing: it is needed by {}", missing.display(), needed_by.display())]
    Missing {
        /// The one that should be there.
        missing: PathBuf,
        /// Where that is said.
        needed_by: PathBuf,
    },
    /// A file is of another data directory.
    #[error("{} is of another data directory: {found}, and here is {expected}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it says.
        found: DirectoryId,
        /// What the others say.
        expected: DirectoryId,
    },
    /// A file's name and its header tell different numbers.
    #[error("{} says of itself that it is number {number}", file.display())]
    Misnamed {
        /// The file.
        file: PathBuf,
        /// What its header says.
        number: u64,
    },
    /// A segment has slots, and no later one names it.
    #[error("{} has slots, and no later segment names it as the one before", file.display())]
    Unlinked {
        /// The file.
        file: PathBuf,
    },
}

/// The segments to replay, in order, and those that nobody needs.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub segments: Vec<SegmentFile>,
    /// Not in the chain.
    unlinked: Vec<SegmentFile>,
    needless: Vec<PathBuf>,
    highest: u64,
}

impl Chain {
    /// Of the segments from the snapshot's first one on, by number; without a snapshot of all there are. `own` is
    /// [`told_by_most`].
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn of(
        files: Vec<SegmentFile>,
        snapshot: Option<&Snapshot>,
        own: Option<DirectoryId>,
        folder: &Path,
    ) -> Result<Self, ChainError> {
        strangers(&files, snapshot, own).next().map_or(Ok(()), |(_, stranger)| Err(stranger))?;
        let path = |number| folder.join(crate::directory::Name::Segment(number).to_string());
        let first = snapshot.map(|snapshot| snapshot.header().first_segment);
        let mut chain = Self { highest: first.map_or(0, |first| first.saturating_sub(1)), ..Self::default() };
        let mut wanted = files.last().map(|file| file.header.number);
        chain.highest = chain.highest.max(wanted.unwrap_or(0));
        for file in files.into_iter().rev() {
            if wanted == Some(file.header.number) {
                let previous = file.header.previous;
                wanted = (previous != 0 && Some(file.header.number) != first).then_some(previous);
                chain.segments.insert(0, file);
            } else {
                chain.unlinked.push(file);
            }
        }
        let needed_by = |chain: &Self| match (chain.segments.first(), snapshot) {
            (Some(segment), _) => segment.path.clone(),
            (None, Some(snapshot)) => snapshot.path().into(),
            (None, None) => folder.into(),
        };
        let missing = match (wanted, first) {
            (Some(number), _) => Some(number),
            (None, Some(first))
                if chain.segments.first().is_none_or(|found| found.header.number != first) =>
            {
                Some(first)
            }
            _ => None,
        };
        match missing {
            Some(number) => Err(ChainError::Missing { missing: path(number), needed_by: needed_by(&chain) }),
            None => Ok(chain),
        }
    }

    pub fn directory(&self) -> Option<DirectoryId> {
        self.segments.first().map(|segment| segment.header.directory)
    }

    /// Once it is known how many slots each of `segments` has: those at the end that have none are not needed, unless a
    /// snapshot names the first. What is not in the chain must have none.
    ///
    /// # Errors
    /// [`ChainError::Unlinked`]; or such a segment cannot be read, and then nobody knows what it had.
    pub fn trim(&mut self, slots: &[u64]) -> Result<(), OpenError> {
        self.used_beside().next().map_or(Ok(()), Err)?;
        let used = slots.iter().rposition(|&slots| slots > 0).map_or(1, |last| last + 1);
        let mut needless = self.segments.split_off(used.min(self.segments.len()));
        needless.append(&mut self.unlinked);
        // From the end: each names the one before it, and whatever a crash leaves of them must still be a chain.
        needless.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.header.number));
        self.needless = needless.into_iter().map(|segment| segment.path).collect();
        Ok(())
    }

    /// What is not in the chain and has slots, or is damaged where it must have had some, by number.
    pub fn used_beside(&self) -> impl Iterator<Item = OpenError> {
        self.unlinked.iter().rev().filter_map(|segment| {
            match segment.read(0..segment.capacity(), |_, _| {}) {
                Ok(row) if row.verdicts.good == 0 => None,
                Ok(_) => Some(ChainError::Unlinked { file: segment.path.clone() }.into()),
                Err(error) => Some(error.into()),
            }
        })
    }

    /// The highest number that has ever been used, as far as can be seen; 0 if none.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The number of the last segment that is kept; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.header.number)
    }

    /// Files that may go, in this order.
    pub fn needless(&self) -> impl Iterator<Item = &Path> {
        self.needless.iter().map(PathBuf::as_path)
    }
}

/// The ids that the files of a directory tell, and how many tell each, the one of most first. What cannot be read tells none.
pub(crate) fn ids_told(contents: &Contents) -> Vec<(DirectoryId, usize)> {
    let snapshots = contents.snapshots.iter().filter_map(|file| {
        let header = Snapshot::header_of(&file.path).ok()?;
        Some(header.directory)
    });
    let segments = contents.segments.iter().filter_map(|file| {
        let (segment, _) = SegmentFile::open_of_any_length(&file.path).ok()?;
        Some(segment.header.directory)
    });
    let mut told: Vec<(DirectoryId, usize)> = Vec::new();
    for id in snapshots.chain(segments) {
        match told.iter_mut().find(|(other, _)| *other == id) {
            Some((_, count)) => *count += 1,
            None => told.push((id, 1)),
        }
    }
    told.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    told
}

/// Which directory this is, by what most of its files tell: so a start, `verify` and `repair` name the same files as another's. `None`
/// if as many tell another. A start refuses in any case, as soon as there are two.
pub(super) fn told_by_most(contents: &Contents) -> Option<DirectoryId> {
    match ids_told(contents)[..] {
        [(_, count), (_, equal), ..] if count == equal => None,
        [(id, _), ..] => Some(id),
        [] => None,
    }
}

/// The segments that are not what their names say, or are of another directory, each with its place among `files`.
pub(super) fn strangers(
    files: &[SegmentFile],
    snapshot: Option<&Snapshot>,
    own: Option<DirectoryId>,
) -> impl Iterator<Item = (usize, ChainError)> {
    let expected = own.or(snapshot.map(|snapshot| snapshot.header().directory));
    let expected = expected.or(files.first().map(|file| file.header.directory));
    files.iter().enumerate().filter_map(move |(at, file)| {
        let named = crate::directory::Name::Segment(file.header.number).to_string();
        if file.path.file_name().is_none_or(|name| name != named.as_str()) {
            let misnamed = ChainError::Misnamed { file: file.path.clone(), number: file.header.number };
            return Some((at, misnamed));
        }
        let found = file.header.directory;
        let expected = expected.filter(|&expected| expected != found)?;
        Some((at, ChainError::Foreign { file: file.path.clone(), found, expected }))
    })
}

/// Among all files of a directory, those that are not what their names say, or are of another directory than `expected`. What
/// cannot be read is not judged here.
pub(super) fn strangers_among<'c>(
    snapshots: impl IntoIterator<Item = &'c Numbered>,
    segments: impl IntoIterator<Item = &'c Numbered>,
    expected: DirectoryId,
) -> impl Iterator<Item = ChainError> {
    let snapshots = snapshots.into_iter().filter_map(|file| {
        let header = Snapshot::header_of(&file.path).ok()?;
        Some((file, header.number, header.directory))
    });
    let segments = segments.into_iter().filter_map(|file| {
        let (segment, _) = SegmentFile::open_of_any_length(&file.path).ok()?;
        Some((file, segment.header.number, segment.header.directory))
    });
    snapshots.chain(segments).filter_map(move |(file, number, found)| {
        if number != file.number {
            return Some(ChainError::Misnamed { file: file.path.clone(), number });
        }
        (found != expected).then(|| ChainError::Foreign { file: file.path.clone(), found, expected })
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::directory::{Directory, Name};
    use crate::journal::{Header, write_segment};
    use crate::time::Ttl;

    /// Empty segments, each with the number of the one before it.
    fn segments(links: &[(u64, u64)]) -> (tempfile::TempDir, Vec<SegmentFile>) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let id = DirectoryId::random().unwrap();
        let open = |&(number, previous): &(u64, u64)| {
            let length = 16 << 10;
            let header =
                Header { directory: id, number, previous, salt: 1, length, ttl: Ttl::DEFAULT, grace: 0 };
            write_segment(&directory, &header).unwrap();
            SegmentFile::open(&directory.path_of(Name::Segment(number))).unwrap()
        };
        let files = links.iter().map(open).collect();
        (folder, files)
    }

    fn numbers(chain: &Chain) -> Vec<u64> {
        chain.segments.iter().map(|segment| segment.header.number).collect()
    }

    /// After each removal, what is left must be a chain again: on a full disk there is no new segment that leads around it.
    #[test]
    fn what_is_needless_can_be_removed_one_by_one() {
        for (links, slots, last) in [
            (&[(1, 0), (2, 1), (3, 2)][..], &[5, 0, 0][..], 1),
            (&[(1, 0), (2, 1), (3, 2), (4, 1)], &[5, 0], 1),
            (&[(1, 0), (2, 1), (3, 2), (4, 1), (5, 4)], &[5, 7, 0], 4),
            (&[(1, 0), (2, 1), (3, 2), (4, 3)], &[5, 0, 7, 0], 3),
        ] {
            let (folder, files) = segments(links);
            let mut chain = Chain::of(files, None, None, folder.path()).unwrap();
            assert_eq!(chain.segments.len(), slots.len());
            chain.trim(slots).unwrap();
            assert_eq!((chain.last(), chain.highest()), (last, links.len() as u64));
            let kept = numbers(&chain);

            let mut needless: Vec<_> = chain.needless().map(Path::to_path_buf).collect();
            assert_eq!(kept.len() + needless.len(), links.len());
            while !needless.is_empty() {
                std::fs::remove_file(needless.remove(0)).unwrap();
                let left =
                    links.iter().map(|&(number, _)| folder.path().join(Name::Segment(number).to_string()));
                let left = left.filter(|path| path.exists()).map(|path| SegmentFile::open(&path).unwrap());
                let chain = Chain::of(left.collect(), None, None, folder.path()).unwrap();
                assert!(numbers(&chain).starts_with(&kept), "{links:?}");
            }
        }
    }
}
