//! What lies in a data directory, and what a start would make of it.
//!
//! [`verify`] reads every file, goes on after the first complaint, and changes nothing: it makes no file or folder and holds no
//! lock, so it may run beside the service. What it says of a start comes from the rules that a start follows (`Chain`,
//! `SegmentFile`, `Snapshot`), asked in the same order; only users are not put together, so it needs memory for a piece of a
//! file, however many there are.
//!
//! A complaint need not stop a start: a damaged snapshot before the one that is used, a segment that nobody replays. A
//! directory is sound if a start takes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::{Chain, ChainError, strangers, strangers_among, told_by_most};
use super::recover::OpenError;
use super::replayed::{Latest, says};
use crate::damage::ReadError;
use crate::directory::{Contents, Directory, DirectoryId, FileError, FileSystem, Holder, Numbered, Visited};
use crate::journal::{self, SLOT_BYTES, SLOTS_AT, SegmentFile, Verdicts};
use crate::snapshot::Snapshot;
use crate::time::UnixSeconds;

/// While a service changes the directory, it is read so often at most.
const READINGS: usize = 3;

/// What was found.
#[derive(Debug)]
pub struct Verification {
    /// The directory.
    pub path: PathBuf,
    /// Who uses it. What is said here may then be out of date already.
    pub holder: Option<Holder>,
    /// What it is on.
    pub file_system: FileSystem,
    /// By number.
    pub snapshots: Vec<SnapshotFound>,
    /// By number.
    pub segments: Vec<SegmentFound>,
    /// Why the segments are not a journal.
    pub chain: Vec<Arc<OpenError>>,
    /// Our own files that were never published: being written, or left by a crash.
    pub temporaries: Vec<PathBuf>,
    /// Files that are nobody's.
    pub unknown: Vec<PathBuf>,
    /// What recovery and repair have put aside.
    pub quarantine: Vec<PathBuf>,
    /// What a start would do, or why it would refuse.
    pub verdict: Result<Beginning, Arc<OpenError>>,
}

/// Where a start would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// From this snapshot; `None` from nothing.
    pub snapshot: Option<u64>,
    /// So many segments would be replayed.
    pub segments: usize,
    /// So many slots.
    pub slots: u64,
}

/// A snapshot.
#[derive(Debug)]
pub struct SnapshotFound {
    /// Where it is.
    pub path: PathBuf,
    /// By its name.
    pub number: u64,
    /// What it says; `None` if it cannot be read as far as that.
    pub facts: Option<SnapshotFacts>,
    /// What is wrong with it.
    pub error: Option<Arc<OpenError>>,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Users in it.
    pub users: u64,
    /// Closed sessions in it.
    pub closed_sessions: u64,
    /// Length of the file.
    pub bytes: u64,
    /// The segment from which replay begins.
    pub first_segment: u64,
    /// Nothing in it is later.
    pub engine_time: UnixSeconds,
}

/// A segment.
#[derive(Debug)]
pub struct SegmentFound {
    /// Where it is.
    pub path: PathBuf,
    /// By its name.
    pub number: u64,
    /// What it says; `None` if it cannot be read as far as that.
    pub facts: Option<SegmentFacts>,
    /// What is wrong with it.
    pub error: Option<Arc<OpenError>>,
    /// Whether a start would look at its slots.
    pub is_replayed: bool,
    /// Its slots speak of this second, and of none later.
    latest: Latest,
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The number of the segment before it; 0 for none.
    pub previous: u64,
    /// Length of the file.
    pub bytes: u64,
    /// So many slots are known to be on disk.
    pub synced: Mark,
    /// A second in which the service was up.
    pub alive: Mark,
    /// What stands in its slots; `None` if a slot is damaged.
    pub slots: Option<Verdicts>,
}

pub use crate::journal::MarkFound as Mark;

/// Reads the whole directory at `path`. `now` is what a start would take for the time.
///
/// # Errors
/// The directory cannot be listed. What is wrong with a file in it is said in the [`Verification`].
pub fn verify(path: &Path, now: UnixSeconds) -> Result<Verification, FileError> {
    let folder = Visited::open(path)?;
    let mut readings = 1;
    loop {
        let holder = folder.holder()?;
        let contents = folder.list()?;
        let place = Place { holder, file_system: folder.file_system()?, quarantine: folder.quarantine()? };
        let found = Verification::of(path, &contents, place, now);
        // A service removes what it needs no longer, and that may have been while we looked.
        if !found.has_complaints() || readings == READINGS || folder.list()? == contents {
            return Ok(found);
        }
        readings += 1;
    }
}

/// The same of a directory whose lock is ours.
///
/// # Errors
/// The directory cannot be listed.
pub(crate) fn verify_locked(directory: &Directory, now: UnixSeconds) -> Result<Verification, FileError> {
    let folder = Visited::open(directory.path())?;
    let place =
        Place { holder: None, file_system: directory.file_system()?, quarantine: folder.quarantine()? };
    Ok(Verification::of(directory.path(), &directory.list()?, place, now))
}

/// What is known of a directory without looking at its files.
struct Place {
    holder: Option<Holder>,
    file_system: FileSystem,
    quarantine: Vec<PathBuf>,
}

impl Verification {
    fn of(path: &Path, contents: &Contents, place: Place, now: UnixSeconds) -> Self {
        let Place { holder, file_system, quarantine } = place;
        let mut found = Self {
            path: path.into(),
            holder,
            file_system,
            snapshots: Vec::new(),
            segments: contents.segments.iter().map(read_segment).collect(),
            chain: Vec::new(),
            temporaries: contents.temporaries.clone(),
            unknown: contents.unknown.clone(),
            quarantine,
            verdict: Ok(Beginning { snapshot: None, segments: 0, slots: 0 }),
        };
        found.judge(contents, now);
        found
    }

    /// Whether a start would take it.
    pub const fn is_sound(&self) -> bool {
        self.verdict.is_ok()
    }

    /// Everything that is wrong, whether or not it stops a start.
    pub fn complaints(&self) -> impl Iterator<Item = &OpenError> {
        let of_snapshots = self.snapshots.iter().filter_map(|snapshot| snapshot.error.as_deref());
        let of_segments = self.segments.iter().filter_map(|segment| segment.error.as_deref());
        let of_chain = self.chain.iter().map(Arc::as_ref);
        let future = self.verdict.as_ref().err().map(Arc::as_ref);
        let future = future.filter(|error| matches!(error, OpenError::Future { .. }));
        of_snapshots.chain(of_segments).chain(of_chain).chain(future)
    }

    fn has_complaints(&self) -> bool {
        self.complaints().next().is_some()
    }

    /// As recovery does: the newest snapshot that is whole, and the journal from there. What is wrong with a newer one is the
    /// reason if that does not work.
    fn judge(&mut self, contents: &Contents, now: UnixSeconds) {
        let mut opened = Vec::new();
        for snapshot in &contents.snapshots {
            let (found, snapshot) = read_snapshot(snapshot);
            self.snapshots.push(found);
            opened.push(snapshot);
        }
        let (own, mut damaged) = (told_by_most(contents), None);
        for (at, snapshot) in opened.iter().enumerate().rev() {
            match self.snapshots[at].error.clone() {
                None => {
                    let beginning = self.replay(snapshot.as_ref(), own, now);
                    self.verdict = beginning.map_err(|error| damaged.unwrap_or(error));
                    return;
                }
                Some(error) if is_damage(&error) => _ = damaged.get_or_insert(error),
                Some(error) => return self.verdict = Err(error),
            }
        }
        self.verdict = match damaged {
            Some(damaged) if self.segments.is_empty() => Err(damaged),
            damaged => self.replay(None, own, now).map_err(|error| damaged.unwrap_or(error)),
        };
    }

    /// What replaying the journal from this snapshot on would come to.
    fn replay(
        &mut self,
        snapshot: Option<&Snapshot>,
        own: Option<DirectoryId>,
        now: UnixSeconds,
    ) -> Result<Beginning, Arc<OpenError>> {
        let first = snapshot.map_or(0, |snapshot| snapshot.header().first_segment);
        let needed = self.segments.partition_point(|segment| segment.number < first);
        let unreadable = self.segments[needed..].iter().find(|segment| segment.facts.is_none());
        let unreadable = unreadable.and_then(|segment| segment.error.clone());
        let chain = self.chain_of(needed, snapshot, own);
        let id = own.or(snapshot.map(|snapshot| snapshot.header().directory));
        self.find_strangers(needed, id.or(chain.as_ref().ok().and_then(Chain::directory)));
        if let Some(error) = unreadable.or_else(|| self.chain.first().cloned()) {
            return Err(error);
        }
        let mut chain = chain?;
        let (mut latest, mut slots) = (Latest::default(), Vec::new());
        if let Some(snapshot) = snapshot {
            latest.see(snapshot.engine_time(), snapshot.path(), 0);
        }
        let mut broken = None;
        for segment in &chain.segments {
            let Some(found) = self.segments.iter_mut().find(|found| found.path == segment.path) else {
                continue;
            };
            found.is_replayed = true;
            broken = broken.or_else(|| found.error.clone());
            slots.push(found.good());
            latest.join(found.latest.clone());
            latest.see(UnixSeconds::new(segment.alive.value()), &segment.path, journal::ALIVE_AT);
        }
        self.chain.extend(chain.used_beside().map(Arc::new));
        if let Some(error) = broken.or_else(|| self.chain.first().cloned()) {
            return Err(error);
        }
        chain.trim(&slots).map_err(Arc::new)?;
        latest.check(now).map_err(Arc::new)?;
        let kept = chain.segments.len();
        let snapshot = snapshot.map(|snapshot| snapshot.header().number);
        Ok(Beginning { snapshot, segments: kept, slots: slots.iter().sum() })
    }

    /// Notes the files that are of another directory, among those that a start would not need.
    fn find_strangers(&mut self, needed: usize, own: Option<DirectoryId>) {
        let Some(id) = own else { return };
        let numbered = |number, path: &PathBuf| Numbered { number, path: path.clone() };
        let snapshots: Vec<_> = self.snapshots.iter().map(|file| numbered(file.number, &file.path)).collect();
        let segments: Vec<_> =
            self.segments[..needed].iter().map(|file| numbered(file.number, &file.path)).collect();
        let strangers = strangers_among(&snapshots, &segments, id);
        self.chain.extend(strangers.map(|stranger| Arc::new(stranger.into())));
    }

    /// The chain of the segments from place `needed` on, as far as they can be read; what is wrong with it is noted.
    fn chain_of(
        &mut self,
        needed: usize,
        snapshot: Option<&Snapshot>,
        own: Option<DirectoryId>,
    ) -> Result<Chain, Arc<OpenError>> {
        let readable = self.segments[needed..].iter().filter(|segment| segment.facts.is_some());
        let files = readable.map(|segment| SegmentFile::open(&segment.path));
        let mut files = files.collect::<Result<Vec<_>, _>>().map_err(|error| Arc::new(error.into()))?;
        let unreadable = self.segments[needed..].iter().filter(|segment| segment.facts.is_none());
        let mut told: Vec<PathBuf> = unreadable.map(|segment| segment.path.clone()).collect();
        let strangers: Vec<_> = strangers(&files, snapshot, own).collect();
        for (at, stranger) in strangers.into_iter().rev() {
            told.push(files.remove(at).path);
            self.chain.insert(0, Arc::new(stranger.into()));
        }
        Chain::of(files, snapshot, own, &self.path).map_err(|error| {
            // What is there, and is complained of already, is not missing.
            let is_told = matches!(&error, ChainError::Missing { missing, .. } if told.contains(missing));
            let error = Arc::new(OpenError::from(error));
            if !is_told {
                self.chain.push(Arc::clone(&error));
            }
            error
        })
    }
}

impl SegmentFound {
    fn good(&self) -> u64 {
        self.facts.and_then(|facts| facts.slots).map_or(0, |slots| slots.good)
    }
}

fn is_damage(error: &OpenError) -> bool {
    matches!(error, OpenError::Read(ReadError::Damaged(_)))
}

fn read_snapshot(file: &Numbered) -> (SnapshotFound, Option<Snapshot>) {
    let mut found = SnapshotFound { path: file.path.clone(), number: file.number, facts: None, error: None };
    let opened = Snapshot::open(&file.path).and_then(|snapshot| {
        found.facts = Some(SnapshotFacts {
            users: snapshot.users(),
            closed_sessions: snapshot.sessions(),
            bytes: snapshot.bytes(),
            first_segment: snapshot.header().first_segment,
            engine_time: snapshot.engine_time(),
        });
        snapshot.verify().map(|()| snapshot)
    });
    let opened = opened.map_err(|error| found.error = Some(Arc::new(error.into()))).ok();
    (found, opened)
}

fn read_segment(file: &Numbered) -> SegmentFound {
    let mut found = SegmentFound {
        path: file.path.clone(),
        number: file.number,
        facts: None,
        error: None,
        is_replayed: false,
        latest: Latest::default(),
    };
    let read = SegmentFile::open(&file.path).and_then(|segment| {
        let facts = found.facts.insert(SegmentFacts {
            previous: segment.header.previous,
            bytes: segment.header.length,
            synced: segment.synced,
            alive: segment.alive,
            slots: None,
        });
        let verdicts = segment.read(0..segment.capacity(), |index, slot| {
            let offset = SLOTS_AT + u64::from(index) * SLOT_BYTES;
            found.latest.see(says(slot, segment.header.ttl), &file.path, offset);
        })?;
        facts.slots = Some(verdicts.verdicts);
        Ok(())
    });
    found.error = read.err().map(|error| Arc::new(error.into()));
    found
}
