//! Times in which the service was not there: they are recorded, and cut nobody's session.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::folder::{ALIVE_AT, Site, overwrite, three_heals};
use common::{ANA, BO, NOON, lapsed, live, ttl};
use heartbeat::{Engine, Heal, Status, UnixSeconds};

fn second(second: u32) -> UnixSeconds {
    UnixSeconds::new(second)
}

#[test]
fn an_outage_is_recorded_once_and_kept_over_restarts_and_snapshots() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    let first = (second(NOON), second(NOON + 100));
    site.clock.advance(100);
    let (engine, recovery) = site.open();
    assert_eq!((recovery.outage, engine.outages()), (Some(first), vec![first]));
    drop(engine);

    let (engine, recovery) = site.open();
    assert_eq!((recovery.outage, engine.outages()), (None, vec![first]), "down for less than a second");
    engine.snapshot().unwrap();
    drop(engine);

    site.clock.advance(50);
    let both = vec![first, (second(NOON + 100), second(NOON + 150))];
    let (engine, _) = site.open();
    assert_eq!(engine.outages(), both);
    engine.snapshot().unwrap();
    engine.snapshot().unwrap();
    drop(engine);

    let (engine, recovery) = site.open();
    assert_eq!((recovery.snapshot, engine.outages()), (Some(3), both));
}

/// The segment's alive second is stamped once a second; a slot may be later.
#[test]
fn an_outage_begins_no_earlier_than_the_last_slot() {
    let site = Site::new(NOON);
    let engine = three_heals(&site);
    site.clock.advance(60);
    engine.heal(ANA).unwrap();
    let image = site.killed();
    overwrite(&image.segment(1), ALIVE_AT, &[0; 8]);
    image.clock.advance(5);

    let (again, recovery) = image.open();
    assert_eq!(recovery.outage, Some((second(NOON + 60), second(NOON + 65))));
    assert_eq!(again.outages().len(), 1);
}

#[test]
fn a_crash_before_the_first_stamp_does_not_record_the_outage_twice() {
    let site = Site::new(NOON);
    drop(three_heals(&site));
    site.clock.advance(100);
    let (engine, _) = site.open();
    let image = site.killed();
    drop(engine);
    overwrite(image.segments().last().unwrap(), ALIVE_AT, &[0; 8]);
    for path in image.segments().iter().skip(1) {
        overwrite(path, ALIVE_AT, &[0; 8]);
    }
    image.clock.advance(10);

    let (engine, _) = image.open();
    let expected = [(NOON, NOON + 100), (NOON + 100, NOON + 110)];
    assert_eq!(engine.outages(), expected.map(|(from, to)| (second(from), second(to))));
}

#[test]
fn a_session_whose_deadline_fell_into_the_outage_can_be_extended_for_one_ttl_after_it() {
    for (after, extended) in [(7, true), (8, false)] {
        let site = Site::new(NOON);
        drop(three_heals(&site));
        site.clock.advance(100);
        let (engine, _) = site.open();
        assert_eq!(engine.status(ANA), Status::Offline);
        site.clock.advance(after);
        assert_eq!(engine.heal(ANA).unwrap() == Heal::Extended, extended, "{after} s after");
    }
}

/// In a crash loop each start would else undo what the one before had granted.
#[test]
fn another_restart_does_not_take_back_what_the_first_outage_granted() {
    for pause in [0, 1] {
        let site = Site::new(NOON);
        drop(three_heals(&site));
        site.clock.advance(100);
        drop(site.open());
        site.clock.advance(pause);
        let (engine, recovery) = site.open();
        assert_eq!(recovery.online, 3, "{pause} s between the starts");
        site.clock.advance(2);
        assert_eq!(engine.heal(ANA), Ok(Heal::Extended), "{pause} s between the starts");
        assert_eq!(engine.timeline(ANA), [live(NOON, NOON + 109 + pause)]);
    }
}

#[test]
fn without_restart_grace_an_outage_cuts() {
    let mut site = Site::new(NOON);
    site.restart_grace = false;
    drop(three_heals(&site));
    site.clock.advance(8);
    let (engine, recovery) = site.open();
    assert_eq!((recovery.online, recovery.outage), (0, Some((second(NOON), second(NOON + 8)))));
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7), live(NOON + 8, NOON + 15)]);
}

#[test]
fn what_ended_while_it_was_down_ended_under_the_rules_of_that_time() {
    let mut site = Site::new(NOON);
    site.restart_grace = false;
    drop(three_heals(&site));
    site.clock.advance(10);
    site.builder = Engine::builder().grace_seconds(60).ttl(ttl(20));
    for start in 0..3 {
        let (engine, recovery) = site.open();
        assert_eq!(recovery.online, 0, "start {start}");
        assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)], "start {start}");
        drop(engine);
        site.clock.advance(1);
    }
    let (engine, _) = site.open();
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
}

/// More starts than are kept apart, each before what the one before granted was over.
#[test]
fn a_crash_loop_cuts_no_session() {
    for starts in [2, 9, 40] {
        let mut site = Site::new(NOON);
        site.builder = Engine::builder().ttl(ttl(40));
        let (engine, _) = site.open();
        engine.heal(ANA).unwrap();
        drop(engine);
        // Her deadline falls into the first absence.
        site.clock.advance(42);
        for _ in 0..starts {
            drop(site.open());
            site.clock.advance(2);
        }
        let (engine, _) = site.open();
        site.clock.advance(20);
        assert_eq!(engine.heal(ANA), Ok(Heal::Extended), "{starts} starts");
        assert_eq!(engine.timeline(ANA).len(), 1);
    }
}

/// A start in the second of the last slot finds no outage, and nothing but that slot says when it was: the alive second, which
/// is stamped once a second, is older.
#[test]
fn what_a_start_within_the_second_has_closed_stays_closed_under_other_rules() {
    let site = Site::new(NOON);
    let (engine, _) = site.open();
    engine.heal(ANA).unwrap();
    site.clock.advance(8);
    engine.heal(BO).unwrap();

    let mut second_run = site.killed();
    overwrite(&second_run.segment(1), ALIVE_AT, &[0; 8]);
    second_run.builder = Engine::builder().grace_seconds(60);
    let (engine, recovery) = second_run.open();
    assert_eq!(recovery.outage, None);
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)], "over under the rules of before");

    let third_run = second_run.killed();
    third_run.clock.advance(1);
    let (engine, _) = third_run.open();
    assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)]);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
}

/// A run in which nothing was written leaves an empty segment, and that is the only trace of the rules it was under.
#[test]
fn what_an_idle_run_has_closed_stays_closed_under_the_rules_of_before() {
    let mut first_run = Site::new(NOON);
    first_run.builder = Engine::builder().grace_seconds(60);
    let (engine, _) = first_run.open();
    engine.heal(ANA).unwrap();
    first_run.clock.advance(8);
    engine.heal(BO).unwrap();

    let mut idle_run = first_run.killed();
    idle_run.builder = Engine::builder();
    let (engine, recovery) = idle_run.open();
    assert_eq!((recovery.outage, engine.timeline(ANA)), (None, vec![lapsed(NOON, NOON + 7)]));

    let mut run = idle_run.killed();
    for start in 0..3 {
        run.builder = Engine::builder().grace_seconds(60);
        let (engine, _) = run.open();
        assert_eq!(engine.timeline(ANA), [lapsed(NOON, NOON + 7)], "start {start}");
        run = run.killed();
    }
}
