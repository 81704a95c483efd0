//! What an engine does with what it finds in its data directory, row by row of the design's table.
//!
//! A crash is a copy of the directory while the engine is open: whatever the process does afterwards, the kernel has what was
//! stored.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::folder::{
    ALIVE_AT, CARL, SEGMENT_BYTES, SLOTS, SYNCED_AT, Site, cut, flip, heal, overwrite, rewrite_header,
    slot_at, synced_mark, three_heals,
};
use common::{ANA, BO, NOON, lapsed, left, live};
use heartbeat::{
    ChainError, Clock, DirectoryError, Disk, Engine, Heal, Imported, Leave, OpenError, ReadError, Refusal,
    Status, UnixSeconds, UserId, Verdicts, WriteError, verify,
};
use rstest::rstest;

fn second(second: u32) -> UnixSeconds {
    UnixSeconds::new(second)
}

fn user(id: u32) -> UserId {
    UserId::new(i64::from(id))
}

/// Whether the error's text names the file.
fn names(error: &OpenError, file: &Path) -> bool {
    error.to_string().contains(file.file_name().unwrap().to_str().unwrap())
}

/// Segments 1 to 3 are full of heals, and 4 has some; 5 and 6 are ready.
fn three_segments(site: &Site) -> Engine {
    let (engine, _) = site.open();
    for id in 0..3 * SLOTS + 10 {
        heal(&engine, user(id));
    }
    site.wait_for_segment(6);
    engine
}

/// Ana is in snapshots 1 and 2, Bo in 2, and Carl only in the journal.
fn two_snapshots(site: &Site) {
    let (engine, _) = site.open();
    for user in [ANA, BO] {
        engine.heal(user).unwrap();
        engine.snapshot().unwrap();
    }
    engine.heal(CARL).unwrap();
}

#[test]
fn a_folder_without_a_file_of_ours_is_a_new_data_directory() {
    let site = Site::new(NOON);
    for name in ["README.md", ".gitignore"] {
        fs::write(site.path().join(name), "not ours to judge").unwrap();
    }
    let (engine, recovery) = site.open();

    assert_eq!((recovery.users, recovery.segments, recovery.outage), (0, 0, None));
    assert!(recovery.unknown.is_empty());
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(fs::read_to_string(site.path().join("README.md")).unwrap(), "not ours to judge");
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let site = Site::new(NOON);
    let engine = three_segments(&site);
    let image = site.killed();

    let (again, recovery) = image.open();
    assert_eq!(recovery.slots, Verdicts { good: u64::from(3 * SLOTS + 10), empty: 0, torn: 0 });
    assert_eq!((recovery.segments, recovery.users, recovery.online), (4, 1_033, 1_033));
    for id in 0..3 * SLOTS + 10 {
        assert_eq!(again.timeline(user(id)), [live(NOON, NOON + 7)]);
    }
    drop(engine);
}

#[test]
fn a_zero_slot_above_the_mark_was_never_acknowledged() {
    let site = Site::new(NOON);
    let _engine = three_heals(&site);
    let image = site.killed();
    overwrite(&image.segment(1), slot_at(1) + 16, &[0; 8]);

    let (engine, recovery) = image.open();
    assert_eq!(recovery.slots, Verdicts { good: 2, empty: 1, torn: 0 });
    assert_eq!([ANA, BO, CARL].map(|user| engine.timeline(user).len()), [1, 0, 1]);
    assert_eq!(engine.profile(BO), None, "not even an empty user");
}

#[test]
fn a_bad_slot_above_the_mark_was_torn_by_power_loss() {
    for byte in 0..24 {
        let site = Site::new(NOON);
        let _engine = three_heals(&site);
        let image = site.killed();
        flip(&image.segment(1), slot_at(1) + byte);

        let (engine, recovery) = image.open();
        assert_eq!(recovery.slots, Verdicts { good: 2, empty: 0, torn: 1 }, "byte {byte}");
        assert_eq!([ANA, BO, CARL].map(|user| engine.timeline(user).len()), [1, 0, 1]);
    }
}

/// A power loss may take a leave and keep what was only possible after it.
#[test]
fn with_any_slot_gone_above_the_mark_the_next_snapshot_is_whole() {
    let site = Site::new(NOON);
    let (engine, _) = site.open();
    engine.heal(ANA).unwrap();
    site.clock.advance(3);
    engine.leave(ANA).unwrap();
    site.clock.advance(17);
    engine.heal(ANA).unwrap();
    let imported = engine.import(ANA, second(NOON + 5), second(NOON + 9));
    assert_eq!(imported, Ok(Imported::Added));
    let expected = |gone: u32| match gone {
        0 => vec![left(NOON, NOON + 3), lapsed(NOON + 5, NOON + 9), live(NOON + 20, NOON + 27)],
        1 => vec![lapsed(NOON, NOON + 5), lapsed(NOON + 5, NOON + 9), live(NOON + 20, NOON + 27)],
        2 => vec![left(NOON, NOON + 3), lapsed(NOON + 5, NOON + 9)],
        _ => vec![left(NOON, NOON + 3), live(NOON + 20, NOON + 27)],
    };
    for gone in 0..4 {
        let lost = site.killed();
        overwrite(&lost.segment(1), slot_at(gone), &[0; 24]);
        let (engine, _) = lost.open();
        assert_eq!(engine.timeline(ANA), expected(gone), "without slot {gone}");
        engine.snapshot().unwrap();
        drop(engine);
        let (engine, recovery) = lost.open();
        assert_eq!((recovery.snapshot, recovery.quarantined), (Some(1), vec![]), "without slot {gone}");
        assert_eq!(engine.timeline(ANA), expected(gone), "without slot {gone}");
    }
}

#[rstest]
#[case::zero_last_word(|path: &Path| overwrite(path, slot_at(1) + 16, &[0; 8]))]
#[case::all_zero(|path: &Path| overwrite(path, slot_at(1), &[0; 24]))]
#[case::bad(|path: &Path| flip(path, slot_at(1)))]
fn a_bad_or_zero_slot_below_the_mark_is_refused(#[case] damage: fn(&Path)) {
    let site = Site::synced(NOON);
    let _engine = three_heals(&site);
    let image = site.killed();
    assert_eq!(synced_mark(&image.segment(1)), 3);
    damage(&image.segment(1));
    let before = fs::read(image.segment(1)).unwrap();

    let OpenError::Read(ReadError::Damaged(damage)) = image.refused() else { panic!("not damage") };
    assert_eq!((damage.file, damage.offset), (image.segment(1), slot_at(1)));
    assert_eq!(fs::read(image.segment(1)).unwrap(), before);
}

#[test]
fn a_bad_slot_below_the_mark_is_refused_whichever_thread_finds_it() {
    let site = Site::synced(NOON);
    drop(three_heals(&site));
    for byte in 0..24 {
        let image = site.killed();
        flip(&image.segment(1), slot_at(1) + byte);
        let opened = Engine::builder().clock(image.clock.clone()).open(Disk { threads: 4, ..image.disk() });
        assert!(matches!(opened, Err(OpenError::Read(ReadError::Damaged(_)))), "byte {byte}");
    }
}

#[rstest]
#[case::magic(0)]
#[case::version(8)]
#[case::id(25)]
#[case::nothing(100)]
#[case::checksum(4_095)]
fn a_bad_header_is_refused(#[case] at: u64) {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    flip(&site.segment(1), at);

    let OpenError::Read(ReadError::Damaged(damage)) = site.refused() else { panic!("not damage") };
    assert_eq!((damage.file, damage.offset), (site.segment(1), 0));
}

#[rstest]
#[case(0)]
#[case(4_095)]
#[case(8_191)]
#[case(8_192)]
#[case(SEGMENT_BYTES - 1)]
#[case(SEGMENT_BYTES + 1)]
fn a_file_of_another_length_than_its_header_says_is_refused(#[case] length: u64) {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    cut(&site.segment(1), length);

    let OpenError::Read(ReadError::Damaged(damage)) = site.refused() else { panic!("not damage") };
    assert_eq!((damage.file, damage.offset), (site.segment(1), length.min(SEGMENT_BYTES)));
}

#[rstest]
#[case::first(1)]
#[case::middle(2)]
#[case::before_the_last(3)]
fn a_missing_segment_is_refused_and_named(#[case] number: u64) {
    let site = Site::new(NOON);
    drop(three_segments(&site));
    fs::remove_file(site.segment(number)).unwrap();
    let before = site.numbers();

    let error = site.refused();
    assert!(names(&error, &site.segment(number)), "{error}");
    assert!(names(&error, &site.segment(number + 1)), "{error}");
    assert_eq!(site.numbers(), before);
}

#[test]
fn the_segment_that_a_snapshot_begins_with_is_missed() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    for path in site.segments() {
        fs::remove_file(path).unwrap();
    }
    let error = site.refused();
    assert!(matches!(error, OpenError::Chain(ChainError::Missing { .. })), "{error}");
    assert!(names(&error, &site.segment(3)) && names(&error, &site.snapshot(2)), "{error}");
}

#[test]
fn a_segment_of_another_directory_is_refused() {
    let (site, other) = (Site::new(NOON), Site::new(NOON));
    drop(three_segments(&site));
    drop(three_segments(&other));
    fs::copy(other.segment(2), site.segment(2)).unwrap();

    let error = site.refused();
    assert!(matches!(error, OpenError::Chain(ChainError::Foreign { .. })), "{error}");
    assert!(names(&error, &site.segment(2)), "{error}");
}

#[test]
fn a_snapshot_of_another_directory_is_refused() {
    let (site, other) = (Site::new(NOON), Site::new(NOON));
    drop(three_heals(&site));
    let (engine, _) = other.open();
    engine.heal(ANA).unwrap();
    engine.snapshot().unwrap();
    drop(engine);
    fs::copy(other.snapshot(1), site.snapshot(1)).unwrap();

    assert!(matches!(site.refused(), OpenError::Chain(ChainError::Foreign { .. })));
}

#[test]
fn a_segment_under_another_number_is_refused() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    fs::rename(site.segment(3), site.segment(30)).unwrap();

    let error = site.refused();
    assert!(matches!(error, OpenError::Chain(ChainError::Misnamed { number: 3, .. })), "{error}");
}

#[test]
fn segments_below_the_oldest_kept_snapshot_are_removed() {
    let site = Site::new(NOON);
    let engine = three_heals(&site);
    let before = site.killed();
    engine.snapshot().unwrap();
    engine.snapshot().unwrap();
    drop(engine);
    fs::copy(before.segment(1), site.segment(1)).unwrap();

    let (engine, recovery) = site.open();
    assert_eq!((recovery.snapshot, recovery.users), (Some(2), 3));
    assert!(!site.segment(1).exists());
    assert!(site.segment(2).exists(), "the older snapshot begins with it");
    drop(engine);

    // The older one can still stand in.
    flip(&site.snapshot(2), 70);
    let (_engine, recovery) = site.open();
    assert_eq!((recovery.snapshot, recovery.users), (Some(1), 3));
}

#[test]
fn a_damaged_newest_snapshot_is_put_aside_and_the_one_before_stands_in() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    flip(&site.snapshot(2), 80);
    let damaged = fs::read(site.snapshot(2)).unwrap();

    let (engine, recovery) = site.open();
    assert_eq!(recovery.snapshot, Some(1));
    let aside = site.path().join("quarantine/snapshot-0000000002.snap");
    let [(path, flaw)] = &recovery.quarantined[..] else { panic!("one") };
    assert_eq!((path, fs::read(path).unwrap()), (&aside, damaged));
    assert!(flaw.contains("snapshot-0000000002.snap, offset 60"), "{flaw}");
    for user in [ANA, BO, CARL] {
        assert_eq!(engine.timeline(user), [live(NOON, NOON + 7)]);
    }
    // Its number is not given again.
    assert_eq!(engine.snapshot().unwrap().number, 3);
}

/// A start with the one before it was given up for that.
#[test]
fn where_nothing_can_be_put_aside_the_damaged_snapshot_stays_and_it_starts_all_the_same() {
    for what in ["a link to nothing", "a file"] {
        let site = Site::new(NOON);
        two_snapshots(&site);
        flip(&site.snapshot(2), 80);
        let damaged = fs::read(site.snapshot(2)).unwrap();
        let place = site.path().join("quarantine");
        match what {
            "a file" => fs::write(&place, what).unwrap(),
            _ => std::os::unix::fs::symlink("/nonexistent/place", &place).unwrap(),
        }
        assert!(verify(site.path(), UnixSeconds::new(NOON)).unwrap().is_sound(), "{what}");

        for _ in 0..2 {
            let (engine, recovery) = site.open();
            assert_eq!((recovery.snapshot, recovery.users), (Some(1), 3), "{what}");
            let [(left, _)] = &recovery.not_put_aside[..] else { panic!("one: {what}") };
            assert_eq!((left, fs::read(left).unwrap()), (&site.snapshot(2), damaged.clone()));
            assert_eq!(recovery.quarantined.len(), 1);
            drop(engine);
        }
        // It is no generation: what stood in for it stays until there are two others.
        let there = || [1, 2, 3, 4, 5].map(|number| site.snapshot(number).exists());
        let (engine, _) = site.open();
        assert_eq!(engine.snapshot().unwrap().number, 3);
        assert_eq!(there(), [true, true, true, false, false], "{what}");
        drop(engine);
        flip(&site.snapshot(3), 80);
        let (engine, recovery) = site.open();
        assert_eq!((recovery.snapshot, recovery.users), (Some(1), 3), "{what}");
        assert_eq!([4, 5].map(|_| engine.snapshot().unwrap().number), [4, 5]);
        assert_eq!(there(), [false, false, false, true, true], "{what}");
        drop(engine);
        let (_engine, recovery) = site.open();
        assert_eq!((recovery.snapshot, recovery.users), (Some(5), 3), "{what}");
        assert!(recovery.quarantined.is_empty());
    }
}

#[test]
fn when_both_snapshots_are_damaged_nothing_is_started_and_nothing_moved() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    flip(&site.snapshot(1), 80);
    flip(&site.snapshot(2), 80);
    let before = common::folder::files(site.path());

    let error = site.refused();
    assert!(matches!(error, OpenError::Read(ReadError::Damaged(_))), "{error}");
    assert!(names(&error, &site.snapshot(2)), "{error}");
    assert_eq!(common::folder::files(site.path()), before);
    assert!(!site.path().join("quarantine").exists());
}

#[test]
fn a_newer_segment_is_refused_and_its_version_named() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    rewrite_header(&site.segment(1), |page| page[8] = 2);

    let error = site.refused();
    assert!(matches!(&error, OpenError::Read(ReadError::NewerVersion { version: 2, .. })), "{error}");
    assert!(names(&error, &site.segment(1)), "{error}");
}

#[test]
fn a_newer_snapshot_is_refused_and_its_version_named() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    let preamble = [&b"HBSNAP\r\n"[..], &2_u32.to_le_bytes()].concat();
    overwrite(&site.snapshot(2), 0, &preamble);
    overwrite(&site.snapshot(2), 12, &crc32fast::hash(&preamble).to_le_bytes());

    let error = site.refused();
    assert!(matches!(&error, OpenError::Read(ReadError::NewerVersion { version: 2, .. })), "{error}");
    assert!(names(&error, &site.snapshot(2)), "{error}");
    assert!(site.snapshot(2).exists(), "an older one would do, and would silently undo what the newer says");
}

#[test]
fn unknown_files_are_left_alone_and_own_temporaries_removed() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    let kept = ["notes.txt", "journal-7.seg", "other.tmp"].map(|name| site.path().join(name));
    let removed = ["snapshot-0000000001.snap.tmp", "journal-0000000099.seg.tmp"];
    let removed = removed.map(|name| site.path().join(name));
    for path in kept.iter().chain(&removed) {
        fs::write(path, "something").unwrap();
    }

    let (_engine, recovery) = site.open();
    let mut unknown = recovery.unknown;
    unknown.sort();
    assert_eq!(unknown, [kept[1].clone(), kept[0].clone(), kept[2].clone()]);
    assert!(kept.iter().all(|path| fs::read(path).is_ok_and(|text| text == b"something")));
    assert!(removed.iter().all(|path| !path.exists()));
}

#[test]
fn a_locked_directory_is_refused_and_its_holder_named() {
    let site = Site::new(NOON);
    let engine = three_heals(&site);

    let OpenError::Directory(DirectoryError::Locked { path, holder }) = site.refused() else {
        panic!("locked")
    };
    assert_eq!((path.as_path(), holder), (site.path(), Some(std::process::id())));
    drop(engine);
    site.open();
}

/// Nothing can be reserved: the service starts, answers, and refuses.
#[test]
fn on_a_full_disk_it_starts_and_serves_reads() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    let no_room = Disk { segment_bytes: 1 << 60, ..site.disk() };

    for _ in 0..2 {
        let (engine, recovery) = Engine::builder().clock(site.clock.clone()).open(no_room.clone()).unwrap();
        assert_eq!(recovery.users, 3);
        assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 7)]);
        site.clock.advance(1);
        assert_eq!(engine.heal(ANA), Err(WriteError::Journal(Refusal::NoRoom)));
        assert_eq!(engine.heal(user(1)), Err(WriteError::Journal(Refusal::NoRoom)));
        assert_eq!((engine.timeline(ANA), engine.profile(user(1))), (vec![live(NOON, NOON + 7)], None));
        assert_eq!(engine.refusal(), Some(Refusal::NoRoom));
    }
    let (engine, _) = site.open();
    assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 9)]);
}

#[test]
fn trailing_segments_without_a_slot_are_removed() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    let image = site.killed();
    assert_eq!(image.numbers()[0], 1);
    let highest = *image.numbers().last().unwrap();
    assert!(highest > 1, "some were prepared");

    let (engine, recovery) = image.open();
    assert_eq!(recovery.segments, 1);
    let numbers = image.numbers();
    assert_eq!(numbers[..2], [1, highest + 1], "{numbers:?}");
    drop(engine);
}

#[test]
fn repeated_crashes_right_after_the_start_change_nothing() {
    let mut site = Site::new(NOON);
    let first = three_heals(&site);
    site = site.killed();
    drop(first);
    for turn in 0..20 {
        let (engine, recovery) = site.open();
        assert_eq!((recovery.users, recovery.online, recovery.sessions), (3, 3, 3), "start {turn}");
        let image = site.killed();
        drop(engine);
        site = image;
        assert!(site.numbers().len() <= 6, "{:?}", site.numbers());
    }
}

/// Recovery makes the new segment, then removes what is needless, then writes: it may be stopped between any two steps.
#[test]
fn a_recovery_that_was_stopped_anywhere_can_be_repeated() {
    let site = Site::new(NOON);
    drop(three_segments(&site));
    let before = site.killed();
    site.clock.advance(1);
    let (engine, _) = site.open();
    let after = site.killed();
    drop(engine);

    let needless: Vec<_> = before.numbers().into_iter().filter(|number| *number > 4).collect();
    assert_eq!(needless.len(), 2, "prepared and never used");
    let new: Vec<_> = after.numbers().into_iter().filter(|number| *number > needless[1]).collect();
    assert!(!new.is_empty());
    // So many of the new segments are there already, and so many of the needless ones still; with the outage, and without.
    for present in 0..=new.len() {
        for kept in 0..=needless.len() {
            for outage in [false, true] {
                let stopped = before.killed();
                for number in &needless[kept..] {
                    fs::remove_file(stopped.segment(*number)).unwrap();
                }
                for number in &new[..present] {
                    fs::copy(after.segment(*number), stopped.segment(*number)).unwrap();
                    if !outage {
                        overwrite(&stopped.segment(*number), slot_at(0), &[0; 24]);
                        overwrite(&stopped.segment(*number), SYNCED_AT, &[0; 16]);
                    }
                }
                for _ in 0..2 {
                    let (engine, recovery) = stopped.open();
                    assert_eq!((recovery.users, recovery.sessions), (1_033, 1_033));
                    assert_eq!(engine.timeline(user(1_000)), [live(NOON, NOON + 7)]);
                }
            }
        }
    }
}

#[test]
fn an_unreadable_mark_counts_as_zero_and_is_reported() {
    let site = Site::synced(NOON);
    drop(three_heals(&site));
    flip(&site.segment(1), SYNCED_AT);
    flip(&site.segment(1), slot_at(2));

    let (engine, recovery) = site.open();
    assert_eq!(recovery.unreadable_marks, [site.segment(1)]);
    assert_eq!(recovery.slots, Verdicts { good: 2, empty: 0, torn: 1 });
    assert_eq!([ANA, BO, CARL].map(|user| engine.timeline(user).len()), [1, 1, 0]);
}

#[test]
fn an_unreadable_alive_second_is_reported_and_the_slots_tell_when_the_service_was_up() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    flip(&site.segment(1), ALIVE_AT);
    site.clock.advance(100);

    let (_engine, recovery) = site.open();
    assert_eq!(recovery.unreadable_marks, [site.segment(1)]);
    assert_eq!(recovery.outage, Some((second(NOON), second(NOON + 100))));
}

#[test]
fn a_journal_more_than_a_day_ahead_is_refused_naming_the_slot() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    overwrite(&site.segment(1), ALIVE_AT, &[0; 8]);
    for (back, refused) in [(86_400, false), (86_401, true)] {
        let image = Site { clock: Site::new(NOON - back).clock, ..site.killed() };
        match image.try_open() {
            Ok(_) => assert!(!refused),
            Err(OpenError::Future { file, offset, second: found, now }) => {
                assert!(refused);
                assert_eq!((file, offset), (image.segment(1), slot_at(0)));
                assert_eq!((found, now), (second(NOON), second(NOON - back)));
                let allowed = Disk { allow_future_journal: true, ..image.disk() };
                assert!(Engine::builder().clock(image.clock.clone()).open(allowed).is_ok());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_real_clock_starts_no_earlier_than_anything_found() {
    let wall = heartbeat::SystemClock::start().now().as_u32();
    let site = Site::new(wall + 3_600);
    drop(three_heals(&site));

    let (engine, _) = Engine::builder().open(site.disk()).unwrap();
    assert!(engine.now() >= second(wall + 3_600));
    assert!(engine.now() < second(wall + 3_700));
    assert_eq!(engine.status(ANA), Status::Online);
}

/// Rule 6: the older generation and its segments still know who was forgotten.
#[test]
fn a_user_forgotten_before_a_restart_is_gone_from_disk_with_the_next_snapshot() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    let (engine, _) = site.open();
    assert_eq!(engine.forget(ANA), Ok(1));
    drop(engine);

    let (engine, _) = site.open();
    assert_eq!(engine.profile(ANA), None);
    engine.snapshot().unwrap();
    assert_eq!(site.snapshots(), [site.snapshot(3)]);
    drop(engine);
    let id = ANA.as_i64().to_le_bytes();
    for path in common::folder::files(site.path()) {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|window| window == id), "{} knows the user", path.display());
    }
}

#[test]
fn a_user_forgotten_is_gone_from_disk_with_the_next_snapshot() {
    let site = Site::new(NOON);
    two_snapshots(&site);
    let (engine, _) = site.open();
    assert_eq!(engine.forget(ANA), Ok(1));
    engine.snapshot().unwrap();
    assert_eq!(site.snapshots(), [site.snapshot(3)]);
    engine.snapshot().unwrap();
    assert_eq!(site.snapshots(), [site.snapshot(3), site.snapshot(4)], "two generations again");
}

/// A segment that no other names must be empty; one that had slots and is damaged is not empty.
#[test]
fn a_damaged_segment_outside_the_chain_is_refused_and_kept() {
    let site = Site::synced(NOON);
    drop(three_segments(&site));
    // The last one skips two segments with slots.
    let image = site.killed();
    for number in 5..=6 {
        fs::remove_file(image.segment(number)).unwrap();
    }
    rewrite_header(&image.segment(4), |page| page[48..56].copy_from_slice(&2_u64.to_le_bytes()));
    let error = image.refused();
    assert!(matches!(error, OpenError::Chain(ChainError::Unlinked { .. })), "{error}");

    overwrite(&image.segment(3), slot_at(0), &[0; 8_192]);
    let error = image.refused();
    assert!(names(&error, &image.segment(3)), "{error}");
    assert!(image.segment(3).exists());
}

/// Whoever copies a directory by hand may leave things under names that would be next.
#[test]
fn a_number_that_is_taken_is_passed_over() {
    let site = Site::new(NOON);
    for number in [1, 2, 4, 5, 9] {
        fs::create_dir(site.segment(number)).unwrap();
    }
    fs::create_dir(site.snapshot(1)).unwrap();

    let (engine, recovery) = site.open();
    assert_eq!(recovery.unknown.len(), 6);
    for id in 0..5 * SLOTS {
        heal(&engine, user(id));
    }
    assert!(engine.snapshot().is_err());
    assert_eq!(engine.snapshot().unwrap().users, u64::from(5 * SLOTS));
    drop(engine);
    let (_engine, recovery) = site.open();
    assert_eq!(recovery.users, u64::from(5 * SLOTS));
}

#[test]
fn a_leave_in_a_segment_and_its_heal_in_the_one_before_are_replayed_in_order() {
    let site = Site::new(NOON);
    let (engine, _) = site.open();
    engine.heal(ANA).unwrap();
    for id in 0..SLOTS {
        heal(&engine, user(id));
    }
    site.clock.advance(3);
    assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    let image = site.killed();
    drop(engine);

    let (engine, _) = image.open();
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 3)]);
    // In the second of the leave she comes back.
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 10)]);
}

/// Retention is part of the rules: the sweep applies it, and not only a snapshot or a restart.
#[test]
fn a_sweep_drops_what_is_not_to_be_kept() {
    let clock = Arc::new(heartbeat::ManualClock::at(second(NOON)));
    let engine = Engine::builder().clock(clock.clone()).retain_sessions(2).retain_seconds(100).build();
    for _ in 0..4 {
        engine.heal(ANA).unwrap();
        clock.advance(10);
        engine.sweep();
    }
    assert_eq!(engine.timeline(ANA), [lapsed(NOON + 20, NOON + 27), lapsed(NOON + 30, NOON + 37)]);
    assert_eq!(engine.figures().sessions, 2);
}
