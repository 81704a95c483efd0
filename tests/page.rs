//! The page's files and the figures that it shows, over a real socket. What a browser makes of them: `tests/browser`.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use rstest::rstest;
use serde_json::Value;
use wire::{Client, NOON, PATIENCE, Response, Service};

fn get_with(service: &Service, target: &str, line: &str) -> Response {
    let mut client = service.connect();
    client.write(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
    client.response_to("GET")
}

#[rstest]
#[case("/", "text/html; charset=utf-8")]
#[case("/page/page.css", "text/css; charset=utf-8")]
#[case("/page/page.js", "text/javascript; charset=utf-8")]
#[case("/page/uPlot.LICENSE.txt", "text/plain; charset=utf-8")]
#[case("/page/icon.svg", "image/svg+xml")]
#[case("/heartbeat.js", "text/javascript; charset=utf-8")]
fn a_file_of_the_page_is_sent_once(#[case] target: &str, #[case] content_type: &str) {
    let service = Service::start();
    let first = service.call("GET", target);
    assert_eq!((first.status, first.header("content-type")), (200, Some(content_type)));
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    let policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    assert_eq!(first.header("content-security-policy"), Some(policy));
    let tag = first.header("etag").unwrap();

    let again = get_with(&service, target, &format!("If-None-Match: {tag}"));
    assert_eq!((again.status, again.header("etag"), again.body.as_str()), (304, Some(tag), ""));
    let other = get_with(&service, target, "If-None-Match: \"of another version\"");
    assert_eq!((other.status, other.body == first.body), (200, true));
    let head = service.call("HEAD", target);
    assert_eq!((head.status, head.header("etag"), head.body.as_str()), (200, Some(tag), ""));
}

#[test]
fn what_is_no_file_of_the_page_is_not_found() {
    let service = Service::start();
    for target in ["/page/", "/page/index.html", "/page/../page.html", "/page.css", "/index.html"] {
        assert_eq!(service.call("GET", target).status, 404, "{target}");
    }
    assert_eq!(service.call("POST", "/").status, 405);
}

/// A connection on which the figures are followed.
fn follow(service: &Service) -> Client {
    let mut client = service.connect();
    client.write("GET /v1/figures/watch HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn the_last_hour_is_told_a_point_a_second_swept() {
    let service = Service::start();
    let mut followed = follow(&service);
    service.engine.sweep();
    followed.read_until("\"at\":1638360000,\"online\":0,");
    service.call("POST", "/heal/1");
    service.call("POST", "/heal/2");
    service.clock.advance(1);
    service.engine.sweep();
    followed.read_until("\"at\":1638360001,\"online\":2,");

    let figures: Value = serde_json::from_str(&service.get("/v1/figures")).unwrap();
    assert_eq!(figures["step"], 1);
    let points = figures["points"].as_array().unwrap();
    let told: Vec<_> = points.iter().map(|point| (&point["at"], &point["online"])).collect();
    assert_eq!(told, [(&NOON.into(), &0.into()), (&(NOON + 1).into(), &2.into())]);
    assert!(points[1]["heals_per_second"].as_f64().unwrap() > 0.0, "{points:?}");
}

#[test]
fn the_figures_are_followed_until_the_service_drains() {
    let mut service = Service::start();
    service.engine.sweep();
    let mut client = follow(&service);
    let begun = client.read_until("\"snapshot\":null}\n\n");
    assert!(begun.contains("content-type: text/event-stream\r\n"), "{begun}");
    assert!(begun.contains("cache-control: no-cache\r\n"), "{begun}");
    let event = "event: figures\ndata: {\"at\":1638360000,\"online\":0,\"heals_per_second\":";
    assert!(begun.contains(event), "{begun}");

    assert!(service.server.drain(PATIENCE), "the stream ends by itself");
    let rest = client.read_until("event: draining\ndata: {}\n\n");
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
}
