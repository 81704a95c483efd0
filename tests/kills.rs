//! What was acknowledged survives `kill -9`, whenever it comes: under load, while a segment fills or a snapshot is taken, during
//! recovery, during shutdown.
//!
//! The service is a process of its own; this one drives it and writes down what it sent and what was acknowledged, with the
//! second before and the second after. After each kill a new process must know exactly that: a write without an answer may have
//! happened or not, every other history is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod driver;
mod process;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use driver::connection::Connection;
use driver::now;
use driver::random::Random;
use process::Service;
use rustix::process::Signal;

/// Longer than the test: a session that ends otherwise than by a leave has been cut.
const TTL: u32 = 3_600;
const CLIENTS: u64 = 4;
const USERS_PER_CLIENT: u64 = 24;

#[test]
fn nothing_acknowledged_is_lost_in_thirty_kills() {
    let tally = kill_again_and_again(30, 0x5eed);
    assert!(tally.acknowledged > 1_000 && tally.unknown > 0, "{tally:?}");
}

#[test]
#[ignore = "long: a thousand kills, about ten minutes"]
fn nothing_acknowledged_is_lost_in_a_thousand_kills() {
    let seed = u64::from(now());
    println!("seed {seed:#x}");
    println!("{:?}", kill_again_and_again(1_000, seed));
}

/// What happened, over all rounds.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    acknowledged: u64,
    refused: u64,
    unknown: u64,
}

fn kill_again_and_again(kills: u32, seed: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|index| Client::new(index, seed)).collect();
    let mut tally = Tally::default();
    while tally.kills < kills {
        // Half of the time there are none: what a snapshot has seen no journal has to tell.
        let takes_snapshots = random.below(2) == 0;
        let (journal_bytes, interval) = if takes_snapshots { ("64KiB", "1s") } else { ("1GiB", "1day") };
        let durability = random.one_of(&["interval", "process", "always"]);
        let start = || {
            let folder = folder.path().to_str().unwrap();
            let ttl = format!("{TTL}s");
            Service::start(
                &[
                    "--data-dir",
                    folder,
                    "--ttl",
                    &ttl,
                    "--durability",
                    durability,
                    "--segment-bytes",
                    "16KiB",
                    "--snapshot-journal-bytes",
                    journal_bytes,
                    "--snapshot-interval",
                    interval,
                    "--threads",
                    "2",
                ],
                |_| {},
            )
        };
        // Now and then it does not even get to its feet, once or twice in a row.
        while random.below(4) == 0 {
            let mut service = start();
            thread::park_timeout(Duration::from_micros(random.below(60_000)));
            service.kill();
            tally.kills += 1;
        }
        let mut service = start();
        let address = service.listening();
        for client in &mut clients {
            client.check(address, durability);
        }
        let ending = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.drive(address, &ending));
            }
            if takes_snapshots {
                scope.spawn(|| take_snapshots(address, &ending));
            }
            thread::park_timeout(Duration::from_millis(20 + random.below(400)));
            if random.below(4) == 0 {
                service.signal(Signal::TERM);
                thread::park_timeout(Duration::from_micros(random.below(30_000)));
            }
            service.kill();
            ending.store(true, Ordering::Relaxed);
        });
        tally.kills += 1;
    }
    for client in clients {
        tally.acknowledged += client.acknowledged;
        tally.refused += client.refused;
        tally.unknown += client.unknown;
    }
    tally
}

/// One after the other, so that kills find one under way.
fn take_snapshots(address: SocketAddr, ending: &AtomicBool) {
    while !ending.load(Ordering::Relaxed) {
        // It ends with the service.
        let taken = Connection::open(address)
            .and_then(|mut connection| connection.call("POST", "/v1/admin/snapshot"));
        if taken.is_err() {
            return;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Seconds between which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Between(u32, u32);

impl Between {
    fn has(self, second: u32) -> bool {
        self.0 <= second && second <= self.1
    }

    fn plus(self, seconds: u32) -> Self {
        Self(self.0 + seconds, self.1 + seconds)
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Heal,
    Leave,
    Forget,
}

/// What a user's history must be.
#[derive(Debug, Clone, Default)]
struct Expected {
    closed: Vec<(Between, Between)>,
    live: Option<(Between, Between)>,
}

impl Expected {
    fn after(&self, act: Act, at: Between) -> Self {
        let mut next = self.clone();
        match act {
            Act::Heal => {
                let opened = self.live.map_or(at, |(opened, _)| opened);
                next.live = Some((opened, at.plus(TTL)));
            }
            Act::Leave => next.closed.extend(next.live.take().map(|(opened, _)| (opened, at))),
            Act::Forget => next = Self::default(),
        }
        next
    }

    fn fits(&self, history: &[(u32, u32)]) -> bool {
        // A session of no length is not shown.
        let is_shown = |(opened, ended): &&(Between, Between)| opened.1 < ended.0;
        let may_be_hidden = self.closed.iter().filter(|session| !is_shown(session)).count();
        let rows = self.closed.iter().chain(&self.live);
        let fits = |rows: &[&(Between, Between)]| {
            rows.len() == history.len()
                && rows
                    .iter()
                    .zip(history)
                    .all(|((opened, ended), row)| opened.has(row.0) && ended.has(row.1))
        };
        if may_be_hidden == 0 {
            return fits(&rows.collect::<Vec<_>>());
        }
        // Whoever may be hidden is, if leaving them out fits; each row can only fit one session.
        let mut history = history.iter();
        let mut row = history.next();
        for session in rows {
            match row {
                Some(&(online_at, offline_at)) if session.0.has(online_at) && session.1.has(offline_at) => {
                    row = history.next();
                }
                _ if !is_shown(&session) => {}
                _ => return false,
            }
        }
        row.is_none()
    }
}

struct User {
    id: u64,
    expected: Expected,
    /// Without an answer: it has happened, or it has not.
    open: Option<(Act, Between)>,
    /// In this second the user left: a heal in it would reopen the session.
    left_at: u32,
}

struct Client {
    users: Vec<User>,
    random: Random,
    acknowledged: u64,
    refused: u64,
    unknown: u64,
}

impl Client {
    fn new(index: u64, seed: u64) -> Self {
        let users = (0..USERS_PER_CLIENT).map(|user| User {
            id: index * 1_000 + user + 1,
            expected: Expected::default(),
            open: None,
            left_at: 0,
        });
        Self { users: users.collect(), random: Random(seed ^ index), acknowledged: 0, refused: 0, unknown: 0 }
    }

    /// Everybody's history is what it must be.
    fn check(&mut self, address: SocketAddr, durability: &str) {
        let mut connection = Connection::open(address).unwrap();
        for user in &mut self.users {
            let (status, body) = connection.call("GET", &format!("/heart_rhythm/{}", user.id)).unwrap();
            assert_eq!(status, 200, "{body}");
            let history = history(&body);
            let mut possible = vec![user.expected.clone()];
            if let Some((act, at)) = user.open.take() {
                possible.push(user.expected.after(act, at));
            }
            let fitting = possible.iter().find(|expected| expected.fits(&history)).cloned();
            user.expected = fitting.unwrap_or_else(|| {
                panic!("user {} ({durability}): {history:?} is none of {possible:#?}", user.id)
            });
        }
    }

    fn drive(&mut self, address: SocketAddr, ending: &AtomicBool) {
        let Ok(mut connection) = Connection::open(address) else { return };
        while !ending.load(Ordering::Relaxed) {
            let pick = self.random.index(self.users.len());
            let user = &mut self.users[pick];
            let before = now();
            // Mostly a session is ended only when it is old enough to be seen.
            let is_seen = user.expected.live.is_some_and(|(opened, _)| opened.1 < before);
            let act = match (pick % 4, self.random.below(100)) {
                // A quarter only ever heals: one session each, from the first second of the test to its last.
                (0, _) | (_, 0..70) => Act::Heal,
                (3, 70..85) if is_seen => Act::Forget,
                (_, 98..) => Act::Leave,
                _ if is_seen => Act::Leave,
                _ => Act::Heal,
            };
            if matches!(act, Act::Heal) && user.left_at >= before {
                continue;
            }
            let (method, target) = match act {
                Act::Heal => ("PUT", format!("/heal/{}", user.id)),
                Act::Leave => ("DELETE", format!("/heal/{}", user.id)),
                Act::Forget => ("DELETE", format!("/v1/users/{}", user.id)),
            };
            let answer = connection.call(method, &target);
            let at = Between(before, now());
            if matches!(act, Act::Leave) {
                user.left_at = at.1;
            }
            match answer {
                Ok((200, _)) => {
                    user.expected = user.expected.after(act, at);
                    self.acknowledged += 1;
                }
                // Not taken: nothing has happened.
                Ok((503, _)) => self.refused += 1,
                Ok((status, body)) => panic!("{status} {body}"),
                Err(_) => {
                    user.open = Some((act, at));
                    self.unknown += 1;
                    return;
                }
            }
        }
    }
}

fn history(body: &str) -> Vec<(u32, u32)> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let second = |row: &serde_json::Value, name: &str| u32::try_from(row[name].as_u64().unwrap()).unwrap();
    let rows = body["history"].as_array().unwrap();
    rows.iter().map(|row| (second(row, "online_at"), second(row, "offline_at"))).collect()
}
