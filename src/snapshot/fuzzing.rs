//! What must hold of any bytes that are read as a section's users, a footer or a snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "only tests and fuzzers run this, on 64 bits, and what fails here is a finding"
)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bincode::Encode;

use super::footer::Footer;
use super::read::visit_users;
use super::{
    CHECKSUM_BYTES, Copied, END_BYTES, FOOTER_BYTES_MIN, OUTAGE_BYTES, OutageRecord, SECTION_BYTES_MAX,
    SECTION_FRAME_BYTES, SECTION_HEADER_BYTES, SECTIONS_AT, SESSION_BYTES, SectionRecord, Snapshot,
    TABLE_ROW_BYTES, TRAILER_BYTES, TableRecord, USER_BYTES, UserRecord, Writer, codec,
};
use crate::damage::{Part, ReadError};
use crate::directory::Directory;
use crate::engine::{Closed, Live};
use crate::fuzzing::{SOME_BYTES, Scratch, Within, bounded, crc32, half, word};
use crate::inspect::{Piece, inspect};

const HEADER_FROM: usize = 16;
const SECTIONS_FROM: usize = SECTIONS_AT as usize;

/// The user count, 4 bytes, then users; their sessions are as many as the length leaves room for.
pub fn section(input: &[u8], within: Within) {
    let Some((count, bytes)) = input.split_first_chunk::<4>() else { return };
    let users = u32::from_le_bytes(*count);
    let Some(room) = bytes.len().checked_sub(users as usize * USER_BYTES) else { return };
    if users == 0 || !room.is_multiple_of(SESSION_BYTES) {
        return;
    }
    let sessions = (room / SESSION_BYTES) as u64;
    let section = SectionRecord { bytes: bytes.len() as u64, shard: 0, users, sessions };
    let (mut written, mut visited) = (Vec::with_capacity(bytes.len()), 0);
    let read = bounded(within, SOME_BYTES + 6 * bytes.len(), || {
        visit_users(codec::<SECTION_BYTES_MAX>(), bytes, Part::Section(0), section, |user, live, closed| {
            check_sessions(live, closed);
            encode(&mut written, &UserRecord { user: user.as_i64(), live, closed });
            visited += 1;
        })
    });
    assert!(bytes.starts_with(&written), "what was handed over is what was read");
    match read {
        Ok(()) => assert_eq!((visited, written.len()), (users, bytes.len())),
        Err((offset, _)) => assert!(visited <= users && offset == written.len()),
    }
}

/// By their words alone: each second belongs to one session at most, and the live one is the last.
fn check_sessions(live: u64, closed: &[u64]) {
    let spans = closed
        .iter()
        .map(|word| (word >> 32, ((word >> 32) + (word & 0x7fff_ffff)).min(u64::from(u32::MAX))));
    let live = (live != 0).then_some((live >> 32, live & 0xffff_ffff));
    let spans: Vec<_> = spans.chain(live).collect();
    assert!(spans.iter().all(|(from, to)| from <= to));
    assert!(spans.is_sorted_by(|(_, end), (begin, _)| end <= begin));
}

fn encode(into: &mut Vec<u8>, record: &impl Encode) {
    bincode::encode_into_std_write(record, into, bincode::config::legacy()).unwrap();
}

/// The place of the footer, 8 bytes, then the footer.
pub fn footer(input: &[u8], within: Within) {
    let Some((at, bytes)) = input.split_first_chunk::<8>() else { return };
    if bytes.len() < FOOTER_BYTES_MIN {
        return;
    }
    check_footer(u64::from_le_bytes(*at), bytes, within);
    // As many sections as there is room for behind the outages, each where the one before ends.
    let mut bytes = bytes.to_vec();
    let outages = (word(&bytes, 20) as usize % 4).min((bytes.len() - FOOTER_BYTES_MIN) / OUTAGE_BYTES);
    let sections = (bytes.len() - FOOTER_BYTES_MIN - outages * OUTAGE_BYTES) / TABLE_ROW_BYTES;
    bytes.truncate(FOOTER_BYTES_MIN + outages * OUTAGE_BYTES + sections * TABLE_ROW_BYTES);
    let (mut offset, mut users, mut sessions) = (SECTIONS_AT, 0_u64, 0_u64);
    for row in bytes[FOOTER_BYTES_MIN + outages * OUTAGE_BYTES..].chunks_exact_mut(TABLE_ROW_BYTES) {
        let (of_users, of_sessions) = (half(row, 20), word(row, 24));
        let length = of_sessions.wrapping_mul(8).wrapping_add(u64::from(of_users) * 24);
        row[..8].copy_from_slice(&offset.to_le_bytes());
        row[8..16].copy_from_slice(&length.to_le_bytes());
        offset = offset.wrapping_add(length).wrapping_add(SECTION_FRAME_BYTES as u64);
        users = users.wrapping_add(of_users.into());
        sessions = sessions.wrapping_add(of_sessions);
    }
    for (at, total) in [(4, users), (12, sessions), (20, outages as u64), (28, sections as u64)] {
        bytes[at..at + 8].copy_from_slice(&total.to_le_bytes());
    }
    check_footer(offset, &bytes, within);
}

fn check_footer(at: u64, bytes: &[u8], within: Within) {
    let parsed = bounded(within, SOME_BYTES + 5 * bytes.len(), || Footer::parse(at, bytes));
    let Ok(Footer { totals, outages, sections }) = parsed else { return };
    let mut end = SECTIONS_AT;
    let (mut users, mut sessions) = (0_u128, 0_u128);
    for section in &sections {
        assert_eq!(section.offset, end);
        assert!(section.users > 0);
        assert_eq!(
            u128::from(section.bytes),
            u128::from(section.users) * 24 + u128::from(section.sessions) * 8
        );
        assert!(section.users == 1 || section.bytes <= SECTION_BYTES_MAX as u64);
        end += section.bytes + SECTION_FRAME_BYTES as u64;
        users += u128::from(section.users);
        sessions += u128::from(section.sessions);
    }
    assert_eq!((end, users, sessions), (at, totals.users.into(), totals.sessions.into()));
    assert_eq!((totals.outages, totals.sections), (outages.len() as u64, sections.len() as u64));

    let mut written = Vec::new();
    encode(&mut written, &totals);
    for (from, to) in outages {
        encode(&mut written, &OutageRecord { from: from.as_u32(), to: to.as_u32() });
    }
    for section in sections {
        encode(&mut written, &TableRecord { offset: section.offset, section: section.record() });
    }
    assert!(written == bytes);
}

/// A snapshot's file.
pub fn snapshot(input: &[u8], within: Within) {
    let check = |file: &[u8]| {
        Scratch::with_file(file, |path, directory| check_snapshot(file, path, directory, within));
    };
    check(input);
    if let Some(file) = with_sums_right(input.to_vec()) {
        check(&file);
    }
    if let Some(file) = with_counts_right(input) {
        check(&file);
    }
}

/// Where the footer begins and where it ends, if the file can have one.
fn footer_of(file: &[u8]) -> Option<(usize, usize)> {
    let end = file.len().checked_sub(END_BYTES)?;
    let begin = usize::try_from(word(file, end)).ok()?;
    (SECTIONS_FROM <= begin && begin.checked_add(FOOTER_BYTES_MIN)? <= end).then_some((begin, end))
}

/// Every checksum as it should be. A section is as long as it says.
fn with_sums_right(mut file: Vec<u8>) -> Option<Vec<u8>> {
    let (footer, trailer) = footer_of(&file)?;
    let preamble = close(&mut file, 0, 12, 0);
    let seed = close(&mut file, HEADER_FROM, SECTIONS_FROM - CHECKSUM_BYTES, preamble);
    let mut at = SECTIONS_FROM;
    while at + SECTION_FRAME_BYTES <= footer {
        let length = usize::try_from(word(&file, at)).unwrap_or(usize::MAX);
        let Some(end) = length.checked_add(at + SECTION_HEADER_BYTES) else { break };
        if end > footer - CHECKSUM_BYTES {
            break;
        }
        close(&mut file, at, end, seed);
        at = end + CHECKSUM_BYTES;
    }
    close(&mut file, footer, trailer + TRAILER_BYTES, seed);
    Some(file)
}

fn close(file: &mut [u8], from: usize, to: usize, seed: u32) -> u32 {
    let sum = crc32(seed, &file[from..to]);
    file[to..to + CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// A file of the same header, whose sections hold the words that stand between the header and the footer. Each begins with the
/// four numbers of its own header, of which the length is taken as far as there is room, and the other counts agree with it.
fn with_counts_right(input: &[u8]) -> Option<Vec<u8>> {
    let (footer, _) = footer_of(input)?;
    let mut file = input[..SECTIONS_FROM].to_vec();
    let (mut rest, mut rows, mut totals) = (&input[SECTIONS_FROM..footer], Vec::new(), (0, 0));
    while rest.len() >= SECTION_HEADER_BYTES + USER_BYTES + CHECKSUM_BYTES {
        let room = (rest.len() - SECTION_FRAME_BYTES) / SESSION_BYTES * SESSION_BYTES;
        let length = (word(rest, 0) as usize / SESSION_BYTES * SESSION_BYTES).clamp(USER_BYTES, room);
        let users = (half(rest, 12) as usize).clamp(1, length / USER_BYTES);
        let section = SectionRecord {
            bytes: length as u64,
            shard: half(rest, 8),
            users: u32::try_from(users).unwrap(),
            sessions: ((length - users * USER_BYTES) / SESSION_BYTES) as u64,
        };
        rows.push(TableRecord { offset: file.len() as u64, section });
        totals = (totals.0 + users as u64, totals.1 + section.sessions);
        encode(&mut file, &section);
        let (users, after) = rest[SECTION_HEADER_BYTES..].split_at(length);
        file.extend_from_slice(users);
        file.extend([0; CHECKSUM_BYTES]);
        rest = &after[CHECKSUM_BYTES..];
    }
    let footer_at = file.len() as u64;
    file.extend_from_slice(&input[footer..footer + 4]);
    file.extend([totals.0, totals.1, 0, rows.len() as u64].iter().flat_map(|total| total.to_le_bytes()));
    for row in &rows {
        encode(&mut file, row);
    }
    let footer_bytes = file.len() as u64 - footer_at;
    file.extend([footer_at, footer_bytes].iter().flat_map(|place| place.to_le_bytes()));
    file.extend([0; CHECKSUM_BYTES]);
    file.extend(b"HBSNAP\r\n");
    file[..12].copy_from_slice(b"HBSNAP\r\n\x01\0\0\0");
    with_sums_right(file)
}

fn check_snapshot(file: &[u8], path: &Path, directory: &Directory, within: Within) {
    let bytes = SOME_BYTES + 8 * file.len();
    let verified = bounded(within, bytes, || {
        let snapshot = Snapshot::open(path)?;
        snapshot.verify().map(|()| snapshot)
    });
    let (mut users, mut sessions) = (0, 0);
    let inspected = bounded(within, bytes, || {
        inspect(path, |piece| {
            match piece {
                Piece::User(_, of_user) => {
                    users += 1;
                    sessions += of_user.len() as u64;
                }
                Piece::SnapshotTotals(totals) => {
                    assert_eq!((totals.users, totals.closed_sessions + totals.live), (users, sessions));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
    });
    // Without a magic and a name nobody knows what it is.
    if file.starts_with(b"HBSNAP\r\n") {
        assert_eq!(inspected.is_ok(), verified.is_ok());
        // One of a user's sessions may be live, and stands in the user's own bytes.
        let least = users * USER_BYTES as u64 + sessions.saturating_sub(users) * SESSION_BYTES as u64;
        assert!(least <= file.len() as u64);
    }
    match verified {
        Ok(snapshot) => {
            assert_eq!(users, snapshot.users());
            assert!(rewritten(&snapshot, directory) == file, "written again it is another file");
        }
        Err(ReadError::Io { source, .. }) => panic!("{source}"),
        Err(ReadError::Damaged(damage)) => assert!(damage.offset <= file.len() as u64, "{damage}"),
        Err(ReadError::NewerVersion { version, .. }) => assert_eq!(version, half(file, 8)),
    }
}

/// The same users, written section by section.
fn rewritten(snapshot: &Snapshot, directory: &Directory) -> Vec<u8> {
    let mut writer = Writer::create(directory, *snapshot.header()).unwrap();
    let mut copied = Copied::default();
    for (index, section) in snapshot.sections().iter().enumerate() {
        copied.clear();
        let push = |user, live, closed: &[u64]| {
            check_sessions(live, closed);
            // By way of what the engine keeps of them.
            let live = Live::unpack(live).map_or(0, Live::pack);
            let closed = closed.iter().map(|&word| Closed::from_word(word).word());
            copied.push(user, live, closed);
        };
        snapshot.read_section(index, push).unwrap();
        writer.write_shard(section.shard, &copied).unwrap();
    }
    let written = writer.finish(snapshot.engine_time(), snapshot.outages()).unwrap();
    assert_eq!((written.users, written.sessions), (snapshot.users(), snapshot.sessions()));
    let file = fs::read(&written.path).unwrap();
    fs::remove_file(&written.path).unwrap();
    file
}
