//! What one request does to others: a slow one, a panicking one, a large one.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use heartbeat::config::Settings;
use heartbeat::{Clock, Engine, UnixSeconds, http};
use tokio::sync::Notify;
use wire::Service;

const ONLINE: &str = r#"{"status":"online"}"#;

#[test]
fn a_slow_request_in_a_pipeline_delays_only_its_followers() {
    let go = Arc::new(Notify::new());
    let waiting = Arc::clone(&go);
    let slow = Router::new().route(
        "/slow",
        get(|| async move {
            waiting.notified().await;
            "slow"
        }),
    );
    let service = Service::start_with_routes(&slow);
    let mut client = service.connect();
    let heal = |id: u32| format!("PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write(format!("{}{}GET /slow HTTP/1.1\r\nHost: a\r\n\r\n{}", heal(1), heal(2), heal(3)));

    // Those before it are answered although it is not, and so are other connections of the same worker.
    assert_eq!(client.response().brief(), (200, ONLINE));
    assert_eq!(client.response().brief(), (200, ONLINE));
    assert_eq!(service.call("PUT", "/heal/4").brief(), (200, ONLINE));
    assert!(client.is_silent());

    go.notify_one();
    assert_eq!(client.response().brief(), (200, "slow"));
    assert_eq!(client.response().brief(), (200, ONLINE));
}

#[test]
fn a_panicking_handler_is_answered_500_and_harms_nobody() {
    async fn fail() -> &'static str {
        panic!("planted");
    }
    let service = Service::start_with_routes(&Router::new().route("/fail", get(fail)));
    let mut other = service.connect();
    assert_eq!(other.call("PUT", "/heal/1").status, 200);

    let mut client = service.connect();
    for _ in 0..3 {
        assert_eq!(client.call("GET", "/fail").brief(), (500, r#"{"error":"internal server error"}"#));
    }
    assert_eq!(client.call("PUT", "/heal/2").brief(), (200, ONLINE));
    assert_eq!(other.call("PUT", "/heal/1").brief(), (200, ONLINE));
}

/// Fails in the seconds that it is told to.
struct FailingClock(std::sync::atomic::AtomicBool);

impl Clock for FailingClock {
    fn now(&self) -> UnixSeconds {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "planted");
        UnixSeconds::new(wire::NOON)
    }

    fn until(&self, _: UnixSeconds) -> Duration {
        Duration::from_secs(1)
    }
}

/// The clock is read under the user's guard: a panic there must leave no lock behind, either.
#[test]
fn a_panic_in_the_hand_written_match_is_answered_500_and_harms_nobody() {
    let clock = Arc::new(FailingClock(false.into()));
    let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
    let settings = Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads: 1, ..Settings::default() };
    let server = http::Server::start(engine, &settings).unwrap();
    let mut client = wire::Client::connect(server.addresses()[0]);
    assert_eq!(client.call("PUT", "/heal/1").status, 200);

    clock.0.store(true, std::sync::atomic::Ordering::SeqCst);
    for (method, target) in [
        ("PUT", "/heal/1"),
        ("PUT", "/heal/2"),
        ("DELETE", "/heal/1"),
        ("GET", "/checkup/1"),
        ("GET", "/v1/users/1"),
    ] {
        assert_eq!(
            client.call(method, target).brief(),
            (500, r#"{"error":"internal server error"}"#),
            "{target}"
        );
    }
    clock.0.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.call("PUT", "/heal/1").brief(), (200, ONLINE));
    assert_eq!(client.call("GET", "/checkup/2").body, r#"{"id":2,"status":"offline"}"#);
}

#[test]
fn a_client_that_does_not_read_its_answers_delays_nobody() {
    let service = Service::start_with_routes(&Router::new());
    service.call("PUT", "/heal/1");
    let mut deaf = service.connect();
    // Far more answers than the sockets' buffers hold: the service must stop reading from this client, and only from it.
    deaf.set_write_timeout(Duration::from_millis(500));
    let requests = "GET /heart_rhythm/1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    let stopped = (0..1_000).any(|_| deaf.try_write(&requests).is_err());
    assert!(stopped, "45 MB of requests were taken from a client that reads no answers");

    assert_eq!(service.call("PUT", "/heal/1").brief(), (200, ONLINE));
}
