//! How late a mass expiry is noticed, and who feels it: `cargo bench --no-default-features --bench expiry`.
//!
//! A million sessions end in the same second of the real clock, and the sweeper thread closes them while another thread heals
//! other users. The goal: all are closed within a second of becoming due.
#![allow(clippy::print_stdout)] // its output is what a benchmark is for
#![allow(clippy::disallowed_methods)] // it measures our own cost, and that by the real clock

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use heartbeat::{Clock, Engine, SweepFault, Sweeper, SweeperReport, Swept, SystemClock, UnixSeconds, UserId};

const EXPIRING: u32 = 1_000_000;
const HEALING: u32 = 100_000;

fn main() {
    let clock = Arc::new(SystemClock::start());
    let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
    let due = open_in_one_second(&engine, clock.as_ref());
    heal_others(&engine, 0);

    let (done, closed) = channel();
    let report = move |report| match report {
        // Nobody listens any more once all are closed.
        SweeperReport::Swept { swept: Swept { lapsed, .. }, .. } => {
            let _ = done.send((lapsed, Instant::now()));
        }
        SweeperReport::Fault(SweepFault { pause }) => {
            println!("the sweeper panicked and pauses for {pause:?}");
        }
        SweeperReport::ClockStep(_) => {}
    };
    let sweeper = Sweeper::start(Arc::clone(&engine), report).expect("the system has a thread to give");
    let due_at = Instant::now() + clock.until(due);
    let (quiet, meanwhile, closed_at) = heal_until_closed(&engine, due_at, &closed);
    drop(sweeper);

    println!("{EXPIRING} sessions due in one second: all closed {:?} after it began", closed_at - due_at);
    print_latencies("heals in the second before", quiet);
    print_latencies("heals meanwhile", meanwhile);
}

/// Opens the sessions; gives the second in which they are due, after the deadline's.
fn open_in_one_second(engine: &Engine, clock: &SystemClock) -> UnixSeconds {
    // The first time round the map grows, and the second may turn. Healing again brings all deadlines into one second.
    loop {
        let began = clock.now();
        for number in 0..EXPIRING {
            engine.heal(expiring(number)).expect("there is no limit on users");
        }
        if clock.now() == began {
            return began.plus(engine.ttl().as_seconds() + 1);
        }
    }
}

/// Heals the others in turn and takes the time of each heal, until the sweeper has closed all that expire.
fn heal_until_closed(
    engine: &Engine,
    due_at: Instant,
    closed: &Receiver<(u64, Instant)>,
) -> (Vec<Duration>, Vec<Duration>, Instant) {
    let (mut quiet, mut meanwhile, mut lapsed, mut number) = (vec![], vec![], 0, 0);
    loop {
        for _ in 0..100 {
            let began = Instant::now();
            heal_others(engine, number);
            let (before_due, took) = (due_at.saturating_duration_since(began), began.elapsed());
            if before_due.is_zero() {
                meanwhile.push(took);
            } else if before_due < Duration::from_secs(1) {
                quiet.push(took);
            }
            number += 1;
        }
        while let Ok((count, at)) = closed.try_recv() {
            lapsed += count;
            if lapsed >= u64::from(EXPIRING) {
                return (quiet, meanwhile, at);
            }
        }
    }
}

fn heal_others(engine: &Engine, number: u32) {
    engine.heal(UserId::new(-i64::from(number % HEALING) - 1)).expect("there is no limit on users");
}

fn expiring(number: u32) -> UserId {
    UserId::new(i64::from(number))
}

fn print_latencies(name: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at =
        |per_mille: usize| latencies.get(latencies.len() * per_mille / 1_000).copied().unwrap_or_default();
    let max = latencies.last().copied().unwrap_or_default();
    println!(
        "{name:<28} {:>9}, p50 {:?}, p99 {:?}, p99.9 {:?}, max {max:?}",
        latencies.len(),
        at(500),
        at(990),
        at(999)
    );
}
