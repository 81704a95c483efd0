//! Memory that a segment's slots are stored in: a file mapped shared, or (in tests, and before there is a file) ordinary memory.
//!
//! The only `unsafe` of the journal is here, and it is one expression: a mapping is seen as a slice of atomic words.
//! Everything above works on that slice, so the same code runs on ordinary memory, where Miri can watch it.

#![cfg_attr(shuttle, allow(dead_code, reason = "the checker has no files"))]

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::header::PAGE;
use crate::calls;
use crate::sync::{AtomicU64, Ordering};

/// Words in a page.
const PAGE_WORDS: usize = PAGE / 8;

pub(crate) struct Words(Memory);

enum Memory {
    Mapped(MmapRaw),
    Ordinary(Arc<[AtomicU64]>),
}

impl Words {
    /// Maps the whole of `file`, shared: a word that has been stored is in the kernel's page cache, and outlives the process.
    ///
    /// The file must not become shorter while it is mapped: whoever then touches a missing page is killed by the kernel. It
    /// lies in a directory that is locked, and nobody but this program has business in it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn map(file: &File, bytes: usize) -> io::Result<Self> {
        Ok(Self(Memory::Mapped(calls::map(file, bytes)?)))
    }

    /// Zeros.
    pub fn ordinary(words: usize) -> Self {
        Self(Memory::Ordinary((0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    #[inline]
    pub fn get(&self) -> &[AtomicU64] {
        match &self.0 {
            Memory::Ordinary(words) => words,
            #[cfg(not(shuttle))]
            Memory::Mapped(mapping) => view(mapping),
            #[cfg(shuttle)]
            Memory::Mapped(_) => &[],
        }
    }

    /// For the stand-in of a disk, which copies them.
    #[cfg(shuttle)]
    pub fn shared(&self) -> Arc<[AtomicU64]> {
        match &self.0 {
            Memory::Ordinary(words) => Arc::clone(words),
            Memory::Mapped(_) => Arc::new([]),
        }
    }

    /// Brings in the pages of these bytes, so that no writer has to wait for them; changes nothing in them.
    ///
    /// It stores into each. `MADV_POPULATE_WRITE` asks for the same in one call and is no faster, but holds the lock of the whole
    /// address space meanwhile: on a frozen file system it hangs with it, and then whoever maps memory hangs, too, on any thread.
    pub fn populate(&self, from: usize, bytes: usize) {
        let words = self.get();
        let end = (from.saturating_add(bytes) / 8).min(words.len());
        let mut at = from / 8;
        while at < end {
            // A store that nobody can see: it puts 0 in place of 0, and of anything else nothing.
            let _ = words[at].compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
            at = (at / PAGE_WORDS + 1) * PAGE_WORDS;
        }
    }
}

#[cfg(not(shuttle))]
#[allow(unsafe_code)]
#[allow(clippy::cast_ptr_alignment)] // a mapping begins on a page
#[inline]
fn view(mapping: &MmapRaw) -> &[AtomicU64] {
    // SAFETY: the mapping is readable and writable for as long as `mapping` lives, and the slice borrows from it. It begins on
    // a page, so it is aligned for 8 bytes; its length is rounded down to whole words. All bit patterns are valid words. In
    // this process the memory is touched through this slice only, by atomic operations; other processes are kept out by the
    // directory's lock, and a page that the kernel brings in holds some value, never none.
    unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast::<AtomicU64>(), mapping.len() / 8) }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    #[test]
    fn populating_changes_no_word() {
        let words = Words::ordinary(3 * PAGE_WORDS);
        for (index, word) in words.get().iter().enumerate().step_by(3) {
            word.store(index as u64, Ordering::Relaxed);
        }
        words.populate(24, 3 * PAGE);
        words.populate(0, usize::MAX);
        for (index, word) in words.get().iter().enumerate() {
            let expected = if index % 3 == 0 { index as u64 } else { 0 };
            assert_eq!(word.load(Ordering::Relaxed), expected);
        }
    }

    /// KiB of the mapping of `path` that are there to be written.
    #[cfg(not(miri))]
    fn dirty(path: &std::path::Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let at = maps.find(path.to_str().unwrap()).unwrap();
        let figures = maps[at..].lines().filter_map(|line| line.split_once("_Dirty:")).take(2);
        figures.map(|(_, kib)| kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum()
    }

    #[test]
    #[cfg(not(miri))]
    fn populating_brings_in_the_pages_that_it_is_told_to() {
        use std::io::Write;

        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0; 16 * PAGE]).unwrap();
        file.as_file().sync_all().unwrap();
        let words = Words::map(file.as_file(), 16 * PAGE).unwrap();
        assert_eq!(dirty(file.path()), 0);
        // From the third page to the sixth.
        words.populate(2 * PAGE + 24, 3 * PAGE);
        assert!(dirty(file.path()) >= 16, "{} KiB", dirty(file.path()));
    }
}
