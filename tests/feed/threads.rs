//! Threads that let users come and go while others begin to follow them.
//!
//! Seen to be caught: a snapshot without what has happened while it was taken. A count that is read while transitions are under
//! way hardly ever shows here; `engine::events` has a test of its own for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heartbeat::{Engine, ManualClock, Ttl, UserId};
use serde_json::json;

use crate::source::Source;
use crate::wire::Service;
use crate::{Dice, watch};

/// Threads that let users come and go, until told to stop.
fn come_and_go(engine: &Engine, clock: &ManualClock, seed: u64, is_over: &AtomicBool) {
    let mut dice = Dice(seed);
    while !is_over.load(Ordering::Relaxed) {
        let user = UserId::new(i64::try_from(dice.roll(20)).unwrap());
        match dice.roll(100) {
            0..60 => drop(engine.heal(user).unwrap()),
            60..85 => drop(engine.leave(user).unwrap()),
            85..95 => drop(engine.forget(user).unwrap()),
            95..99 => drop(engine.sweep()),
            _ => clock.advance(1),
        }
        // So that watchers keep up with an unoptimized build.
        std::thread::park_timeout(Duration::from_micros(50));
    }
}

/// In whatever second a snapshot is taken, what comes after it goes on from there: online and offline take turns, and at the
/// end everybody is what the engine says.
#[test]
fn snapshots_and_events_fit_together_while_users_come_and_go() {
    let ttl = Ttl::from_seconds(1).unwrap();
    let service = Service::start_with(|engine| engine.ttl(ttl).events_held(1 << 20), |_| {});
    let mut all = watch(&service, "/v1/watch");
    all.expect_snapshot(json!({"online": 0}));
    let is_over = AtomicBool::new(false);
    let address = service.address();
    std::thread::scope(|scope| {
        let threads = [1, 2].map(|seed| {
            let (engine, clock, is_over) = (&service.engine, &service.clock, &is_over);
            scope.spawn(move || come_and_go(engine, clock, seed, is_over))
        });
        let ids: Vec<_> = (0..20).map(|id: i64| id.to_string()).collect();
        let target = format!("/v1/watch?ids={}", ids.join(","));
        let mut sources = Vec::new();
        for _ in 0..20 {
            let mut source = Source::open(address, &target, None);
            let mut states = HashMap::new();
            for user in source.next().unwrap().data["users"].as_array().unwrap() {
                states.insert(user["id"].as_i64().unwrap(), user["status"].as_str().unwrap().to_owned());
            }
            let mut online = Source::open(address, "/v1/watch", None);
            let count = online.next().unwrap();
            sources.push((source, states, online, count.data["online"].as_i64().unwrap()));
        }
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        let last = UserId::new(-1);
        service.engine.heal(last).unwrap();
        for (mut source, states, mut online, count) in sources {
            // The last event of all is that of a user who is not asked for: so this one goes on until it is there.
            let states = to_the_end(&mut source, states, &service.engine);
            assert!(states.len() == 20);
            let end = count + balance(&mut online);
            assert_eq!(end, i64::try_from(service.engine.figures().online).unwrap());
        }
    });
    let figures = service.engine.figures();
    let mut counts = HashMap::new();
    loop {
        let message = all.next().unwrap();
        let what = message.data["reason"].as_str().unwrap_or("online").to_owned();
        *counts.entry(what).or_insert(0) += 1;
        if message.data["id"] == -1 {
            break;
        }
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(
        (count("online"), count("lapsed"), count("left"), count("forgotten")),
        (figures.opened, figures.lapsed, figures.left, figures.forgotten)
    );
}

/// Follows users until each is what the engine says, and no event is left.
fn to_the_end(
    source: &mut Source,
    mut states: HashMap<i64, String>,
    engine: &Engine,
) -> HashMap<i64, String> {
    let is_at_end = |states: &HashMap<i64, String>, source: &Source| {
        source.text.is_empty()
            && states.iter().all(|(id, status)| engine.announced(UserId::new(*id)).as_str() == status)
    };
    // Nobody changes any more. If an event is missing, this waits in vain; if there is one too many, turns are not taken.
    while !is_at_end(&states, source) {
        let message = source.next().unwrap();
        let before = states.insert(message.data["id"].as_i64().unwrap(), message.event.clone()).unwrap();
        assert_ne!(before, message.event, "{message:?}");
    }
    states
}

/// By how much the events up to the last one change the count of those online.
fn balance(source: &mut Source) -> i64 {
    let mut balance = 0;
    loop {
        let message = source.next().unwrap();
        balance += if message.event == "online" { 1 } else { -1 };
        if message.data["id"] == -1 {
            return balance;
        }
    }
}
