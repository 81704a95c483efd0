//! The service over an engine that keeps what it knows on disk: starting, refusing, snapshots, export and import.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, mpsc};

use heartbeat::http::Server;
use heartbeat::{Durability, ManualClock, Progress, UnixSeconds};
use rstest::rstest;
use serde_json::{Value, json};
use wire::{Client, NOON, Service, settings};

const ONLINE: &str = r#"{"status":"online"}"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn import(service: &Service, lines: &str) -> Value {
    let response = service.send("POST", "/v1/import", "application/x-ndjson", lines.as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    json(&response.body)
}

#[test]
fn before_recovery_has_finished_it_says_so_and_serves_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let progress = Arc::new(Progress::default());
    let server = Server::listen(&settings(), progress).unwrap();
    let mut client = Client::connect(server.addresses()[0]);

    let health = |target: &str| Client::connect(server.addresses()[0]).call("GET", target);
    assert_eq!(health("/livez").status, 200);
    assert_eq!(health("/readyz").brief(), (503, r#"{"ready":false,"reasons":["recovering 0%"]}"#));
    for (method, target) in [
        ("PUT", "/heal/1"),
        ("DELETE", "/heal/1"),
        ("GET", "/checkup/1"),
        ("GET", "/heart_rhythm/1"),
        ("GET", "/v1/users/1"),
        ("DELETE", "/v1/users/1"),
        ("GET", "/v1/online"),
        ("GET", "/v1/status"),
        ("GET", "/v1/export"),
        ("POST", "/v1/admin/snapshot"),
    ] {
        let response = client.call(method, target);
        let refused = r#"{"error":"recovering 0%; repeat the request in a moment"}"#;
        assert_eq!(response.brief(), (503, refused), "{method} {target}");
        assert_eq!(response.header("retry-after"), Some("1"), "{method} {target}");
    }
    for target in ["/v1/heal", "/v1/checkup", "/v1/leave"] {
        assert_eq!(client.send("POST", target, "text/plain", b"1\n2").status, 503, "{target}");
    }
    assert_eq!(client.call("PUT", "/heal/x").status, 400, "what is wrong stays wrong");
    let mut importing = Client::connect(server.addresses()[0]);
    assert_eq!(importing.send("POST", "/v1/import", "text/plain", b"{}").status, 503);
    // A single one, and the two ids of a request in bulk.
    assert_eq!(server.stats().heals.refused, 3);

    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let (engine, recovery) = wire::open(folder.path(), Durability::Interval, &clock);
    server.serve(engine, Some(recovery));
    assert_eq!(client.call("GET", "/readyz").brief(), (200, r#"{"ready":true,"reasons":[]}"#));
    assert_eq!(client.call("PUT", "/heal/1").brief(), (200, ONLINE));
    assert_eq!(client.call("GET", "/v1/online").status, 200);
}

#[rstest]
fn what_was_answered_is_known_after_a_restart(
    #[values(Durability::Process, Durability::Interval, Durability::Always)] durability: Durability,
) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), durability, NOON);
    let mut client = service.connect();
    let mut requests = String::new();
    for id in 1..=20 {
        let _ = write!(requests, "PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = write!(requests, "GET /checkup/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    client.write(requests);
    for id in 1..=20 {
        assert_eq!(client.response().brief(), (200, ONLINE));
        assert_eq!(client.response().body, format!(r#"{{"id":{id},"status":"online"}}"#), "in order");
    }
    service.clock.advance(3);
    let many: Vec<u8> = (15..=24_i64).flat_map(i64::to_le_bytes).collect();
    let healed = service.send("POST", "/v1/heal", "application/octet-stream", &many);
    assert_eq!(healed.brief(), (200, r#"{"healed":10,"opened":4}"#));
    assert_eq!(client.call("DELETE", "/heal/1").brief(), (200, r#"{"status":"offline"}"#));
    assert_eq!(service.send("POST", "/v1/leave", "text/plain", b"2\n3").brief(), (200, r#"{"left":2}"#));
    assert_eq!(client.call("DELETE", "/v1/users/4").brief(), (200, r#"{"forgotten":1}"#));
    assert_eq!(import(&service, r#"{"id":5,"online_at":7,"offline_at":9}"#)["imported"], 1);
    let known = |service: &Service| -> Vec<String> {
        (1..=25).map(|id| service.get(&format!("/heart_rhythm/{id}"))).collect()
    };
    let before = known(&service);
    drop(client);
    drop(service);

    let service = Service::open(folder.path(), durability, NOON + 3);
    assert_eq!(known(&service), before);
    assert!(before[4].contains(r#"{"online_at":7,"offline_at":9}"#));
    assert_eq!(before[3], r#"{"id":4,"history":[]}"#);
}

/// As many as 59 of its segments hold. It was refused when the three that are ready were full, and when it was repeated a second
/// later, all of them were healed anew and filled the next three.
#[rstest]
#[case(Durability::Process)]
#[case(Durability::Interval)]
#[case(Durability::Always)]
fn a_batch_that_is_longer_than_the_segments_that_are_ready_is_taken(#[case] durability: Durability) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), durability, NOON);
    let ids: Vec<u8> = (0..20_000_i64).flat_map(i64::to_le_bytes).collect();
    let healed = service.send("POST", "/v1/heal", "application/octet-stream", &ids);
    assert_eq!(healed.brief(), (200, r#"{"healed":20000,"opened":20000}"#));
    service.clock.advance(1);
    let left = service.send("POST", "/v1/leave", "application/octet-stream", &ids);
    assert_eq!(left.brief(), (200, r#"{"left":20000}"#));
    drop(service);

    let service = Service::open(folder.path(), durability, NOON + 1);
    let left = format!(r#"[{{"online_at":{NOON},"offline_at":{}}}]"#, NOON + 1);
    for id in [0, 1_023, 19_999] {
        assert_eq!(service.get(&format!("/heart_rhythm/{id}")), format!(r#"{{"id":{id},"history":{left}}}"#));
    }
    assert_eq!(service.engine.figures().users, 20_000);
}

fn segments(folder: &Path) -> usize {
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "seg")).count()
}

/// No segment can be prepared: something stands where the next one would be written.
fn without_room() -> (tempfile::TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Process, NOON);
    // Three segments of 341 slots: one in service, two ahead, of which the last is kept for a snapshot.
    while segments(folder.path()) < 3 {
        std::thread::yield_now();
    }
    std::fs::create_dir(folder.path().join("journal-0000000004.seg.tmp")).unwrap();
    let ids: Vec<u8> = (0..1_100_i64).flat_map(i64::to_le_bytes).collect();
    // What has been prepared may be there and not yet in the journal's hands.
    while service.engine.figures().users < 2 * 341 {
        let refused = service.send("POST", "/v1/heal", "application/octet-stream", &ids);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        assert_eq!(refused.body, r#"{"error":"the journal has no room; repeat the request"}"#);
    }
    (folder, service)
}

#[test]
fn a_write_that_the_journal_refuses_leaves_no_trace_and_reads_go_on() {
    let (_folder, service) = without_room();
    let before = service.server.stats().heals;
    let users = service.engine.figures().users;
    assert_eq!((before.refused > 0, before.opened), (true, users));
    let refused = (503, r#"{"error":"the journal has no room; repeat the request"}"#);

    service.clock.advance(1);
    for target in ["/heal/0", "/heal/5000"] {
        let response = service.call("PUT", target);
        assert_eq!((response.brief(), response.header("retry-after")), (refused, Some("1")));
    }
    assert_eq!(service.call("DELETE", "/heal/0").brief(), refused);
    assert_eq!(service.call("DELETE", "/v1/users/0").brief(), refused);
    assert_eq!(service.send("POST", "/v1/leave", "text/plain", b"0").brief(), refused);
    let line = br#"{"id":0,"online_at":7,"offline_at":9}"#;
    assert_eq!(service.send("POST", "/v1/import", "text/plain", line).brief(), refused);
    assert_eq!(service.server.stats().heals.refused, before.refused + 2);

    assert_eq!(service.get("/checkup/0"), r#"{"id":0,"status":"online"}"#);
    assert_eq!(
        service.get("/heart_rhythm/0"),
        r#"{"id":0,"history":[{"online_at":1638360000,"offline_at":1638360007}]}"#
    );
    assert_eq!(service.call("GET", "/v1/users/5000").status, 404);
    assert_eq!(service.engine.figures().users, users);
    assert_eq!(
        service.call("GET", "/readyz").brief(),
        (503, r#"{"ready":false,"reasons":["the journal has no room"]}"#)
    );
    let journal = &json(&service.get("/v1/status"))["journal"];
    assert_eq!(
        (&journal["accepting"], &journal["refusal"]),
        (&json!(false), &json!("the journal has no room"))
    );
}

#[test]
fn a_snapshot_is_taken_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Interval, NOON);
    service.send("POST", "/v1/heal", "text/plain", b"1\n2\n3");
    service.call("DELETE", "/heal/3");

    for number in 1..=2 {
        let response = service.call("POST", "/v1/admin/snapshot");
        assert_eq!(response.status, 200, "{response:?}");
        let taken = json(&response.body);
        let file = folder.path().join(format!("snapshot-{number:010}.snap"));
        assert_eq!(
            (&taken["number"], &taken["users"], &taken["sessions"], &taken["bytes"]),
            (&json!(number), &json!(3), &json!(1), &json!(file.metadata().unwrap().len()))
        );
        assert!(taken["seconds"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(json(&service.get("/v1/status"))["snapshot"]["number"], 2);
}

#[test]
fn a_service_without_a_disk_takes_no_snapshot() {
    assert_eq!(
        Service::start().call("POST", "/v1/admin/snapshot").brief(),
        (501, r#"{"error":"this service keeps nothing on disk"}"#)
    );
}

/// Without room for a segment a snapshot waits for one, and so is under way for as long as the test needs.
#[test]
fn only_one_snapshot_is_taken_at_a_time_and_nobody_waits_for_it() {
    let (_folder, service) = without_room();
    let (answered, answers) = mpsc::channel();
    for _ in 0..3 {
        let (answered, mut client) = (answered.clone(), service.connect());
        // The one that is under way is left behind when the test ends.
        std::thread::spawn(move || {
            let response = client.call("POST", "/v1/admin/snapshot");
            let _ = answered.send((response.status, response.body));
        });
    }
    let under_way = r#"{"error":"a snapshot is under way; ask again when it is done"}"#;
    for _ in 0..2 {
        assert_eq!(answers.recv().unwrap(), (409, under_way.to_owned()));
    }
    for _ in 0..10 {
        assert_eq!(service.get("/checkup/0"), r#"{"id":0,"status":"online"}"#);
    }
    assert!(answers.try_recv().is_err(), "the third waits");
}

#[test]
fn the_status_tells_of_journal_recovery_and_outages() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Interval, NOON);
    service.send("POST", "/v1/heal", "text/plain", b"1\n2\n3");
    let status = json(&service.get("/v1/status"));
    let journal = &status["journal"];
    assert_eq!(
        (&journal["durability"], &journal["accepting"], &journal["refusal"]),
        (&json!("interval"), &json!(true), &Value::Null)
    );
    assert_eq!((&journal["segment"], &journal["slots"]), (&json!(1), &json!(3)));
    assert!(journal["unsynced_seconds"].as_f64().unwrap() < 60.0);
    assert_eq!((&status["snapshot"], &status["outages"]), (&Value::Null, &json!([])));
    while segments(folder.path()) < 3 {
        std::thread::yield_now();
    }
    assert_eq!(json(&service.get("/v1/status"))["disk_bytes"], 3 * (16 << 10));
    drop(service);

    let service = Service::open(folder.path(), Durability::Process, NOON + 60);
    let status = json(&service.get("/v1/status"));
    let outage = json!({"from": NOON, "to": NOON + 60});
    assert_eq!(status["outages"], json!([outage]));
    let recovery = &status["recovery"];
    assert_eq!((&recovery["users"], &recovery["sessions"]), (&json!(3), &json!(3)));
    assert_eq!((&recovery["slots"]["good"], &recovery["outage"]), (&json!(3), &outage));
    assert_eq!((&recovery["segments"], &recovery["snapshot"]), (&json!(1), &Value::Null));
    assert_eq!(status["journal"]["unsynced_seconds"], Value::Null);

    let status = json(&Service::start().get("/v1/status"));
    for member in ["journal", "snapshot", "recovery", "disk_bytes"] {
        assert_eq!(status[member], Value::Null, "{member}, without a disk");
    }
}

#[test]
fn an_export_has_every_session_and_can_be_imported_elsewhere_any_number_of_times() {
    let service = Service::start();
    service.send("POST", "/v1/heal", "text/plain", b"1\n-2");
    service.clock.advance(60);
    service.call("PUT", "/heal/1");
    let export = service.call("GET", "/v1/export");
    assert_eq!((export.status, export.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!(export.header("cache-control"), Some("no-store"));
    let mut lines: Vec<&str> = export.body.lines().collect();
    lines.sort_unstable();
    let expected = [
        r#"{"id":-2,"online_at":1638360000,"offline_at":1638360007}"#,
        r#"{"id":1,"online_at":1638360000,"offline_at":1638360007}"#,
        r#"{"id":1,"online_at":1638360060,"offline_at":1638360067}"#,
    ];
    assert_eq!(lines, expected);
    assert!(export.body.ends_with('\n'));
    let strings = service.get("/v1/export?id_format=string");
    assert!(strings.contains(r#"{"id":"-2","online_at":1638360000,"#), "{strings}");
    assert_eq!(service.call("HEAD", "/v1/export").brief(), (200, ""));
    assert_eq!(service.call("GET", "/v1/export?limit=1").status, 400);

    let folder = tempfile::tempdir().unwrap();
    for format in [&export.body, &strings] {
        let other = Service::open(folder.path(), Durability::Interval, NOON + 60);
        let [imported, unchanged] = if format == &export.body { [3, 0] } else { [0, 3] };
        for (imported, unchanged) in [(imported, unchanged), (0, 3)] {
            assert_eq!(
                import(&other, format),
                json!({"imported": imported, "unchanged": unchanged, "rejected": 0, "first_errors": []})
            );
        }
        for id in [1, -2] {
            let target = format!("/heart_rhythm/{id}");
            assert_eq!(other.get(&target), service.get(&target));
        }
        assert_eq!(other.get("/checkup/1"), r#"{"id":1,"status":"online"}"#);
        assert_eq!(json(&other.get("/v1/online"))["online"], 1);
    }
}

#[test]
fn an_import_tells_what_it_rejected() {
    let service = Service::start();
    service.call("PUT", "/heal/1");
    let long = format!(r#"{{"id":8,{}"online_at":7,"offline_at":9}}"#, " ".repeat(1_024));
    let form = r#"write {"id":12345,"online_at":1638360000,"offline_at":1638360300}"#;
    let rejected = [
        (
            r#"{"id":1,"online_at":1638359990,"offline_at":1638360001}"#,
            "it overlaps a different session of this user",
        ),
        (r#"{"id":2,"online_at":9,"offline_at":9}"#, "offline_at is not after online_at"),
        (r#"{"id":2,"online_at":1638360001,"offline_at":1638360002}"#, "online_at is in the future"),
        (r#"{"id":2,"online_at":9,"offline_at":99999999999}"#, "offline_at is more than a day ahead"),
        (r#"{"id":"x","online_at":7,"offline_at":9}"#, "invalid user_id format"),
        (r#"{"id":2,"online_at":-7,"offline_at":9}"#, form),
        (r#"{"id":2,"online_at":7}"#, form),
        (r#"{"id":2,"online_at":7,"offline_at":9,"x":1}"#, form),
        ("seven to nine", form),
        (&long, "longer than 1024 bytes"),
        (r#"{"id":2,"online_at":9,"offline_at":8}"#, ""),
    ];
    let mut lines = String::from("\r\n{\"id\":\"3\",\"online_at\":7,\"offline_at\":9}\r\n");
    for (line, _) in rejected {
        let _ = writeln!(lines, "{line}");
    }
    lines += r#"{"id":4,"online_at":7,"offline_at":9}"#;

    let reply = import(&service, &lines);
    assert_eq!(
        (&reply["imported"], &reply["unchanged"], &reply["rejected"]),
        (&json!(2), &json!(0), &json!(11))
    );
    let told: Vec<Value> =
        (3..).zip(&rejected[..10]).map(|(line, (_, error))| json!({"line": line, "error": error})).collect();
    assert_eq!(reply["first_errors"], json!(told), "ten of them");
    assert_eq!(service.engine.figures().users, 3);
    assert_eq!(service.get("/heart_rhythm/3"), r#"{"id":3,"history":[{"online_at":7,"offline_at":9}]}"#);
}

/// 59 segments, of which the journal has three at a time.
#[test]
fn an_import_that_is_faster_than_the_disk_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Process, NOON);
    let mut lines = String::new();
    for id in 0..20_000 {
        let _ = writeln!(lines, r#"{{"id":{id},"online_at":1638350000,"offline_at":1638350300}}"#);
    }
    assert_eq!(import(&service, &lines)["imported"], 20_000);
    assert_eq!(import(&service, &lines)["unchanged"], 20_000);
    drop(service);
    assert_eq!(Service::open(folder.path(), Durability::Process, NOON).engine.figures().sessions, 20_000);
}

/// The body takes effect as it arrives: it may be larger than any limit, and need not be known in full.
#[test]
fn a_body_without_end_is_imported_while_it_arrives() {
    let service = Service::start_with(|engine| engine, |settings| settings.max_body_bytes = 1_000);
    let mut client = service.connect();
    client.write("POST /v1/import HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut lines = String::new();
    for id in 0..20_000 {
        let _ = writeln!(lines, r#"{{"id":{id},"online_at":1638350000,"offline_at":1638350300}}"#);
    }
    // Cut where no line ends.
    for piece in lines.as_bytes().chunks(10_007) {
        client.write(format!("{:x}\r\n", piece.len()));
        client.write([piece, b"\r\n"].concat());
    }
    while service.engine.figures().users < 19_000 {
        std::thread::yield_now();
    }
    assert!(client.is_silent(), "the answer comes at the end");
    client.write("0\r\n\r\n");
    assert_eq!(
        client.response().brief(),
        (200, r#"{"imported":20000,"unchanged":0,"rejected":0,"first_errors":[]}"#)
    );
    // More than one piece for each connection's turn, and every line whole.
    let export = service.get("/v1/export");
    let mut exported: Vec<&str> = export.lines().collect();
    let mut sent: Vec<&str> = lines.lines().collect();
    exported.sort_unstable();
    sent.sort_unstable();
    assert!(exported == sent);
    assert_eq!(client.call("PUT", "/heal/1").brief(), (200, ONLINE), "the connection goes on");
}
