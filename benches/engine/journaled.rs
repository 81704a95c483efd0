//! What the journal adds to a heal: the same users in the same order, by an engine that keeps a journal and one that does not.
//!
//! They take turns at every ten thousand users or so, and the median of the differences is taken: nearly all of a heal is waiting for
//! memory, and on a shared machine that takes half as long again from one second to the next. Each heal waits for the one before,
//! and changes something.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat::{Disk, Durability, Engine, ManualClock, UserId};

use crate::crowd::{Crowd, NOON, wait};

const USERS: usize = 1_000_000;
const PASSES: usize = 11;
/// Users in a turn.
const TURN: usize = 1 << 13;

pub fn print() {
    println!(
        "heal of someone online with a journal and without, {USERS} users, medians of {PASSES} passes in turns of {TURN}"
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
    let (mut plain, mut journaled, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PASSES {
        clock.advance(1);
        for (turn, users) in without.order.chunks_exact(TURN).enumerate() {
            let heal_without = || timed(threads, users, |users| heal(&without, users));
            let heal_with = || timed(threads, users, |users| heal(&with, users));
            // Who comes second finds the machine as the first has left it.
            let (without, with) = if turn % 2 == 0 {
                let without = heal_without();
                (without, heal_with())
            } else {
                let with = heal_with();
                (heal_without(), with)
            };
            plain.push(without);
            journaled.push(with);
            more.push(with - without);
        }
    }
    println!(
        "{:<26} {:>6.1} ns {:>6.1} ns {:>6.1} ns",
        format!("{durability}, {threads} thread(s)"),
        median(plain),
        median(journaled),
        median(more)
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

/// In ns a user. With two threads, as much time passes for two.
#[allow(clippy::cast_precision_loss)]
fn timed(threads: usize, users: &[UserId], work: impl Fn(&[UserId]) + Sync) -> f64 {
    let parts: Vec<_> = users.chunks(users.len().div_ceil(threads)).collect();
    let start = Barrier::new(threads);
    let elapsed: Vec<Duration> = thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter()
            .map(|part| {
                scope.spawn(|| {
                    start.wait();
                    let start = Instant::now();
                    work(part);
                    start.elapsed()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a heal does not panic")).collect()
    });
    let elapsed: Duration = elapsed.iter().sum();
    elapsed.as_nanos() as f64 / users.len() as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
