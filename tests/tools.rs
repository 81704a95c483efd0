//! `inspect`, `verify`, `repair` and `restore`: what they say of files that are whole, damaged, in use, or not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod process;

#[path = "tools/damages.rs"]
mod damages;
#[path = "tools/inspect.rs"]
mod inspect;
#[path = "tools/random_damage.rs"]
mod random_damage;
#[path = "tools/repair.rs"]
mod repair;
#[path = "tools/restore.rs"]
mod restore;
#[path = "tools/strange.rs"]
mod strange;
#[path = "tools/verify.rs"]
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use heartbeat::{
    Beginning, Disk, Engine, ManualClock, OpenError, Recovery, UnixSeconds, UserId, Verification,
};
use tempfile::TempDir;

const NOON: UnixSeconds = UnixSeconds::new(1_638_360_000);
const SEGMENT_BYTES: u64 = 16 << 10;
/// More than fit in one segment.
const USERS: i64 = 500;

const SYNCED_AT: usize = 4_096;
const SLOTS_AT: usize = 8_192;

fn open(path: &Path, now: UnixSeconds) -> Result<(Engine, Recovery), OpenError> {
    let disk = Disk { segment_bytes: SEGMENT_BYTES, threads: 1, ..Disk::at(path) };
    Engine::builder().clock(Arc::new(ManualClock::at(now))).open(disk)
}

/// Two snapshots, and after the second one more slots than fit in a segment. Nobody uses it any more.
fn directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), NOON).unwrap();
    engine.heal(UserId::new(-1)).unwrap();
    engine.snapshot().unwrap();
    engine.leave(UserId::new(-1)).unwrap();
    engine.heal(UserId::new(1)).unwrap();
    engine.snapshot().unwrap();
    for user in 1..=USERS {
        // A segment that is prepared on a busy machine may be late.
        while engine.heal(UserId::new(user)).is_err() {
            std::thread::yield_now();
        }
    }
    drop(engine);
    folder
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// The files whose names end like that, by name.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    files.sort();
    files
}

fn contents(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    files(directory, "").into_iter().map(|path| (path.clone(), fs::read(path).ok())).collect()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn flip(path: &Path, at: usize) {
    change(path, |bytes| bytes[at] ^= 0x10);
}

/// Whether [`heartbeat::verify`] and a start agree about `directory`, which then is not what it was. Says what `verify` found.
fn agreed(directory: &Path, case: &str) -> Verification {
    let before = contents(directory);
    let found = heartbeat::verify(directory, NOON).unwrap();
    assert!(contents(directory) == before, "{case}: verify changed something");
    match (open(directory, NOON), &found.verdict) {
        (Ok((_, recovery)), Ok(beginning)) => {
            let Recovery { snapshot, segments, slots, .. } = recovery;
            assert_eq!(*beginning, Beginning { snapshot, segments, slots: slots.good }, "{case}");
        }
        (Err(error), Err(refusal)) => assert_eq!(error.to_string(), refusal.to_string(), "{case}"),
        (opened, verdict) => {
            panic!("{case}: a start says {:?}, verify {verdict:?}", opened.map(|(_, recovery)| recovery));
        }
    }
    found
}

/// More users than stand in a shard's section.
fn large_snapshot() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk { segment_bytes: 1 << 20, ..Disk::at(folder.path()) };
    let (engine, _) = Engine::builder().open(disk).unwrap();
    for user in 0..20_000 {
        engine.heal(UserId::new(user)).unwrap();
    }
    engine.snapshot().unwrap();
    let path = files(folder.path(), ".snap")[0].clone();
    (folder, path)
}

fn run(args: &[&str]) -> Output {
    Command::new(process::BINARY).env_clear().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
