//! Queries over everybody, over a real socket, against the plainest reading of what an export says.
//!
//! Random histories are lived through by a service with a data directory: heals, leaves, forgets, passing time, sweeps and
//! restarts after an outage. Now and then everything is exported, and each answer is computed from that again: who was online in a
//! second by looking at every session, a curve by counting every second.
#![cfg(all(feature = "service", not(shuttle)))]
#![allow(clippy::print_stdout, reason = "it tells what it has made up")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use heartbeat::{Clock, Durability, Engine, UnixSeconds};
use rstest::rstest;
use serde_json::Value;
use wire::{Client, NOON, Service};

const DAY: u32 = 86_400;

/// The same numbers for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((mixed * u64::from(end)) >> 32) as u32
    }

    fn within(&mut self, from: u32, to: u32) -> u32 {
        from + self.below(to - from + 1)
    }
}

#[derive(Debug)]
struct Session {
    id: i64,
    online_at: u32,
    offline_at: u32,
}

/// What an export said, and where users stand.
struct Book {
    now: u32,
    sessions: Vec<Session>,
    shards: BTreeMap<i64, usize>,
}

impl Book {
    fn read(service: &Service, client: &mut Client) -> Self {
        let export = client.call("GET", "/v1/export");
        assert_eq!(export.status, 200);
        let sessions = export.body.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let second = |name: &str| line[name].as_u64().unwrap() as u32;
            Session {
                id: line["id"].as_i64().unwrap(),
                online_at: second("online_at"),
                offline_at: second("offline_at"),
            }
        });
        let mut shards = BTreeMap::new();
        for shard in 0..Engine::SHARDS {
            let mut into = Vec::new();
            service.engine.export(shard, &mut into);
            shards.extend(into.iter().map(|(user, _)| (user.as_i64(), shard)));
        }
        Self { now: service.engine.now().as_u32(), sessions: sessions.collect(), shards }
    }

    /// By shard, then id.
    fn online_at(&self, t: u32) -> Vec<i64> {
        let around = self.sessions.iter().filter(|session| session.online_at <= t && t < session.offline_at);
        let places: BTreeSet<_> = around.map(|session| (self.shards[&session.id], session.id)).collect();
        places.into_iter().map(|(_, id)| id).collect()
    }

    fn curve(&self, from: u32, to: u32, step: u32) -> String {
        let online = |t: u32| {
            let around =
                self.sessions.iter().filter(|session| session.online_at <= t && t < session.offline_at);
            around.count() as u64
        };
        let counts: Vec<u64> = (from..to).map(online).collect();
        let points = counts.chunks(step as usize).enumerate().map(|(index, counts)| {
            let t = from + index as u32 * step;
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
            let mean = serde_json::to_string(&mean).unwrap();
            format!(r#"{{"t":{t},"min":{min},"max":{max},"mean":{mean}}}"#)
        });
        let points = points.collect::<Vec<_>>().join(",");
        let online = counts.iter().max().unwrap();
        let at = from + counts.iter().position(|count| count == online).unwrap() as u32;
        format!(r#"{{"step":{step},"points":[{points}],"peak":{{"online":{online},"at":{at}}}}}"#)
    }
}

/// What the checks have come across: without it they would prove little.
#[derive(Debug, Default)]
struct Seen {
    pages: u64,
    pages_within_a_shard: u64,
    outages: u64,
    online_before: u64,
    curves_cut_short: u64,
    peaks_above_one: u64,
}

/// A service and whoever uses it.
struct Life {
    folder: tempfile::TempDir,
    service: Option<Service>,
    client: Client,
    random: Random,
    users: Vec<i64>,
    /// From when until when it was down.
    outages: Vec<(u32, u32)>,
}

impl Life {
    fn begin(seed: u64, users: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::open(folder.path(), Durability::Process, NOON);
        let users =
            (0..i64::from(users)).map(|number| if number % 2 == 0 { number - 3 } else { i64::MAX - number });
        Self {
            client: service.connect(),
            folder,
            service: Some(service),
            random: Random(0x9e37_79b9_7f4a_7c15 ^ (seed + 1)),
            users: users.collect(),
            outages: Vec::new(),
        }
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    fn user(&mut self) -> i64 {
        let at = self.random.below(self.users.len() as u32);
        self.users[at as usize]
    }

    fn some(&mut self, most: u32) -> Vec<i64> {
        let count = self.random.within(1, most);
        (0..count).map(|_| self.user()).collect()
    }

    fn call(&mut self, method: &str, target: &str) {
        let response = self.client.call(method, target);
        assert_eq!(response.status, 200, "{method} {target}: {response:?}");
    }

    fn send(&mut self, target: &str, ids: &[i64]) {
        // The shortest segments there are: the next may not be ready yet, and then the request is to be repeated.
        let taken = (0..10_000).find(|_| {
            let response = self.client.send("POST", target, "text/plain", lines(ids).as_bytes());
            assert!([200, 503].contains(&response.status), "{target}: {response:?}");
            response.status == 200
        });
        assert!(taken.is_some(), "{target} is refused for ever");
    }

    fn step(&mut self) {
        let most = self.users.len() as u32;
        match self.random.below(20) {
            0..=3 => {
                let user = self.user();
                self.call("PUT", &format!("/heal/{user}"));
            }
            4..=8 => {
                let some = self.some(most.min(300));
                self.send("/v1/heal", &some);
            }
            9 => {
                let user = self.user();
                self.call("DELETE", &format!("/heal/{user}"));
            }
            10 => {
                let some = self.some(most.div_ceil(4));
                self.send("/v1/leave", &some);
            }
            11 => {
                let user = self.user();
                self.call("DELETE", &format!("/v1/users/{user}"));
            }
            12..=16 => {
                let seconds = self.random.within(1, 8);
                self.service().clock.advance(seconds);
            }
            17 => {
                let seconds = self.random.within(9, 120);
                self.service().clock.advance(seconds);
            }
            18 => {
                self.service().engine.sweep();
            }
            _ => self.restart(),
        }
    }

    fn restart(&mut self) {
        let stopped = self.service().engine.now().as_u32();
        let begun = stopped + self.random.within(1, 30);
        self.service = None;
        let service = Service::open(self.folder.path(), Durability::Process, begun);
        self.client = service.connect();
        self.service = Some(service);
        self.outages.push((stopped, begun));
    }

    fn get(&mut self, target: &str) -> String {
        let response = self.client.call("GET", target);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        response.body
    }

    fn check(&mut self, seen: &mut Seen) {
        let mut client = self.service().connect();
        let book = Book::read(self.service(), &mut client);
        let online = book.online_at(book.now);
        for limit in self.limits(online.len()) {
            self.check_users(&book, &online, limit, seen);
        }
        for _ in 0..6 {
            let t = self.random.within(NOON - 5, book.now);
            self.check_at(&book, t, seen);
        }
        self.check_at(&book, book.now, seen);
        for _ in 0..4 {
            self.check_curve(&book, seen);
        }
    }

    /// Every size of page up to one beyond all, or where that would be many, those at the edges.
    fn limits(&mut self, users: usize) -> Vec<usize> {
        if users <= 12 {
            return (1..=users + 1).collect();
        }
        let any = self.random.within(2, users as u32 - 2) as usize;
        vec![users / 10 + 1, any, users - 1, users, users + 1]
    }

    fn check_users(&mut self, book: &Book, expected: &[i64], limit: usize, seen: &mut Seen) {
        let mut after = String::new();
        let mut pages = chunks(expected, limit).into_iter().peekable();
        while let Some(page) = pages.next() {
            let body = self.get(&format!("/v1/online/users?limit={limit}{after}"));
            let next = next_of(&body);
            let wanted = format!(r#"{{"users":[{}],"next":{}}}"#, list(page), quoted(next.as_deref()));
            assert_eq!(body, wanted, "limit {limit}");
            assert_eq!(
                next.is_some(),
                pages.peek().is_some(),
                "there is a next page unless this is the last"
            );
            note_page(book, page, pages.peek().copied(), seen);
            after = format!("&after={}", next.unwrap_or_default());
        }
    }

    fn check_at(&mut self, book: &Book, t: u32, seen: &mut Seen) {
        let expected = book.online_at(t);
        let outage = self.outages.iter().any(|&(from, to)| from <= t && t < to);
        seen.outages += u64::from(outage);
        seen.online_before += u64::from(t + 20 < book.now && !expected.is_empty());
        for limit in self.limits(expected.len()) {
            let mut after = format!("&t={t}");
            let mut online = format!(r#""online":{},"#, expected.len());
            let mut pages = chunks(&expected, limit).into_iter().peekable();
            while let Some(page) = pages.next() {
                let body = self.get(&format!("/v1/online/at?limit={limit}{after}"));
                let next = next_of(&body);
                let (users, cursor) = (list(page), quoted(next.as_deref()));
                let wanted =
                    format!(r#"{{"at":{t},{online}"users":[{users}],"next":{cursor},"outage":{outage}}}"#);
                assert_eq!(body, wanted, "t {t}, limit {limit}");
                assert_eq!(next.is_some(), pages.peek().is_some());
                note_page(book, page, pages.peek().copied(), seen);
                // Time may pass between two pages: they are about the same second.
                online.clear();
                let repeated = if self.random.below(2) == 0 { format!("&t={t}") } else { String::new() };
                after = format!("&after={}{repeated}", next.unwrap_or_default());
            }
        }
        self.check_at_of(&expected, t, outage);
    }

    fn check_at_of(&mut self, expected: &[i64], t: u32, outage: bool) {
        let mut asked = self.some(40);
        asked.push(i64::MIN);
        let online: Vec<i64> = asked.iter().copied().filter(|id| expected.contains(id)).collect();
        let (count, users) = (online.len(), list(&online));
        let wanted =
            format!(r#"{{"at":{t},"online":{count},"users":[{users}],"next":null,"outage":{outage}}}"#);
        let target = format!("/v1/online/at?t={t}");
        for (content_type, body) in [
            ("text/plain", lines(&asked).into_bytes()),
            ("application/json", format!(r#"{{"ids":[{}]}}"#, list(&asked)).into_bytes()),
            ("application/octet-stream", asked.iter().flat_map(|id| id.to_le_bytes()).collect()),
        ] {
            let response = self.client.send("POST", &target, content_type, &body);
            assert_eq!(response.brief(), (200, wanted.as_str()), "t {t}, {content_type}");
        }
    }

    fn check_curve(&mut self, book: &Book, seen: &mut Seen) {
        let to = self.random.within(NOON + 1, book.now.max(NOON + 1)).min(book.now);
        let from = to - self.random.within(1, [3, 60, 1_500][self.random.0 as usize % 3]);
        let seconds = to - from;
        let step = self.random.within(1, seconds + seconds / 4);
        let body = self.get(&format!("/v1/concurrency?from={from}&to={to}&step={step}"));
        let wanted = book.curve(from, to, step);
        assert_eq!(body, wanted, "from {from} to {to}");
        seen.curves_cut_short += u64::from(!seconds.is_multiple_of(step));
        let peak: Value = serde_json::from_str(&wanted).unwrap();
        seen.peaks_above_one += u64::from(peak["peak"]["online"].as_u64().unwrap() > 1);
    }
}

/// Of nobody there is a page, too.
fn chunks(users: &[i64], limit: usize) -> Vec<&[i64]> {
    if users.is_empty() { vec![users] } else { users.chunks(limit).collect() }
}

fn note_page(book: &Book, page: &[i64], next: Option<&[i64]>, seen: &mut Seen) {
    let Some(next) = next else { return };
    let shard = |id: Option<&i64>| id.map(|id| book.shards[id]);
    seen.pages += 1;
    seen.pages_within_a_shard += u64::from(shard(page.last()) == shard(next.first()));
}

fn next_of(body: &str) -> Option<String> {
    let next = serde_json::from_str::<Value>(body).unwrap()["next"].as_str().map(str::to_owned);
    let is_plain =
        |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    assert!(next.as_ref().is_none_or(is_plain), "{next:?}");
    next
}

fn quoted(next: Option<&str>) -> String {
    next.map_or("null".into(), |next| format!("\"{next}\""))
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn lines(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn live_through(seeds: std::ops::Range<u64>, users: u32, checks: u32, seen: &mut Seen) {
    for seed in seeds {
        println!("seed {seed} of {users} users");
        let mut life = Life::begin(seed, users);
        for _ in 0..checks {
            (0..12).for_each(|_| life.step());
            life.check(seen);
        }
    }
}

#[test]
fn every_answer_is_what_an_export_says() {
    let mut seen = Seen::default();
    live_through(0..5, 5, 5, &mut seen);
    live_through(0..2, 60, 4, &mut seen);
    live_through(0..1, 2_000, 4, &mut seen);
    println!("{seen:?}");
    assert!(seen.pages > 100 && seen.pages_within_a_shard > 0, "{seen:?}");
    assert!(seen.outages > 3 && seen.online_before > 20, "{seen:?}");
    assert!(seen.curves_cut_short > 20 && seen.peaks_above_one > 20, "{seen:?}");
}

#[test]
#[ignore = "long: fifty times as many histories"]
fn very_many_answers_are_what_an_export_says() {
    let mut seen = Seen::default();
    live_through(100..350, 5, 5, &mut seen);
    live_through(100..200, 60, 4, &mut seen);
    live_through(100..150, 2_000, 4, &mut seen);
    println!("{seen:?}");
}

/// Ana from noon until 12:00:07, and Bo from 12:00:05 on; it is 12:00:10.
fn ana_and_bo() -> Service {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    service.clock.advance(5);
    service.call("PUT", "/heal/2");
    service.clock.advance(5);
    service
}

#[test]
fn a_day_in_steps_of_five_minutes_up_to_now_is_what_is_asked_for_by_default() {
    let service = ana_and_bo();
    let curve: Value = serde_json::from_str(&service.get("/v1/concurrency")).unwrap();
    let points = curve["points"].as_array().unwrap();
    assert_eq!((curve["step"].as_u64(), points.len()), (Some(300), 288));
    assert_eq!(points[0].to_string(), format!(r#"{{"max":0,"mean":0.0,"min":0,"t":{}}}"#, NOON + 10 - DAY));
    assert_eq!(points[287].to_string(), format!(r#"{{"max":2,"mean":0.04,"min":0,"t":{}}}"#, NOON - 290));
    assert_eq!(curve["peak"].to_string(), format!(r#"{{"at":{},"online":2}}"#, NOON + 5));
}

#[rstest]
#[case(0, 1, 1)]
#[case(0, 288, 1)]
#[case(0, 289, 2)]
#[case(0, 3_600, 15)]
#[case(0, DAY + 1, 600)]
#[case(0, 7 * DAY, 3_600)]
#[case(0, 35 * DAY, 10_800)]
fn without_a_step_it_is_the_least_usual_one(#[case] from: u32, #[case] seconds: u32, #[case] step: u64) {
    let service = Service::start();
    let curve = service.get(&format!("/v1/concurrency?from={from}&to={}", from + seconds));
    let curve: Value = serde_json::from_str(&curve).unwrap();
    let points = curve["points"].as_array().unwrap().len() as u64;
    assert_eq!((curve["step"].as_u64(), points), (Some(step), u64::from(seconds).div_ceil(step)));
}

#[test]
fn ids_are_strings_when_that_is_asked_for() {
    let service = ana_and_bo();
    assert_eq!(service.get("/v1/online/users?id_format=string"), r#"{"users":["2"],"next":null}"#);
    let at = service.get(&format!("/v1/online/at?t={}&id_format=string", NOON + 4));
    assert_eq!(at, r#"{"at":1638360004,"online":1,"users":["1"],"next":null,"outage":false}"#);
    let of = service.send("POST", "/v1/online/at?id_format=string", "text/plain", b"2\n1\n2");
    assert_eq!(of.body, r#"{"at":1638360010,"online":2,"users":["2","2"],"next":null,"outage":false}"#);
}

#[test]
fn pages_of_a_second_stay_in_it_while_time_passes() {
    let service = Service::start();
    service.send("POST", "/v1/heal", "text/plain", b"1\n2");
    let first = service.get("/v1/online/at?limit=1");
    service.clock.advance(60);
    let next = next_of(&first).unwrap();
    let second = service.get(&format!("/v1/online/at?limit=1&after={next}"));
    assert!(
        second.starts_with(r#"{"at":1638360000,"users":["#)
            && second.ends_with(r#""next":null,"outage":false}"#),
        "{second}"
    );
    let other = service.call("GET", &format!("/v1/online/at?t=5&after={next}"));
    assert_eq!(other.brief(), (400, r#"{"error":"t: leave it out beside after, which knows the second"}"#));
}

/// Cursors that nobody has given out name a place, too.
#[test]
fn a_cursor_that_was_made_up_is_a_place_like_any_other() {
    let service = ana_and_bo();
    for cursor in ["offffffffffffffff-0", "o400-0", "o3ff-7fffffffffffffff"] {
        assert_eq!(service.get(&format!("/v1/online/users?after={cursor}")), r#"{"users":[],"next":null}"#);
    }
    let later = service.get("/v1/online/at?after=tffffffffffffffff-0-8000000000000000");
    assert!(later.starts_with(r#"{"at":1638360010,"users":[2],"#), "no later than now: {later}");
}

#[rstest]
#[case("/v1/online/users?limit=0", "limit: write a number from 1 to 10000")]
#[case("/v1/online/users?limit=10001", "limit: write a number from 1 to 10000")]
#[case("/v1/online/users?limit=1&limit=1", "limit: given more than once")]
#[case("/v1/online/users?after=", "after: write what `next` said in the page before")]
#[case("/v1/online/users?after=t1-2-3", "after: write what `next` said in the page before")]
#[case("/v1/online/users?t=1", "t: no such parameter here")]
#[case("/v1/online/users?id_format=hex", "id_format: write number or string")]
#[case("/v1/online/at?t=1638360001", "t: write a second that has begun; it is 1638360000")]
#[case("/v1/online/at?t=4294967296", "t: write a number from 0 to 4294967295")]
#[case("/v1/online/at?t=-1", "t: write a number from 0 to 4294967295")]
#[case("/v1/online/at?t=", "t: write a number from 0 to 4294967295")]
#[case("/v1/online/at?limit=x", "limit: write a number from 1 to 10000")]
#[case("/v1/online/at?after=o1-2", "after: write what `next` said in the page before")]
#[case("/v1/online/at?ids=1", "ids: no such parameter here")]
#[case("/v1/concurrency?to=1638360001", "to: write a second that has begun; it is 1638360000")]
#[case("/v1/concurrency?to=0", "to: write a second after 0")]
#[case("/v1/concurrency?from=5&to=5", "from: write a second before 5, where the range ends")]
#[case("/v1/concurrency?from=6&to=5", "from: write a second before 5, where the range ends")]
#[case("/v1/concurrency?from=1638360000", "from: write a second before 1638360000, where the range ends")]
#[case("/v1/concurrency?from=0&to=3024001", "from: write a second at most 35 days before that of to")]
#[case("/v1/concurrency?step=0", "step: write a number from 1 to 3024000")]
#[case("/v1/concurrency?step=3024001", "step: write a number from 1 to 3024000")]
#[case(
    "/v1/concurrency?step=43",
    "step: write at least 44, which makes no more than 2,000 points of this range"
)]
#[case(
    "/v1/concurrency?from=0&to=2001&step=1",
    "step: write at least 2, which makes no more than 2,000 points of this range"
)]
#[case("/v1/concurrency?limit=1", "limit: no such parameter here")]
fn what_cannot_be_asked_is_refused_by_name(#[case] target: &str, #[case] error: &str) {
    let service = Service::start();
    let refused = service.call("GET", target);
    assert_eq!((refused.status, refused.body), (400, format!(r#"{{"error":"{error}"}}"#)));
}

#[rstest]
#[case("/v1/online/at?t=1638360001", "1", 400, "t: write a second that has begun; it is 1638360000")]
#[case("/v1/online/at?limit=1", "1", 400, "limit: no such parameter here")]
#[case("/v1/online/at?after=t1-2-3", "1", 400, "after: no such parameter here")]
#[case("/v1/online/at", "1\nx", 400, "ids[1]: invalid user_id format")]
#[case("/v1/online/users", "1", 405, "method not allowed; see the Allow header")]
#[case("/v1/concurrency", "1", 405, "method not allowed; see the Allow header")]
fn what_cannot_be_asked_of_those_named_is_refused_by_name(
    #[case] target: &str,
    #[case] body: &str,
    #[case] status: u16,
    #[case] error: &str,
) {
    let service = Service::start();
    let refused = service.send("POST", target, "text/plain", body.as_bytes());
    assert_eq!((refused.status, refused.body), (status, format!(r#"{{"error":"{error}"}}"#)));
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let service = ana_and_bo();
    let target =
        [String::from("/v1/online/users"), format!("/v1/online/at?t={NOON}"), "/v1/concurrency".into()];
    for target in target {
        let (got, head) = (service.call("GET", &target), service.call("HEAD", &target));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{target}");
        assert_eq!(head.header("content-length"), Some(got.body.len().to_string().as_str()), "{target}");
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
    }
}

/// A clock that stands still, and at which the thread for queries is held up until the gate opens.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Clock for Gate {
    fn now(&self) -> UnixSeconds {
        if std::thread::current().name() == Some("queries") {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
        UnixSeconds::new(NOON)
    }

    fn until(&self, _: UnixSeconds) -> Duration {
        Duration::ZERO
    }
}

fn held_up() -> (Service, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let clock = Arc::clone(&gate);
    (Service::start_with(|engine| engine.clock(clock), |_| {}), gate)
}

/// Opens the gate also when a test fails, or the service would wait for its thread for ever.
struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

const QUERY: &str = "GET /v1/online/users HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn beyond_twenty_queries_at_once_a_query_is_refused_and_heals_go_on() {
    let (service, gate) = held_up();
    let opens = Opens(Arc::clone(&gate));
    let (answered, answers) = channel();
    for _ in 0..30 {
        let (mut client, answered) = (service.connect(), answered.clone());
        client.write(QUERY);
        std::thread::spawn(move || answered.send(client.response()));
    }
    // One to four are under way, as many as there were when the first was begun, and sixteen wait.
    for _ in 0..10 {
        let refused = answers.recv().unwrap();
        assert_eq!(
            refused.brief(),
            (
                503,
                r#"{"error":"20 queries over everybody are under way or waiting; repeat the request in a moment"}"#
            )
        );
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(service.call("PUT", "/heal/1").status, 200);
    drop(opens);
    let taken = (0..20).filter(|_| answers.recv().unwrap().status == 200).count();
    assert!((17..=20).contains(&taken), "{taken}");
}

#[test]
fn a_client_that_goes_gives_its_place_away() {
    let (service, gate) = held_up();
    let opens = Opens(Arc::clone(&gate));
    let mut go: Vec<Client> = (0..30).map(|_| service.connect()).collect();
    for client in &mut go {
        client.write(QUERY);
    }
    // Until all places are taken, and ten clients have been refused.
    while go.iter_mut().map(Client::is_silent).filter(|is_silent| !is_silent).count() < 10 {
        std::thread::yield_now();
    }
    drop(go);
    let mut refused = 0;
    let taken = loop {
        let (answered, answers) = channel();
        let mut client = service.connect();
        client.write(QUERY);
        std::thread::spawn(move || answered.send(client.response()));
        // A refusal comes at once. If none does, the query waits at the gate.
        match answers.recv_timeout(Duration::from_millis(500)) {
            Ok(response) => assert_eq!(response.status, 503),
            Err(_) => break answers,
        }
        refused += 1;
        assert!(refused < 5_000, "the places of clients that have gone are not given away");
        if refused % 100 == 0 {
            std::thread::yield_now();
        }
    };
    drop(opens);
    assert_eq!(taken.recv().unwrap().brief(), (200, r#"{"users":[],"next":null}"#));
}

#[test]
fn who_ends_their_side_before_the_answer_is_told_so() {
    let (service, gate) = held_up();
    let _opens = Opens(Arc::clone(&gate));
    let mut client = service.connect();
    client.write(QUERY);
    client.finish();
    let refused = client.response();
    assert_eq!(
        refused.brief(),
        (
            400,
            r#"{"error":"keep your side of the connection open until the answer to a query over everybody has come"}"#
        )
    );
    assert!(client.is_closed());
}

/// The engine, and with it the data directory, is free as soon as the service has ended.
#[test]
fn a_query_under_way_does_not_outlive_the_service() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..5 {
        let service = Service::open(folder.path(), Durability::Process, NOON + life);
        let ids: Vec<u8> = (0..20_000_i64).flat_map(i64::to_le_bytes).collect();
        service.send("POST", "/v1/heal", "application/octet-stream", &ids);
        let mut clients: Vec<Client> = (0..10).map(|_| service.connect()).collect();
        for client in &mut clients {
            client.write("GET /v1/concurrency HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        let Service { engine, server, .. } = service;
        drop(server);
        assert_eq!(Arc::strong_count(&engine), 1);
    }
}
