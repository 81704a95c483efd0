//! The rules at their edges, one sentence each, with every number written out.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads

mod common;

use common::{ANA, BO, NOON, engine_at, engine_with, lapsed, left, live, ttl};
use heartbeat::{Heal, Leave, Status, Swept, UnixSeconds, WriteError};

#[test]
fn in_the_second_of_the_deadline_a_user_reads_as_offline_and_a_heal_still_extends() {
    let (engine, clock) = engine_at(NOON);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    clock.advance(6);
    assert_eq!(engine.status(ANA), Status::Online);

    clock.advance(1);
    assert_eq!(engine.status(ANA), Status::Offline);
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 7)]);

    assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
    assert_eq!(engine.status(ANA), Status::Online);
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 14)]);
}

#[test]
fn a_second_after_the_deadline_a_heal_opens_another_session() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    clock.advance(8);
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)]);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7), live(NOON + 8, NOON + 15)]);
}

#[test]
fn a_second_heal_in_one_second_changes_nothing() {
    let (engine, _clock) = engine_at(NOON);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.heal(ANA), Ok(Heal::Unchanged));
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 7)]);
}

#[test]
fn within_the_grace_a_user_is_offline_and_a_heal_continues_the_session() {
    let (engine, clock) = engine_with(NOON, |builder| builder.grace_seconds(3));
    engine.heal(ANA).unwrap();

    clock.advance(10);
    assert_eq!(engine.status(ANA), Status::Offline);
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 7)]);
    assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 17)]);

    clock.advance(11);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 17), live(NOON + 21, NOON + 28)]);
}

#[test]
fn a_session_is_closed_one_second_after_the_grace_and_ends_at_its_deadline() {
    let (engine, clock) = engine_with(NOON, |builder| builder.grace_seconds(3));
    engine.heal(ANA).unwrap();

    clock.advance(10);
    assert_eq!(engine.sweep(), Swept::default());
    assert_eq!(engine.figures().online, 1);

    clock.advance(1);
    assert_eq!(engine.sweep(), Swept { lapsed: 1, ..Swept::default() });
    assert_eq!(engine.figures().online, 0);
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)]);
}

#[test]
fn a_late_sweep_does_not_lengthen_a_session() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    clock.advance(10 * 60);
    engine.sweep();

    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)]);
    assert_eq!(engine.figures().at, UnixSeconds::new(NOON + 600));
}

#[test]
fn a_leave_ends_the_session_now_and_the_next_second_opens_another() {
    let (engine, clock) = engine_with(NOON, |builder| builder.grace_seconds(5));
    engine.heal(ANA).unwrap();

    clock.advance(3);
    assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    assert_eq!(engine.leave(ANA), Ok(Leave::NotLive));
    assert_eq!(engine.status(ANA), Status::Offline);
    assert_eq!(engine.figures().online, 0);

    clock.advance(1);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 3), live(NOON + 4, NOON + 11)]);
}

#[test]
fn a_heal_in_the_second_of_a_leave_reopens_the_session() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    clock.advance(3);
    engine.leave(ANA).unwrap();
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));

    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 10)]);
    assert_eq!((engine.figures().sessions, engine.figures().opened, engine.figures().online), (1, 2, 1));
}

#[test]
fn a_leave_in_the_second_of_the_deadline_is_a_leave() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    clock.advance(7);
    assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 7)]);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 14)]);
}

#[test]
fn a_leave_within_the_grace_ends_at_the_deadline_and_grace_never_applies_after_it() {
    let (engine, clock) = engine_with(NOON, |builder| builder.grace_seconds(5));
    engine.heal(ANA).unwrap();

    clock.advance(9);
    assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 7)]);

    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 7), live(NOON + 9, NOON + 16)]);
}

#[test]
fn a_leave_finds_a_session_that_is_over_whether_swept_or_not() {
    for is_swept in [true, false] {
        let (engine, clock) = engine_at(NOON);
        engine.heal(ANA).unwrap();
        clock.advance(8);
        if is_swept {
            engine.sweep();
        }

        assert_eq!(engine.leave(ANA), Ok(Leave::NotLive));
        assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)]);
        assert_eq!((engine.figures().lapsed, engine.figures().left, engine.figures().online), (1, 0, 0));
    }
}

/// Forgetting somebody whose session was over used to count as the end of a live one if the sweep was late.
#[test]
fn a_forget_finds_a_session_that_is_over_whether_swept_or_not() {
    for is_swept in [true, false] {
        let (engine, clock) = engine_at(NOON);
        engine.heal(ANA).unwrap();
        clock.advance(8);
        if is_swept {
            engine.sweep();
        }

        assert_eq!(engine.forget(ANA), Ok(1));
        let figures = engine.figures();
        assert_eq!((figures.lapsed, figures.forgotten, figures.online, figures.users), (1, 0, 0, 0));
    }
}

#[test]
fn a_session_of_no_length_is_kept_and_never_shown() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    engine.leave(ANA).unwrap();

    assert_eq!(engine.timeline(ANA), []);
    let profile = engine.profile(ANA).unwrap();
    assert_eq!((profile.latest, profile.sessions, profile.online_seconds), (None, 0, 0));
    assert_eq!(profile.last_seen, UnixSeconds::new(NOON));
    assert_eq!(engine.figures().sessions, 1);

    clock.advance(2);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [live(NOON + 2, NOON + 9)]);
    assert_eq!(engine.figures().sessions, 2);
    assert_eq!(engine.forget(ANA), Ok(1));
}

#[test]
fn a_heal_in_the_second_of_a_session_of_no_length_reopens_it() {
    let (engine, _clock) = engine_at(NOON);
    for _ in 0..3 {
        assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
        assert_eq!(engine.leave(ANA), Ok(Leave::Left));
    }
    engine.heal(ANA).unwrap();
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 7)]);
    assert_eq!((engine.figures().sessions, engine.figures().flaps), (1, 0));
}

#[test]
fn an_empty_session_is_last_seen_in_its_second_and_leaves_the_one_before_the_latest() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    clock.advance(10);
    engine.heal(ANA).unwrap();
    engine.leave(ANA).unwrap();

    clock.advance(5);
    let profile = engine.profile(ANA).unwrap();
    assert_eq!(profile.latest, Some(lapsed(NOON, NOON + 7)));
    assert_eq!(profile.last_seen, UnixSeconds::new(NOON + 10));
}

#[test]
fn a_forgotten_user_comes_back_as_a_new_one() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    clock.advance(8);
    engine.heal(ANA).unwrap();

    assert_eq!(engine.forget(ANA), Ok(2));
    assert_eq!(engine.forget(ANA), Ok(0));
    assert_eq!((engine.profile(ANA), engine.timeline(ANA)), (None, vec![]));

    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [live(NOON + 8, NOON + 15)]);
    clock.advance(8);
    engine.sweep();
    assert_eq!((engine.figures().online, engine.figures().users), (0, 1));
}

#[test]
fn a_user_too_many_is_refused_and_leaves_no_trace() {
    let (engine, _clock) = engine_with(NOON, |builder| builder.users_max(1).ttl(ttl(1)));
    engine.heal(ANA).unwrap();

    assert_eq!(engine.heal(BO), Err(WriteError::UsersFull));
    assert_eq!((engine.profile(BO), engine.leave(BO), engine.forget(BO)), (None, Ok(Leave::NotLive), Ok(0)));
    assert_eq!((engine.figures().users, engine.figures().users_refused), (1, 1));
    assert_eq!(engine.heal(ANA), Ok(Heal::Unchanged));

    engine.forget(ANA).unwrap();
    assert_eq!(engine.heal(BO), Ok(Heal::Opened));
}
