//! What the sweep owes: everybody is found in time, nobody is filed twice for ever, and no length of time confuses it.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used)] // a test may panic, and so may what it calls

mod common;

use common::{ANA, BO, NOON, engine_at, engine_with, lapsed, live, ttl};
use heartbeat::{Engine, Heal, Leave, Status, Swept, UnixSeconds, UserId};

const DAY: u32 = 24 * 60 * 60;

/// How many entries a sweep met.
fn entries(swept: Swept) -> u64 {
    swept.lapsed + swept.extended + swept.dropped
}

#[test]
fn a_user_who_heals_is_looked_at_once_per_ttl() {
    let (engine, clock) = engine_at(NOON);
    let mut looks = 0;
    for _ in 0..800 {
        engine.heal(ANA).unwrap();
        clock.advance(1);
        looks += entries(engine.sweep());
    }
    // Filed under deadline + 1, which is 8 seconds after the open; found then, the latest heal is a second old, and so the
    // next entry is 7 seconds on.
    assert_eq!(looks, 1 + (800 - 8) / 7);
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 799 + 7)]);
}

#[test]
fn leaving_and_returning_does_not_multiply_entries() {
    let (engine, clock) = engine_at(NOON);
    for _ in 0..1_000 {
        assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
        assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    }
    clock.advance(8);
    assert_eq!(engine.sweep(), Swept { dropped: 1, ..Swept::default() });

    // Also when each return is in a second of its own, with sweeps between.
    let mut looks = 0;
    for _ in 0..700 {
        engine.heal(ANA).unwrap();
        engine.leave(ANA).unwrap();
        clock.advance(1);
        looks += entries(engine.sweep());
    }
    assert!(
        (700 / 8..=700 / 7).contains(&looks),
        "{looks} looks in 700 seconds at a user filed once per ttl"
    );
}

#[test]
fn being_forgotten_and_returning_does_not_multiply_entries_for_ever() {
    let (engine, clock) = engine_at(NOON);
    for _ in 0..1_000 {
        assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
        engine.forget(ANA).unwrap();
    }
    engine.heal(ANA).unwrap();
    clock.advance(7);
    engine.heal(ANA).unwrap();

    // The leftovers are met once, with the valid entry among them.
    clock.advance(1);
    assert_eq!(engine.sweep(), Swept { extended: 1, dropped: 1_000, lapsed: 0 });
    clock.advance(7);
    assert_eq!(engine.sweep(), Swept { lapsed: 1, ..Swept::default() });
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 14)]);
}

#[test]
fn a_leftover_of_a_forgotten_user_ends_nobodys_session() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    engine.forget(ANA).unwrap();
    clock.advance(3);
    engine.heal(ANA).unwrap();

    clock.advance(5);
    assert_eq!(engine.sweep(), Swept { dropped: 1, ..Swept::default() });
    assert_eq!(engine.status(ANA), Status::Online);

    clock.advance(3);
    assert_eq!(engine.sweep(), Swept { lapsed: 1, ..Swept::default() });
}

#[test]
fn a_session_longer_than_the_ring_is_looked_at_again_and_closed_in_its_second() {
    let (engine, clock) = engine_with(NOON, |builder| builder.ttl(ttl(DAY)));
    engine.heal(ANA).unwrap();
    let mut looks = 0;
    for _ in 0..DAY {
        clock.advance(1);
        looks += entries(engine.sweep());
    }
    assert_eq!(looks, 21, "once in each 4,095 seconds");
    assert_eq!(engine.figures().online, 1);

    clock.advance(1);
    assert_eq!(engine.sweep(), Swept { lapsed: 1, ..Swept::default() });
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + DAY)]);
}

#[test]
fn a_pause_of_any_length_between_sweeps_loses_nobody() {
    for seconds in [1, 7] {
        for pause in [8, 15, 16, 17, 100, 4_095, 4_096, 4_097, DAY, 365 * DAY] {
            let (engine, clock) = engine_with(NOON, |builder| builder.ttl(ttl(seconds)));
            for second in 0..20 {
                engine.heal(UserId::new(second)).unwrap();
                clock.advance(1);
            }
            clock.advance(pause);
            engine.heal(BO).unwrap();

            engine.sweep();
            assert_eq!(engine.figures().online, 1, "ttl {seconds}, pause {pause}");
            assert_eq!(engine.timeline(UserId::new(0)), [lapsed(NOON, NOON + seconds)]);

            clock.advance(seconds + 1);
            assert_eq!((engine.sweep().lapsed, engine.figures().online), (1, 0));
        }
    }
}

#[test]
fn a_day_long_ttl_survives_a_pause_of_many_rings() {
    let (engine, clock) = engine_with(NOON, |builder| builder.ttl(ttl(DAY)));
    engine.heal(ANA).unwrap();
    clock.advance(DAY - 10);
    engine.heal(BO).unwrap();

    clock.advance(11);
    engine.sweep();
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + DAY)]);
    assert_eq!((engine.status(BO), engine.figures().online), (Status::Online, 1));

    clock.advance(10 * DAY);
    engine.sweep();
    assert_eq!(engine.figures().online, 0);
}

/// Everything that can be asked or done, in the last seconds there are.
fn use_everything(engine: &Engine) {
    for user in [ANA, BO] {
        engine.heal(user).unwrap();
        engine.sweep();
        engine.status(user);
        engine.timeline(user);
        engine.profile(user);
    }
    engine.leave(ANA).unwrap();
    engine.heal(ANA).unwrap();
    engine.forget(BO).unwrap();
    engine.heal(BO).unwrap();
    engine.sweep();
}

/// The sweep used to file a session that is due in the last second again and again, for ever.
#[test]
fn the_end_of_time_is_reached_without_a_panic() {
    for (seconds, grace) in [(7, 0), (1, 3), (DAY, u32::MAX)] {
        let (engine, clock) =
            engine_with(u32::MAX - 20, |builder| builder.ttl(ttl(seconds)).grace_seconds(grace));
        for _ in 0..20 {
            use_everything(&engine);
            clock.advance(1);
        }
        assert_eq!(engine.now(), UnixSeconds::MAX);
        use_everything(&engine);
    }
}

#[test]
fn a_clock_stops_at_the_end_of_time() {
    let (engine, clock) = engine_at(u32::MAX - 1);
    clock.advance(100);
    assert_eq!(engine.now(), UnixSeconds::MAX);
}
