//! Users in bulk, one user's profile, and the service about itself, over a real socket.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use rstest::rstest;
use wire::Service;

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

fn binary(ids: &[i64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

#[rstest]
#[case::json(JSON, br#"{"ids":[1,"2",3]}"#)]
#[case::json_with_charset("application/json; charset=utf-8", br#"{"ids":[1,2,3]}"#)]
#[case::lines("text/plain", b"1\n2\n3")]
#[case::lines_from_a_beacon("text/plain;charset=UTF-8", b"1\n2\n3\n")]
#[case::binary(BINARY, &binary(&[1, 2, 3]))]
fn three_forms_of_the_same_ids(#[case] content_type: &str, #[case] body: &[u8]) {
    let service = Service::start();
    service.call("PUT", "/heal/2");
    service.clock.advance(1);

    let healed = service.send("POST", "/v1/heal", content_type, body);
    assert_eq!(healed.brief(), (200, r#"{"healed":3,"opened":2}"#));
    assert_eq!(healed.header("content-type"), Some(JSON));
    let users = concat!(
        r#"{"users":[{"id":1,"status":"online"},{"id":2,"status":"online"},"#,
        r#"{"id":3,"status":"online"}]}"#
    );
    assert_eq!(service.send("POST", "/v1/checkup", content_type, body).brief(), (200, users));
    service.call("DELETE", "/heal/3");
    assert_eq!(service.send("POST", "/v1/leave", content_type, body).brief(), (200, r#"{"left":2}"#));
    assert_eq!(
        service.send("POST", "/v1/checkup", content_type, body).body,
        users.replace("online", "offline")
    );
    assert_eq!(
        service.get("/heart_rhythm/2"),
        r#"{"id":2,"history":[{"online_at":1638360000,"offline_at":1638360001}]}"#
    );
}

#[test]
fn no_ids_are_no_mistake() {
    let service = Service::start();
    for (content_type, body) in [(JSON, &br#"{"ids":[]}"#[..]), ("text/plain", b""), (BINARY, b"")] {
        assert_eq!(
            service.send("POST", "/v1/heal", content_type, body).brief(),
            (200, r#"{"healed":0,"opened":0}"#)
        );
        assert_eq!(service.send("POST", "/v1/checkup", content_type, body).brief(), (200, r#"{"users":[]}"#));
        assert_eq!(service.send("POST", "/v1/leave", content_type, body).brief(), (200, r#"{"left":0}"#));
    }
}

#[test]
fn duplicates_count_as_often_as_they_stand_there() {
    let service = Service::start();
    assert_eq!(
        service.send("POST", "/v1/heal", "text/plain", b"5\n5\n5").brief(),
        (200, r#"{"healed":3,"opened":1}"#)
    );
    assert_eq!(
        service.send("POST", "/v1/checkup", "text/plain", b"5\n5").brief(),
        (200, r#"{"users":[{"id":5,"status":"online"},{"id":5,"status":"online"}]}"#)
    );
    assert_eq!(service.send("POST", "/v1/leave", "text/plain", b"5\n5").brief(), (200, r#"{"left":1}"#));
}

#[rstest]
#[case(JSON, br#"{"ids":[1,2,"x"]}"#, "ids[2]: invalid user_id format")]
#[case(JSON, br#"{"ids":[1,2.5]}"#, "ids[1]: invalid user_id format")]
#[case(JSON, br#"{"ids":[9223372036854775808]}"#, "ids[0]: invalid user_id format")]
#[case("text/plain", b"1\n2\nx\n", "ids[2]: invalid user_id format")]
#[case("text/plain", b"1\n\n2", "ids[1]: invalid user_id format")]
#[case(BINARY, b"12345678123", "ids[1]: invalid user_id format")]
fn a_malformed_id_refuses_the_whole_request(
    #[case] content_type: &str,
    #[case] body: &[u8],
    #[case] error: &str,
) {
    let service = Service::start();
    for call in ["/v1/heal", "/v1/checkup", "/v1/leave"] {
        let refused = service.send("POST", call, content_type, body);
        assert_eq!((refused.status, refused.body), (400, format!(r#"{{"error":"{error}"}}"#)));
    }
    assert_eq!(service.engine.figures().users, 0, "nothing is applied");
}

#[test]
fn a_hundred_thousand_ids_are_taken_and_no_more() {
    let service = Service::start();
    let ids: Vec<i64> = (0..100_001).collect();

    let taken = service.send("POST", "/v1/heal", BINARY, &binary(&ids[..100_000]));
    assert_eq!(taken.brief(), (200, r#"{"healed":100000,"opened":100000}"#));
    let status = service.send("POST", "/v1/checkup", BINARY, &binary(&ids[..100_000]));
    assert_eq!(status.body.matches(r#""status":"online""#).count(), 100_000);
    assert!(status.body.ends_with(r#",{"id":99999,"status":"online"}]}"#));

    for (content_type, body) in [
        (BINARY, binary(&ids)),
        ("text/plain", b"1\n".repeat(100_001)),
        (JSON, format!(r#"{{"ids":[{}1]}}"#, "1,".repeat(100_000)).into_bytes()),
    ] {
        let refused = service.send("POST", "/v1/heal", content_type, &body);
        assert_eq!(refused.brief(), (413, r#"{"error":"at most 100000 ids in a request"}"#));
    }
}

#[test]
fn a_body_of_another_type_is_refused() {
    let service = Service::start();
    let refused = service.send("POST", "/v1/heal", "application/x-www-form-urlencoded", b"ids=1");
    assert_eq!(refused.status, 415);
    assert!(refused.body.contains("application/json"), "{}", refused.body);
}

#[test]
fn ids_are_written_as_strings_on_request() {
    let service = Service::start();
    service.call("PUT", "/heal/9223372036854775807");
    let checkup = service.send("POST", "/v1/checkup?id_format=string", "text/plain", b"9223372036854775807");
    assert_eq!(checkup.body, r#"{"users":[{"id":"9223372036854775807","status":"online"}]}"#);
    let profile = service.get("/v1/users/9223372036854775807?id_format=string");
    assert!(profile.starts_with(r#"{"id":"9223372036854775807","status":"online","#), "{profile}");
    assert!(
        service
            .get("/v1/users/9223372036854775807?id_format=number")
            .starts_with(r#"{"id":9223372036854775807,"#)
    );
}

#[rstest]
#[case("id_format=hex", "id_format: write number or string")]
#[case("id_format=string&id_format=string", "id_format: given more than once")]
#[case("limit=1", "limit: no such parameter here")]
#[case("x", "x: no such parameter here")]
fn a_parameter_that_is_wrong_or_not_ours_is_named(#[case] query: &str, #[case] error: &str) {
    let service = Service::start();
    for (method, call) in
        [("GET", "/v1/online"), ("GET", "/v1/users/1"), ("DELETE", "/v1/users/1"), ("GET", "/v1/status")]
    {
        let refused = service.call(method, &format!("{call}?{query}"));
        assert_eq!((refused.status, refused.body), (400, format!(r#"{{"error":"{error}"}}"#)), "{call}");
    }
    let refused = service.send("POST", &format!("/v1/heal?{query}"), "text/plain", b"1");
    assert_eq!(refused.status, 400);
    assert_eq!(service.engine.figures().users, 0);
}

#[test]
fn a_batch_that_meets_the_limit_on_users_is_refused_with_503() {
    let service = Service::start_with(|engine| engine.users_max(2), |_| {});
    let refused = service.send("POST", "/v1/heal", "text/plain", b"1\n2\n3");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let heals = service.server.stats().heals;
    assert_eq!((heals.opened, heals.refused), (2, 1));
}

#[test]
fn a_profile_tells_one_user_in_a_few_numbers() {
    let service = Service::start();
    service.call("PUT", "/heal/7");
    service.clock.advance(20);
    service.call("PUT", "/heal/7");
    service.clock.advance(3);

    assert_eq!(
        service.get("/v1/users/7"),
        concat!(
            r#"{"id":7,"status":"online","online_at":1638360020,"offline_at":1638360027,"#,
            r#""last_seen":1638360023,"sessions":2,"online_seconds":10}"#
        )
    );
    service.clock.advance(60);
    assert_eq!(
        service.get("/v1/users/7"),
        concat!(
            r#"{"id":7,"status":"offline","online_at":1638360020,"offline_at":1638360027,"#,
            r#""last_seen":1638360026,"sessions":2,"online_seconds":14}"#
        )
    );
    assert_eq!(
        service.call("GET", "/v1/users/8").brief(),
        (404, r#"{"error":"this user has never been seen"}"#)
    );
    assert_eq!(service.call("GET", "/v1/users/x").brief(), (400, r#"{"error":"invalid user_id format"}"#));
    assert_eq!(service.call("GET", "/v1/users/%37").status, 200);
}

#[test]
fn a_session_left_in_its_own_second_is_not_shown() {
    let service = Service::start();
    service.call("PUT", "/heal/7");
    service.call("DELETE", "/heal/7");

    assert_eq!(service.get("/heart_rhythm/7"), r#"{"id":7,"history":[]}"#);
    assert_eq!(
        service.get("/v1/users/7"),
        concat!(
            r#"{"id":7,"status":"offline","online_at":null,"offline_at":null,"#,
            r#""last_seen":1638360000,"sessions":0,"online_seconds":0}"#
        )
    );
}

#[test]
fn forgetting_removes_a_user_and_says_how_much_was_there() {
    let service = Service::start();
    service.call("PUT", "/heal/7");
    service.clock.advance(20);
    service.call("PUT", "/heal/7");

    assert_eq!(service.call("DELETE", "/v1/users/7").brief(), (200, r#"{"forgotten":2}"#));
    assert_eq!(service.call("DELETE", "/v1/users/7").brief(), (200, r#"{"forgotten":0}"#));
    assert_eq!(service.get("/heart_rhythm/7"), r#"{"id":7,"history":[]}"#);
    assert_eq!(service.call("GET", "/v1/users/7").status, 404);
}

#[test]
fn the_count_of_those_online_is_as_of_the_second_last_swept() {
    let service = Service::start();
    service.send("POST", "/v1/heal", "text/plain", b"1\n2\n3");
    assert_eq!(service.get("/v1/online"), r#"{"online":3,"at":1638360000}"#);

    service.clock.advance(8);
    assert_eq!(service.get("/v1/online"), r#"{"online":3,"at":1638360000}"#);
    service.engine.sweep();
    assert_eq!(service.get("/v1/online"), r#"{"online":0,"at":1638360008}"#);
}

#[test]
fn health_readiness_and_status() {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    for (target, body) in [
        ("/livez", r#"{"live":true}"#),
        ("/healthz", r#"{"live":true}"#),
        ("/readyz", r#"{"ready":true,"reasons":[]}"#),
    ] {
        let response = service.call("GET", target);
        assert_eq!(response.brief(), (200, body), "{target}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(service.call("HEAD", target).brief(), (200, ""));
    }
    let status: serde_json::Value = serde_json::from_str(&service.get("/v1/status")).unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["users"], &status["online"], &status["sessions"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(status["heals"]["opened"], 1);
    assert!(status["process"]["resident_bytes"].as_u64().unwrap() > 1_000_000);
}

#[rstest]
#[case("/v1/heal", "GET", "POST")]
#[case("/v1/users/1", "PUT", "GET,HEAD,DELETE")]
#[case("/v1/online", "POST", "GET,HEAD")]
#[case("/livez", "PUT", "GET,HEAD")]
fn a_method_that_is_not_listed_is_told_which_are(
    #[case] target: &str,
    #[case] method: &str,
    #[case] allow: &str,
) {
    let service = Service::start();
    let refused = service.call(method, target);
    assert_eq!((refused.status, refused.header("allow")), (405, Some(allow)));
    assert_eq!(refused.body, r#"{"error":"method not allowed; see the Allow header"}"#);
}

#[rstest]
fn an_unknown_path_is_not_found(
    #[values("/v1/heal/1", "/v1/users", "/v1/users/", "/v1/users/1/2", "/livez/")] target: &str,
) {
    assert_eq!(Service::start().call("GET", target).brief(), (404, r#"{"error":"not found"}"#));
}
