//! A segment's header, made again from what is left of it and from the files beside it.
//!
//! A slot vouches for itself with the help of the segment's salt, which only the header knows. A CRC is linear: whatever a slot
//! says, the salt changes its checksum by the same 32 bits. So the slots themselves tell that change, which they all agree on,
//! and any salt that makes it verifies every one of them; that is how a header can be replaced without touching a slot.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::{Header, PAGE};
use super::segment::{SLOTS_AT, capacity_of};
use super::slot::{SLOT_BYTES, SLOT_WORDS, salt_part, sum_without_salt};
use crate::calls;
use crate::damage::ReadError;
use crate::directory::DirectoryId;
use crate::time::Ttl;

/// Slots read at a time.
const PIECE_SLOTS: u32 = 1 << 15;
/// So many slots that agree are no chance: one in four thousand million.
const AGREEING_MIN: u64 = 2;

/// What is known of a segment without its header.
#[derive(Debug, Clone)]
pub(crate) struct Clues {
    pub directory: DirectoryId,
    /// By the file's name.
    pub number: u64,
    /// The segment before it, if what its header says of that cannot be.
    pub previous: u64,
    /// Those of the segments beside it, the likeliest first; at least one.
    pub rules: Vec<(Ttl, u32)>,
}

/// A header that was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    pub header: Header,
    /// The checksum that the old one had is that of this one: nothing in it is a guess.
    pub is_proven: bool,
}

impl Rebuilt {
    /// Of the file at `path`, whose header is damaged. `None` if its slots cannot be told from anything else.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(path: &Path, clues: &Clues) -> Result<Option<Self>, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let file = calls::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < SLOTS_AT {
            return Ok(None);
        }
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, 0).map_err(io)?;
        let left = Remains { page: &page, clues, length };
        if let Some(header) = left.proven() {
            return Ok(Some(Self { header, is_proven: true }));
        }
        let salt = left.word(56);
        let Some((part, count)) = agreed_part(&file, length).map_err(io)? else { return Ok(None) };
        let salt = match () {
            () if part == salt_part(salt) => salt,
            () if count >= AGREEING_MIN => salt_with(part),
            () => return Ok(None),
        };
        Ok(Some(Self { header: left.likely(salt), is_proven: false }))
    }
}

/// A damaged header, and what is known beside it.
struct Remains<'a> {
    page: &'a [u8; PAGE],
    clues: &'a Clues,
    length: u64,
}

impl Remains<'_> {
    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| self.page[at + byte]))
    }

    /// What the page says of the rules, if that can be.
    fn rules(&self) -> Option<(Ttl, u32)> {
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| self.page[at + byte]));
        Ttl::from_seconds(half(12)).ok().map(|ttl| (ttl, half(16)))
    }

    /// A header whose checksum is the one that stands in the page.
    fn proven(&self) -> Option<Header> {
        let rules: Vec<_> = self.rules().into_iter().chain(self.clues.rules.iter().copied()).collect();
        let lengths = [self.length, self.word(64)];
        let previous = [self.word(48), self.clues.previous];
        let tries = lengths.into_iter().flat_map(|length| {
            let with = move |previous| (length, previous);
            previous.into_iter().map(with)
        });
        let headers = tries.flat_map(|(length, previous)| {
            rules.iter().map(move |&(ttl, grace)| self.header(length, previous, (ttl, grace), self.word(56)))
        });
        headers
            .filter(|header| header.length >= SLOTS_AT)
            .find(|header| header.encode()[PAGE - 4..] == self.page[PAGE - 4..])
    }

    /// The likeliest one with this salt.
    fn likely(&self, salt: u64) -> Header {
        let rules = self.rules().filter(|rules| self.clues.rules.contains(rules));
        let rules = rules.or(self.clues.rules.first().copied()).unwrap_or((Ttl::DEFAULT, 0));
        self.header(self.length, self.clues.previous, rules, salt)
    }

    fn header(&self, length: u64, previous: u64, (ttl, grace): (Ttl, u32), salt: u64) -> Header {
        let Clues { directory, number, .. } = *self.clues;
        Header { directory, number, previous, salt, length, ttl, grace }
    }
}

/// What the salt adds to the checksum of most of the slots, and of how many; `None` of no slots.
fn agreed_part(file: &File, length: u64) -> io::Result<Option<(u32, u64)>> {
    let (mut part, mut lead, mut any) = (0, 0_u64, false);
    each_part(file, length, |found| {
        any = true;
        match lead {
            0 => (part, lead) = (found, 1),
            _ if found == part => lead += 1,
            _ => lead -= 1,
        }
    })?;
    let mut count = 0;
    each_part(file, length, |found| count += u64::from(found == part))?;
    Ok(any.then_some((part, count)))
}

fn each_part(file: &File, length: u64, mut visit: impl FnMut(u32)) -> io::Result<()> {
    let capacity = capacity_of(length);
    let mut bytes = vec![0; PIECE_SLOTS.min(capacity) as usize * SLOT_WORDS * 8];
    for first in (0..capacity).step_by(PIECE_SLOTS as usize) {
        let slots = PIECE_SLOTS.min(capacity - first);
        let piece = &mut bytes[..slots as usize * SLOT_WORDS * 8];
        file.read_exact_at(piece, SLOTS_AT + u64::from(first) * SLOT_BYTES)?;
        for (index, slot) in (first..).zip(piece.chunks_exact(SLOT_WORDS * 8)) {
            let word = |word| u64::from_le_bytes(std::array::from_fn(|byte| slot[word * 8 + byte]));
            let words: [u64; SLOT_WORDS] = std::array::from_fn(word);
            if words[SLOT_WORDS - 1] != 0 {
                visit(sum_without_salt(words, index));
            }
        }
    }
    Ok(())
}

/// A salt that adds `part` to every checksum. Its lower half is enough for that: four bytes in a row can bring a CRC-32 to any
/// value, each in one way only.
fn salt_with(part: u32) -> u64 {
    // Pairs of a salt and its part, reduced so that each has a leading bit that no other has.
    let mut basis: Vec<(u64, u32)> = Vec::new();
    let reduce = |basis: &[(u64, u32)], mut pair: (u64, u32)| {
        for &(salt, part) in basis {
            if pair.1 ^ part < pair.1 {
                pair = (pair.0 ^ salt, pair.1 ^ part);
            }
        }
        pair
    };
    for bit in 0..32 {
        basis.push(reduce(&basis, (1 << bit, salt_part(1 << bit))));
        basis.sort_unstable_by_key(|&(_, part)| std::cmp::Reverse(part));
    }
    reduce(&basis, (0, part)).0
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_salt_for_every_part() {
        let mut part = 1_u32;
        for _ in 0..1_000 {
            part = part.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            assert_eq!(salt_part(salt_with(part)), part);
        }
        assert_eq!(salt_part(salt_with(0)), 0);
    }
}
