//! Files whose checksums are right and whose contents are not.

use super::*;

/// A file made by hand, its checksums right whatever is changed.
struct Forged {
    version: u32,
    ttl: u32,
    sections: Vec<Forgery>,
    totals: [u64; 4],
    trailer: [u64; 2],
}

struct Forgery {
    /// In the table: offset, bytes, shard, users, sessions.
    row: (u64, u64, u32, u32, u64),
    /// In the section's own header: bytes, shard, users, sessions.
    header: (u64, u32, u32, u64),
    words: Vec<u64>,
}

const ROW_BYTES: u64 = 32;

impl Forged {
    /// Two sections, which nothing is wrong with: one of user 1 with two sessions and user 2 with none, one of user 3.
    fn new() -> Self {
        Self {
            version: 1,
            ttl: 7,
            sections: vec![
                Forgery {
                    row: (60, 64, 0, 2, 2),
                    header: (64, 0, 2, 2),
                    words: vec![1, live(300, 307), 2, lapsed(100, 7), left(200, 7), 2, 0, 0],
                },
                Forgery { row: (152, 24, 1, 1, 0), header: (24, 1, 1, 0), words: vec![3, 0, 0] },
            ],
            totals: [3, 2, 0, 2],
            trailer: [204, 36 + 2 * ROW_BYTES],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(b"HBSNAP\r\n");
        file.extend(self.version.to_le_bytes());
        let preamble = close(&mut file, 0..12, 0);
        file.extend([7; 16]);
        file.extend([3_u64, 12].map(u64::to_le_bytes).concat());
        file.extend([self.ttl, 0].map(u32::to_le_bytes).concat());
        let seed = close(&mut file, 16..56, preamble);
        for section in &self.sections {
            let begin = file.len();
            put_counts(&mut file, section.header);
            file.extend(section.words.iter().flat_map(|word| word.to_le_bytes()));
            let end = file.len();
            close(&mut file, begin..end, seed);
        }
        let begin = file.len();
        file.extend(400_u32.to_le_bytes());
        file.extend(self.totals.map(u64::to_le_bytes).concat());
        for Forgery { row: (offset, bytes, shard, users, sessions), .. } in &self.sections {
            file.extend(offset.to_le_bytes());
            put_counts(&mut file, (*bytes, *shard, *users, *sessions));
        }
        file.extend(self.trailer.map(u64::to_le_bytes).concat());
        let end = file.len();
        close(&mut file, begin..end, seed);
        file.extend(b"HBSNAP\r\n");
        file
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Result<(), ReadError> {
        let mut forged = Self::new();
        change(&mut forged);
        Changed::new().verify(&forged.bytes())
    }

    fn flaw(change: impl FnOnce(&mut Self)) -> (u64, Flaw) {
        match Self::changed(change) {
            Err(ReadError::Damaged(damage)) => (damage.offset, damage.flaw),
            other => panic!("{other:?}"),
        }
    }

    /// Of the first section.
    fn flaw_of_words(words: &[u64]) -> (u64, Flaw) {
        Self::flaw(|forged| forged.sections[0].words = words.to_vec())
    }
}

fn put_counts(file: &mut Vec<u8>, (bytes, shard, users, sessions): (u64, u32, u32, u64)) {
    file.extend(bytes.to_le_bytes());
    file.extend(shard.to_le_bytes());
    file.extend(users.to_le_bytes());
    file.extend(sessions.to_le_bytes());
}

fn close(file: &mut Vec<u8>, part: Range<usize>, seed: u32) -> u32 {
    let mut checksum = crc32fast::Hasher::new_with_initial(seed);
    checksum.update(&file[part]);
    let checksum = checksum.finalize();
    file.extend(checksum.to_le_bytes());
    checksum
}

/// So that the other tests here fail for what they change.
#[test]
fn a_file_made_by_hand_is_whole() {
    Forged::changed(|_| ()).unwrap();
}

#[test]
fn a_newer_version_is_named_and_an_impossible_one_refused() {
    match Forged::changed(|forged| forged.version = 2) {
        Err(ReadError::NewerVersion { file, version: 2 }) => assert!(file.ends_with("changed.snap")),
        other => panic!("{other:?}"),
    }
    let (at, flaw) = Forged::flaw(|forged| forged.version = 0);
    assert_eq!((at, flaw.to_string()), (8, "the header names a version that never was".into()));
}

#[test]
fn a_ttl_is_one() {
    for ttl in [0, 86_401] {
        let (at, flaw) = Forged::flaw(|forged| forged.ttl = ttl);
        assert_eq!((at, flaw.to_string()), (16, "the header holds an impossible ttl".into()));
    }
}

#[test]
fn lengths_beyond_the_file_are_refused_unread() {
    const FOUR_GIB: u64 = 1 << 32;
    let footer = |flaw: &str| (204, flaw.to_owned());
    for (expected, change) in [
        (
            footer("section 0 does not have the length of its users"),
            (|f| f.sections[0].row.1 = FOUR_GIB) as fn(&mut Forged),
        ),
        (footer("section 0 does not have the length of its users"), |f| f.sections[0].row.4 = u64::MAX),
        (footer("section 0 does not have the length of its users"), |f| f.sections[0].row.3 = u32::MAX),
        // The length and the count agree.
        (footer("section 1 does not begin where the part before it ends"), |f| {
            f.sections[0].row = (60, FOUR_GIB + 24, 0, 1, FOUR_GIB / 8);
        }),
        (footer("section 0 is larger than a section may be"), |f| {
            f.sections[0].row.1 = FOUR_GIB + 48;
            f.sections[0].row.4 = FOUR_GIB / 8;
        }),
        (footer("section 1 does not have the length of its users"), |f| f.sections[1].row.3 = 0),
        (footer("the footer does not have the length of its lists"), |f| f.totals[2] = FOUR_GIB),
        (footer("the footer does not have the length of its lists"), |f| f.totals[2] = 1),
        (footer("the footer does not have the length of its lists"), |f| f.totals[3] = 1),
        (footer("the footer does not have the length of its lists"), |f| f.totals[3] = u64::MAX / 32 + 2),
        (footer("the footer does not have the length of its lists"), |f| f.totals[2] = u64::MAX),
        (footer("the footer counts other users or sessions than its sections"), |f| {
            f.totals[0] = FOUR_GIB;
        }),
        (footer("the footer counts other users or sessions than its sections"), |f| {
            f.totals[1] = FOUR_GIB;
        }),
    ] {
        let (at, flaw) = Forged::flaw(change);
        assert_eq!((at, flaw.to_string()), expected);
    }
}

#[test]
fn the_trailer_names_where_the_footer_is() {
    for trailer in [[0, 0], [204, 1 << 32], [u64::MAX, 136], [300, 4], [59, 245], [303, 1]] {
        let (at, flaw) = Forged::flaw(|forged| forged.trailer = trailer);
        assert_eq!(
            (at, flaw.to_string()),
            (304, "the trailer names a place where the footer cannot be".into()),
            "{trailer:?}"
        );
    }
}

#[test]
fn sections_leave_no_gap_and_do_not_overlap() {
    for (offset, expected) in
        [(151, "section 1"), (153, "section 1"), (60, "section 1"), (u64::MAX, "section 1")]
    {
        let (at, flaw) = Forged::flaw(|forged| forged.sections[1].row.0 = offset);
        let expected = format!("{expected} does not begin where the part before it ends");
        assert_eq!((at, flaw.to_string()), (204, expected));
    }
    let (at, flaw) = Forged::flaw(|forged| {
        forged.sections[1].words.extend([4, 0, 0]);
        forged.trailer[0] += 24;
    });
    assert_eq!((at, flaw.to_string()), (228, "the footer does not begin where the last section ends".into()));
}

#[test]
fn a_section_is_what_the_footer_says() {
    for change in [
        (|forgery| forgery.header.0 = 1 << 32) as fn(&mut Forgery),
        |forgery| forgery.header.1 = 9,
        |forgery| forgery.header.2 = 1,
        |forgery| forgery.header.3 = 0,
    ] {
        let (at, flaw) = Forged::flaw(|forged| change(&mut forged.sections[0]));
        assert_eq!((at, flaw.to_string()), (60, "section 0 is not what the footer says it is".into()));
    }
}

#[test]
fn users_have_as_many_sessions_as_are_counted() {
    let fewer = "section 0 counts fewer sessions than its users have";
    let more = "section 0 counts more sessions than its users have";
    for (words, at, expected) in [
        ([1, 0, 1 << 32, 0, 0, 2, 0, 0], 84, fewer),
        ([1, 0, u64::MAX, 0, 0, 2, 0, 0], 84, fewer),
        ([1, 0, 0, 2, 0, 3, 0, 0], 108, fewer),
        ([1, 0, 0, 2, 0, 0, 0, 0], 132, more),
    ] {
        let (found_at, flaw) = Forged::flaw_of_words(&words);
        assert_eq!((found_at, flaw.to_string().as_str()), (at, expected), "{words:?}");
    }
}

#[test]
fn sessions_that_nobody_can_have_are_refused() {
    for (live, closed) in [
        (0, [lapsed(100, 8), lapsed(107, 1)]), // the second begins in the first
        (0, [lapsed(200, 7), lapsed(100, 7)]), // out of order
        (live(206, 213), [lapsed(100, 7), left(200, 7)]), // the live one begins in a closed one
        (live(300, 299), [lapsed(100, 7), left(200, 7)]), // it ends before it begins
    ] {
        let flaw = Forged::flaw_of_words(&[1, live, 2, closed[0], closed[1], 2, 0, 0]);
        assert_eq!(flaw, (84, Flaw::Sessions(UserId::new(1))));
    }
    let flaw = Forged::flaw_of_words(&[1, 0, 0, 2, live(206, 213), 2, lapsed(100, 8), lapsed(107, 1)]);
    assert_eq!(flaw, (108, Flaw::Sessions(UserId::new(2))));
}
