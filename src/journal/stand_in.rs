//! A disk for the interleaving checker: what a sync has seen of a segment, and what has become of all segments of one run.
//!
//! A sync copies the segment word by word, marks first, while others go on storing: what was stored before it began is in the
//! copy, and of what comes later any part may be. The copy counts once it is complete, a moment before the sync returns.
//!
//! That a mark is set too early shows the moment it is set: the page it is on may be written back at once, the slots' pages not.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::mark::Mark;
use super::slot::{Found, SLOT_WORDS, Slot};
use crate::sync::{AtomicU64, Ordering};

/// Words before the first slot: the marks.
const MARKS: usize = 2;

thread_local! {
    /// All threads under the checker are one thread of the machine, so each test has its own.
    static DISKS: RefCell<Vec<Disk>> = const { RefCell::new(Vec::new()) };
    /// So many syncs succeed, and then one fails.
    static SUCCEED: RefCell<Option<u32>> = const { RefCell::new(None) };
}

/// One segment's.
#[derive(Clone)]
pub(super) struct Disk {
    pub number: u64,
    salt: u64,
    memory: Arc<[AtomicU64]>,
    copy: Arc<Mutex<Vec<u64>>>,
}

impl Disk {
    pub fn new(number: u64, salt: u64, memory: Arc<[AtomicU64]>) -> Self {
        let copy = Arc::new(Mutex::new(vec![0; memory.len()]));
        let disk = Self { number, salt, memory, copy };
        DISKS.with_borrow_mut(|disks| disks.push(disk.clone()));
        disk
    }

    pub fn sync(&self) -> io::Result<()> {
        let fails = SUCCEED.with_borrow_mut(|left| match left {
            Some(0) => left.take().is_some(),
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        });
        if fails {
            return Err(io::Error::other("as the test likes"));
        }
        let copy = self.words();
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = copy;
        Ok(())
    }

    /// A mark is about to be set.
    pub fn check(&self, mark: Mark, value: u32) {
        if mark == Mark::Synced {
            let copy = self.on_disk();
            for index in 0..value as usize {
                let found = copy.get(index);
                assert!(
                    matches!(found, Some(Found::Slot(_))),
                    "segment {}, mark {value}, slot {index}: {found:?}",
                    self.number
                );
            }
        }
    }

    fn words(&self) -> Vec<u64> {
        self.memory.iter().map(|word| word.load(Ordering::SeqCst)).collect()
    }
}

#[cfg(test)]
impl Disk {
    /// What stands in memory.
    pub fn in_memory(&self) -> Vec<Found> {
        self.slots(&self.words())
    }

    /// The synced mark in memory.
    pub fn mark(&self) -> u32 {
        Mark::Synced.decode(self.memory[0].load(Ordering::SeqCst), self.salt, self.number).value()
    }
}

impl Disk {
    /// What would be there after the power has gone.
    pub fn on_disk(&self) -> Vec<Found> {
        self.slots(&self.copy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn slots(&self, words: &[u64]) -> Vec<Found> {
        let slots = words[MARKS.min(words.len())..].chunks_exact(SLOT_WORDS);
        let decode = |(index, words): (usize, &[u64])| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            Slot::decode([words[0], words[1], words[2]], index, self.salt)
        };
        slots.enumerate().map(decode).collect()
    }
}

/// All segments since the run began, in order.
#[cfg(test)]
pub(super) fn disks() -> Vec<Disk> {
    DISKS.with_borrow(Clone::clone)
}

/// A run begins, in which so many syncs succeed before one fails; `None` if none does.
#[cfg(test)]
pub(super) fn begin(succeed: Option<u32>) {
    DISKS.with_borrow_mut(Vec::clear);
    SUCCEED.set(succeed);
}

/// From now on no sync fails.
#[cfg(test)]
pub(super) fn begin_again() {
    SUCCEED.set(None);
}
