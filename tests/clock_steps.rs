//! A restart under a wall clock that has been set meanwhile. Nobody here sets the machine's clock: what lies in the data
//! directory was written under a clock that was ahead of it, or behind.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;
mod process;
mod wire;

use std::time::Duration;

use common::folder::{ALIVE_AT, CARL, SLOTS_AT, Site, overwrite, three_heals, unlocked};
use common::{ANA, BO, NOON, lapsed, live};
use heartbeat::{Clock, Engine, Heal, Recovery, Session, Status, SystemClock, UnixSeconds};
use process::Service;
use serde_json::Value;
use wire::Client;

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;
const YEARS: u32 = 10 * 365 * DAY;

fn second(second: u32) -> UnixSeconds {
    UnixSeconds::new(second)
}

fn wall() -> u32 {
    SystemClock::start().now().as_u32()
}

/// Ana, Bo and Carl healed at `at`, and the service was killed in that second.
fn killed_at(at: u32) -> Site {
    let site = Site::new(at);
    drop(three_heals(&site));
    site
}

/// Under the machine's clock.
fn open(site: &Site) -> (Engine, Recovery) {
    unlocked(|| Engine::builder().open(site.disk())).unwrap()
}

fn all_timelines(engine: &Engine) -> Vec<Vec<Session>> {
    let timelines: Vec<_> = [ANA, BO, CARL].map(|user| engine.timeline(user)).into();
    for session in timelines.iter().flatten() {
        assert!(session.online_at < session.offline_at, "{session:?}");
    }
    timelines
}

/// The journal is ahead by less than a day: time goes on from its latest second, at once and without standing still.
#[test]
fn under_a_wall_clock_set_back_time_goes_on_from_the_journal() {
    for ahead in [HOUR, DAY - 60] {
        let at = wall() + ahead;
        let site = killed_at(at);
        let (engine, recovery) = open(&site);
        let start = engine.now().as_u32();
        assert!((at..at + 2).contains(&start), "{start}, the journal ends at {at}");
        assert_eq!((recovery.online, recovery.outage), (3, None));
        assert_eq!([ANA, BO, CARL].map(|user| engine.status(user)), [Status::Online; 3]);
        assert!(matches!(engine.heal(ANA), Ok(Heal::Extended | Heal::Unchanged)));

        let mut looks = 0;
        while engine.now().as_u32() == start {
            looks += 1;
            assert!(looks < 200, "time stands still at {start}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
        let now = engine.now().as_u32();
        assert_eq!(all_timelines(&engine)[1..], [[live(at, at + 7)], [live(at, at + 7)]]);
        assert_eq!(engine.timeline(ANA), [live(at, now + 7)]);
    }
}

/// Nobody can tell a clock that was set forth from a service that was away for so long: it is an absence, and cuts nobody.
#[test]
fn under_a_wall_clock_set_forth_the_time_between_is_an_outage_and_cuts_no_session() {
    for later in [HOUR, YEARS] {
        let mut site = killed_at(NOON);
        let absence = (second(NOON), second(NOON + later));
        site.clock.advance(later);
        for start in 0..2 {
            let (engine, recovery) = site.open();
            assert_eq!((recovery.online, recovery.sessions), (3, 3), "start {start}");
            assert_eq!(engine.outages(), [absence]);
            assert_eq!([ANA, BO, CARL].map(|user| engine.status(user)), [Status::Offline; 3]);
            assert_eq!(all_timelines(&engine), [[live(NOON, NOON + 7)]; 3]);
            site = site.killed();
        }
        let (engine, _) = site.open();
        site.clock.advance(7);
        assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
        site.clock.advance(1);
        assert_eq!(engine.sweep().lapsed, 2);
        assert_eq!(engine.heal(BO), Ok(Heal::Opened));
        let now = NOON + later + 8;
        assert_eq!(
            all_timelines(&engine),
            [
                vec![live(NOON, now - 1 + 7)],
                vec![lapsed(NOON, NOON + 7), live(now, now + 7)],
                vec![lapsed(NOON, NOON + 7)],
            ]
        );
    }
}

#[test]
fn without_restart_grace_who_was_live_ended_at_the_deadline_whatever_the_wall_clock_says() {
    for later in [HOUR, YEARS] {
        let mut site = killed_at(NOON);
        site.restart_grace = false;
        site.clock.advance(later);
        let (engine, recovery) = site.open();
        assert_eq!((recovery.online, recovery.sessions), (0, 3));
        assert_eq!(all_timelines(&engine), [[lapsed(NOON, NOON + 7)]; 3]);
        assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    }
}

/// The same under the machine's clock, in whole.
#[test]
fn a_journal_of_the_past_is_read_as_what_it_is() {
    for ago in [HOUR, YEARS] {
        let at = wall() - ago;
        let site = killed_at(at);
        let (engine, recovery) = open(&site);
        let (from, to) = recovery.outage.unwrap();
        assert_eq!(from, second(at));
        assert!(to.since(from) >= ago && to.since(from) < ago + 60, "{from} to {to}");
        assert_eq!(all_timelines(&engine), [[live(at, at + 7)]; 3]);
        assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
    }
}

fn start(site: &Site, more: &[&str]) -> Service {
    let folder = site.path().to_str().unwrap();
    let args = [&["--data-dir", folder, "--segment-bytes", "16KiB", "--threads", "1"], more].concat();
    Service::start(&args, |_| {})
}

/// Ana's sessions, as the service tells them.
fn history(client: &mut Client) -> Vec<(u64, u64)> {
    let body: Value = serde_json::from_str(&client.call("GET", "/heart_rhythm/12345").body).unwrap();
    let row = |row: &Value| (row["online_at"].as_u64().unwrap(), row["offline_at"].as_u64().unwrap());
    body["history"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_journal_ahead_by_more_than_a_day_is_refused_with_78_and_the_way_out_works() {
    for ahead in [DAY + HOUR, YEARS] {
        let at = wall() + ahead;
        let site = killed_at(at);
        // What is latest then is the slot.
        for segment in site.segments() {
            overwrite(&segment, ALIVE_AT, &[0; 8]);
        }
        let refused = start(&site, &[]).listening_or_refused();
        let (code, line) = refused.unwrap_err();
        assert_eq!(code, Some(78), "{line}");
        for part in [
            &*format!("offset {SLOTS_AT}"),
            "journal-0000000001.seg",
            &at.to_string(),
            "--allow-future-journal",
        ] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }

        let mut service = start(&site, &["--allow-future-journal"]);
        let mut client = Client::connect(service.listening());
        let at = u64::from(at);
        // Time goes on from there: one second after the other, until the session has lasted longer than it would have.
        for _ in 0..1_000 {
            assert_eq!(client.call("PUT", "/heal/12345").status, 200);
            let [(online_at, offline_at)] = history(&mut client)[..] else { panic!("one session") };
            assert_eq!(online_at, at);
            assert!((at + 7..at + 30).contains(&offline_at), "{offline_at}, the journal ends at {at}");
            if offline_at >= at + 9 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert!(history(&mut client)[0].1 >= at + 9, "time stands still");
        let metrics = client.call("GET", "/metrics").body;
        assert!(metrics.contains("heartbeat_clock_steps_total{direction=\"backward\"} 1"), "it says so");
        service.kill();

        // What was written under the override is as far ahead, and still needs it.
        assert_eq!(start(&site, &[]).listening_or_refused().unwrap_err().0, Some(78));
        let mut service = start(&site, &["--allow-future-journal"]);
        let mut client = Client::connect(service.listening());
        let [(online_at, offline_at)] = history(&mut client)[..] else { panic!("one session") };
        assert!(online_at == at && offline_at >= at + 9);
    }
}
