//! What each file is, and what of it vouches for itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::RepairError;
use super::mend::{HeaderFrom, Loss, Mend, Patch, Why, Work};
use super::walk::Link;
use crate::calls;
use crate::damage::ReadError;
use crate::directory::{Contents, Directory, DirectoryId, Name, Numbered};
use crate::engine::{OpenError, Verification, ids_told};
use crate::journal::{Clues, Found, MarkFound, Rebuilt, SLOTS_AT, SegmentFile, capacity_of};
use crate::snapshot::{Header, Salvage, Snapshot};
use crate::time::Ttl;

/// The directory's own files, by number; and what is to be done about the others.
#[derive(Debug)]
pub(super) struct Survey {
    pub id: DirectoryId,
    pub segments: BTreeMap<u64, Segment>,
    pub snapshots: BTreeMap<u64, Kept>,
    /// Renamed, or put aside for what they are.
    pub mends: Vec<Mend>,
    /// Slots in the longest segment.
    pub capacity_max: u64,
    /// The highest number of any snapshot's name.
    pub snapshot_max: u64,
}

/// A snapshot whose header is whole.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is once it has been renamed.
    pub path: PathBuf,
    pub header: Header,
    /// What is left of it; `None` if all is.
    pub damaged: Option<Salvage>,
}

/// A segment whose slots can be told.
#[derive(Debug)]
pub(super) struct Segment {
    /// Where it is once it has been renamed.
    pub path: PathBuf,
    /// With the header that it has or will have.
    pub file: SegmentFile,
    /// So many places are in the file as it is.
    pub places: u32,
    pub patch: Patch,
    pub loss: Loss,
    /// Slots that verify.
    pub good: u64,
}

impl Segment {
    pub fn is_whole(&self) -> bool {
        self.patch == Patch::default()
    }

    pub fn link(&self) -> Link {
        Link { previous: self.file.header.previous, has_slots: self.good > 0 }
    }
}

/// What a file says of itself, if it says anything.
struct Said {
    number: u64,
    directory: DirectoryId,
}

impl Survey {
    pub fn of(directory: &Directory, before: &Verification) -> Result<Self, RepairError> {
        let mut contents = directory.list()?;
        let left_alone = left_alone(before);
        contents.snapshots.retain(|file| !left_alone.contains(&file.path.as_path()));
        contents.segments.retain(|file| !left_alone.contains(&file.path.as_path()));
        let said: Vec<_> = contents.snapshots.iter().map(|file| said_by_snapshot(&file.path)).collect();
        let of_segments: Vec<_> = contents.segments.iter().map(|file| said_by_segment(&file.path)).collect();
        let id = majority(directory.path(), &contents)?;
        let mut survey = Self {
            id,
            segments: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            mends: Vec::new(),
            capacity_max: capacity_max(&contents.segments),
            snapshot_max: contents.snapshots.last().map_or(0, |file| file.number),
        };
        survey.add_segments(directory, &contents, &of_segments)?;
        for (file, said) in contents.snapshots.iter().zip(&said) {
            let is_whole =
                before.snapshots.iter().any(|found| found.path == file.path && found.error.is_none());
            survey.add_snapshot(directory, &contents, file, said.as_ref(), is_whole)?;
        }
        let highest = survey.snapshots.last_key_value().map_or(0, |(&number, _)| number);
        survey.snapshot_max = survey.snapshot_max.max(highest);
        Ok(survey)
    }

    /// Where a file will be that says `said` of itself; `None` if it is put aside, which is noted.
    fn settle(
        &mut self,
        file: &Numbered,
        said: &Said,
        own: Name,
        directory: &Directory,
        is_taken: bool,
    ) -> Option<PathBuf> {
        let why = if said.directory != self.id {
            Why::Foreign(said.directory)
        } else if said.number == file.number {
            return Some(file.path.clone());
        } else if is_taken {
            Why::Misnamed(said.number)
        } else {
            let path = directory.path_of(own);
            self.note(&file.path, Work::Rename(path.clone()), Loss::default());
            return Some(path);
        };
        // Which directory this is was counted, and nothing proves it.
        let foreign = u64::from(matches!(why, Why::Foreign(_)));
        self.note(&file.path, Work::PutAside(why), Loss { foreign, ..Loss::default() });
        None
    }

    fn note(&mut self, path: &Path, work: Work, loss: Loss) {
        self.mends.push(Mend { path: path.into(), work, loss });
    }

    fn add_segments(
        &mut self,
        directory: &Directory,
        contents: &Contents,
        said: &[Option<Said>],
    ) -> Result<(), RepairError> {
        let mut damaged = Vec::new();
        for (file, said) in contents.segments.iter().zip(said) {
            let Some(said) = said else {
                damaged.push(file);
                continue;
            };
            let own = Name::Segment(said.number);
            let is_taken = self.segments.contains_key(&said.number)
                || contents.segments.iter().any(|other| other.number == said.number);
            if let Some(path) = self.settle(file, said, own, directory, is_taken) {
                let (opened, length) = SegmentFile::open_of_any_length(&file.path)?;
                self.segments.insert(said.number, Segment::of(path, opened, length, None)?);
            }
        }
        // In order of their numbers: each may tell which is the one before the next.
        for file in damaged {
            let clues = self.clues(contents, file.number);
            let Some(rebuilt) = Rebuilt::of(&file.path, &clues)? else {
                let loss = self.something_in(&file.path)?;
                self.note(&file.path, Work::PutAside(Why::Unreadable), loss);
                continue;
            };
            let from = if rebuilt.is_proven { HeaderFrom::Checksum } else { HeaderFrom::Slots };
            let (opened, length) = SegmentFile::open_with(&file.path, rebuilt.header)?;
            let segment = Segment::of(file.path.clone(), opened, length, Some(from))?;
            self.segments.insert(file.number, segment);
        }
        Ok(())
    }

    fn clues(&self, contents: &Contents, number: u64) -> Clues {
        let before = || self.segments.range(..number).rev();
        let used = before().find(|(_, segment)| segment.good > 0).or_else(|| before().next());
        let beside = before().next().into_iter().chain(self.segments.range(number..).next());
        let rules = beside.map(|(_, segment)| (segment.file.header.ttl, segment.file.header.grace));
        let headers = contents.snapshots.iter().rev().filter_map(|file| Snapshot::header_of(&file.path).ok());
        let headers = headers.map(|header| (header.ttl, header.grace_seconds));
        Clues {
            directory: self.id,
            number,
            previous: used.map_or(number - 1, |(&number, _)| number),
            rules: rules.chain(headers).chain([(Ttl::DEFAULT, 0)]).collect(),
        }
    }

    /// The slots that a segment may have had that has no header: none if nothing but zeros is where they would be, unless zeros
    /// are in the place of the header, too.
    fn something_in(&self, path: &Path) -> Result<Loss, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length < SLOTS_AT {
            return Ok(Loss { unknown_writes: self.capacity_max == 0, ..Loss::writes(self.capacity_max) });
        }
        if is_zero(path)? {
            return Ok(Loss::writes(capacity_of(length).into()));
        }
        let header = crate::journal::Header {
            directory: self.id,
            number: 1,
            previous: 0,
            salt: 0,
            length,
            ttl: Ttl::DEFAULT,
            grace: 0,
        };
        let mut slots = 0;
        SegmentFile::open_with(path, header)?.0.scan(0..capacity_of(length), |_, found, _| {
            slots += u64::from(found != Found::Empty);
            Ok(())
        })?;
        Ok(Loss::writes(slots))
    }

    fn add_snapshot(
        &mut self,
        directory: &Directory,
        contents: &Contents,
        file: &Numbered,
        said: Option<&Said>,
        is_whole: bool,
    ) -> Result<(), RepairError> {
        let known = if said.is_some() { Vec::new() } else { self.headers_like(contents, file.number) };
        if let Some(said) = said {
            let own = Name::Snapshot(said.number);
            let is_taken = self.snapshots.contains_key(&said.number)
                || contents.snapshots.iter().any(|other| other.number == said.number);
            let Some(path) = self.settle(file, said, own, directory, is_taken) else { return Ok(()) };
            let header = Snapshot::header_of(&file.path)?;
            let damaged = if is_whole { None } else { Salvage::of(&file.path, &[])? };
            self.snapshots.insert(said.number, Kept { path, header, damaged });
            return Ok(());
        }
        if let Some(salvage) = Salvage::of(&file.path, &known)? {
            let header = *salvage.snapshot.header();
            self.snapshots
                .insert(file.number, Kept { path: file.path.clone(), header, damaged: Some(salvage) });
        } else {
            self.note(&file.path, Work::PutAside(Why::Unreadable), Loss::default());
        }
        Ok(())
    }

    /// What the header of a snapshot with this number may have said.
    fn headers_like(&self, contents: &Contents, number: u64) -> Vec<Header> {
        let mut rules: Vec<_> = self
            .segments
            .values()
            .map(|segment| (segment.file.header.ttl, segment.file.header.grace))
            .collect();
        let others = contents.snapshots.iter().filter_map(|file| Snapshot::header_of(&file.path).ok());
        rules.extend(others.map(|header| (header.ttl, header.grace_seconds)));
        rules.push((Ttl::DEFAULT, 0));
        rules.sort_unstable_by_key(|(ttl, grace)| (ttl.as_seconds(), *grace));
        rules.dedup();
        let highest = contents.segments.last().map_or(1, |file| file.number + 1);
        // Those that are there, or were not long ago.
        let lowest =
            contents.segments.first().map_or(1, |file| file.number).saturating_sub(FIRST_BEFORE).max(1);
        let highest = highest.min(lowest.saturating_add(FIRST_TRIED));
        let firsts = (lowest..=highest).chain(self.segments.keys().copied());
        let header = |first_segment, (ttl, grace_seconds)| Header {
            directory: self.id,
            number,
            first_segment,
            ttl,
            grace_seconds,
        };
        firsts.flat_map(|first| rules.iter().map(move |&rules| header(first, rules))).collect()
    }
}

/// Places that may be empty between two slots.
const WRITERS_MAX: u32 = 64;
/// Numbers that a damaged snapshot's first segment may have, below the lowest that is there, and in all.
const FIRST_BEFORE: u64 = 1_000;
const FIRST_TRIED: u64 = 10_000;

impl Segment {
    fn of(
        path: PathBuf,
        file: SegmentFile,
        length: u64,
        header: Option<HeaderFrom>,
    ) -> Result<Self, ReadError> {
        let places = file.capacity_in(length);
        // With another salt the mark cannot be read, and what took the header may have taken the mark. Then all up to the last slot
        // counts as synced.
        let has_mark = header != Some(HeaderFrom::Slots) || matches!(file.synced, MarkFound::Value(_));
        let (mut good, mut end, mut used) = (0, 0, 0);
        let mut holes: Vec<Range<u32>> = Vec::new();
        file.scan(0..places, |index, found, is_synced| {
            if found != Found::Empty {
                used = index + 1;
            }
            if matches!(found, Found::Slot(_)) {
                (good, end) = (good + 1, index + 1);
            } else if is_synced || !has_mark {
                match holes.last_mut().filter(|last| last.end == index) {
                    Some(last) => last.end += 1,
                    None => holes.push(index..index + 1),
                }
            }
            Ok(())
        })?;
        if !has_mark {
            holes.retain(|hole| hole.start < end);
        }
        let mut work = Patch { header, voids: holes, ..Patch::default() };
        if length != file.header.length {
            work.length = Some((length, file.header.length));
        }
        let synced = file.synced.value();
        if synced > places {
            work.synced = Some(places);
        } else if !has_mark {
            work.synced = Some(end);
        }
        let voids: u64 = work.voids.iter().map(|hole| u64::from(hole.end - hole.start)).sum();
        // Behind a cut there may have been slots also above the mark, if there were any up to it: more threads than this do not
        // write at once.
        let is_used = synced > places || used + WRITERS_MAX >= places && used > 0;
        let cut = if is_used { file.capacity() - places } else { 0 };
        let loss = Loss::writes(voids + u64::from(cut));
        Ok(Self { path, file, places, patch: work, loss, good })
    }
}

/// Whether a file's first page is nothing but zeros, which nobody writes there.
fn is_zero(path: &Path) -> Result<bool, ReadError> {
    let io = |source| ReadError::Io { path: path.into(), source };
    let mut page = [1; 4_096];
    calls::open(path).and_then(|mut file| file.read_exact(&mut page)).map_err(io)?;
    Ok(page == [0; 4_096])
}

/// Slots in the longest segment, by its header or, if that is damaged, by the file's length.
fn capacity_max(segments: &[Numbered]) -> u64 {
    let capacity = |file: &Numbered| {
        let by_header = SegmentFile::open(&file.path).map_or(0, |segment| segment.capacity());
        let by_length = std::fs::metadata(&file.path).map_or(0, |found| capacity_of(found.len()));
        u64::from(by_header.max(by_length))
    };
    segments.iter().map(capacity).max().unwrap_or(0)
}

/// What repair does not judge: files of a later program, and such as cannot be read.
fn left_alone(before: &Verification) -> Vec<&Path> {
    let is_left = |error: &OpenError| {
        matches!(error, OpenError::Read(ReadError::NewerVersion { .. } | ReadError::Io { .. }))
    };
    let snapshots = before.snapshots.iter().map(|found| (found.path.as_path(), found.error.as_deref()));
    let segments = before.segments.iter().map(|found| (found.path.as_path(), found.error.as_deref()));
    let left = snapshots.chain(segments).filter(|(_, error)| error.is_some_and(is_left));
    left.map(|(path, _)| path).collect()
}

fn said_by_snapshot(path: &Path) -> Option<Said> {
    let header = Snapshot::header_of(path).ok()?;
    Some(Said { number: header.number, directory: header.directory })
}

fn said_by_segment(path: &Path) -> Option<Said> {
    let (segment, _) = SegmentFile::open_of_any_length(path).ok()?;
    Some(Said { number: segment.header.number, directory: segment.header.directory })
}

/// The id that most files tell, as a start and `verify` take it.
fn majority(path: &Path, contents: &Contents) -> Result<DirectoryId, RepairError> {
    match ids_told(contents)[..] {
        [(one, count), (other, equal), ..] if count == equal => {
            Err(RepairError::Mixed { path: path.into(), one, other })
        }
        [(id, _), ..] => Ok(id),
        [] => Ok(DirectoryId::random()?),
    }
}
