//! Pages of other origins: who is told that they may read, what a preflight is told, and that nobody hears of it otherwise.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use heartbeat::config::CorsOrigins;
use rstest::rstest;
use wire::{Response, Service};

const APP: &str = "https://app.example.com";

fn service(origins: &[&str]) -> Service {
    let these = CorsOrigins::These(origins.iter().map(|&origin| origin.to_owned()).collect());
    Service::start_with(|engine| engine, |settings| settings.cors_origin = Some(these))
}

fn open_to_all() -> Service {
    Service::start_with(|engine| engine, |settings| settings.cors_origin = Some(CorsOrigins::Any))
}

/// One request with further header lines.
fn ask(service: &Service, method: &str, target: &str, lines: &[&str]) -> Response {
    let mut client = service.connect();
    let lines = [&["Host: a"], lines].concat().join("\r\n");
    client.write(format!("{method} {target} HTTP/1.1\r\n{lines}\r\n\r\n"));
    client.response_to(method)
}

fn from(service: &Service, origin: &str, method: &str, target: &str) -> Response {
    ask(service, method, target, &[&format!("Origin: {origin}")])
}

fn preflight(service: &Service, origin: &str, target: &str, method: &str) -> Response {
    let lines = [format!("Origin: {origin}"), format!("Access-Control-Request-Method: {method}")];
    ask(service, "OPTIONS", target, &[&lines[0], &lines[1], "Access-Control-Request-Headers: content-type"])
}

/// The headers that are about pages of other origins.
fn cors(response: &Response) -> Vec<&str> {
    let is_ours = |(name, value): &&(String, String)| {
        name.starts_with("access-control-") || (name == "vary" && value.contains("origin"))
    };
    response.headers.iter().filter(is_ours).map(|(name, _)| name.as_str()).collect()
}

/// Answers of every kind: by hand and from the router, good and bad, whole and in pieces.
const CALLS: [(&str, &str, u16); 17] = [
    ("PUT", "/heal/1", 200),
    ("DELETE", "/heal/1", 200),
    ("GET", "/checkup/1", 200),
    ("HEAD", "/checkup/1", 200),
    ("GET", "/heart_rhythm/1", 200),
    ("GET", "/heal/1", 405),
    ("PUT", "/heal/x", 400),
    ("PUT", "/heal", 400),
    ("GET", "/v1/users/1", 200),
    ("GET", "/v1/users/1/history", 200),
    ("GET", "/v1/users/1/history?limit=0", 400),
    ("GET", "/v1/export", 200),
    ("POST", "/v1/heal", 415),
    ("PATCH", "/v1/heal", 405),
    ("GET", "/livez", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/no/such/path", 404),
];

#[test]
fn without_the_setting_no_page_is_told_anything() {
    let service = Service::start();
    for (method, target, status) in CALLS {
        let response = from(&service, APP, method, target);
        assert_eq!((response.status, cors(&response)), (status, vec![]), "{method} {target}");
    }
    let response = preflight(&service, APP, "/heal/1", "PUT");
    assert_eq!((response.status, cors(&response)), (405, vec![]));
    assert_eq!(preflight(&service, APP, "/v1/heal", "POST").status, 405);
}

#[test]
fn a_page_of_the_origin_that_is_set_may_read_every_answer_and_no_other_page_may() {
    let service = service(&[APP, "http://localhost:8080"]);
    for (method, target, status) in CALLS {
        for origin in [APP, "http://localhost:8080"] {
            let response = from(&service, origin, method, target);
            assert_eq!(response.status, status, "{method} {target}");
            assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{method} {target}");
            assert!(cors(&response).contains(&"vary"), "{method} {target}");
        }
        for origin in [
            "https://app.example.com.evil.example",
            "http://app.example.com",
            "null",
            APP.trim_end_matches('m'),
        ] {
            let response = from(&service, origin, method, target);
            assert_eq!((response.status, cors(&response)), (status, vec!["vary"]), "{origin}");
        }
        let response = service.call(method, target);
        assert_eq!((response.status, cors(&response)), (status, vec![]), "{method} {target}");
    }
}

#[test]
fn with_a_star_every_page_may() {
    let service = open_to_all();
    for (method, target, status) in CALLS {
        let response = from(&service, "null", method, target);
        let allowed = response.header("access-control-allow-origin");
        assert_eq!((response.status, allowed), (status, Some("*")), "{method} {target}");
        assert_eq!(cors(&service.call(method, target)), [""; 0], "{method} {target}");
    }
}

#[rstest]
#[case("/heal/1", "PUT, POST, DELETE")]
#[case("/heal", "PUT, POST, DELETE")]
#[case("/checkup/1", "GET, HEAD")]
#[case("/heart_rhythm/1/", "GET, HEAD")]
#[case("/v1/heal", "POST")]
#[case("/v1/leave?id_format=string", "POST")]
#[case("/v1/users/1", "GET, HEAD, DELETE")]
#[case("/v1/users/1/history", "GET, HEAD")]
#[case("/v1/import", "POST")]
#[case("/v1/status", "GET, HEAD")]
#[case("/readyz", "GET, HEAD")]
fn a_preflight_is_told_what_the_path_takes(#[case] target: &str, #[case] methods: &str) {
    let service = service(&[APP]);
    // Also of a method that it does not take: the browser sees that.
    for method in ["PUT", "GET", "PATCH"] {
        let response = preflight(&service, APP, target, method);
        assert_eq!(response.brief(), (204, ""));
        for (name, value) in [
            ("access-control-allow-origin", APP),
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", "authorization, content-type, last-event-id"),
            ("access-control-max-age", "86400"),
            ("vary", "origin"),
        ] {
            assert_eq!(response.header(name), Some(value), "{name}");
        }
        assert_eq!(response.header("content-length"), None);
    }
    assert_eq!(service.engine.figures().users, 0, "nobody is healed by a question");
    let refused = preflight(&service, "https://elsewhere.example", target, "PUT");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (204, None));
}

#[test]
fn options_without_a_page_behind_it_is_a_method_like_any_other() {
    let service = open_to_all();
    let refused = service.call("OPTIONS", "/heal/1");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("PUT, POST, DELETE")));
    let refused = from(&service, APP, "OPTIONS", "/heal/1");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (405, Some("*")));
    assert_eq!(preflight(&service, APP, "/no/such/path", "GET").status, 404);
    let mut client = service.connect();
    client.write(format!(
        "OPTIONS /heal/1 HTTP/1.1\r\nOrigin: {APP}\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    ));
    assert_eq!(client.response().status, 400, "without a Host header");
}

/// On one connection, as a browser sends them.
#[test]
fn a_page_asks_heals_and_leaves_on_one_connection() {
    let service = service(&[APP]);
    let mut client = service.connect();
    client.write(format!(
        "OPTIONS /heal/1 HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    ));
    assert_eq!(client.response().status, 204);
    client
        .write(format!("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nContent-Length: 2\r\n\r\n{{}}"));
    let healed = client.response();
    assert_eq!(healed.brief(), (200, r#"{"status":"online"}"#));
    assert_eq!(healed.header("access-control-allow-origin"), Some(APP));
    // A beacon cannot ask before, and need not.
    client.write(format!(
        "POST /v1/leave HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nContent-Type: text/plain;charset=UTF-8\r\n\
         Content-Length: 1\r\n\r\n1"
    ));
    let left = client.response();
    assert_eq!(left.brief(), (200, r#"{"left":1}"#));
    assert_eq!(left.header("access-control-allow-origin"), Some(APP));
}
