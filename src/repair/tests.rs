//! A repair that is killed between any two of its steps, and run again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::engine::{Disk, Engine};
use crate::session::Session;
use crate::time::ManualClock;
use crate::user_id::UserId;

const NOON: UnixSeconds = UnixSeconds::new(1_638_360_000);
const SLOTS_AT: usize = 8_192;

fn open(path: &Path) -> Engine {
    let disk = Disk { segment_bytes: 16 << 10, threads: 1, ..Disk::at(path) };
    Engine::builder().clock(Arc::new(ManualClock::at(NOON))).open(disk).unwrap().0
}

/// Snapshots 1 and 2; segment 2 between them, 3 and 4 with slots after them.
fn directory() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for round in 0..2 {
        for user in 0..40 {
            engine.heal(UserId::new(round * 30 + user)).unwrap();
        }
        engine.snapshot().unwrap();
    }
    for user in 100..500 {
        while engine.heal(UserId::new(user)).is_err() {
            std::thread::yield_now();
        }
    }
    // The last one that is prepared.
    while !segment(folder.path(), 6).exists() {
        std::thread::yield_now();
    }
    drop(engine);
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in files(folder) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("journal-{number:010}.seg"))
}

fn snapshot(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("snapshot-{number:010}.snap"))
}

/// Everything that can be wrong at once: a new snapshot, voids, a header, a length, a stand-in, strangers, a name.
fn damage(folder: &Path) {
    let stranger = directory();
    change(&snapshot(folder, 2), |bytes| bytes[90] ^= 1);
    change(&segment(folder, 2), |bytes| bytes[SLOTS_AT] ^= 1);
    change(&segment(folder, 3), |bytes| {
        bytes[..4_096].fill(0);
        bytes[SLOTS_AT + 48] ^= 1;
    });
    change(&segment(folder, 4), |bytes| bytes.truncate(SLOTS_AT + 24 * 20 + 7));
    fs::rename(segment(folder, 5), segment(folder, 55)).unwrap();
    fs::copy(snapshot(stranger.path(), 2), snapshot(folder, 9)).unwrap();
}

/// The same, and where one is missing.
fn damage_with_a_gap(folder: &Path) {
    damage(folder);
    fs::remove_file(segment(folder, 3)).unwrap();
}

fn timelines(folder: &Path) -> BTreeMap<UserId, Vec<Session>> {
    let engine = open(folder);
    let mut all = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut all));
    let mut timelines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (user, session) in all {
        timelines.entry(user).or_default().push(session);
    }
    timelines
}

fn killed_after_any_step(damage: fn(&Path), elsewhere: bool) {
    let base = directory();
    damage(base.path());
    let originals: Vec<_> = files(base.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let place = tempfile::tempdir().unwrap();
    let place_of = |folder: &Path, name: &str| {
        if elsewhere { place.path().join(name) } else { folder.join("quarantine") }
    };
    let whole = copy_of(base.path());
    let aside = place_of(whole.path(), "whole");
    let all = repair_applied(whole.path(), elsewhere.then_some(&aside), NOON).unwrap();
    assert!(all.is_sound(), "{:?}", all.after.unwrap().verdict);
    let expected = timelines(whole.path());
    assert!(expected.len() > 60, "{}", expected.len());

    let mut steps = 0;
    loop {
        let copy = copy_of(base.path());
        let aside = place_of(copy.path(), &steps.to_string());
        let quarantine = elsewhere.then_some(aside.as_path());
        let stopped = run(copy.path(), quarantine, NOON, Some(&Steps::first(steps)));
        let there: Vec<_> =
            files(copy.path()).iter().chain(&files(&aside)).map(|path| fs::read(path).unwrap()).collect();
        for original in &originals {
            assert!(there.contains(original), "after {steps} steps something is nowhere");
        }
        match stopped {
            Err(RepairError::Stopped) => {}
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
        let again = repair_applied(copy.path(), quarantine, NOON).unwrap();
        assert!(again.is_sound(), "after {steps} steps: {:?}", again.after.unwrap().verdict);
        assert_eq!(again.after.unwrap().complaints().count(), 0, "after {steps} steps");
        assert!(timelines(copy.path()) == expected, "after {steps} steps");
        let unfinished =
            files(&aside).iter().filter(|path| path.extension().is_some_and(|end| end == "tmp")).count();
        assert_eq!(unfinished, 0, "after {steps} steps");
        steps += 1;
    }
    assert!(steps > 8, "{steps}");
}

#[test]
fn killed_after_any_step_and_run_again_it_comes_to_the_same() {
    killed_after_any_step(damage, false);
    killed_after_any_step(damage_with_a_gap, false);
}

#[test]
fn killed_after_any_step_it_comes_to_the_same_with_another_place() {
    killed_after_any_step(damage, true);
}
