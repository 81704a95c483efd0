//! No change of a file goes unnoticed.

use super::*;

/// The part that holds a byte of the golden file, and where it begins.
fn part_at(offset: usize) -> (u64, Part) {
    match offset {
        0..16 => (0, Part::Header),
        16..60 => (16, Part::Header),
        60..160 => (60, Part::Section(0)),
        160..212 => (160, Part::Section(1)),
        // The trailer's checksum is the footer's as well.
        212..320 | 336..340 => (212, Part::Footer),
        _ => (320, Part::Trailer),
    }
}

#[test]
fn no_bit_changes_unnoticed() {
    let changed = Changed::new();
    let mut bytes = GOLDEN.to_vec();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            bytes[offset] ^= 1 << bit;
            let (at, flaw) = changed.flaw(&bytes);
            bytes[offset] ^= 1 << bit;

            let (begin, part) = part_at(offset);
            let expected = match offset {
                0..8 => at == 0 && flaw == Flaw::Foreign("snapshot"),
                320..336 | 340.. => at == 320 && matches!(flaw, Flaw::Contradiction(Part::Trailer, _)),
                _ => at == begin && flaw == Flaw::Checksum(part),
            };
            assert!(expected, "bit {bit} of byte {offset}: {at}: {flaw}");
        }
    }
}

#[test]
fn no_cut_goes_unnoticed() {
    let changed = Changed::new();
    for length in 0..GOLDEN.len() {
        let (at, flaw) = changed.flaw(&GOLDEN[..length]);
        assert!(at <= length as u64, "{length}: {at}: {flaw}");
        let is_said = match length {
            0..60 => flaw == Flaw::Ends(Part::Header),
            60..124 => flaw == Flaw::Ends(Part::Trailer),
            _ => {
                flaw == Flaw::Contradiction(
                    Part::Trailer,
                    "is not where the file ends: it was cut or changed",
                )
            }
        };
        assert!(is_said, "{length}: {at}: {flaw}");
    }
}

#[test]
fn nothing_may_follow() {
    let changed = Changed::new();
    for more in [&b"\0"[..], b"\n", GOLDEN] {
        let damage = changed.damage(&[GOLDEN, more].concat());
        assert!(damage.offset > 300, "{damage}");
    }
}

/// Both files are whole, and the sections are of one place, shape and shard.
#[test]
fn a_section_of_another_snapshot_does_not_verify() {
    let other = Header { number: 4, ..HEADER };
    let (_folder, directory) = open_directory();
    let mut writer = Writer::create(&directory, other).unwrap();
    writer.write_shard(0, &copied(&ana_and_bo())).unwrap();
    let other = fs::read(writer.finish(second(1), &[]).unwrap().path).unwrap();

    let mixed = [&GOLDEN[..60], &other[60..160], &GOLDEN[160..]].concat();
    assert_eq!(Changed::new().flaw(&mixed), (60, Flaw::Checksum(Part::Section(0))));
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let changed = Changed::new();
    for bytes in [&b"#!/bin/sh\n"[..], b"HBSNAP\n\n", b"\0", &[0; 4_096]] {
        assert_eq!(changed.flaw(bytes), (0, Flaw::Foreign("snapshot")));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing"), folder.path().into()] {
        match Snapshot::open(&path) {
            Err(ReadError::Io { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
}
