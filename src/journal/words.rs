//! Memory that a segment's slots are stored in: a file mapped shared, or (in tests, and before there is a file) ordinary memory.
//!
//! The only `unsafe` of the journal is here, and it is one expression: a mapping is seen as a slice of atomic words.
//! Everything above works on that slice, so the same code runs on ordinary memory, where Miri can watch it.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{Advice, MmapRaw};

use crate::calls;

pub(crate) struct Words(Memory);

enum Memory {
    Mapped(MmapRaw),
    Ordinary(Box<[AtomicU64]>),
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
            Memory::Mapped(mapping) => view(mapping),
        }
    }

    /// Asks the kernel for the pages of these bytes, so that no writer has to wait for them. A wish: nothing depends on it.
    pub fn populate(&self, from: usize, bytes: usize) {
        if let Memory::Mapped(mapping) = &self.0 {
            let end = from.saturating_add(bytes).min(mapping.len());
            if from < end {
                // Linux before 5.14 does not know it, and then the writers fault the pages in themselves.
                let _ = mapping.advise_range(Advice::PopulateWrite, from, end - from);
            }
        }
    }
}

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
