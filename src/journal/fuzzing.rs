//! What must hold of any bytes that are read as a slot, a header or a segment.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "only tests and fuzzers run this, on 64 bits, and what fails here is a finding"
)]

use std::ops::ControlFlow;
use std::path::Path;

use super::header::{Header, HeaderError, PAGE};
use super::mark::{Mark, MarkFound};
use super::replay::SegmentFile;
use super::segment::SLOTS_AT;
use super::slot::{Found, SLOT_BYTES, Slot};
use crate::damage::ReadError;
use crate::fuzzing::{SOME_BYTES, Scratch, Within, bounded, crc32, half, word};
use crate::inspect::{Piece, Place, SegmentTotals, inspect};

const SUM_AT: usize = PAGE - 4;
const SLOTS_FROM: usize = SLOTS_AT as usize;
const SLOT: usize = SLOT_BYTES as usize;
/// A checksum that is left as it is: so the fuzzer has a way to say what is damaged.
const LEFT_WRONG: u32 = u32::MAX;

/// A slot's 24 bytes, then 4 of its index and 8 of the salt.
pub fn slot(input: &[u8], within: Within) {
    let Some((input, _)) = input.split_first_chunk::<36>() else { return };
    let (index, salt) = (half(input, 24), word(input, 28));
    let mut slot: [u8; SLOT] = input[..SLOT].try_into().unwrap();
    check_slot(&slot, index, salt, within);

    let sum = sum_of_slot(&slot, index, salt);
    slot[16..20].copy_from_slice(&sum.to_le_bytes());
    if let Found::Slot(_) = check_slot(&slot, index, salt, within) {
        let changed = usize::from(input[0] ^ input[35]) % (8 * SLOT);
        slot[changed / 8] ^= 1 << (changed % 8);
        assert!(!matches!(check_slot(&slot, index, salt, within), Found::Slot(_)), "bit {changed}");
    }
}

fn check_slot(bytes: &[u8; SLOT], index: u32, salt: u64, within: Within) -> Found {
    let words = [0, 8, 16].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()));
    let found = bounded(within, 0, || Slot::decode(words, index, salt));
    let (sum, kind) = (half(bytes, 16), half(bytes, 20));
    let is_whole = (1..=6).contains(&kind) && sum == sum_of_slot(bytes, index, salt);
    match found {
        Found::Empty => assert_eq!(word(bytes, 16), 0),
        Found::Bad => assert!(!is_whole && word(bytes, 16) != 0),
        Found::Slot(slot) => {
            assert!(is_whole);
            assert_eq!(slot.encode(index, salt), words);
            assert_eq!((slot.kind as u32, slot.user.as_i64().cast_unsigned()), (kind, word(bytes, 0)));
            assert_eq!((slot.online_at.as_u32(), slot.until.as_u32()), (half(bytes, 12), half(bytes, 8)));
        }
    }
    found
}

fn sum_of_slot(bytes: &[u8], index: u32, salt: u64) -> u32 {
    let sum = [&bytes[..16], &bytes[20..24], &index.to_le_bytes(), &salt.to_le_bytes()];
    sum.iter().fold(0, |sum, part| crc32(sum, part))
}

/// A header's page; what a shorter input leaves is 0.
pub fn header(input: &[u8], within: Within) {
    let mut page = [0; PAGE];
    let length = input.len().min(PAGE);
    page[..length].copy_from_slice(&input[..length]);
    let _ = check_header(&page, within);
    put_sum_of_header_right(&mut page);
    let _ = check_header(&page, within);
    page[..8].copy_from_slice(b"HeartJnl");
    page[8..12].copy_from_slice(&1_u32.to_le_bytes());
    put_sum_of_header_right(&mut page);
    let _ = check_header(&page, within);
}

fn put_sum_of_header_right(page: &mut [u8]) {
    let sum = crc32(0, &page[..SUM_AT]);
    page[SUM_AT..PAGE].copy_from_slice(&sum.to_le_bytes());
}

fn check_header(page: &[u8; PAGE], within: Within) -> Result<Header, HeaderError> {
    let decoded = bounded(within, 2 * PAGE, || Header::decode(page));
    let is_ours = page.starts_with(b"HeartJnl");
    let is_whole = is_ours && crc32(0, &page[..SUM_AT]) == half(page, SUM_AT);
    match &decoded {
        Ok(header) => {
            assert!(is_whole);
            assert!(*header.encode() == *page, "{header:?}");
        }
        Err(HeaderError::Magic) => assert!(!is_ours),
        Err(HeaderError::Checksum) => assert!(is_ours && !is_whole),
        Err(HeaderError::Version(version)) => assert!(is_whole && *version != 1 && *version == half(page, 8)),
        Err(HeaderError::Contents) => {
            let unused = page[20..24].iter().chain(&page[72..SUM_AT]).any(|&byte| byte != 0);
            let is_ttl = (1..=86_400).contains(&half(page, 12));
            let (number, length) = (word(page, 40), word(page, 64));
            assert!(is_whole && (unused || !is_ttl || number == 0 || length < 2 * PAGE as u64));
        }
    }
    decoded
}

/// A segment's file.
pub fn segment(input: &[u8], within: Within) {
    Scratch::with_file(input, |path, _| check_segment(input, path, within));
    if input.len() >= SLOTS_FROM {
        let input = with_sums_right(input);
        Scratch::with_file(&input, |path, _| check_segment(&input, path, within));
    }
}

/// Header, marks and slots with the checksums that they should have, and the header with the file's length.
fn with_sums_right(input: &[u8]) -> Vec<u8> {
    let mut file = input.to_vec();
    if half(&file, SUM_AT) != LEFT_WRONG {
        let length = file.len() as u64;
        file[64..72].copy_from_slice(&length.to_le_bytes());
        put_sum_of_header_right(&mut file);
    }
    let (number, salt) = (word(&file, 40), word(&file, 56));
    for (at, which) in [(PAGE, 1_u32), (PAGE + 8, 2)] {
        if word(&file, at) != 0 && half(&file, at) != LEFT_WRONG {
            let parts =
                [&which.to_le_bytes()[..], &file[at + 4..at + 8], &salt.to_le_bytes(), &number.to_le_bytes()];
            let sum = parts.iter().fold(0, |sum, part| crc32(sum, part));
            file[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    for (index, slot) in (0..).zip(file[SLOTS_FROM..].chunks_exact_mut(SLOT)) {
        if word(slot, 16) != 0 && half(slot, 16) != LEFT_WRONG {
            let sum = sum_of_slot(slot, index, salt);
            slot[16..20].copy_from_slice(&sum.to_le_bytes());
        }
    }
    file
}

fn check_segment(file: &[u8], path: &Path, within: Within) {
    let bytes = SOME_BYTES + file.len();
    let opened = bounded(within, bytes, || SegmentFile::open_of_any_length(path));
    let (segment, length) = match opened {
        Ok(opened) => opened,
        Err(error) => return check_refused(file, &error),
    };
    let header: &[u8; PAGE] = file.first_chunk().unwrap();
    assert_eq!(check_header(header, &|_, run| run()).as_ref(), Ok(&segment.header));
    assert_eq!(length, file.len() as u64);
    for (mark, found) in [(Mark::Synced, segment.synced), (Mark::Alive, segment.alive)] {
        let stored = u64::from_ne_bytes(file[mark.offset()..][..8].try_into().unwrap());
        match found {
            MarkFound::Unset => assert_eq!(stored, 0),
            MarkFound::Value(value) => {
                assert_eq!(stored, mark.encode(value, segment.header.salt, segment.header.number));
            }
            MarkFound::Unreadable => assert_ne!(stored, 0),
        }
    }

    // All places, as they are found one by one.
    let (places, synced) = (segment.capacity_in(length), segment.synced.value());
    let salt = segment.header.salt;
    let found: Vec<Found> = (0..places)
        .zip(file[SLOTS_FROM..].chunks_exact(SLOT))
        .map(|(index, slot)| check_slot(slot.try_into().unwrap(), index, salt, &|_, run| run()))
        .collect();
    assert_eq!(found.len(), places as usize);
    let mut scanned = Vec::with_capacity(found.len());
    let scan = bounded(within, bytes, || {
        segment.scan(0..places, |index, found, is_synced| {
            assert_eq!((index as usize, is_synced), (scanned.len(), index < synced));
            scanned.push(found);
            Ok(())
        })
    });
    assert!(scan.is_ok() && scanned == found);
    for index in [0, places / 2, places.saturating_sub(1)].into_iter().filter(|&index| index < places) {
        let slot = segment.slot(index).unwrap();
        assert_eq!(
            slot.map_or(Found::Bad, Found::Slot),
            match found[index as usize] {
                Found::Slot(slot) => Found::Slot(slot),
                Found::Empty | Found::Bad => Found::Bad,
            }
        );
    }
    check_replayed(&segment, &found, within, bytes);
    check_inspected(path, &segment, &found, length, within, bytes);
}

fn check_refused(file: &[u8], error: &ReadError) {
    match error {
        ReadError::Io { .. } => panic!("{error}"),
        ReadError::Damaged(damage) => assert!(damage.offset <= file.len() as u64),
        ReadError::NewerVersion { version, .. } => assert_eq!(*version, half(file, 8)),
    }
}

/// Where the first place below the mark is that holds no slot.
fn first_damaged(found: &[Found], synced: u32) -> Option<usize> {
    found.iter().take(synced as usize).position(|found| !matches!(found, Found::Slot(_)))
}

fn check_replayed(segment: &SegmentFile, found: &[Found], within: Within, bytes: usize) {
    let mut replayed = Vec::with_capacity(found.len());
    let places = 0..u32::try_from(found.len()).unwrap();
    let row = bounded(within, bytes, || segment.read(places, |index, slot| replayed.push((index, slot))));
    let damaged = first_damaged(found, segment.synced.value());
    let whole = (0..).zip(found).filter_map(|(index, found)| match found {
        Found::Slot(slot) => Some((index, *slot)),
        Found::Empty | Found::Bad => None,
    });
    match row {
        Err(ReadError::Damaged(damage)) => {
            assert_eq!(damage.offset, SLOTS_AT + SLOT_BYTES * damaged.unwrap() as u64);
            assert!(
                replayed
                    .iter()
                    .copied()
                    .eq(whole.take_while(|(index, _)| (*index as usize) < damaged.unwrap()))
            );
        }
        Err(error) => panic!("{error}"),
        Ok(row) => {
            assert_eq!(damaged, None);
            assert!(replayed.iter().copied().eq(whole));
            let last = found.iter().rposition(|&found| found != Found::Empty).map_or(0, |last| last + 1);
            let count = |wanted: fn(&Found) -> bool| {
                found[..last].iter().filter(|found| wanted(found)).count() as u64
            };
            assert_eq!(row.verdicts.good, replayed.len() as u64);
            assert_eq!(row.verdicts.torn, count(|found| *found == Found::Bad));
            assert_eq!(row.verdicts.empty, count(|found| *found == Found::Empty));
        }
    }
}

fn check_inspected(
    path: &Path,
    segment: &SegmentFile,
    found: &[Found],
    length: u64,
    within: Within,
    bytes: usize,
) {
    let (mut totals, mut handed, mut damaged) = (SegmentTotals::default(), 0, 0);
    let inspected = bounded(within, bytes, || {
        inspect(path, |piece| {
            match piece {
                Piece::Slot(index, place) => {
                    assert_eq!(index, handed);
                    handed += 1;
                    damaged += u64::from(place == Place::Damaged);
                }
                Piece::SegmentTotals(all) => totals = all,
                _ => {}
            }
            ControlFlow::Continue(())
        })
    });
    let is_damaged =
        first_damaged(found, segment.synced.value()).is_some() || length != segment.header.length;
    assert_eq!(inspected.is_err(), is_damaged);
    let all = totals.verdicts.good + totals.verdicts.empty + totals.verdicts.torn + totals.damaged;
    assert_eq!((all, totals.damaged), (u64::from(handed), damaged));
}
