//! Real threads on the true map: what each of them did and was told is in the timelines afterwards.
//!
//! `concurrency.rs` tries the interleavings of a few calls one by one; here there are many calls, and the processor chooses.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used)] // a test may panic, and so may what it calls

mod common;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{NOON, engine_with, ttl};
use heartbeat::{Clock, End, Engine, Heal, Leave, ManualClock, Session, UnixSeconds, UserId};

const TTL: u32 = 3;
const GRACE: u32 = 1;
const USERS: i64 = 16;
const THREADS: u64 = 3;
/// How often the time moves on, and how many calls there are in between at least.
const TICKS: u64 = 5_000;
const CALLS_PER_TICK: u64 = 60;

/// A call that changed or confirmed something, and the seconds between which it was made.
#[derive(Debug, Clone)]
struct Done {
    user: UserId,
    what: What,
    at: RangeInclusive<UnixSeconds>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Opened,
    /// A heal of a session that was there.
    Healed,
    Left,
}

#[test]
fn what_was_acknowledged_is_in_the_timelines() {
    let (engine, clock) = engine_with(NOON, |builder| builder.ttl(ttl(TTL)).grace_seconds(GRACE));
    let (calls, is_over) = (AtomicU64::new(0), AtomicBool::new(false));

    let (engine, clock, calls, is_over) = (&engine, &*clock, &calls, &is_over);
    let done: Vec<Done> = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|seed| scope.spawn(move || write(seed + 1, engine, clock, calls, is_over)))
            .collect();
        for tick in 1..=TICKS {
            while calls.load(Ordering::Relaxed) < tick * CALLS_PER_TICK {
                thread::yield_now();
            }
            // Mostly a second; sometimes so long that everybody has gone, and sometimes without a sweep.
            clock.advance(if tick % 50 == 0 { TTL + GRACE + 1 } else { 1 });
            if tick % 3 != 0 {
                engine.sweep();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });

    clock.advance(TTL + GRACE + 1);
    engine.sweep();
    for number in 0..USERS {
        let user = UserId::new(number);
        let done: Vec<_> = done.iter().filter(|done| done.user == user).collect();
        check_timeline(&engine.timeline(user), &done);
    }
    check_counts(engine, &done);
}

fn write(
    seed: u64,
    engine: &Engine,
    clock: &ManualClock,
    calls: &AtomicU64,
    is_over: &AtomicBool,
) -> Vec<Done> {
    let (mut random, mut done) = (seed, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        // Marsaglia's xorshift, good enough to choose who and what.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let user = UserId::new((random >> 20).cast_signed() % USERS);
        let from = clock.now();
        let what = if random.is_multiple_of(32) {
            (engine.leave(user) == Ok(Leave::Left)).then_some(What::Left)
        } else {
            Some(if engine.heal(user) == Ok(Heal::Opened) { What::Opened } else { What::Healed })
        };
        let at = from..=clock.now();
        done.extend(what.map(|what| Done { user, what, at }));
        calls.fetch_add(1, Ordering::Relaxed);
    }
    done
}

fn check_timeline(timeline: &[Session], done: &[&Done]) {
    let during = |what: What, second: UnixSeconds| {
        done.iter().any(|done| done.what == what && done.at.contains(&second))
    };
    for pair in timeline.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let apart = if before.end == End::Lapsed { GRACE + 1 } else { 1 };
        assert!(before.offline_at.plus(apart) <= after.online_at, "{before:?} and then {after:?}");
    }
    for session in timeline {
        assert!(during(What::Opened, session.online_at), "nobody opened {session:?}");
        let last_heal = session.offline_at.minus(TTL);
        match session.end {
            End::Live => panic!("{session:?} is over"),
            End::Left => assert!(
                // Within the grace a leave ends the session at its deadline, and comes later than that.
                (0..=GRACE).any(|late| during(What::Left, session.offline_at.plus(late))),
                "nobody left {session:?}"
            ),
            End::Lapsed => assert!(
                during(What::Opened, last_heal) || during(What::Healed, last_heal),
                "nobody healed last in {session:?}"
            ),
        }
    }
    for heal in done.iter().filter(|done| done.what != What::Left) {
        assert!(is_covered(heal, timeline, done), "{heal:?} is in no session");
    }
}

/// Whether a session lasts from a heal until a ttl later, or until a leave cut it short.
fn is_covered(heal: &Done, timeline: &[Session], done: &[&Done]) -> bool {
    let (earliest, latest) = (*heal.at.start(), *heal.at.end());
    let candidates = timeline.partition_point(|session| session.offline_at < earliest);
    let mut sessions = timeline[candidates..].iter().take_while(|session| session.online_at <= latest);
    let lasts = |session: &Session| session.end == End::Left || session.offline_at >= earliest.plus(TTL);
    // A session that was left in the second of its heal is not shown.
    let is_left_at_once = || {
        done.iter().any(|other| {
            other.what == What::Left && *other.at.start() <= latest && *other.at.end() >= earliest
        })
    };
    sessions.any(lasts) || is_left_at_once()
}

fn check_counts(engine: &Engine, done: &[Done]) {
    let count = |what: What| done.iter().filter(|done| done.what == what).count() as u64;
    let (opened, left, healed) = (count(What::Opened), count(What::Left), count(What::Healed));
    assert!(opened > 100 && left > 100 && healed > 10_000, "too little happened: {opened}, {left}, {healed}");

    let figures = engine.figures();
    assert_eq!((figures.opened, figures.left), (opened, left));
    assert_eq!((figures.online, figures.forgotten), (0, 0));
    assert_eq!(figures.lapsed + figures.left, figures.opened, "what was opened ended once");
    let shown: usize = (0..USERS).map(|number| engine.timeline(UserId::new(number)).len()).sum();
    assert!(figures.sessions >= shown as u64 && figures.sessions <= opened);
    assert_eq!(figures.users, 16);
}
