//! One segment in service: slots are reserved by one addition to its tail and stored without a lock.
//!
//! ```text
//!   page 0   header (see `header`)
//!   page 1   synced mark, alive second (see `mark`)
//!   page 2…  slot 0 │ slot 1 │ … │ slot capacity − 1        24 bytes each (see `slot`)
//!                       ▲ tail: the next one to be reserved; beyond the capacity the segment is full or sealed
//! ```
//!
//! A slot is reserved, its first two words are stored, then the last one with release ordering: it is committed. Whoever sees
//! the last word sees the others. The file's blocks exist and hold zeros before the segment is in service, so storing never
//! needs room.

#![cfg_attr(shuttle, allow(dead_code, reason = "the checker has no files"))]

use std::fs::File;
use std::io;
use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::header::{Header, PAGE};
use super::mark::Mark;
use super::slot::{SLOT_BYTES, SLOT_WORDS, Slot};
#[cfg(shuttle)]
use super::stand_in::Disk;
use super::words::Words;
#[cfg(not(shuttle))]
use crate::calls;
use crate::directory::{Directory, Name};
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::time::UnixSeconds;

/// Where the slots begin, in bytes.
pub(crate) const SLOTS_AT: u64 = 2 * PAGE as u64;
/// The word in memory that the second page begins with. The checker's words are dear, so with it the memory is just two words for
/// the marks, and slots.
const MARKS_AT_WORD: usize = if cfg!(shuttle) { 0 } else { PAGE / 8 };
/// And the slots.
const SLOTS_AT_WORD: usize = if cfg!(shuttle) { 2 } else { 2 * PAGE / 8 };
/// Not sealed.
const OPEN: u64 = u64::MAX;

/// How many slots a file of so many bytes holds.
pub(crate) fn capacity_of(length: u64) -> u32 {
    u32::try_from(length.saturating_sub(SLOTS_AT) / SLOT_BYTES).unwrap_or(u32::MAX)
}

pub(crate) struct Segment {
    pub number: u64,
    salt: u64,
    capacity: u32,
    words: Words,
    /// None in ordinary memory.
    file: Option<File>,
    /// Slots reserved so far; written by every writer, so it has a cache line of its own.
    tail: CachePadded<AtomicU64>,
    /// How many slots had been reserved when the segment was sealed.
    sealed: AtomicU64,
    /// The one that follows, once it has been prepared.
    next: OnceLock<Arc<Segment>>,
    #[cfg(shuttle)]
    disk: Disk,
}

impl Segment {
    /// Maps a prepared file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn map(header: &Header, file: File) -> io::Result<Self> {
        let bytes = usize::try_from(header.length).map_err(io::Error::other)?;
        let words = Words::map(&file, bytes)?;
        Ok(Self::new(header.number, header.salt, capacity_of(header.length), words, Some(file)))
    }

    /// In ordinary memory.
    pub fn in_memory(number: u64, salt: u64, capacity: u32) -> Self {
        let words = Words::ordinary(SLOTS_AT_WORD + capacity as usize * SLOT_WORDS);
        Self::new(number, salt, capacity, words, None)
    }

    fn new(number: u64, salt: u64, capacity: u32, words: Words, file: Option<File>) -> Self {
        Self {
            #[cfg(shuttle)]
            disk: Disk::new(number, salt, words.shared()),
            number,
            salt,
            capacity,
            words,
            file,
            tail: CachePadded::new(AtomicU64::new(0)),
            sealed: AtomicU64::new(OPEN),
            next: OnceLock::new(),
        }
    }

    /// Not in ordinary memory.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether a start would find it in this directory; one in ordinary memory is nowhere else.
    pub fn is_in_place(&self, directory: &Directory) -> bool {
        self.file.as_ref().is_none_or(|file| directory.has(Name::Segment(self.number), file))
    }

    /// Writes `slot` into the next free place. False if there is none.
    #[inline]
    pub fn append(&self, slot: Slot) -> bool {
        let index = self.tail.fetch_add(1, Ordering::Relaxed);
        let Ok(index) = u32::try_from(index) else { return false };
        if index >= self.capacity {
            return false;
        }
        #[cfg(feature = "faults")]
        self.watched();
        let words = self.slot(index);
        let [first, second, last] = slot.encode(index, self.salt);
        words[0].store(first, Ordering::Relaxed);
        words[1].store(second, Ordering::Relaxed);
        words[2].store(last, Ordering::Release);
        true
    }

    #[cfg(feature = "faults")]
    fn watched(&self) {
        if let Some(path) = self.file.as_ref().and_then(|file| crate::faults::path_of(file).ok()) {
            crate::faults::at(crate::faults::Place::Reserved, &path);
        }
    }

    /// Reserves a place and stores nothing, as a writer that has stopped there.
    #[cfg(all(test, not(shuttle)))]
    pub fn reserve_only(&self) {
        self.tail.fetch_add(1, Ordering::Relaxed);
    }

    /// What stands in a place, as another thread sees it now.
    #[cfg(test)]
    pub fn found(&self, index: u32) -> super::slot::Found {
        let words = self.slot(index);
        let last = words[2].load(Ordering::Acquire);
        let [first, second] = [0, 1].map(|word| words[word].load(Ordering::Relaxed));
        Slot::decode([first, second, last], index, self.salt)
    }

    /// What a mark says, as another thread sees it now.
    #[cfg(test)]
    pub fn mark(&self, mark: Mark) -> super::mark::MarkFound {
        mark.decode(self.words.get()[mark.offset() / 8].load(Ordering::Acquire), self.salt, self.number)
    }

    /// Lets nobody reserve any more.
    pub fn seal(&self) {
        let reserved = self.tail.fetch_add(u64::from(self.capacity), Ordering::AcqRel);
        // Who comes second, or after it was full, finds a tail beyond the capacity and has nothing to say.
        if reserved < u64::from(self.capacity) {
            self.sealed.store(reserved, Ordering::Release);
        }
    }

    /// How many slots have been reserved. While it is being sealed the whole capacity, which is too many and not too few.
    #[allow(clippy::cast_possible_truncation)] // at most the capacity
    pub fn reserved(&self) -> u32 {
        let tail = self.tail.load(Ordering::Acquire).min(u64::from(self.capacity));
        tail.min(self.sealed.load(Ordering::Acquire)) as u32
    }

    /// Whether another slot can be reserved.
    pub fn is_full(&self) -> bool {
        self.tail.load(Ordering::Acquire) >= u64::from(self.capacity)
    }

    /// The end of the unbroken run of committed slots that goes on from `from`.
    pub fn committed_from(&self, from: u32) -> u32 {
        let reserved = self.reserved();
        (from..reserved)
            .find(|&index| self.slot(index)[SLOT_WORDS - 1].load(Ordering::Acquire) == 0)
            .unwrap_or(reserved)
    }

    pub fn set(&self, mark: Mark, value: u32) {
        #[cfg(shuttle)]
        self.disk.check(mark, value);
        self.words.get()[MARKS_AT_WORD + (mark.offset() - PAGE) / 8]
            .store(mark.encode(value, self.salt, self.number), Ordering::Release);
    }

    pub fn stamp_alive(&self, now: UnixSeconds) {
        self.set(Mark::Alive, now.as_u32());
    }

    /// Waits until the disk has everything that is committed now.
    ///
    /// # Errors
    /// The operating system's. What had been written before may then be lost, and a later success says nothing about it.
    #[cfg(not(shuttle))]
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), calls::sync_data)
    }

    #[cfg(shuttle)]
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    /// Brings in the pages in which the next `slots` will be stored.
    pub fn populate(&self, slots: u32) {
        let from = 8 * SLOTS_AT_WORD as u64 + u64::from(self.reserved()) * SLOT_BYTES;
        let bytes = u64::from(slots) * SLOT_BYTES;
        if let (Ok(from), Ok(bytes)) = (usize::try_from(from), usize::try_from(bytes)) {
            self.words.populate(from, bytes);
        }
    }

    /// The segment behind this one.
    pub fn next(&self) -> Option<&Arc<Self>> {
        self.next.get()
    }

    /// Puts `next` behind this one, which must be the last.
    pub fn set_next(&self, next: Arc<Self>) {
        let was_last = self.next.set(next).is_ok();
        debug_assert!(was_last, "only one thread prepares segments");
    }

    #[inline]
    fn slot(&self, index: u32) -> &[AtomicU64] {
        &self.words.get()[SLOTS_AT_WORD + index as usize * SLOT_WORDS..][..SLOT_WORDS]
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::journal::Kind;
    use crate::user_id::UserId;

    fn slot() -> Slot {
        let second = UnixSeconds::new(1_638_360_000);
        Slot { kind: Kind::Live, user: UserId::new(1), online_at: second, until: second }
    }

    #[test]
    fn the_run_of_committed_slots_ends_before_the_first_that_is_not() {
        let segment = Segment::in_memory(1, 42, 4);
        assert_eq!(segment.committed_from(0), 0);
        assert!(segment.append(slot()));
        segment.reserve_only();
        assert!(segment.append(slot()));
        assert_eq!((segment.reserved(), segment.committed_from(0)), (3, 1));
        assert!(segment.append(slot()));
        assert!(!segment.append(slot()), "it is full");
        assert_eq!((segment.reserved(), segment.committed_from(0)), (4, 1));
    }

    #[test]
    fn a_sealed_segment_takes_nothing_and_knows_how_much_it_took() {
        for seals in 1..4 {
            let segment = Segment::in_memory(1, 42, 4);
            assert!(segment.append(slot()));
            (0..seals).for_each(|_| segment.seal());
            assert!(!segment.append(slot()));
            assert!(segment.is_full());
            assert_eq!((segment.reserved(), segment.committed_from(0)), (1, 1));
        }
    }

    #[test]
    fn sealed_when_it_was_full_it_has_taken_all_it_could() {
        let segment = Segment::in_memory(1, 42, 2);
        assert_eq!([0; 5].map(|_| segment.append(slot())), [true, true, false, false, false]);
        segment.seal();
        assert_eq!((segment.reserved(), segment.committed_from(0)), (2, 2));
    }
}
