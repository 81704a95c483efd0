//! Following what happens, over a real socket: `GET /v1/watch` and `GET /v1/events`.
//!
//! The first tests are single stories with their texts written out. Then whoever follows is checked against a model that keeps
//! a list of what has happened to each user: heals, leaves, forgets and sweeps at random, connections cut at random, rings so small
//! that they are overrun. What is seen must be the list, each entry once, or a `reset` that was due. At the end threads
//! do it all at once.
//!
//! Seen to be caught, each planted alone: see the tests.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heartbeat::config::Settings;
use heartbeat::{Builder, Engine, ManualClock, Progress, Status, Ttl, UnixSeconds, UserId, http};
use rstest::rstest;
use serde_json::{Value, json};
use wire::{Client, NOON, PATIENCE, Service};

/// A stream of events, read as a browser reads it.
struct Source {
    stream: BufReader<TcpStream>,
    head: String,
    text: String,
    /// The id seen last, which a browser sends when it comes back.
    last_id: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Message {
    event: String,
    data: Value,
    id: String,
}

impl Source {
    fn open(address: SocketAddr, target: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n").as_bytes()).unwrap();
        let mut source = Self {
            stream: BufReader::new(stream),
            head: String::new(),
            text: String::new(),
            last_id: String::new(),
        };
        while !source.head.ends_with("\r\n\r\n") {
            assert!(source.stream.read_line(&mut source.head).unwrap() > 0, "closed instead of an answer");
        }
        assert!(source.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", source.head);
        source.last_id = last_event_id.unwrap_or_default().to_owned();
        source
    }

    /// The next event; `None` at the stream's end.
    fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(message) = self.dispatch(&block) {
                    return Some(message);
                }
            } else if !self.fill() {
                return None;
            }
        }
    }

    /// As the standard says: an id counts also without data, and without data there is no event.
    fn dispatch(&mut self, block: &str) -> Option<Message> {
        let (mut event, mut data) = (String::new(), String::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("event", name)) => name.clone_into(&mut event),
                Some(("data", text)) => text.clone_into(&mut data),
                _ => assert!(line.starts_with(':'), "{line:?}"),
            }
        }
        (!data.is_empty()).then(|| Message {
            event,
            data: serde_json::from_str(&data).unwrap(),
            id: self.last_id.clone(),
        })
    }

    fn fill(&mut self) -> bool {
        let mut head = String::new();
        self.stream.read_line(&mut head).unwrap();
        let Ok(length) = usize::from_str_radix(head.trim_end(), 16) else {
            panic!("the stream was cut: {head:?}");
        };
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        self.text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        length > 0
    }

    /// The next event's name and what it says.
    fn expect(&mut self, event: &str, data: Value) {
        let message = self.next().unwrap();
        assert_eq!((message.event.as_str(), &message.data), (event, &data));
    }

    /// A snapshot, whose `seq` is its id.
    fn expect_snapshot(&mut self, mut data: Value) {
        let message = self.next().unwrap();
        data["seq"] = json!(message.id);
        assert_eq!((message.event.as_str(), &message.data), ("snapshot", &data));
    }
}

fn follow(engine: Builder) -> Builder {
    engine.events_held(1_000)
}

fn service() -> Service {
    Service::start_with(follow, |_| {})
}

fn watch(service: &Service, target: &str) -> Source {
    Source::open(service.address(), target, None)
}

fn passes(service: &Service, seconds: u32) {
    for _ in 0..seconds {
        service.clock.advance(1);
        service.engine.sweep();
    }
}

#[test]
fn a_stream_is_for_now_and_begins_with_how_many_are_online() {
    let service = service();
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/2");
    let mut source = watch(&service, "/v1/watch");
    for header in ["content-type: text/event-stream", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(source.head.contains(&format!("\r\n{header}\r\n")), "{}", source.head);
    }
    source.expect_snapshot(json!({"online": 2}));
    service.call("DELETE", "/heal/1");
    source.expect("offline", json!({"id": 1, "at": NOON, "reason": "left"}));

    let head = service.call("HEAD", "/v1/watch");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
}

/// A session is over when nobody can extend it any more, and that is told with the second in which it ended.
#[test]
fn whoever_does_not_heal_is_told_to_be_offline_one_second_after_ttl_and_grace() {
    let service = Service::start_with(|engine| follow(engine).grace_seconds(2), |_| {});
    let mut source = watch(&service, "/v1/watch?ids=7");
    source.expect_snapshot(json!({"users": [{"id": 7, "status": "offline"}]}));
    service.call("PUT", "/heal/7");
    source.expect("online", json!({"id": 7, "at": NOON}));
    passes(&service, 8);
    assert_eq!(service.get("/checkup/7"), r#"{"id":7,"status":"offline"}"#);
    // Nothing has been told, for a heal could still extend the session; and whoever comes now must not be told otherwise.
    watch(&service, "/v1/watch?ids=7").expect_snapshot(json!({"users": [{"id": 7, "status": "online"}]}));
    passes(&service, 1);
    service.call("PUT", "/heal/8");
    watch(&service, "/v1/watch?ids=7").expect_snapshot(json!({"users": [{"id": 7, "status": "online"}]}));
    passes(&service, 1);
    source.expect("offline", json!({"id": 7, "at": NOON + 7, "reason": "lapsed"}));
}

#[test]
fn a_heal_that_extends_a_session_is_nothing_to_tell() {
    let service = service();
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    service.call("PUT", "/heal/1");
    for _ in 0..3 {
        passes(&service, 5);
        service.call("PUT", "/heal/1");
        service.call("PUT", "/heal/1");
    }
    service.call("DELETE", "/v1/users/1");
    source.expect("online", json!({"id": 1, "at": NOON}));
    source.expect("offline", json!({"id": 1, "at": NOON + 15, "reason": "forgotten"}));
}

#[test]
fn a_heal_over_a_session_that_was_not_swept_tells_its_end_first() {
    let service = service();
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    service.call("PUT", "/heal/1");
    service.clock.advance(60);
    service.call("PUT", "/heal/1");
    service.clock.advance(60);
    service.call("DELETE", "/heal/1");
    service.call("PUT", "/heal/1");
    service.clock.advance(60);
    service.call("DELETE", "/v1/users/1");
    for begin in [NOON, NOON + 60, NOON + 120] {
        source.expect("online", json!({"id": 1, "at": begin}));
        source.expect("offline", json!({"id": 1, "at": begin + 7, "reason": "lapsed"}));
    }
}

#[test]
fn leaving_and_healing_in_one_second_is_told_each_time() {
    let service = service();
    let mut source = watch(&service, "/v1/watch?id_format=string");
    source.expect_snapshot(json!({"online": 0}));
    for _ in 0..3 {
        service.call("PUT", "/heal/-9223372036854775808");
        service.call("DELETE", "/heal/-9223372036854775808");
    }
    for _ in 0..3 {
        source.expect("online", json!({"id": "-9223372036854775808", "at": NOON}));
        source.expect("offline", json!({"id": "-9223372036854775808", "at": NOON, "reason": "left"}));
    }
}

/// In the seconds of grace a session has ended for whoever leaves.
#[test]
fn whoever_leaves_or_is_forgotten_after_the_deadline_was_online_until_the_deadline() {
    let service = Service::start_with(|engine| follow(engine).grace_seconds(5), |_| {});
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/2");
    service.clock.advance(9);
    service.call("DELETE", "/heal/1");
    service.call("DELETE", "/v1/users/2");
    source.expect("online", json!({"id": 1, "at": NOON}));
    source.expect("online", json!({"id": 2, "at": NOON}));
    source.expect("offline", json!({"id": 1, "at": NOON + 7, "reason": "left"}));
    source.expect("offline", json!({"id": 2, "at": NOON + 7, "reason": "forgotten"}));
}

#[test]
fn a_live_session_that_is_imported_is_told_and_a_closed_one_is_not() {
    let service = service();
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    let lines = [(1, NOON - 60, NOON - 50), (1, NOON - 40, NOON + 5), (2, NOON - 3, NOON + 500)]
        .map(|(id, from, to)| format!(r#"{{"id":{id},"online_at":{from},"offline_at":{to}}}"#));
    service.send("POST", "/v1/import", "application/x-ndjson", lines.join("\n").as_bytes());
    source.expect("online", json!({"id": 1, "at": NOON - 40}));
    source.expect("online", json!({"id": 2, "at": NOON - 3}));
    passes(&service, 8);
    source.expect("offline", json!({"id": 1, "at": NOON + 5, "reason": "lapsed"}));
    source.expect("offline", json!({"id": 2, "at": NOON + 7, "reason": "lapsed"}));
}

#[test]
fn a_watcher_that_comes_back_goes_on_where_it_was() {
    let service = service();
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    let first = source.last_id.clone();
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/2");
    source.expect("online", json!({"id": 1, "at": NOON}));
    let last_id = source.last_id.clone();
    drop(source);
    service.call("DELETE", "/heal/1");
    let rest = |source: &mut Source| {
        source.expect("online", json!({"id": 2, "at": NOON}));
        source.expect("offline", json!({"id": 1, "at": NOON, "reason": "left"}));
    };
    rest(&mut Source::open(service.address(), "/v1/watch", Some(&last_id)));
    rest(&mut watch(&service, &format!("/v1/watch?after={last_id}")));
    // What a browser has seen since then counts, not the URL that it began with.
    rest(&mut Source::open(service.address(), &format!("/v1/watch?after={first}"), Some(&last_id)));
    let mut one = watch(&service, &format!("/v1/watch?ids=1&after={first}"));
    one.expect("online", json!({"id": 1, "at": NOON}));
    one.expect("offline", json!({"id": 1, "at": NOON, "reason": "left"}));
}

#[rstest]
#[case::of_another_run("e1-1")]
#[case::no_cursor("yesterday")]
#[case::nothing("")]
fn what_a_browser_brings_from_elsewhere_begins_anew(#[case] last_event_id: &str) {
    let service = service();
    service.call("PUT", "/heal/1");
    let mut source = Source::open(service.address(), "/v1/watch?ids=1,2", Some(last_event_id));
    source.expect("reset", json!({}));
    source.expect_snapshot(json!({"users": [{"id": 1, "status": "online"}, {"id": 2, "status": "offline"}]}));
    service.call("DELETE", "/heal/1");
    source.expect("offline", json!({"id": 1, "at": NOON, "reason": "left"}));
}

#[rstest]
#[case("/v1/watch?ids=", "ids: write 1 to 1000 user ids, separated by commas")]
#[case("/v1/watch?ids=1,2,x", "ids[2]: invalid user_id format")]
#[case("/v1/watch?ids=1,", "ids[1]: invalid user_id format")]
#[case("/v1/watch?after=x", "after: write what `next` said in the page before")]
#[case("/v1/watch?limit=1", "limit: no such parameter here")]
#[case("/v1/events?ids=1", "ids: no such parameter here")]
#[case("/v1/events?wait=31", "wait: write a number from 0 to 30")]
#[case("/v1/events?limit=0", "limit: write a number from 1 to 10000")]
#[case("/v1/events?after=1", "after: write what `next` said in the page before")]
fn what_is_wrong_is_said(#[case] target: &str, #[case] error: &str) {
    let refused = service().call("GET", target);
    assert_eq!((refused.status, refused.body), (400, json!({"error": error}).to_string()));
}

#[test]
fn a_thousand_ids_may_be_named_and_no_more() {
    let service = service();
    let target = |count: i64| {
        let ids: Vec<_> = (0..count).map(|id| (id - 500).to_string()).collect();
        format!("/v1/watch?ids={}", ids.join(","))
    };
    let message = watch(&service, &target(1_000)).next().unwrap();
    assert_eq!(message.data["users"].as_array().unwrap().len(), 1_000);
    assert_eq!(service.call("GET", &target(1_001)).status, 400);
}

#[test]
fn while_it_recovers_and_where_nothing_is_held_nobody_can_follow() {
    let server = http::Server::listen(&wire::settings(), Arc::new(Progress::default())).unwrap();
    let recovering = (503, r#"{"error":"recovering 0%; repeat the request in a moment"}"#);
    let without = Service::start();
    let not_held = (501, r#"{"error":"this service holds no events: its setting events-held is 0"}"#);
    for target in ["/v1/watch", "/v1/events"] {
        let refused = Client::connect(server.addresses()[0]).call("GET", target);
        assert_eq!(refused.brief(), recovering);
        assert_eq!(without.call("GET", target).brief(), not_held);
    }
}

/// What a poll says, and where the next one begins.
fn poll(response: &wire::Response) -> (Value, String) {
    assert_eq!(response.status, 200, "{response:?}");
    let mut body: Value = serde_json::from_str(&response.body).unwrap();
    (body["events"].take(), body["next"].as_str().unwrap().to_owned())
}

#[test]
fn a_poll_gives_what_came_after_the_one_before() {
    let service = service();
    service.call("PUT", "/heal/1");
    let response = service.call("GET", "/v1/events");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let (events, start) = poll(&response);
    assert_eq!(events, json!([]), "from now on");

    service.call("PUT", "/heal/2");
    service.call("DELETE", "/heal/2");
    service.call("DELETE", "/v1/users/1");
    let online = json!({"event": "online", "id": 2, "at": NOON});
    let left = json!({"event": "offline", "id": 2, "at": NOON, "reason": "left"});
    let forgotten = json!({"event": "offline", "id": "1", "at": NOON, "reason": "forgotten"});
    let (events, next) = poll(&service.call("GET", &format!("/v1/events?limit=2&after={start}")));
    assert_eq!(events, json!([online, left]));
    let (events, next) = poll(&service.call("GET", &format!("/v1/events?id_format=string&after={next}")));
    assert_eq!(events, json!([forgotten]));
    let (events, end) = poll(&service.call("GET", &format!("/v1/events?after={next}")));
    assert_eq!((events, end), (json!([]), next));
}

#[test]
fn a_poll_that_waits_is_answered_with_the_next_event_or_when_its_time_is_over() {
    let service = service();
    let (_, start) = poll(&service.call("GET", "/v1/events"));
    let mut waiting = service.connect();
    waiting.write(format!("GET /v1/events?wait=30&after={start} HTTP/1.1\r\nHost: a\r\n\r\n"));
    while !service.get("/metrics").contains("\nheartbeat_watchers 1\n") {}
    assert!(waiting.is_silent());
    service.call("PUT", "/heal/1");
    let (events, next) = poll(&waiting.response());
    assert_eq!(events, json!([{"event": "online", "id": 1, "at": NOON}]));
    let (events, end) = poll(&waiting.call("GET", &format!("/v1/events?wait=1&after={next}")));
    assert_eq!((events, end), (json!([]), next));
}

#[test]
fn a_poll_from_before_what_is_held_is_gone() {
    let service = Service::start_with(|engine| engine.events_held(2), |_| {});
    let (_, start) = poll(&service.call("GET", "/v1/events"));
    let target = format!("/v1/events?after={start}");
    for id in 1..=2 {
        service.call("PUT", &format!("/heal/{id}"));
    }
    assert_eq!(poll(&service.call("GET", &target)).0.as_array().unwrap().len(), 2);
    service.call("PUT", "/heal/3");
    let error = concat!(
        r#"{"error":"after: this is older than what is held, or of another run of the service; "#,
        r#"begin again without it"}"#
    );
    assert_eq!(service.call("GET", &target).brief(), (410, error));
    assert_eq!(service.call("GET", "/v1/events?after=e1-2").brief(), (410, error));
}

#[test]
fn a_watcher_that_the_ring_has_overtaken_is_told_and_closed() {
    let service = Service::start_with(|engine| engine.events_held(4), |_| {});
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    // At once, as it were: the next look at the ring is a tenth of a second away.
    for id in 0..100_000 {
        service.engine.heal(UserId::new(id)).unwrap();
    }
    let lagged = loop {
        let message = source.next().unwrap();
        if message.event != "online" {
            break message;
        }
    };
    assert_eq!((lagged.event.as_str(), &lagged.data), ("lagged", &json!({})));
    assert_eq!(source.next(), None);
    Source::open(service.address(), "/v1/watch", Some(&source.last_id)).expect("reset", json!({}));
    assert!(service.get("/metrics").contains("\nheartbeat_watch_lagged_total 1\n"));
}

#[test]
fn who_follows_is_counted_and_is_not_in_flight() {
    let service = service();
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 0}));
    let metrics = service.get("/metrics");
    assert!(metrics.contains("\nheartbeat_watchers 1\n"));
    // The scrape itself.
    assert!(metrics.contains("\nheartbeat_http_requests_in_flight 1\n"));
    assert!(
        metrics
            .contains("heartbeat_http_requests_total{route=\"/v1/watch\",method=\"GET\",code=\"200\"} 1\n")
    );
    drop(source);
    // That it has gone is noticed when something is sent to it.
    let mut id = 0;
    while !service.get("/metrics").contains("\nheartbeat_watchers 0\n") {
        id += 1;
        service.call("PUT", &format!("/heal/{id}"));
    }
}

/// One who reads nothing cannot be told; the others must not wait for that.
#[test]
fn when_the_service_drains_watchers_are_told_and_closed_and_polls_are_answered() {
    let mut service = Service::start_with(|engine| engine.events_held(1_000_000), |_| {});
    let mut deaf = watch(&service, "/v1/watch");
    deaf.expect_snapshot(json!({"online": 0}));
    // More than the kernel holds for one who does not read.
    for id in 0..400_000 {
        service.engine.heal(UserId::new(id)).unwrap();
    }
    let mut source = watch(&service, "/v1/watch");
    source.expect_snapshot(json!({"online": 400_000}));
    let mut waiting = service.connect();
    waiting.write("GET /v1/events?wait=30 HTTP/1.1\r\nHost: a\r\n\r\n");
    while !service.get("/metrics").contains("\nheartbeat_watchers 3\n") {}

    assert!(service.server.drain(PATIENCE), "all connections have ended in time");
    source.expect("draining", json!({}));
    assert_eq!(source.next(), None);
    assert_eq!(poll(&waiting.response()).0, json!([]));
    drop(deaf);
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What has happened to each user, by the rules: a list for each, and who has a session that is not told to be over.
struct Model {
    now: u32,
    grace: u32,
    live: BTreeMap<i64, u32>,
    told: BTreeMap<i64, Vec<(&'static str, Value)>>,
    total: u64,
}

const TTL: u32 = 2;
const USERS: i64 = 6;

impl Model {
    fn new(grace: u32) -> Self {
        let told = (0..USERS).map(|id| (id, Vec::new())).collect();
        Self { now: NOON, grace, live: BTreeMap::new(), told, total: 0 }
    }

    fn tell(&mut self, id: i64, event: &'static str, data: Value) {
        self.told.get_mut(&id).unwrap().push((event, data));
        self.total += 1;
    }

    fn end(&mut self, id: i64, at: u32, reason: &str) {
        self.live.remove(&id);
        self.tell(id, "offline", json!({"id": id, "at": at, "reason": reason}));
    }

    /// Until when the session lasts, if it is not over for good; one that is lapses.
    fn extendable(&mut self, id: i64) -> Option<u32> {
        let deadline = *self.live.get(&id)?;
        if self.now <= deadline + self.grace {
            return Some(deadline);
        }
        self.end(id, deadline, "lapsed");
        None
    }

    fn heal(&mut self, id: i64) {
        if self.extendable(id).is_none() {
            self.tell(id, "online", json!({"id": id, "at": self.now}));
        }
        self.live.insert(id, self.now + TTL);
    }

    fn stop(&mut self, id: i64, reason: &str) {
        if let Some(deadline) = self.extendable(id) {
            self.end(id, deadline.min(self.now), reason);
        }
    }

    fn sweep(&mut self) {
        for id in 0..USERS {
            self.extendable(id);
        }
    }
}

/// Whoever follows, and how much of each user's list it has seen.
struct Follower {
    ids: Option<Vec<i64>>,
    source: Option<Source>,
    last_id: String,
    seen: HashMap<i64, usize>,
    resets: u64,
    resumed: u64,
}

impl Follower {
    fn new(ids: Option<&[i64]>) -> Self {
        let ids = ids.map(<[i64]>::to_vec);
        Self { ids, source: None, last_id: String::new(), seen: HashMap::new(), resets: 0, resumed: 0 }
    }

    fn wanted(&self) -> Vec<i64> {
        self.ids.clone().unwrap_or_else(|| (0..USERS).collect())
    }

    /// Connects, from where it was if it was anywhere, and checks that it is reset if it has to be and only then.
    fn connect(&mut self, address: SocketAddr, model: &Model, held: u64, dice: &mut Dice) {
        let mut target = "/v1/watch?id_format=number".to_owned();
        if let Some(ids) = &self.ids {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            target += &format!("&ids={}", ids.join(","));
        }
        let header = if self.last_id.is_empty() {
            None
        } else if dice.roll(2) == 0 {
            Some(self.last_id.clone())
        } else {
            target += &format!("&after={}", self.last_id);
            None
        };
        let mut source = Source::open(address, &target, header.as_deref());
        if !self.last_id.is_empty() && self.missed(model) <= held {
            source.last_id.clone_from(&self.last_id);
            self.resumed += 1;
        } else {
            if !self.last_id.is_empty() {
                source.expect("reset", json!({}));
                self.resets += 1;
            }
            self.take_snapshot(&mut source, model);
        }
        self.source = Some(source);
    }

    /// How many events there have been since the last that it knows of.
    fn missed(&self, model: &Model) -> u64 {
        model.total - u64::from_str_radix(self.last_id.split_once('-').unwrap().1, 16).unwrap()
    }

    fn take_snapshot(&mut self, source: &mut Source, model: &Model) {
        if self.ids.is_some() {
            let status = |id| if model.live.contains_key(id) { "online" } else { "offline" };
            let users: Vec<_> =
                self.wanted().iter().map(|id| json!({"id": id, "status": status(id)})).collect();
            source.expect_snapshot(json!({ "users": users }));
        } else {
            source.expect_snapshot(json!({"online": model.live.len()}));
        }
        self.seen = self.wanted().into_iter().map(|id| (id, model.told[&id].len())).collect();
        self.last_id.clone_from(&source.last_id);
        assert_eq!(self.missed(model), 0, "a snapshot is of now");
    }

    fn is_behind(&self, model: &Model) -> bool {
        self.seen.iter().any(|(id, seen)| *seen < model.told[id].len())
    }

    /// Takes one event, which must be the next of its user. False if the ring has overtaken it.
    fn take(&mut self, model: &Model, held: u64) -> bool {
        let message = self.source.as_mut().unwrap().next().unwrap();
        if message.event == "lagged" {
            assert!(self.missed(model) > held, "nothing it needed was gone");
            assert_eq!(self.source.as_mut().unwrap().next(), None);
            self.source = None;
            return false;
        }
        let id = message.data["id"].as_i64().unwrap();
        let seen = self.seen.get_mut(&id).expect("one that was asked for");
        let next = model.told[&id].get(*seen);
        let next = next.unwrap_or_else(|| panic!("{message:?} was told twice, or never was"));
        assert_eq!((message.event.as_str(), &message.data), (next.0, &next.1));
        *seen += 1;
        let number = |id: &str| u64::from_str_radix(id.split_once('-').unwrap().1, 16).unwrap();
        assert!(number(&message.id) > number(&self.last_id), "in order");
        self.last_id = message.id;
        true
    }
}

/// One call at random, to the service and to the model.
fn act(dice: &mut Dice, model: &mut Model, service: &Service, client: &mut Client) {
    let id = i64::try_from(dice.roll(6)).unwrap();
    match dice.roll(12) {
        0..5 => {
            client.call("PUT", &format!("/heal/{id}"));
            model.heal(id);
        }
        5..7 => {
            client.call("DELETE", &format!("/heal/{id}"));
            model.stop(id, "left");
        }
        7 => {
            client.call("DELETE", &format!("/v1/users/{id}"));
            model.stop(id, "forgotten");
        }
        8..10 => {
            let seconds = 1 + u32::try_from(dice.roll(3)).unwrap();
            service.clock.advance(seconds);
            model.now += seconds;
        }
        _ => {
            service.engine.sweep();
            model.sweep();
        }
    }
}

/// Whoever reconnects at random sees every transition once, or is told that it has not.
#[rstest]
#[case::a_tiny_ring(3, 0, 1, true)]
#[case::a_tiny_ring_and_grace(5, 2, 2, true)]
#[case::a_small_ring(12, 1, 3, true)]
#[case::a_ring_that_holds_everything(100_000, 0, 4, false)]
fn followers_see_what_the_model_says(
    #[case] held: usize,
    #[case] grace: u32,
    #[case] seed: u64,
    #[case] is_small: bool,
) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let ttl = Ttl::from_seconds(TTL).unwrap();
    let service =
        Service::start_with(|engine| engine.ttl(ttl).grace_seconds(grace).events_held(held), |_| {});
    let mut model = Model::new(grace);
    let mut client = service.connect();
    let mut polled = Polled::start(&mut client, &model);
    let mut followers = [Follower::new(None), Follower::new(Some(&[0, 3, 5])), Follower::new(Some(&[4]))];
    let held = held as u64;
    for _ in 0..60 {
        for _ in 0..dice.roll(10) {
            act(&mut dice, &mut model, &service, &mut client);
        }
        for follower in &mut followers {
            if follower.source.is_none() {
                follower.connect(service.address(), &model, held, &mut dice);
            }
            match dice.roll(3) {
                // Goes, with whatever was on its way.
                0 => follower.source = None,
                // Stays, and reads later.
                1 => {}
                _ => while follower.is_behind(&model) && follower.take(&model, held) {},
            }
        }
        if dice.roll(2) == 0 {
            polled.go_on(&mut client, &model, held, &mut dice);
        }
    }
    let resets: Vec<_> = followers.iter().map(|follower| follower.resets).chain([polled.resets]).collect();
    let resumed: Vec<_> = followers.iter().map(|follower| follower.resumed).collect();
    assert!(resumed.iter().all(|&resumed| resumed > 1), "{resumed:?}");
    assert!(resets.iter().all(|&resets| (resets > 0) == is_small), "{resets:?}");
}

/// The same by polls.
struct Polled {
    next: String,
    seen: HashMap<i64, usize>,
    resets: u64,
}

impl Polled {
    fn start(client: &mut Client, model: &Model) -> Self {
        let (events, next) = poll(&client.call("GET", "/v1/events"));
        assert_eq!(events, json!([]));
        Self { next, seen: model.told.iter().map(|(id, told)| (*id, told.len())).collect(), resets: 0 }
    }

    fn go_on(&mut self, client: &mut Client, model: &Model, held: u64, dice: &mut Dice) {
        let limit = 1 + dice.roll(8);
        loop {
            let response = client.call("GET", &format!("/v1/events?limit={limit}&after={}", self.next));
            let behind = model.total - u64::from_str_radix(self.next.split_once('-').unwrap().1, 16).unwrap();
            if behind > held {
                assert_eq!(response.status, 410);
                *self = Self { resets: self.resets + 1, ..Self::start(client, model) };
                return;
            }
            let (events, next) = poll(&response);
            let events = events.as_array().unwrap();
            assert_eq!(events.len() as u64, behind.min(limit));
            for event in events {
                let id = event["id"].as_i64().unwrap();
                let (name, mut data) = model.told[&id][self.seen[&id]].clone();
                data["event"] = json!(name);
                assert_eq!(*event, data);
                *self.seen.get_mut(&id).unwrap() += 1;
            }
            self.next = next;
            if events.is_empty() {
                return;
            }
        }
    }
}

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
        threads.into_iter().for_each(|thread| thread.join().unwrap());
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
        let status = states.get_mut(&message.data["id"].as_i64().unwrap()).unwrap();
        assert_ne!(*status, message.event, "{message:?}");
        *status = message.event;
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

/// The engine alone: who embeds it and does not ask for events pays for none.
#[test]
fn an_engine_holds_no_events_unless_it_is_told_to() {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let engine = Engine::builder().clock(clock).build();
    engine.heal(UserId::new(1)).unwrap();
    assert!(engine.events().is_none());
    assert_eq!(engine.announced(UserId::new(1)), Status::Online);
    assert_eq!(Settings::default().events_held, 1_048_576);
}
