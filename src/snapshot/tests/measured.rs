//! What writing and reading cost.

#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // a measurement of our own cost

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

const SHARDS: u32 = 1_024;
const USERS: i64 = 10_000_000;
const SESSIONS: u64 = 5;

/// `cargo test --release --no-default-features --lib measured -- --ignored --nocapture`
///
/// The first two lines are our own work. What the third has more is the kernel's, which finds memory for the file: on one
/// machine that was anything from 10 to 150 ns a user.
#[test]
#[ignore = "long: writes and reads ten million users, and measures it"]
fn ten_million_users_with_five_sessions_each() {
    let (folder, directory) = open_directory();
    let temporary = folder.path().join("snapshot-0000000003.snap.tmp");
    std::os::unix::fs::symlink("/dev/null", temporary).unwrap();
    let mut writer = Writer::create(&directory, HEADER).unwrap();
    let (copying, encoding) = write_everyone(&mut writer);
    drop(writer);
    let mut writer = Writer::create(&directory, HEADER).unwrap();
    let (_, writing) = write_everyone(&mut writer);
    let start = Instant::now();
    let written = writer.finish(second(1), &[]).unwrap();
    let finishing = seconds_since(start);

    println!("{} bytes, {:.2} a user", written.bytes, written.bytes as f64 / USERS as f64);
    tell("copy", copying, written.bytes);
    tell("encode and sum", encoding, written.bytes);
    tell("encode, sum and write", writing, written.bytes);
    tell("fsync and rename", finishing, written.bytes);
    tell("read and verify", read_everyone(&written.path, 1), written.bytes);
    tell("the same in two threads", read_everyone(&written.path, 2), written.bytes);
}

/// The seconds that copying took, and writing.
fn write_everyone(writer: &mut Writer<'_>) -> (f64, f64) {
    let closed: Vec<u64> = (0..SESSIONS).map(|session| lapsed(NOON + 100 * session, 60)).collect();
    let mut copied = Copied::default();
    let (mut copying, mut writing) = (0.0, 0.0);
    for shard in 0..SHARDS {
        copied.clear();
        let start = Instant::now();
        for user in (i64::from(shard)..USERS).step_by(SHARDS as usize) {
            copied.push(UserId::new(user), live(NOON + 600, NOON + 607), closed.iter().copied());
        }
        copying += seconds_since(start);
        let start = Instant::now();
        writer.write_shard(shard, &copied).unwrap();
        writing += seconds_since(start);
    }
    (copying, writing)
}

fn read_everyone(path: &Path, threads: usize) -> f64 {
    let start = Instant::now();
    let snapshot = Snapshot::open(path).unwrap();
    let (next, sessions) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let read = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= snapshot.sections().len() {
                return;
            }
            let mut seen = 0;
            snapshot.read_section(index, |_, _, closed| seen += closed.len()).unwrap();
            sessions.fetch_add(seen, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(read);
        }
    });
    assert_eq!(sessions.into_inner(), 50_000_000);
    seconds_since(start)
}

fn seconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

fn tell(what: &str, seconds: f64, bytes: u64) {
    let (nanoseconds, megabytes) = (seconds * 1e9 / USERS as f64, bytes as f64 / seconds / 1e6);
    println!("{what:24} {nanoseconds:6.1} ns a user {megabytes:6.0} MB/s");
}
