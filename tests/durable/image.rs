//! What the disk has when the power is back: one of many possibilities.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use super::recorder::{Bytes, Moment, Names, Versions};

/// Small random numbers that are the same each time (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ (word >> 31)) % sides as u64) as usize
    }

    fn one_of<'a, T>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }
}

/// How much of what was not synced is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Nothing,
    Everything,
    /// Each page of 4 KiB as it was at some time since the last sync.
    Pages,
    /// The same, and pages are put together of sectors of 512 bytes, or cut at a word.
    Torn,
}

pub const LUCKS: [Luck; 4] = [Luck::Nothing, Luck::Everything, Luck::Pages, Luck::Torn];

const PAGE: usize = 4_096;
const SECTOR: usize = 512;
const WORD: usize = 8;

impl Moment {
    /// Writes what the disk has into an empty folder.
    pub fn lay_out(&self, folder: &Path, luck: Luck, dice: &mut Dice) {
        for (name, number) in self.names_left(luck, dice) {
            let bytes = self.files.get(&number).map(|file| left_of(file, luck, dice)).unwrap_or_default();
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    /// The names that were synced, and any of the changes since, each whole or not at all.
    fn names_left(&self, luck: Luck, dice: &mut Dice) -> Names {
        match luck {
            Luck::Nothing => self.names[0].clone(),
            Luck::Everything => self.names[self.names.len() - 1].clone(),
            Luck::Pages | Luck::Torn => {
                let mut left = self.names[0].clone();
                for change in self.names.windows(2) {
                    apply_some(&mut left, &change[0], &change[1], dice);
                }
                left
            }
        }
    }
}

fn apply_some(left: &mut Names, before: &Names, after: &Names, dice: &mut Dice) {
    let gone: BTreeMap<u64, &String> = before
        .iter()
        .filter(|(name, number)| after.get(*name) != Some(number))
        .map(|(name, number)| (*number, name))
        .collect();
    let mut renamed = Vec::new();
    for (name, number) in after.iter().filter(|(name, number)| before.get(*name) != Some(number)) {
        if dice.roll(2) == 0 {
            if let Some(old) = gone.get(number) {
                left.remove(*old);
            }
            left.insert(name.clone(), *number);
        }
        renamed.push(*number);
    }
    for (number, name) in gone {
        if !renamed.contains(&number) && dice.roll(2) == 0 && left.get(name) == Some(&number) {
            left.remove(name);
        }
    }
}

fn left_of(file: &Versions, luck: Luck, dice: &mut Dice) -> Vec<u8> {
    let all = file.all();
    match luck {
        Luck::Nothing => file.durable.to_vec(),
        Luck::Everything => file.latest().to_vec(),
        Luck::Pages | Luck::Torn => {
            let length = dice.one_of(&all).len();
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                let page = bytes.len()..(bytes.len() + PAGE).min(length);
                let is_torn = luck == Luck::Torn && dice.roll(2) == 0;
                match (is_torn, dice.roll(2)) {
                    (false, _) => put(&mut bytes, dice.one_of(&all), page),
                    (true, 0) => {
                        for start in page.clone().step_by(SECTOR) {
                            put(&mut bytes, dice.one_of(&all), start..(start + SECTOR).min(page.end));
                        }
                    }
                    (true, _) => {
                        let (first, second) = (dice.one_of(&all), dice.one_of(&all));
                        let cut = cut_between(first, second, &page, dice);
                        put(&mut bytes, first, page.start..cut);
                        put(&mut bytes, second, cut..page.end);
                    }
                }
            }
            bytes
        }
    }
}

/// Somewhere among the words that the two have not in common.
fn cut_between(first: &Bytes, second: &Bytes, page: &Range<usize>, dice: &mut Dice) -> usize {
    let word = |bytes: &Bytes, at| bytes.get(at..at + WORD).map(<[u8]>::to_vec).unwrap_or_default();
    let words = page.clone().step_by(WORD).filter(|&at| word(first, at) != word(second, at));
    let different: Vec<_> = words.collect();
    if different.is_empty() { page.end } else { different[dice.roll(different.len())] }
}

/// What was beyond the file's end reads as zeros.
fn put(bytes: &mut Vec<u8>, from: &Bytes, range: Range<usize>) {
    let there = from.get(range.start.min(from.len())..range.end.min(from.len())).unwrap_or_default();
    bytes.extend_from_slice(there);
    bytes.resize(range.end, 0);
}
