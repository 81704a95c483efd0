//! Whoever asks how the service is doing is answered by a thread of its own, also when no worker goes on.
//!
//! A worker is held up by a route that blocks its thread, as a store into a frozen file system does.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "timeouts are asked how long they took")]

mod wire;

use std::time::{Duration, Instant};

use rstest::rstest;
use wire::hung::HungWorker;
use wire::{Client, PATIENCE, Service};

#[rstest]
fn health_and_metrics_are_answered_when_no_worker_goes_on(
    #[values("GET", "HEAD")] method: &str,
    #[values("/livez", "/healthz", "/readyz", "/metrics", "/livez?verbose")] target: &str,
) {
    let hung = HungWorker::new();
    let answer = hung.service.call(method, target);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[test]
fn a_request_for_health_may_come_byte_by_byte() {
    let hung = HungWorker::new();
    let mut client = hung.service.connect();
    for byte in b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.write([*byte]);
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(client.response().brief(), (200, r#"{"ready":true,"reasons":[]}"#));
}

/// The next request might be a heal, and that thread must not touch the journal. Whoever has sent it repeats it elsewhere.
#[test]
fn the_connection_ends_with_the_answer_and_what_stands_behind_the_request_is_not_served() {
    let service = Service::start();
    let mut client = service.connect();
    client.write("GET /livez HTTP/1.1\r\nHost: a\r\n\r\nPUT /heal/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed());
    assert_eq!(service.engine.figures().users, 0);
}

#[test]
fn behind_another_request_health_is_answered_by_the_worker_and_the_connection_is_kept() {
    let service = Service::start();
    let mut client = service.connect();
    assert_eq!(client.call("PUT", "/heal/1").status, 200);
    for _ in 0..2 {
        let answer = client.call("GET", "/livez");
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
}

#[rstest]
#[case::another_method("POST /livez HTTP/1.1\r\nHost: a\r\n\r\n", 405)]
#[case::a_longer_path("GET /livez/1 HTTP/1.1\r\nHost: a\r\n\r\n", 404)]
#[case::another_path("GET /liver HTTP/1.1\r\nHost: a\r\n\r\n", 404)]
#[case::an_empty_line_before_it("\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n", 200)]
#[case::absolute("GET http://a/livez HTTP/1.1\r\nHost: a\r\n\r\n", 200)]
#[case::no_host("GET /livez HTTP/1.1\r\n\r\n", 400)]
fn what_only_looks_like_it_is_answered_as_ever(#[case] request: &str, #[case] status: u16) {
    let service = Service::start();
    let mut client = service.connect();
    client.write(request);
    assert_eq!(client.response().status, status);
}

#[test]
fn a_connection_counts_before_its_first_byte() {
    let service = Service::start_with(|engine| engine, |settings| settings.max_connections = 3);
    let mut silent: Vec<Client> = (0..3).map(|_| service.connect()).collect();
    assert!(service.connect().is_closed(), "the fourth");
    let stats = service.server.stats();
    assert_eq!((stats.connections, stats.accepted, stats.refused), (3, 3, 1));

    silent.clear();
    let start = Instant::now();
    while service.server.stats().connections > 0 {
        assert!(start.elapsed() < PATIENCE, "they are counted out");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(service.call("GET", "/livez").status, 200);
}

/// Of a head that could still be either.
#[test]
fn the_beginning_of_a_head_is_closed_in_the_time_of_a_head() {
    let service =
        Service::start_with(|engine| engine, |settings| settings.header_timeout = Duration::from_millis(300));
    let mut client = service.connect();
    let start = Instant::now();
    client.write("GET /li");
    assert!(client.is_closed());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PATIENCE / 4, "{took:?}");
}

#[test]
fn a_peer_that_ends_within_its_first_bytes_is_let_go() {
    let service = Service::start();
    for begun in ["", "GET /li"] {
        let mut client = service.connect();
        client.write(begun);
        client.finish();
        assert!(client.is_closed() || client.is_closed(), "{begun:?}");
    }
}

#[test]
fn draining_closes_who_has_not_begun() {
    let mut service = Service::start();
    let mut silent = service.connect();
    let mut begun = service.connect();
    begun.write("GET /li");
    assert!(service.server.drain(PATIENCE));
    assert!(silent.is_closed() && begun.is_closed());
}
