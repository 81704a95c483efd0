//! Connections: pipelines, timeouts, protocol errors, limits, draining.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "timeouts are asked how long they took")]

mod wire;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rstest::rstest;
use wire::hung::HungWorker;
use wire::{Client, PATIENCE, Service};

#[test]
fn requests_in_a_pipeline_are_answered_in_order() {
    let service = Service::start();
    let mut client = service.connect();
    let mut requests = String::new();
    for id in 0..500 {
        let _ = write!(
            requests,
            "PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\nGET /checkup/{id} HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        requests += "GET /v1/online HTTP/1.1\r\nHost: a\r\n\r\n";
    }
    client.write(requests);
    for id in 0..500 {
        assert_eq!(client.response().brief(), (200, r#"{"status":"online"}"#));
        assert_eq!(client.response().body, format!(r#"{{"id":{id},"status":"online"}}"#));
        assert_eq!(client.response().body, format!(r#"{{"online":{},"at":1638360000}}"#, id + 1));
    }
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_served() {
    let service = Service::start();
    let mut client = service.connect();
    for byte in b"POST /heal/77 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" {
        assert_eq!(service.engine.figures().users, 0, "nobody is healed by half a request");
        client.write([*byte]);
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(service.engine.figures().users, 1);
}

#[rstest]
#[case::half_a_head("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n")]
#[case::half_a_body("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")]
#[case::half_a_chunk("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")]
#[case::no_last_chunk("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")]
#[case::half_a_batch(
    "POST /v1/heal HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n1\n2\n"
)]
fn an_incomplete_request_heals_nobody(#[case] request: &str) {
    let service = Service::start();
    let mut client = service.connect();
    client.write(request);
    client.finish();
    assert!(client.is_closed() || client.is_closed() || client.response().status == 400);
    assert_eq!(service.engine.figures().users, 0);
}

/// What arrives in full before the timeout of the part that is missing.
#[rstest]
#[case::head("PUT /heal/1 HTTP/1.1\r\nHo", None)]
#[case::body("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", Some(408))]
#[case::batch(
    "POST /v1/heal HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n1\n2\n",
    Some(408)
)]
fn half_a_request_is_closed_in_its_time(#[case] request: &str, #[case] answer: Option<u16>) {
    let service =
        Service::start_with(|engine| engine, |settings| settings.header_timeout = Duration::from_millis(300));
    let mut client = service.connect();
    let start = Instant::now();
    client.write(request);
    if let Some(status) = answer {
        assert_eq!(client.response().status, status);
    }
    assert!(client.is_closed());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PATIENCE / 4, "{took:?}");
    assert_eq!(service.engine.figures().users, 0);
}

#[test]
fn half_a_request_behind_a_whole_one_is_closed_in_the_time_of_a_head() {
    let service =
        Service::start_with(|engine| engine, |settings| settings.header_timeout = Duration::from_millis(300));
    let mut client = service.connect();
    let start = Instant::now();
    client.write("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n\r\nPUT /heal/2 HTTP/1.1\r\nHo");
    assert_eq!(client.response().status, 200);
    assert!(client.is_closed());
    assert!(start.elapsed() < PATIENCE / 4, "not only after the idle timeout of 75 s");
    assert_eq!(service.engine.figures().users, 1);
}

#[test]
fn a_sender_that_never_pauses_for_long_is_closed_all_the_same() {
    let service =
        Service::start_with(|engine| engine, |settings| settings.header_timeout = Duration::from_millis(300));
    let mut client = service.connect();
    let start = Instant::now();
    client.write("PUT /heal/1 HTTP/1.1\r\nX: ");
    while client.try_write("x").is_ok() && start.elapsed() < PATIENCE {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(start.elapsed() < PATIENCE / 4);
}

#[rstest]
#[case::before_the_first_request(false)]
#[case::between_two(true)]
fn a_silent_connection_is_closed_after_the_idle_timeout(#[case] after_a_request: bool) {
    let service =
        Service::start_with(|engine| engine, |settings| settings.idle_timeout = Duration::from_millis(400));
    let mut client = service.connect();
    if after_a_request {
        client.call("PUT", "/heal/1");
    }
    let start = Instant::now();
    assert!(client.is_closed());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(350) && took < PATIENCE / 4, "{took:?}");
}

#[test]
fn an_idle_connection_outlives_the_header_timeout() {
    let service =
        Service::start_with(|engine| engine, |settings| settings.header_timeout = Duration::from_millis(100));
    let mut client = service.connect();
    for _ in 0..3 {
        assert_eq!(client.call("PUT", "/heal/1").status, 200);
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

#[test]
#[ignore = "long: a minute of silence on a real connection with the default timeouts"]
fn a_connection_idle_for_a_minute_still_serves_the_next_heal() {
    let service = Service::start();
    let mut client = service.connect();
    assert_eq!(client.call("PUT", "/heal/1").status, 200);
    std::thread::park_timeout(Duration::from_secs(60));
    assert_eq!(client.call("PUT", "/heal/1").status, 200);
}

#[rstest]
#[case::no_http("hello\r\n\r\n", 400)]
#[case::bad_length("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400)]
#[case::negative_length("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400)]
#[case::two_lengths(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    400
)]
#[case::length_and_chunks(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    400
)]
#[case::chunks_and_length(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nPUT /heal/2 HTTP/1.1\r\nHost: a\r\n\r\n",
    400
)]
#[case::length_behind_a_longer_name(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 5\r\n\r\n0\r\n\r\n",
    400
)]
#[case::unknown_encoding("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400)]
#[case::two_encodings(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    501
)]
#[case::an_encoding_twice(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    501
)]
#[case::an_encoding_not_known_on_the_router(
    "POST /v1/heal HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    501
)]
#[case::encoding_not_last("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400)]
#[case::chunked_in_http_1_0("PUT /heal/1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)]
#[case::bad_chunk(
    "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    400
)]
#[case::space_before_colon("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na", 400)]
#[case::no_host("PUT /heal/1 HTTP/1.1\r\n\r\n", 400)]
#[case::two_hosts("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)]
#[case::no_host_on_the_router("GET /v1/online HTTP/1.1\r\n\r\n", 400)]
#[case::bare_line_feed_in_a_name("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nX\n: b\r\n\r\n", 400)]
fn a_protocol_error_is_answered_and_the_connection_closed(#[case] request: &str, #[case] status: u16) {
    let service = Service::start();
    let mut client = service.connect();
    client.write(request);
    let response = client.response();
    assert_eq!(response.status, status, "{response:?}");
    assert!(client.is_closed(), "what follows must not be taken for a request");
    assert_eq!(service.engine.figures().users, 0);
}

const LENGTH: &str = "PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

/// However the head comes in: a proxy in front may believe in the other length, and then sees other requests.
#[rstest]
#[case::in_two_pieces(&[LENGTH, CHUNKED])]
#[case::split_within_a_name(&["PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Le", "ngth: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])]
#[case::behind_another_request(&["GET /v1/online HTTP/1.1\r\nHost: a\r\n\r\nPUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", CHUNKED])]
#[case::behind_a_body(&["POST /v1/checkup HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n", "5\nPUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", CHUNKED])]
fn both_lengths_in_one_head_are_refused_in_whatever_pieces_it_comes(#[case] pieces: &[&str]) {
    let service = Service::start();
    let mut client = service.connect();
    for piece in pieces {
        client.write(piece);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let mut response = client.response();
    if pieces[0].len() != LENGTH.len() && response.status == 200 {
        response = client.response();
    }
    assert_eq!(response.status, 400, "{response:?}");
    assert!(client.is_closed());
    assert_eq!(service.engine.figures().users, 0);
}

#[test]
fn both_lengths_are_found_in_the_largest_head() {
    let service = Service::start();
    let mut client = service.connect();
    client.write(format!("{LENGTH}X: {}\r\n{CHUNKED}", "x".repeat(60_000)));
    assert_eq!(client.response().status, 400);
    assert!(client.is_closed());
    assert_eq!(service.engine.figures().users, 0);
}

#[rstest]
#[case::a_name_that_begins_so("Content-Length-Hint: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
#[case::chunk_data(
    "Transfer-Encoding: chunked\r\n\r\n29\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"
)]
fn what_only_looks_like_both_lengths_is_served(#[case] rest: &str) {
    let service = Service::start();
    let mut client = service.connect();
    client.write(format!("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n{rest}"));
    assert_eq!(client.response().status, 200);
    assert_eq!(client.call("PUT", "/heal/2").status, 200);
}

/// As `printf … | nc` does.
#[test]
fn a_client_that_ends_its_side_still_gets_its_answers() {
    let service = Service::start();
    let mut client = service.connect();
    client.write("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/online HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish();
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 200);
    assert!(client.is_closed());

    let mut ids = String::new();
    for id in 1..=100_000 {
        writeln!(ids, "{id}").unwrap();
    }
    let mut client = service.connect();
    client.write(format!(
        "POST /v1/heal HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{ids}",
        ids.len()
    ));
    client.finish();
    assert_eq!(client.response().body, r#"{"healed":100000,"opened":99999}"#);
    assert!(client.is_closed());
}

#[test]
fn another_version_of_http_is_no_conversation() {
    let service = Service::start();
    let mut client = service.connect();
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn http_1_0_needs_no_host_and_closes() {
    let service = Service::start();
    let mut client = service.connect();
    client.write("PUT /heal/1 HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_head_or_target_too_large_is_refused() {
    let service = Service::start();
    for (request, status) in [
        (format!("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000)), 431),
        (format!("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: x\r\n".repeat(200)), 431),
        (format!("PUT /heal/{} HTTP/1.1\r\nHost: a\r\n\r\n", "1".repeat(100_000)), 414),
    ] {
        let mut client = service.connect();
        // The server may have had enough before all of it is written.
        let _ = client.try_write(&request);
        let answered = client.response().status;
        assert!(answered == status || answered == 431, "{answered} {}", &request[..20]);
        assert!(client.is_closed());
    }
    assert_eq!(service.engine.figures().users, 0);
}

#[rstest]
fn a_body_too_large_is_refused(
    #[values("PUT /heal/1", "POST /v1/heal")] call: &str,
    #[values(true, false)] told: bool,
) {
    let service = Service::start_with(|engine| engine, |settings| settings.max_body_bytes = 10_000);
    let mut client = service.connect();
    let lines = "1\n".repeat(5_001);
    let framing = if told {
        format!("Content-Length: {}\r\n\r\n{lines}", lines.len())
    } else {
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n0\r\n\r\n", lines.len())
    };
    let _ = client.try_write(format!("{call} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n{framing}"));
    assert_eq!(client.response().status, 413);
    assert!(client.is_closed());
    assert_eq!(service.engine.figures().users, 0);
}

#[rstest]
fn connections_are_spread_evenly_over_the_workers(#[values(4, 64, 1_000)] connections: usize) {
    let service = Service::start_with(|engine| engine, |settings| settings.threads = 4);
    let mut clients: Vec<Client> = (0..connections).map(|_| service.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.call("PUT", "/heal/1").status, 200);
    }
    assert_eq!(service.server.connections_by_worker(), [connections as u64 / 4; 4]);

    // They stay even when connections have gone and others come.
    clients.truncate(connections / 2);
    wait_until(|| service.server.stats().connections == connections as u64 / 2);
    clients.extend((0..connections / 2).map(|_| service.connect()));
    for client in &mut clients {
        assert_eq!(client.call("PUT", "/heal/1").status, 200);
    }
    assert_eq!(service.server.connections_by_worker(), [connections as u64 / 4; 4]);
}

#[test]
fn beyond_max_connections_a_connection_is_closed_and_counted() {
    let service = Service::start_with(|engine| engine, |settings| settings.max_connections = 3);
    let mut clients: Vec<Client> = (0..3).map(|_| service.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.call("PUT", "/heal/1").status, 200);
    }
    assert!(service.connect().is_closed());
    assert_eq!(service.server.stats().refused, 1);

    clients.pop();
    wait_until(|| service.server.stats().connections == 2);
    assert_eq!(service.call("PUT", "/heal/1").status, 200);
}

#[test]
fn draining_finishes_what_is_in_flight_and_closes_the_rest() {
    let mut service = Service::start();
    let mut idle = service.connect();
    assert_eq!(idle.call("PUT", "/heal/1").status, 200);
    let mut busy = service.connect();
    // The service says 100 when it has read the head and wants the body: the request is in flight.
    busy.write("PUT /heal/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(busy.response().status, 100);
    let address = service.address();

    service.server.draining();
    assert!(idle.is_closed());
    assert!(std::net::TcpStream::connect(address).is_err());
    busy.write("abc");
    let last = busy.response();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(busy.is_closed());
    assert!(service.server.drain(PATIENCE));
}

/// Whoever had sent a request before the drain began is answered, however late the worker comes to it; and is told not to send another.
#[test]
fn draining_answers_what_has_come() {
    let mut hung = HungWorker::that_will_hang();
    let mut known: Vec<_> = (0..10).map(|_| hung.service.connect()).collect();
    for client in &mut known {
        assert_eq!(client.call("PUT", "/heal/1").header("connection"), None);
    }
    hung.hang();
    let mut new: Vec<_> = (0..10).map(|_| hung.service.connect()).collect();
    for (id, client) in known.iter_mut().chain(&mut new).enumerate() {
        client.write(format!("PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    // Each new one has been handed to the worker.
    wait_until(|| hung.service.server.stats().connections == 21);
    hung.service.server.draining();
    hung.release();
    for client in known.iter_mut().chain(&mut new) {
        let last = client.response();
        assert_eq!((last.status, last.header("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    assert!(hung.service.server.drain(PATIENCE));
    assert_eq!(hung.service.engine.figures().users, 20);
}

#[test]
fn draining_ends_at_its_timeout() {
    let mut service = Service::start();
    let mut stuck = service.connect();
    stuck.write("PUT /heal/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(stuck.response().status, 100);

    assert!(!service.server.drain(Duration::from_millis(50)));
    drop(service.server);
    assert!(stuck.is_closed());
    assert_eq!(service.engine.figures().users, 0);
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not come to pass");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
