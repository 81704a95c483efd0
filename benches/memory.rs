//! What a user costs in memory: `cargo bench --no-default-features --bench memory`.
//!
//! Half of the users are online and each has five closed sessions, which lapsed in the ordinary way, second by second. Each
//! row is a process of its own, which prints its resident bytes. The goal is at most 72 bytes a user beside 12 a closed
//! session; right after the map has doubled it is at its emptiest, and costs most.
#![allow(clippy::print_stdout)] // its output is what a benchmark is for

use std::process::Command;
use std::sync::Arc;

use heartbeat::{Engine, ManualClock, UnixSeconds, UserId};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLOSED_EACH: u32 = 5;
/// A round lasts 16 seconds, in each of which a sixteenth of the users heals: with a ttl of 7 everybody lapses in between.
const ROUND: u64 = 16;

fn main() {
    let argument = std::env::args().nth(1).and_then(|users| users.parse().ok());
    if let Some(users) = argument {
        print_row(users);
        return;
    }
    println!(
        "{:>12} {:>14} {:>12} {:>34}",
        "users", "resident", "a user", "a user, less 12 a closed session"
    );
    let itself = std::env::current_exe().expect("a running program has a path");
    // 1,024 shards double beyond 7/8 of 16,384 users each: 14.7 million, give or take what chance does to a shard.
    for users in [1_000_000_u64, 10_000_000, 14_200_000, 15_200_000] {
        let status = Command::new(&itself).arg(users.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "a row could not be measured");
    }
}

#[allow(clippy::cast_precision_loss)] // one decimal is shown
fn print_row(users: u64) {
    let before = resident();
    let engine = crowd(users);
    let resident = resident() - before;

    let figures = engine.figures();
    assert_eq!((figures.users, figures.online), (users, users / 2));
    let closed = figures.sessions - figures.online;
    let (each, less) =
        (resident as f64 / users as f64, (resident as f64 - 12.0 * closed as f64) / users as f64);
    println!("{users:>12} {resident:>14} {each:>12.1} {less:>34.1}");
}

fn crowd(users: u64) -> Engine {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
    let engine = Engine::builder().clock(clock.clone()).build();
    let heal = |users: std::ops::Range<u64>| {
        for number in users {
            engine.heal(user(number)).expect("there is no limit on users");
        }
    };
    for _ in 0..CLOSED_EACH {
        for part in 0..ROUND {
            heal(users * part / ROUND..users * (part + 1) / ROUND);
            clock.advance(1);
            engine.sweep();
        }
    }
    clock.advance(8);
    engine.sweep();
    for part in 0..4 {
        heal(users / 2 * part / 4..users / 2 * (part + 1) / 4);
        clock.advance(1);
        engine.sweep();
    }
    // Ordinary service for a while, in which the allocator gives back what nobody uses any more.
    for _ in 0..10 {
        heal(0..users / 2);
        clock.advance(1);
        engine.sweep();
    }
    engine
}

/// Random ids, the same for the same number (the finish of splitmix64, which is one to one).
fn user(number: u64) -> UserId {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    UserId::new((z ^ (z >> 31)).cast_signed())
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("its second number is the resident pages") * 4_096
}
