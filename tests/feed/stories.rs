//! What is told of one user's comings and goings, and to whom; each with its text.

use std::sync::Arc;

use heartbeat::config::Settings;
use heartbeat::{Builder, Engine, ManualClock, Progress, Status, UnixSeconds, UserId, http};
use rstest::rstest;
use serde_json::json;

use crate::source::Source;
use crate::wire::{self, Client, NOON, PATIENCE, Service};
use crate::{poll, watch};

fn follow(engine: Builder) -> Builder {
    engine.events_held(1_000)
}

fn service() -> Service {
    Service::start_with(follow, |_| {})
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
