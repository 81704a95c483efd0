//! Reading a segment back, by `pread`: never through a mapping, where a bad block would kill the process.
//!
//! Nothing is decided here about users; a slot is handed on, in order, with a verdict on every place that has none:
//!
//! | place | last word 0 | checksum wrong |
//! |---|---|---|
//! | below the synced mark | damage: it was on disk | damage |
//! | above | never acknowledged: skipped | torn by a power loss: skipped and counted |

use std::fs::File;
use std::ops::{AddAssign, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::header::{Header, HeaderError, PAGE};
use super::mark::{Mark, MarkFound};
use super::segment::{SLOTS_AT, capacity_of};
use super::slot::{Found, SLOT_BYTES, SLOT_WORDS, Slot};
use crate::calls;
use crate::damage::{Damage, Flaw, Part, ReadError};
use crate::planted::{Planted, planted};

/// Slots read at a time: 1.5 MiB.
const PIECE_SLOTS: usize = 1 << 16;

/// What stood in the slots that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Whole.
    pub good: u64,
    /// Reserved and never stored, before the last one that was.
    pub empty: u64,
    /// Torn by a power loss.
    pub torn: u64,
}

/// Verdicts on places in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    pub verdicts: Verdicts,
    /// Empty ones behind the last that is not: they count when another follows.
    unused: u64,
}

impl AddAssign for Verdicts {
    fn add_assign(&mut self, other: Self) {
        self.good += other.good;
        self.empty += other.empty;
        self.torn += other.torn;
    }
}

/// The other row comes behind this one.
impl AddAssign for Row {
    fn add_assign(&mut self, other: Self) {
        if other.verdicts.good + other.verdicts.torn > 0 {
            self.verdicts.empty += std::mem::take(&mut self.unused);
        }
        self.verdicts += other.verdicts;
        self.unused += other.unused;
    }
}

/// A segment's file, open for reading.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub path: PathBuf,
    pub header: Header,
    pub synced: MarkFound,
    pub alive: MarkFound,
    file: File,
}

impl SegmentFile {
    /// Opens `path` and reads its first two pages.
    ///
    /// # Errors
    /// [`ReadError`], also when the file is not as long as its header says.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let (segment, length) = Self::open_of_any_length(path)?;
        segment.damage_of_length(length).map_or(Ok(segment), |damage| Err(damage.into()))
    }

    /// The same, whatever the file's length is; gives it.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn open_of_any_length(path: &Path) -> Result<(Self, u64), ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let damage = |offset, flaw| Damage { file: path.into(), offset, flaw };
        let file = calls::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < SLOTS_AT {
            return Err(damage(length, Flaw::Ends(Part::Header)).into());
        }
        let mut pages = [0; 2 * PAGE];
        file.read_exact_at(&mut pages, 0).map_err(io)?;
        let mut header_page = [0; PAGE];
        header_page.copy_from_slice(&pages[..PAGE]);
        let header = Header::decode(&header_page).map_err(|error| match error {
            HeaderError::Magic => damage(0, Flaw::Foreign("journal segment")).into(),
            HeaderError::Checksum => damage(0, Flaw::Checksum(Part::Header)).into(),
            HeaderError::Contents => damage(0, Flaw::Contradiction(Part::Header, "makes no sense")).into(),
            HeaderError::Version(version) => ReadError::NewerVersion { file: path.into(), version },
        })?;
        Ok((Self::of(path, file, header, &pages[PAGE..]), length))
    }

    /// The same with another header than the one that is there.
    ///
    /// # Errors
    /// The file cannot be read, or ends before its first slot.
    pub fn open_with(path: &Path, header: Header) -> Result<(Self, u64), ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let file = calls::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut marks = [0; PAGE];
        file.read_exact_at(&mut marks, PAGE as u64).map_err(io)?;
        Ok((Self::of(path, file, header, &marks), length))
    }

    fn of(path: &Path, file: File, header: Header, marks: &[u8]) -> Self {
        let mark = |mark: Mark| {
            let at = mark.offset() - PAGE;
            let word = u64::from_ne_bytes(std::array::from_fn(|byte| marks[at + byte]));
            mark.decode(word, header.salt, header.number)
        };
        let (synced, alive) = (mark(Mark::Synced), mark(Mark::Alive));
        Self { path: path.into(), synced, alive, header, file }
    }

    /// What is wrong with a file of this length.
    pub fn damage_of_length(&self, length: u64) -> Option<Damage> {
        let flaw = Flaw::Contradiction(Part::Header, "tells another length of the file");
        let offset = length.min(self.header.length);
        (length != self.header.length).then(|| Damage { file: self.path.clone(), offset, flaw })
    }

    pub fn capacity(&self) -> u32 {
        capacity_of(self.header.length)
    }

    /// How many of its places are in a file of this length.
    pub fn capacity_in(&self, length: u64) -> u32 {
        capacity_of(length).min(self.capacity())
    }

    /// Hands every whole slot in this range, with its index, to `visit`.
    ///
    /// # Errors
    /// [`ReadError`]: the file cannot be read, or is damaged below its synced mark.
    pub fn read(&self, slots: Range<u32>, mut visit: impl FnMut(u32, Slot)) -> Result<Row, ReadError> {
        let mut row = Row::default();
        self.scan(slots, |index, found, is_synced| {
            match found {
                Found::Slot(slot) => {
                    visit(index, slot);
                    row += Row { verdicts: Verdicts { good: 1, ..Verdicts::default() }, unused: 0 };
                }
                Found::Empty | Found::Bad if is_synced && !planted(Planted::MarkIgnored) => {
                    return Err(self.damage_at(index).into());
                }
                Found::Empty if planted(Planted::EmptySlotRefused) && index < self.synced.value() + 8 => {
                    return Err(self.damage_at(index).into());
                }
                Found::Empty => row.unused += 1,
                Found::Bad => row += Row { verdicts: Verdicts { torn: 1, ..Verdicts::default() }, unused: 0 },
            }
            Ok(())
        })?;
        Ok(row)
    }

    /// Hands over what stands in every place of this range, with its index, and whether that is below the synced mark.
    ///
    /// # Errors
    /// [`ReadError::Io`], and those of `visit`.
    pub fn scan(
        &self,
        slots: Range<u32>,
        mut visit: impl FnMut(u32, Found, bool) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let synced = self.synced.value();
        let mut bytes = vec![0; slots.len().min(PIECE_SLOTS) * SLOT_WORDS * 8];
        for first in slots.clone().step_by(PIECE_SLOTS) {
            let indices = first..slots.end;
            let piece = indices.len().min(PIECE_SLOTS) * SLOT_WORDS * 8;
            let piece = &mut bytes[..piece];
            let at = SLOTS_AT + u64::from(first) * SLOT_BYTES;
            let cannot_read = |source| ReadError::Io { path: self.path.clone(), source };
            self.file.read_exact_at(piece, at).map_err(cannot_read)?;
            for (index, slot) in indices.zip(piece.chunks_exact(SLOT_WORDS * 8)) {
                let word = |word| u64::from_ne_bytes(std::array::from_fn(|byte| slot[word * 8 + byte]));
                let found = Slot::decode(std::array::from_fn(word), index, self.header.salt);
                visit(index, found, index < synced)?;
            }
        }
        Ok(())
    }

    /// The slot at `index`, if a whole one is there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn slot(&self, index: u32) -> Result<Option<Slot>, ReadError> {
        let mut words = [0; SLOT_WORDS];
        for (word, at) in words.iter_mut().zip((SLOTS_AT + u64::from(index) * SLOT_BYTES..).step_by(8)) {
            let mut bytes = [0; 8];
            self.file
                .read_exact_at(&mut bytes, at)
                .map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
            *word = u64::from_ne_bytes(bytes);
        }
        match Slot::decode(words, index, self.header.salt) {
            Found::Slot(slot) => Ok(Some(slot)),
            Found::Empty | Found::Bad => Ok(None),
        }
    }

    /// Whether the synced mark or the alive second cannot be read.
    pub fn has_unreadable_mark(&self) -> bool {
        [self.synced, self.alive].contains(&MarkFound::Unreadable)
    }

    /// The damage of a place below the synced mark that holds no slot.
    pub fn damage_at(&self, index: u32) -> Damage {
        Damage {
            file: self.path.clone(),
            offset: SLOTS_AT + u64::from(index) * SLOT_BYTES,
            flaw: Flaw::Checksum(Part::Slot(index)),
        }
    }

    /// Makes sure that what was read is on disk: it may have come from the page cache, which a power loss takes.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self) -> Result<(), ReadError> {
        if planted(Planted::ReplayedNotSynced) {
            return Ok(());
        }
        calls::sync_data(&self.file).map_err(|source| ReadError::Io { path: self.path.clone(), source })
    }
}
