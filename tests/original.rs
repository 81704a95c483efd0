//! The three endpoints of the original service, row by row of the contract's tables, over a real socket.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use rstest::rstest;
use wire::{NOON, Service};

const ONLINE: &str = r#"{"status":"online"}"#;
const INVALID: &str = r#"{"error":"invalid user_id format"}"#;
const MISSING: &str = r#"{"error":"missing user_id parameter"}"#;

fn checkup(service: &Service, id: i64) -> String {
    service.get(&format!("/checkup/{id}"))
}

fn history(service: &Service, id: i64) -> String {
    service.get(&format!("/heart_rhythm/{id}"))
}

#[test]
fn the_documented_replies_to_the_byte() {
    let service = Service::start();

    for method in ["PUT", "POST"] {
        let healed = service.call(method, "/heal/12345");
        assert_eq!(healed.brief(), (200, ONLINE));
        assert_eq!(healed.header("content-type"), Some("application/json"));
    }
    for (target, body) in [
        ("/checkup/12345", r#"{"id":12345,"status":"online"}"#),
        ("/checkup/54321", r#"{"id":54321,"status":"offline"}"#),
        (
            "/heart_rhythm/12345",
            r#"{"id":12345,"history":[{"online_at":1638360000,"offline_at":1638360007}]}"#,
        ),
        ("/heart_rhythm/54321", r#"{"id":54321,"history":[]}"#),
    ] {
        let response = service.call("GET", target);
        assert_eq!(response.brief(), (200, body), "{target}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_heal_in_second_t_is_a_row_from_t_to_t_plus_7() {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    assert_eq!(
        history(&service, 1),
        r#"{"id":1,"history":[{"online_at":1638360000,"offline_at":1638360007}]}"#
    );
}

#[test]
fn a_user_is_online_in_second_t_plus_6_and_offline_in_t_plus_7_and_8() {
    let service = Service::start();
    service.call("PUT", "/heal/1");

    service.clock.advance(6);
    assert_eq!(checkup(&service, 1), r#"{"id":1,"status":"online"}"#);
    service.clock.advance(1);
    assert_eq!(checkup(&service, 1), r#"{"id":1,"status":"offline"}"#);
    service.clock.advance(1);
    assert_eq!(checkup(&service, 1), r#"{"id":1,"status":"offline"}"#);
}

#[rstest]
fn a_heal_in_second_t_plus_7_extends_whether_or_not_it_was_swept(#[values(false, true)] swept: bool) {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    service.clock.advance(7);
    if swept {
        service.engine.sweep();
    }
    service.call("PUT", "/heal/1");

    assert_eq!(
        history(&service, 1),
        r#"{"id":1,"history":[{"online_at":1638360000,"offline_at":1638360014}]}"#
    );
}

#[rstest]
fn a_heal_in_second_t_plus_8_opens_a_second_row_whether_or_not_it_was_swept(
    #[values(false, true)] swept: bool,
) {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    service.clock.advance(8);
    if swept {
        service.engine.sweep();
    }
    service.call("PUT", "/heal/1");

    assert_eq!(
        history(&service, 1),
        concat!(
            r#"{"id":1,"history":[{"online_at":1638360000,"offline_at":1638360007},"#,
            r#"{"online_at":1638360008,"offline_at":1638360015}]}"#
        )
    );
}

#[rstest]
#[case("0", 0)]
#[case("-0", 0)]
#[case("-5", -5)]
#[case("+5", 5)]
#[case("%2B6", 6)]
#[case("007", 7)]
#[case("%31", 1)]
#[case("1/", 1)]
#[case("1?x=2", 1)]
#[case("9223372036854775807", i64::MAX)]
#[case("-9223372036854775808", i64::MIN)]
fn these_ids_are_taken(#[case] id: &str, #[case] user: i64) {
    let service = Service::start();

    assert_eq!(service.call("PUT", &format!("/heal/{id}")).brief(), (200, ONLINE));
    assert_eq!(service.get(&format!("/checkup/{id}")), format!(r#"{{"id":{user},"status":"online"}}"#));
    let row = format!(r#"{{"online_at":{NOON},"offline_at":{}}}"#, NOON + 7);
    assert_eq!(service.get(&format!("/heart_rhythm/{id}")), format!(r#"{{"id":{user},"history":[{row}]}}"#));
    assert_eq!(service.engine.figures().users, 1);
}

#[rstest]
fn these_ids_are_refused(
    #[values(
        "abc",
        "1e3",
        "1.0",
        "+",
        "-",
        "%201",
        "1%20",
        "%ff",
        "%2F",
        "1;a=b",
        "--1",
        "%",
        "%3",
        "%zz",
        "1,2",
        "٣",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999"
    )]
    id: &str,
) {
    let service = Service::start();
    for (method, endpoint) in
        [("PUT", "heal"), ("POST", "heal"), ("DELETE", "heal"), ("GET", "checkup"), ("GET", "heart_rhythm")]
    {
        // A target that is not ASCII is no HTTP; hyper takes it as it stands, and then it is no id.
        assert_eq!(
            service.call(method, &format!("/{endpoint}/{id}")).brief(),
            (400, INVALID),
            "{method} {endpoint}"
        );
    }
    assert_eq!(service.engine.figures().users, 0);
}

#[rstest]
fn an_id_that_is_missing_is_missed(#[values("", "/", "/?x=1", "?x=1", "//")] nothing: &str
) {
    let service = Service::start();
    for (method, endpoint) in
        [("PUT", "heal"), ("POST", "heal"), ("DELETE", "heal"), ("GET", "checkup"), ("GET", "heart_rhythm")]
    {
        let target = format!("/{endpoint}{nothing}");
        assert_eq!(service.call(method, &target).brief(), (400, MISSING), "{method} {target}");
    }
}

#[rstest]
#[case::none("")]
#[case::json("Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\": 12}")]
#[case::chunked("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")]
#[case::empty("Content-Length: 0\r\n\r\n")]
#[case::expected("Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")]
fn a_body_on_a_heal_is_ignored(#[case] rest: &str) {
    let service = Service::start();
    let mut client = service.connect();
    for _ in 0..2 {
        let rest = if rest.is_empty() { "\r\n" } else { rest };
        client.write(format!("PUT /heal/1 HTTP/1.1\r\nHost: a\r\n{rest}"));
        if rest.contains("100-continue") {
            assert_eq!(client.response().status, 100);
            client.write("{}");
        }
        assert_eq!(client.response().brief(), (200, ONLINE));
    }
}

#[rstest]
fn head_gives_the_headers_only(#[values("/checkup/1", "/heart_rhythm/1")] target: &str) {
    let service = Service::start();
    let mut client = service.connect();
    let get = client.call("GET", target);
    let head = client.call("HEAD", target);

    assert_eq!(head.brief(), (200, ""));
    for name in ["content-type", "content-length", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    // Nothing of a body was left on the connection.
    assert_eq!(client.call("GET", target).brief(), get.brief());
}

#[rstest]
#[case("/heal/1", "PUT, POST, DELETE", &["GET", "HEAD", "PATCH", "OPTIONS", "TRACE", "heal"])]
#[case("/heal", "PUT, POST, DELETE", &["GET"])]
#[case("/checkup/1", "GET, HEAD", &["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])]
#[case("/heart_rhythm/1", "GET, HEAD", &["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])]
fn a_method_that_is_not_listed_is_told_which_are(
    #[case] target: &str,
    #[case] allow: &str,
    #[case] methods: &[&str],
) {
    let service = Service::start();
    for method in methods {
        let mut client = service.connect();
        client.write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to(method);
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {target}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        let body =
            if *method == "HEAD" { "" } else { r#"{"error":"method not allowed; see the Allow header"}"# };
        assert_eq!(response.body, body);
    }
    assert_eq!(service.engine.figures().users, 0, "nobody was healed");
}

#[rstest]
fn an_unknown_path_is_not_found(
    #[values(
        "/index.html",
        "/heals/1",
        "/heal/1/2",
        "/checkup/1/2",
        "/HEAL/1",
        "/v1",
        "/v1/nothing",
        "//heal/1",
        "*"
    )]
    target: &str,
) {
    let service = Service::start();
    for method in ["GET", "PUT"] {
        let response = service.call(method, target);
        assert_eq!(response.brief(), (404, r#"{"error":"not found"}"#), "{method} {target}");
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
}

#[test]
fn leaving_ends_the_session_and_repeating_it_changes_nothing() {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    service.clock.advance(3);

    for _ in 0..2 {
        let left = service.call("DELETE", "/heal/1");
        assert_eq!(left.brief(), (200, r#"{"status":"offline"}"#));
        assert_eq!(
            history(&service, 1),
            r#"{"id":1,"history":[{"online_at":1638360000,"offline_at":1638360003}]}"#
        );
        service.clock.advance(1);
    }
    assert_eq!(service.call("DELETE", "/heal/2").brief(), (200, r#"{"status":"offline"}"#));
    assert_eq!(service.engine.figures().users, 1);
}

#[test]
fn an_absolute_target_is_taken() {
    let service = Service::start();
    let mut client = service.connect();
    client.write("PUT http://a:3519/heal/1 HTTP/1.1\r\nHost: a:3519\r\n\r\n");
    assert_eq!(client.response().brief(), (200, ONLINE));
}

#[test]
fn beyond_max_users_an_unknown_user_is_refused_and_known_ones_go_on() {
    let service = Service::start_with(|engine| engine.users_max(2), |_| {});
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/2");

    let refused = service.call("PUT", "/heal/3");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.body,
        r#"{"error":"the service knows as many users as its setting max-users allows"}"#
    );
    assert_eq!(service.call("PUT", "/heal/2").brief(), (200, ONLINE));
    assert_eq!(history(&service, 3), r#"{"id":3,"history":[]}"#);
    assert_eq!(service.server.stats().heals.refused, 1);

    service.call("DELETE", "/v1/users/1");
    assert_eq!(service.call("PUT", "/heal/3").brief(), (200, ONLINE));
}

#[test]
fn heals_are_counted_by_what_they_did() {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/1");
    service.clock.advance(1);
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/x");

    let heals = service.server.stats().heals;
    assert_eq!(
        (heals.opened, heals.extended, heals.unchanged, heals.refused, heals.invalid),
        (1, 1, 1, 0, 1)
    );
}
