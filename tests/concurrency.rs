//! Whatever threads do to the same users at the same time, it is as if they had done it one after the other.
//!
//! Only with `RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle cargo test --no-default-features --test concurrency`:
//! [shuttle](https://docs.rs/shuttle) runs the threads one at a time and tries thousands of interleavings. Every atomic, lock
//! and queue of the engine, and the clock, is a place where it may change threads.
//!
//! After each, the calls and their answers must have an order that the reference explains, and second by second from there
//! on, with a sweep in each, the engine's counts and timelines must be the reference's. So no two sessions overlap, no
//! acknowledged heal is lost, everybody who is online has an entry and it is found in time, and the counts agree with
//! the timelines. Besides, no sweep meets more valid entries than there are users.
//!
//! Seen to be caught, each planted alone:
//!
//! - in a heal that opens, and in a leave, the clock read before the guard; in a heal that opens, no second decision;
//! - in extending, a swap for the maximum; an answer that does not look at what was there;
//! - in filing an entry, no second look at the sweep's position; a second that the sweep has passed allowed;
//! - in the sweep, the position stored after the bucket is emptied; entries taken for valid wherever they are; sessions closed
//!   without a look at when they are due; an entry that was dropped still held for valid; two sweeps at once;
//! - the limit on users looked at and the user counted in two steps.
//!
//! Not to be seen here, because nothing comes of them but entries too many or a count's name: the clock read before the
//! shared guard, or before a forget's; filing again although there is an entry. `sweep.rs` counts entries.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)] // a test may panic, and so may what it calls

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::call::{Call, Made, is_explained};
use common::reference::Reference;
use common::{ANA, BO, NOON, engine_with, ttl};
use heartbeat::{Engine, Figures, ManualClock, Session};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use Call::{Forget, Heal, Leave, Pass, Sweep};

const TTL: u32 = 2;
/// Of each script with each scheduler.
const ITERATIONS: usize = 1_000;

#[derive(Debug, Clone)]
struct Script {
    grace: u32,
    users_max: u64,
    before: Vec<Call>,
    threads: Vec<Vec<Call>>,
}

/// What the engine says in one second, after a sweep.
type Said = (Figures, Vec<Session>, Vec<Session>);

fn perform(script: &Script) {
    let settings = |builder: heartbeat::Builder| {
        builder.ttl(ttl(TTL)).grace_seconds(script.grace).users_max(script.users_max)
    };
    let (engine, clock) = engine_with(NOON, settings);
    let engine = Arc::new(engine);
    let mut start = Reference::new(NOON, TTL, script.grace, script.users_max);
    for call in &script.before {
        assert_eq!(call.on_engine(&engine, &clock), call.on_reference(&mut start));
    }

    let made = call_at_once(script, &engine, &clock);
    // So that each of the sweeps below is of one second.
    engine.sweep();
    let said: Vec<Said> = (0..TTL + script.grace + 3).map(|_| next_second(&engine, &clock)).collect();
    let is_end = |end: &Reference| {
        let mut end = end.clone();
        said.iter().all(|said| {
            end.pass(1);
            *said == (end.figures(), end.timeline(ANA), end.timeline(BO))
        })
    };
    assert!(is_explained(&made, &start, is_end), "no order explains {made:#?}\nand then {said:#?}");
    assert_eq!(engine.figures().online, 0, "whoever does not heal is found in time");
}

fn call_at_once(script: &Script, engine: &Arc<Engine>, clock: &Arc<ManualClock>) -> Vec<Made> {
    // Not one of the checker's: counting is no place to change threads.
    let ticks = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = script
        .threads
        .iter()
        .map(|calls| {
            let (calls, engine, clock, ticks) =
                (calls.clone(), Arc::clone(engine), Arc::clone(clock), Arc::clone(&ticks));
            thread::spawn(move || {
                let tick = || ticks.fetch_add(1, Ordering::SeqCst);
                let call = |call: Call| {
                    let began = tick();
                    let answer = call.on_engine(&engine, &clock);
                    Made { call, answer, began, ended: tick() }
                };
                calls.into_iter().map(call).collect::<Vec<_>>()
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn next_second(engine: &Engine, clock: &ManualClock) -> Said {
    clock.advance(1);
    let users_online = engine.figures().online;
    let swept = engine.sweep();
    assert!(swept.lapsed + swept.extended <= users_online, "{swept:?} of {users_online} users online");
    (engine.figures(), engine.timeline(ANA), engine.timeline(BO))
}

fn check(script: impl Fn() -> Script + Send + Sync + 'static) {
    let script = Arc::new(script);
    for scheduler in [
        Box::new(RandomScheduler::new(ITERATIONS)) as Box<dyn Scheduler + Send>,
        Box::new(PctScheduler::new(3, ITERATIONS)),
    ] {
        let script = Arc::clone(&script);
        Runner::new(scheduler, Config::new()).run(move || perform(&script()));
    }
}

fn script(before: &[Call], threads: &[&[Call]]) -> Script {
    Script {
        grace: 0,
        users_max: u64::MAX,
        before: before.to_vec(),
        threads: threads.iter().map(|calls| calls.to_vec()).collect(),
    }
}

#[test]
fn heals_of_one_user_as_the_seconds_go_by() {
    check(|| script(&[Heal(ANA), Pass(1)], &[&[Heal(ANA)], &[Heal(ANA)], &[Heal(ANA)], &[Pass(1), Pass(1)]]));
}

#[test]
fn the_first_heals_of_a_user() {
    check(|| script(&[], &[&[Heal(ANA), Heal(ANA)], &[Heal(ANA)], &[Sweep], &[Pass(1), Pass(3)]]));
}

#[test]
fn heals_against_the_sweep_that_ends_the_session() {
    check(|| {
        script(
            &[Heal(ANA), Pass(2)],
            &[&[Heal(ANA), Heal(ANA)], &[Heal(ANA)], &[Sweep, Sweep], &[Pass(1), Pass(3)]],
        )
    });
}

/// Opening files an entry; a sweep that overtakes it would never find it in time.
#[test]
fn an_open_that_stalls_while_the_sweep_goes_by() {
    check(|| script(&[], &[&[Heal(ANA)], &[Heal(BO)], &[Pass(3), Sweep, Pass(1), Sweep]]));
}

#[test]
fn heals_against_leaves() {
    check(|| {
        script(
            &[Heal(ANA)],
            &[&[Heal(ANA), Heal(ANA)], &[Leave(ANA), Leave(ANA)], &[Pass(1), Pass(2)], &[Sweep]],
        )
    });
}

#[test]
fn heals_against_forgets() {
    check(|| {
        script(
            &[Heal(ANA)],
            &[&[Heal(ANA), Heal(ANA)], &[Forget(ANA), Heal(ANA)], &[Pass(1), Pass(2)], &[Sweep, Sweep]],
        )
    });
}

/// Time stands still in this one: what time it is and whether there is room for another user are not read at once, and when
/// both change the answer may be of a moment that never was. Too many are never let in.
#[test]
fn no_more_users_than_may_be() {
    check(|| Script {
        users_max: 1,
        ..script(&[Heal(ANA)], &[&[Forget(ANA), Heal(ANA)], &[Heal(BO)], &[Heal(BO), Forget(BO)], &[Sweep]])
    });
}

#[test]
fn two_sweeps_at_once() {
    check(|| {
        script(
            &[Heal(ANA), Heal(BO), Pass(1)],
            &[&[Sweep, Sweep], &[Sweep], &[Heal(ANA)], &[Pass(2), Pass(2)]],
        )
    });
}

#[test]
fn anything_against_anything() {
    check(|| {
        let mut random = thread_rng();
        let mut call = || match random.gen_range(0..16) {
            0..6 => Heal(ANA),
            6..8 => Heal(BO),
            8..10 => Leave(ANA),
            10 => Forget(ANA),
            11..13 => Sweep,
            seconds => Pass(seconds - 12),
        };
        let mut calls = |count| (0..count).map(|_| call()).collect::<Vec<_>>();
        let before = calls(3);
        let threads = vec![calls(3), calls(3), calls(2), calls(2)];
        let grace = thread_rng().gen_range(0..2);
        Script { grace, users_max: u64::MAX, before, threads }
    });
}
