//! For each thing that `verify` can complain of: a start refuses it, `repair` mends it, and the loss is what repair said.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use heartbeat::{Loss, verify};

use super::repair::{
    NOTHING, changed, directory, mended, open, repair_applied, segment, snapshot, started, user, writes,
};
use super::{NOON, SLOTS_AT, USERS, change, contents, copy_of, files, flip};

const NOBODY: std::ops::Range<i64> = 0..0;

struct Row {
    what: &'static str,
    damage: fn(&Path),
    is_refused: bool,
    loss: Loss,
    /// Whoever is not what they were.
    lost: std::ops::Range<i64>,
}

fn zero(path: &Path, places: std::ops::Range<usize>) {
    change(path, |bytes| bytes[places].fill(0));
}

const ROWS: &[Row] = &[
    Row {
        what: "a bad slot",
        damage: |path| flip(&segment(path, 1), SLOTS_AT),
        is_refused: true,
        loss: writes(1),
        lost: 2..3,
    },
    Row {
        what: "three empty slots below the mark",
        damage: |path| zero(&segment(path, 1), SLOTS_AT + 5 * 24..SLOTS_AT + 8 * 24),
        is_refused: true,
        loss: writes(3),
        lost: 7..10,
    },
    Row {
        what: "a header with a damaged number",
        damage: |path| flip(&segment(path, 1), 40),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a header with a damaged salt",
        damage: |path| flip(&segment(path, 1), 56),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a header's checksum",
        damage: |path| flip(&segment(path, 1), 4_094),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment without a header",
        damage: |path| zero(&segment(path, 2), 0..4_096),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment without a header, and a bad slot",
        damage: |path| {
            zero(&segment(path, 1), 0..4_096);
            flip(&segment(path, 1), SLOTS_AT + 24);
        },
        is_refused: true,
        loss: writes(1),
        lost: 3..4,
    },
    Row {
        what: "the header of a prepared segment",
        damage: |path| zero(&segment(path, 4), 0..4_096),
        is_refused: true,
        // That its slots are zeros, too, says nothing.
        loss: writes(341),
        lost: NOBODY,
    },
    Row {
        what: "the header of the first prepared segment",
        damage: |path| zero(&segment(path, 3), 0..4_096),
        is_refused: true,
        // That its slots are zeros, too, says nothing.
        loss: writes(341),
        lost: NOBODY,
    },
    Row {
        what: "a segment that is cut",
        damage: |path| change(&segment(path, 1), |bytes| bytes.truncate(SLOTS_AT + 24 * 100 + 5)),
        is_refused: true,
        loss: writes(241),
        lost: 102..343,
    },
    Row {
        what: "a segment that is cut within its header",
        damage: |path| change(&segment(path, 1), |bytes| bytes.truncate(5_000)),
        is_refused: true,
        loss: writes(341),
        lost: 2..343,
    },
    Row {
        what: "a segment that is too long",
        damage: |path| change(&segment(path, 1), |bytes| bytes.push(1)),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment that is missing",
        damage: |path| fs::remove_file(segment(path, 1)).unwrap(),
        is_refused: true,
        loss: writes(341),
        lost: 2..343,
    },
    Row {
        what: "the next one that is missing",
        damage: |path| fs::remove_file(segment(path, 2)).unwrap(),
        is_refused: true,
        loss: writes(341),
        lost: 343..USERS + 1,
    },
    Row {
        what: "all segments of the snapshot that are missing",
        damage: |path| files(path, ".seg").iter().for_each(|path| fs::remove_file(path).unwrap()),
        is_refused: true,
        loss: Loss { unknown_writes: true, ..NOTHING },
        lost: 2..USERS + 1,
    },
    Row {
        what: "a segment under another name",
        damage: |path| fs::rename(segment(path, 1), path.join("journal-0000000077.seg")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a second copy of a segment",
        damage: |path| _ = fs::copy(segment(path, 1), path.join("journal-0000000077.seg")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot under another name",
        damage: |path| fs::rename(snapshot(path, 1), path.join("snapshot-0000000077.snap")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment of another directory",
        damage: |path| _ = fs::copy(segment(directory().path(), 1), segment(path, 1)).unwrap(),
        is_refused: true,
        loss: Loss { foreign: 1, ..writes(341) },
        lost: 2..343,
    },
    Row {
        what: "a snapshot of another directory",
        damage: |path| {
            _ = fs::copy(snapshot(directory().path(), 1), path.join("snapshot-0000000009.snap")).unwrap();
        },
        is_refused: true,
        loss: Loss { foreign: 1, ..NOTHING },
        lost: NOBODY,
    },
    Row {
        what: "the newest snapshot, the one before being whole",
        damage: |path| flip(&snapshot(path, 1), 90),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the older snapshot",
        damage: |path| flip(&snapshot(path, 0), 90),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment that only the older snapshot needs",
        damage: |path| flip(&segment(path, 0), SLOTS_AT),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the last segment with slots, nothing but zeros",
        damage: |path| change(&segment(path, 2), |bytes| bytes.fill(0)),
        is_refused: true,
        loss: writes(341),
        lost: 343..USERS + 1,
    },
    Row {
        what: "the header, the mark and the first slots of a segment, nothing but zeros",
        damage: |path| zero(&segment(path, 1), 0..SLOTS_AT + 240),
        is_refused: true,
        loss: writes(10),
        lost: 2..12,
    },
    Row {
        what: "all of it, nothing but zeros",
        damage: |path| {
            for file in files(path, "").iter().filter(|file| file.extension().is_some()) {
                change(file, |bytes| bytes.fill(0));
            }
        },
        is_refused: true,
        loss: Loss { unknown_users: true, writes: 5 * 341, ..NOTHING },
        lost: 1..USERS + 1,
    },
    Row {
        what: "every header, and the last segment with slots is cut within it",
        damage: |path| {
            for file in files(path, ".seg") {
                flip(&file, 40);
            }
            change(&segment(path, 2), |bytes| bytes.truncate(3_000));
        },
        is_refused: true,
        loss: writes(341),
        lost: 343..USERS + 1,
    },
    Row {
        what: "the newest snapshot's header, and the journal before it is missing",
        damage: |path| {
            flip(&snapshot(path, 1), 20);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the newest snapshot's header and its first segment's number in it",
        damage: |path| {
            zero(&snapshot(path, 1), 20..56);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot that is too long, and the journal before it is missing",
        damage: |path| {
            change(&snapshot(path, 1), |bytes| bytes.push(0));
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot's footer, and the journal before it is missing",
        damage: |path| {
            change(&snapshot(path, 1), |bytes| *bytes.iter_mut().nth_back(30).unwrap() ^= 1);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: Loss { unknown_users: true, ..NOTHING },
        lost: NOBODY,
    },
    Row {
        what: "both snapshots, beyond recognition",
        damage: |path| files(path, ".snap").iter().for_each(|path| zero(path, 0..70)),
        is_refused: true,
        loss: Loss { unknown_users: true, writes: 341, ..NOTHING },
        lost: NOBODY,
    },
    Row {
        what: "both snapshots, which are missing",
        damage: |path| files(path, ".snap").iter().for_each(|path| fs::remove_file(path).unwrap()),
        is_refused: true,
        loss: Loss { unknown_users: true, writes: 341, ..NOTHING },
        lost: NOBODY,
    },
];

#[test]
fn what_a_start_refuses_is_mended_and_the_loss_is_what_was_said() {
    let base = directory();
    let whole = started(copy_of(base.path()).path(), "whole");
    for Row { what, damage, is_refused, loss, lost } in ROWS {
        let copy = copy_of(base.path());
        damage(copy.path());
        let found = verify(copy.path(), NOON).unwrap();
        assert!(found.complaints().next().is_some(), "{what}: verify says nothing");
        assert_eq!(!found.is_sound(), *is_refused, "{what}");
        if *is_refused {
            assert!(open(copy.path(), NOON).is_err(), "{what}");
        }

        let mend = mended(copy.path(), what);
        assert_eq!(mend.loss(), *loss, "{what}: {:#?}", mend.mends);
        let lost: BTreeSet<_> = lost.clone().map(user).collect();
        let after = started(copy.path(), what);
        assert_eq!(changed(&whole, &after), lost, "{what}");
        assert!(lost.iter().all(|user| !after.contains_key(user)), "{what}");
        assert!(loss.unknown_writes || lost.len() as u64 <= loss.writes, "{what}");
    }
}

/// What was dropped or changed is there as it was.
#[test]
fn every_byte_that_repair_drops_is_in_the_quarantine() {
    let base = directory();
    for elsewhere in [false, true] {
        for Row { what, damage, .. } in ROWS {
            let copy = copy_of(base.path());
            damage(copy.path());
            let before = contents(copy.path());
            let place = tempfile::tempdir().unwrap();
            let place = if elsewhere { place.path().join("a/b") } else { copy.path().join("quarantine") };
            let mend = repair_applied(copy.path(), elsewhere.then_some(&place), NOON).unwrap();
            assert!(mend.is_sound(), "{what}: {:?}", mend.after.unwrap().verdict);
            assert_eq!(copy.path().join("quarantine").exists(), !elsewhere && place.exists(), "{what}");
            assert_none_is_lost(&before, &[copy.path(), &place], what);
        }
    }
}

fn assert_none_is_lost(before: &[(PathBuf, Option<Vec<u8>>)], folders: &[&Path], what: &str) {
    let there = folders.iter().filter(|folder| folder.exists());
    let now: Vec<_> = there.flat_map(|folder| contents(folder)).filter_map(|(_, bytes)| bytes).collect();
    for (path, bytes) in before {
        let bytes = bytes.as_ref().unwrap();
        assert!(now.contains(bytes), "{what}: {} is nowhere", path.display());
    }
}
