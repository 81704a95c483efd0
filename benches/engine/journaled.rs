//! What the journal adds to a heal: the same users in the same order, by an engine that keeps a journal and one that does not.
//!
//! They take turns, pass by pass, and the medians are compared. Each heal waits for the one before, and changes something.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat::{Disk, Durability, Engine, ManualClock, UserId};

use crate::crowd::{Crowd, NOON, wait};

const USERS: usize = 1_000_000;
const PASSES: usize = 11;

pub fn print() {
    println!(
        "heal of someone online with a journal and without, {USERS} users, median of {PASSES} passes each"
    );
    println!("{:<26} {:>9} {:>9} {:>9}", "", "without", "with", "more");
    for durability in [Durability::Interval, Durability::Process] {
        for threads in [1, 2] {
            compare(durability, threads);
        }
    }
    println!();
}

fn compare(durability: Durability, threads: usize) {
    let folder = tempfile::tempdir_in(".").expect("a folder beside the sources can be made");
    let clock = Arc::new(ManualClock::at(NOON));
    let disk = Disk { durability, ..Disk::at(folder.path()) };
    let (with, _) = Engine::builder().clock(clock.clone()).open(disk).expect("an empty folder can be opened");
    let with = Crowd::of(with, USERS);
    let without = Crowd::of(Engine::builder().clock(clock.clone()).build(), USERS);
    let (mut plain, mut journaled) = (Vec::new(), Vec::new());
    for _ in 0..PASSES {
        clock.advance(1);
        plain.push(timed(threads, &without.order, |users| heal(&without, users)));
        journaled.push(timed(threads, &with.order, |users| heal(&with, users)));
    }
    let (plain, journaled) = (median(plain), median(journaled));
    println!(
        "{:<26} {plain:>6.1} ns {journaled:>6.1} ns {:>6.1} ns",
        format!("{durability}, {threads} thread(s)"),
        journaled - plain
    );
}

/// A heal is refused when the next segment is not ready: then it is tried again, as a client would.
fn heal(crowd: &Crowd, users: &[UserId]) {
    let mut at = 0;
    while let Some(&user) = users.get(at) {
        match crowd.engine.heal(user) {
            Ok(_) => at += 1,
            Err(_) => thread::yield_now(),
        }
        wait();
    }
}

/// In ns for each user of a thread: with two threads, as much time passes for two.
fn timed(threads: usize, users: &[UserId], work: impl Fn(&[UserId]) + Sync) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for part in users.chunks(users.len().div_ceil(threads)) {
            scope.spawn(|| work(part));
        }
    });
    start.elapsed() * u32::try_from(threads).expect("threads are few")
}

#[allow(clippy::cast_precision_loss)]
fn median(mut passes: Vec<Duration>) -> f64 {
    passes.sort_unstable();
    passes[passes.len() / 2].as_nanos() as f64 / USERS as f64
}
