//! Sessions brought in from elsewhere: where they go, what is rejected, and that a restart knows them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::sync::Arc;

use common::{ANA, BO, NOON, engine_at, engine_with, lapsed, left, live, ttl};
use heartbeat::{
    Disk, Durability, Engine, Heal, Imported, ManualClock, Rejection, Session, UnixSeconds, UserId,
};
use proptest::prelude::*;
use rstest::rstest;

fn import(engine: &Engine, user: UserId, online_at: u32, offline_at: u32) -> Imported {
    engine.import(user, UnixSeconds::new(online_at), UnixSeconds::new(offline_at)).unwrap()
}

fn exported(engine: &Engine) -> Vec<(UserId, Session)> {
    let mut all = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut all));
    all
}

/// Ana had sessions NOON+10..+20 and NOON+40..+47; it is NOON+100.
fn engine_with_two_sessions() -> (Engine, Arc<ManualClock>) {
    let (engine, clock) = engine_at(NOON + 10);
    engine.heal(ANA).unwrap();
    clock.advance(3);
    engine.heal(ANA).unwrap();
    clock.advance(27);
    engine.heal(ANA).unwrap();
    clock.advance(60);
    (engine, clock)
}

#[rstest]
#[case::before_all(0, 10, Imported::Added)]
#[case::between(20, 40, Imported::Added)]
#[case::after_all(47, 100, Imported::Added)]
#[case::the_same(10, 20, Imported::Unchanged)]
#[case::the_latest(40, 47, Imported::Unchanged)]
#[case::shorter(10, 19, Imported::Rejected(Rejection::Overlap))]
#[case::within(12, 15, Imported::Rejected(Rejection::Overlap))]
#[case::around(5, 60, Imported::Rejected(Rejection::Overlap))]
#[case::into_the_next(30, 41, Imported::Rejected(Rejection::Overlap))]
#[case::from_the_one_before(19, 30, Imported::Rejected(Rejection::Overlap))]
#[case::live_over_the_latest(46, 105, Imported::Rejected(Rejection::Overlap))]
#[case::empty(30, 30, Imported::Rejected(Rejection::Empty))]
#[case::turned_round(31, 30, Imported::Rejected(Rejection::Empty))]
#[case::not_begun(101, 105, Imported::Rejected(Rejection::NotBegun))]
#[case::a_day_ahead(100, 100 + 86_400, Imported::Added)]
#[case::more_than_a_day_ahead(100, 101 + 86_400, Imported::Rejected(Rejection::TooFarAhead))]
fn a_session_goes_where_there_is_none(
    #[case] online_at: u32,
    #[case] offline_at: u32,
    #[case] expected: Imported,
) {
    let (engine, _clock) = engine_with_two_sessions();
    let before = engine.timeline(ANA);

    let (online_at, offline_at) = (NOON + online_at, NOON + offline_at);
    assert_eq!(import(&engine, ANA, online_at, offline_at), expected);
    let mut after = engine.timeline(ANA);
    if expected == Imported::Added {
        let now = NOON + 100;
        let added = if offline_at > now { live(online_at, now + 7) } else { lapsed(online_at, offline_at) };
        let at = after.iter().position(|session| *session == added).unwrap();
        after.remove(at);
        assert_eq!(import(&engine, ANA, online_at, offline_at), Imported::Unchanged, "a second time");
    }
    assert_eq!(after, before);
    assert!(engine.timeline(ANA).is_sorted_by_key(|session| session.online_at));
    assert_eq!(engine.figures().sessions, 2 + u64::from(expected == Imported::Added));
}

#[test]
fn an_unknown_user_is_known_by_what_was_imported_and_by_nothing_that_was_rejected() {
    let (engine, _clock) = engine_at(NOON);
    assert_eq!(import(&engine, ANA, NOON, NOON), Imported::Rejected(Rejection::Empty));
    assert_eq!((engine.figures().users, engine.profile(ANA)), (0, None));

    assert_eq!(import(&engine, ANA, NOON - 50, NOON - 20), Imported::Added);
    assert_eq!(engine.timeline(ANA), [lapsed(NOON - 50, NOON - 20)]);
    let figures = engine.figures();
    assert_eq!((figures.users, figures.sessions, figures.online, figures.opened), (1, 1, 0, 0));
}

#[test]
fn the_limit_on_users_holds_for_imports() {
    let (engine, _clock) = engine_with(NOON, |builder| builder.users_max(1));
    import(&engine, ANA, NOON - 50, NOON - 20);
    let second = engine.import(BO, UnixSeconds::new(NOON - 50), UnixSeconds::new(NOON - 20));
    assert_eq!(second, Err(heartbeat::WriteError::UsersFull));
    assert_eq!(engine.figures().users, 1);
}

#[test]
fn a_session_that_has_not_ended_is_live_for_a_ttl_at_most_and_swept_in_its_time() {
    let (engine, clock) = engine_with(NOON, |builder| builder.ttl(ttl(20)));
    // The entry of the session that was left lies in the bucket of NOON + 21: too late for the one that is imported.
    engine.heal(ANA).unwrap();
    clock.advance(1);
    engine.leave(ANA).unwrap();
    assert_eq!(import(&engine, ANA, NOON + 1, NOON + 3), Imported::Added);
    assert_eq!(import(&engine, BO, NOON - 9, NOON + 500), Imported::Added);
    assert_eq!(engine.timeline(ANA), [left(NOON, NOON + 1), live(NOON + 1, NOON + 3)]);
    assert_eq!(engine.timeline(BO), [live(NOON - 9, NOON + 21)]);
    assert_eq!((engine.figures().online, engine.figures().sessions), (2, 3));

    clock.advance(3);
    assert_eq!(engine.sweep().lapsed, 1);
    assert_eq!(engine.figures().online, 1);
    assert_eq!(engine.heal(BO), Ok(Heal::Extended));
    clock.advance(50);
    engine.sweep();
    assert_eq!(engine.timeline(BO), [lapsed(NOON - 9, NOON + 24)]);
    assert_eq!(engine.figures().online, 0);
}

#[test]
fn a_live_session_is_unchanged_by_its_own_export_also_when_it_has_been_extended_since() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    let [(_, old)] = exported(&engine)[..] else { panic!("one session") };
    clock.advance(7);
    engine.heal(ANA).unwrap();
    for _ in 0..2 {
        assert_eq!(engine.import(ANA, old.online_at, old.offline_at), Ok(Imported::Unchanged));
        clock.advance(2);
    }
    assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 14)]);
    assert_eq!(import(&engine, ANA, NOON + 1, NOON + 10), Imported::Rejected(Rejection::Overlap));
}

/// Within the grace the session before could still be extended: it would then reach across the imported one.
#[test]
fn a_session_in_its_grace_ends_when_another_comes_after_it() {
    let (engine, clock) = engine_with(NOON, |builder| builder.grace_seconds(60));
    engine.heal(ANA).unwrap();
    clock.advance(20);
    assert_eq!(import(&engine, ANA, NOON + 9, NOON + 12), Imported::Added);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(
        engine.timeline(ANA),
        [lapsed(NOON, NOON + 7), lapsed(NOON + 9, NOON + 12), live(NOON + 20, NOON + 27)]
    );
}

#[test]
fn the_hidden_session_of_a_user_who_left_at_once_is_not_lost() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();
    engine.leave(ANA).unwrap();
    clock.advance(60);
    assert_eq!(import(&engine, ANA, NOON, NOON + 7), Imported::Rejected(Rejection::Overlap));
    assert_eq!(import(&engine, ANA, NOON - 7, NOON), Imported::Added);
    assert_eq!(import(&engine, ANA, NOON + 1, NOON + 7), Imported::Added);
    assert_eq!(engine.figures().sessions, 3);
}

#[test]
fn another_engine_that_imports_an_export_has_the_same_timelines() {
    let (engine, clock) = engine_with_two_sessions();
    engine.heal(BO).unwrap();
    let all = exported(&engine);
    assert_eq!(all.len(), 3);

    let other = Engine::builder().clock(clock).build();
    for _ in 0..2 {
        for &(user, session) in &all {
            other.import(user, session.online_at, session.offline_at).unwrap();
        }
        assert_eq!((other.timeline(ANA), other.timeline(BO)), (engine.timeline(ANA), engine.timeline(BO)));
        assert_eq!((other.figures().users, other.figures().online, other.figures().sessions), (2, 1, 3));
    }
}

#[derive(Debug, Clone, Copy)]
enum Call {
    /// Seconds before now, and length.
    Import(u32, u32),
    Heal,
    Leave,
    Forget,
    Pass(u32),
    Sweep,
    Snapshot,
    Restart,
}

fn call() -> impl Strategy<Value = (Call, UserId)> {
    let call = prop_oneof![
        8 => (0..60_u32, 0..30_u32).prop_map(|(ago, seconds)| Call::Import(ago, seconds)),
        4 => Just(Call::Heal),
        2 => Just(Call::Leave),
        1 => Just(Call::Forget),
        4 => (0..12_u32).prop_map(Call::Pass),
        1 => Just(Call::Sweep),
        1 => Just(Call::Snapshot),
        1 => Just(Call::Restart),
    ];
    (call, prop_oneof![3 => Just(ANA), 1 => Just(BO)])
}

type State = (Vec<Session>, Vec<Session>, u64, u64, u64);

fn state(engine: &Engine) -> State {
    engine.sweep();
    let figures = engine.figures();
    (engine.timeline(ANA), engine.timeline(BO), figures.users, figures.sessions, figures.online)
}

fn assert_no_overlap(timeline: &[Session]) {
    for pair in timeline.windows(2) {
        assert!(pair[0].offline_at <= pair[1].online_at, "{timeline:?}");
    }
}

fn a_restart_changes_nothing(calls: &[(Call, UserId)], grace: u32) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let open = || {
        let disk = Disk {
            segment_bytes: 16 << 10,
            durability: Durability::Process,
            threads: 1,
            ..Disk::at(folder.path())
        };
        Engine::builder().clock(clock.clone()).grace_seconds(grace).open(disk).unwrap().0
    };
    let mut engine = open();
    for &(call, user) in calls.iter().chain(&[(Call::Restart, ANA)]) {
        match call {
            Call::Import(ago, seconds) => {
                let online_at = engine.now().minus(ago);
                engine.import(user, online_at, online_at.plus(seconds)).unwrap();
            }
            Call::Heal => drop(engine.heal(user).unwrap()),
            Call::Leave => drop(engine.leave(user).unwrap()),
            Call::Forget => drop(engine.forget(user).unwrap()),
            Call::Pass(seconds) => clock.advance(seconds),
            Call::Sweep => drop(engine.sweep()),
            Call::Snapshot => drop(engine.snapshot().unwrap()),
            Call::Restart => {
                let before = state(&engine);
                drop(engine);
                engine = open();
                assert_eq!(state(&engine), before);
            }
        }
        assert_no_overlap(&engine.timeline(user));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_restart_imported_sessions_are_where_they_were(
        calls in prop::collection::vec(call(), 1..50),
        grace in prop_oneof![Just(0), Just(10)],
    ) {
        a_restart_changes_nothing(&calls, grace);
    }
}
