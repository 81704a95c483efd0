//! `/metrics` over a real socket: what is there from the start, what is counted where, and where it is read.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heartbeat::config::Settings;
use heartbeat::{Durability, Progress, UserId, http};
use wire::{Client, NOON, Service};

/// Every series and its value.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(service: &Service) -> Self {
        Self::parse(&service.get("/metrics"))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} among {:#?}", self.0.keys()))
    }

    #[track_caller]
    fn expect<const N: usize>(&self, expected: [(&str, f64); N]) {
        let found = expected.map(|(series, _)| (series, self.value(series)));
        assert_eq!(found, expected);
    }

    /// Requests by route, method and status, where there were any.
    fn requests(&self) -> Vec<(&str, f64)> {
        let name = "heartbeat_http_requests_total";
        let counted = self.0.iter().filter(|(series, value)| series.starts_with(name) && **value > 0.0);
        counted.map(|(series, value)| (series.strip_prefix(name).unwrap(), *value)).collect()
    }
}

/// The contract with dashboards and alerts: names, and the values of their labels. Buckets are left out.
#[test]
fn every_series_is_there_from_the_start() {
    let service = Service::start();
    let text = service.get("/metrics");
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if !name.ends_with("_bucket") && !["route=", "version="].iter().any(|label| labels.contains(label)) {
            found.entry(name).or_default().insert(labels.trim_end_matches('}'));
        }
    }
    let mut listed = String::new();
    for (name, labels) in &found {
        listed.push_str(name);
        for labels in labels {
            listed.push(' ');
            listed.push_str(labels);
        }
        listed = listed.trim_end().to_owned() + "\n";
    }
    assert_eq!(listed, include_str!("golden/metrics.txt"), "found:\n{listed}");

    let scrape = Scrape::parse(&text);
    for route in ["/heal/{user_id}", "/v1/heal", "/metrics", "/v1/admin/snapshot"] {
        scrape.value(&format!("heartbeat_http_request_duration_seconds_count{{route=\"{route}\"}}"));
        scrape.value(&format!(
            "heartbeat_http_request_duration_seconds_bucket{{route=\"{route}\",le=\"0.00001\"}}"
        ));
        scrape.value(&format!(
            "heartbeat_http_requests_total{{route=\"{route}\",method=\"other\",code=\"405\"}}"
        ));
    }
    for (method, code) in [("PUT", "503"), ("GET", "405"), ("HEAD", "405")] {
        let labels = format!("{{route=\"/heal/{{user_id}}\",method=\"{method}\",code=\"{code}\"}}");
        scrape.value(&format!("heartbeat_http_requests_total{labels}"));
    }
}

#[test]
fn it_is_text_that_nobody_keeps() {
    let service = Service::start();
    let response = service.call("GET", "/metrics");
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(service.call("POST", "/metrics").status, 405);
}

#[test]
fn each_heal_is_counted_once_by_what_it_did() {
    let service = Service::start_with(|engine| engine.users_max(3), |_| {});
    service.call("PUT", "/heal/1");
    service.call("PUT", "/heal/1");
    service.clock.advance(1);
    service.call("POST", "/heal/1");
    service.call("PUT", "/heal/abc");
    service.call("PUT", "/heal/");
    service.send("POST", "/v1/heal", "text/plain", b"1\n2\n3");
    service.send("POST", "/v1/heal", "text/plain", b"1\nx");
    service.call("PUT", "/heal/4");
    service.send("POST", "/v1/heal", "text/plain", b"1\n5");

    Scrape::of(&service).expect([
        ("heartbeat_heals_total{result=\"opened\"}", 3.0),
        ("heartbeat_heals_total{result=\"extended\"}", 1.0),
        ("heartbeat_heals_total{result=\"unchanged\"}", 3.0),
        ("heartbeat_heals_total{result=\"refused\"}", 2.0),
        ("heartbeat_heals_total{result=\"invalid\"}", 3.0),
        ("heartbeat_users_refused_total", 2.0),
        ("heartbeat_users", 3.0),
        ("heartbeat_online_users", 3.0),
        ("heartbeat_batch_ids_count{route=\"/v1/heal\"}", 2.0),
        ("heartbeat_batch_ids_sum{route=\"/v1/heal\"}", 5.0),
    ]);
}

#[test]
fn each_request_is_counted_once_by_route_method_and_status() {
    let service = Service::start();
    for (method, target) in [
        ("PUT", "/heal/1"),
        ("PUT", "/heal/1"),
        ("POST", "/heal/1"),
        ("DELETE", "/heal/1"),
        ("GET", "/heal/1"),
        ("PUT", "/heal/abc"),
        ("PUT", "/heal"),
        ("GET", "/checkup/1"),
        ("HEAD", "/checkup/1"),
        ("GET", "/heart_rhythm/1"),
        ("GET", "/v1/users/1"),
        ("GET", "/v1/users/2"),
        ("GET", "/v1/online?x=1"),
        ("GET", "/v1/online"),
        ("GET", "/favicon.ico"),
        ("BREW", "/favicon.ico"),
        ("POST", "/v1/admin/snapshot"),
        ("GET", "/livez"),
    ] {
        service.call(method, target);
    }
    service.send("POST", "/v1/heal", "text/plain", b"1\n2");
    service.send("POST", "/v1/heal", "image/png", b"1\n2");
    service.send("PUT", "/heal/1", "text/plain", b"a body that means nothing");

    let scrape = Scrape::of(&service);
    assert_eq!(
        scrape.requests(),
        [
            (r#"{route="/checkup/{user_id}",method="GET",code="200"}"#, 1.0),
            (r#"{route="/checkup/{user_id}",method="HEAD",code="200"}"#, 1.0),
            (r#"{route="/heal/{user_id}",method="DELETE",code="200"}"#, 1.0),
            (r#"{route="/heal/{user_id}",method="GET",code="405"}"#, 1.0),
            (r#"{route="/heal/{user_id}",method="POST",code="200"}"#, 1.0),
            (r#"{route="/heal/{user_id}",method="PUT",code="200"}"#, 3.0),
            (r#"{route="/heal/{user_id}",method="PUT",code="400"}"#, 2.0),
            (r#"{route="/heart_rhythm/{user_id}",method="GET",code="200"}"#, 1.0),
            (r#"{route="/livez",method="GET",code="200"}"#, 1.0),
            (r#"{route="/v1/admin/snapshot",method="POST",code="501"}"#, 1.0),
            (r#"{route="/v1/heal",method="POST",code="200"}"#, 1.0),
            (r#"{route="/v1/heal",method="POST",code="415"}"#, 1.0),
            (r#"{route="/v1/online",method="GET",code="200"}"#, 1.0),
            (r#"{route="/v1/online",method="GET",code="400"}"#, 1.0),
            (r#"{route="/v1/users/{user_id}",method="GET",code="200"}"#, 1.0),
            (r#"{route="/v1/users/{user_id}",method="GET",code="404"}"#, 1.0),
            (r#"{route="other",method="GET",code="404"}"#, 1.0),
            (r#"{route="other",method="other",code="404"}"#, 1.0),
        ]
    );
    scrape.expect([("heartbeat_http_requests_in_flight", 1.0)]); // the scrape itself
}

/// An export is as long as there are sessions: it is in flight until all of it is out, or nobody wants it any more.
#[test]
fn an_answer_that_nobody_reads_is_in_flight() {
    let in_flight = |service: &Service| Scrape::of(service).value("heartbeat_http_requests_in_flight");
    let service = Service::start();
    for user in 0..300_000 {
        service.engine.heal(UserId::new(user)).unwrap();
    }
    let mut reader = service.connect();
    reader.write("GET /v1/export HTTP/1.1\r\nHost: a\r\n\r\n");
    // Two: the export, and the scrape itself.
    while in_flight(&service) < 2.0 {
        std::thread::yield_now();
    }
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    assert!(in_flight(&service) >= 2.0, "twenty megabytes are not out while nobody reads them");
    drop(reader);
    while in_flight(&service) > 1.0 {
        std::thread::yield_now();
    }
}

/// One read in 16 of each connection is timed, its first among them.
#[test]
fn how_long_requests_take_is_told_by_route() {
    let service = Service::start();
    let mut client = service.connect();
    // It is counted after the answer has gone, so for certain only once the next one has come.
    for _ in 0..34 {
        client.call("PUT", "/heal/1");
    }
    let mut client = service.connect();
    for _ in 0..2 {
        client.call("GET", "/checkup/1");
    }
    let scrape = Scrape::of(&service);
    scrape.expect([
        ("heartbeat_http_request_duration_seconds_count{route=\"/heal/{user_id}\"}", 3.0),
        ("heartbeat_http_request_duration_seconds_count{route=\"/checkup/{user_id}\"}", 1.0),
        ("heartbeat_http_request_duration_seconds_bucket{route=\"/heal/{user_id}\",le=\"+Inf\"}", 3.0),
    ]);
    let sum = scrape.value("heartbeat_http_request_duration_seconds_sum{route=\"/heal/{user_id}\"}");
    assert!(sum > 0.0 && sum < 10.0, "{sum}");
}

#[test]
fn sessions_are_counted_by_how_they_ended() {
    let service = Service::start();
    let heal = |user| service.engine.heal(UserId::new(user)).unwrap();
    for user in 1..=4 {
        heal(user);
    }
    service.clock.advance(3);
    service.engine.leave(UserId::new(1)).unwrap();
    service.engine.forget(UserId::new(2)).unwrap();
    service.clock.advance(6);
    heal(3); // in second 9, two after the end of the session before: a flap
    service.engine.sweep();

    Scrape::of(&service).expect([
        ("heartbeat_sessions_opened_total", 5.0),
        ("heartbeat_sessions_closed_total{reason=\"lapsed\"}", 2.0),
        ("heartbeat_sessions_closed_total{reason=\"left\"}", 1.0),
        ("heartbeat_sessions_closed_total{reason=\"forgotten\"}", 1.0),
        ("heartbeat_flaps_total", 1.0),
        ("heartbeat_users", 3.0),
        ("heartbeat_online_users", 1.0),
        ("heartbeat_sessions_stored", 4.0),
        ("heartbeat_sweep_last_run_timestamp_seconds", f64::from(NOON + 9)),
        ("heartbeat_ttl_seconds", 7.0),
        // Three users with one closed session each: a header of 16 bytes and room for two of 8.
        ("heartbeat_memory_bytes{part=\"timelines\"}", 96.0),
    ]);
    for user in 1..=4 {
        service.engine.forget(UserId::new(user)).unwrap();
    }
    Scrape::of(&service).expect([("heartbeat_memory_bytes{part=\"timelines\"}", 0.0)]);
}

#[test]
fn the_journal_and_what_recovery_read_of_it_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Always, NOON);
    for user in 1..=400 {
        service.engine.heal(UserId::new(user)).unwrap();
    }
    let response = service.call("POST", "/v1/admin/snapshot");
    assert_eq!(response.status, 200, "{response:?}");
    for user in 1..=5 {
        service.engine.leave(UserId::new(user)).unwrap();
    }
    let scrape = Scrape::of(&service);
    scrape.expect([
        // In three segments by now.
        ("heartbeat_journal_slots_total", 405.0),
        ("heartbeat_journal_replay_bytes", 5.0 * 24.0),
        ("heartbeat_journal_accepting", 1.0),
        ("heartbeat_journal_unsynced_limit_seconds", 6.0),
        ("heartbeat_snapshot_duration_seconds_count", 1.0),
        ("heartbeat_snapshot_shard_hold_seconds_count", 1.0),
        ("heartbeat_snapshot_last_success_timestamp_seconds", f64::from(NOON)),
        ("heartbeat_outages_total", 0.0),
    ]);
    assert!(scrape.value("heartbeat_snapshot_bytes") > 400.0 * 24.0);

    drop(service);
    let service = Service::open(folder.path(), Durability::Interval, NOON + 60);
    let scrape = Scrape::of(&service);
    scrape.expect([
        ("heartbeat_recovery_slots{verdict=\"applied\"}", 5.0),
        ("heartbeat_recovery_slots{verdict=\"stale\"}", 0.0),
        ("heartbeat_recovery_slots{verdict=\"torn\"}", 0.0),
        ("heartbeat_recovery_slots{verdict=\"empty\"}", 0.0),
        ("heartbeat_recovery_quarantined_snapshots", 0.0),
        ("heartbeat_journal_unsynced_limit_seconds", 6.0),
        ("heartbeat_outages_total", 1.0),
        // Restart-grace: all but those who left may still continue.
        ("heartbeat_online_users", 395.0),
    ]);
    assert!(scrape.value("heartbeat_recovery_duration_seconds") > 0.0);
}

#[test]
fn metrics_answer_while_recovering() {
    let server = http::Server::listen(&wire::settings(), Arc::new(Progress::default())).unwrap();
    let response = Client::connect(server.addresses()[0]).call("GET", "/metrics");
    assert_eq!(response.status, 200);
    Scrape::parse(&response.body).expect([("heartbeat_ready", 0.0), ("heartbeat_users", 0.0)]);

    let ready = Service::start();
    Scrape::of(&ready).expect([("heartbeat_ready", 1.0)]);
}

#[test]
fn with_an_address_of_their_own_metrics_are_read_there_and_nobody_is_healed_there() {
    let settings = Settings { metrics_listen: vec![([127, 0, 0, 1], 0).into()], ..wire::settings() };
    let engine = Arc::new(heartbeat::Engine::builder().build());
    let server = http::Server::start(Arc::clone(&engine), &settings).unwrap();
    let serving =
        |method: &str, target: &str| Client::connect(server.addresses()[0]).call(method, target).status;
    let [address] = server.metrics_addresses() else { panic!("one address") };
    let observing = |method: &str, target: &str| Client::connect(*address).call(method, target).status;

    assert_eq!(["/metrics", "/livez", "/readyz"].map(|target| observing("GET", target)), [200, 200, 200]);
    assert_eq!(["/metrics", "/livez", "/readyz"].map(|target| serving("GET", target)), [404, 200, 200]);
    assert_eq!(observing("PUT", "/heal/1"), 404);
    assert_eq!(observing("PUT", "/heal/abc"), 404);
    assert_eq!(observing("GET", "/v1/status"), 404);
    assert_eq!(engine.figures().users, 0);
    assert_eq!(serving("PUT", "/heal/1"), 200);

    // What is asked there counts with the rest.
    let scrape = Scrape::parse(&Client::connect(*address).call("GET", "/metrics").body);
    scrape.expect([
        (r#"heartbeat_http_requests_total{route="/metrics",method="GET",code="200"}"#, 1.0),
        (r#"heartbeat_http_requests_total{route="/livez",method="GET",code="200"}"#, 2.0),
        (r#"heartbeat_heals_total{result="invalid"}"#, 0.0),
    ]);
}

/// That the service drains, and why it does not end, is to be seen by whoever watches it.
#[test]
fn metrics_on_an_address_of_their_own_are_read_while_the_service_drains() {
    let settings = Settings { metrics_listen: vec![([127, 0, 0, 1], 0).into()], ..wire::settings() };
    let engine = Arc::new(heartbeat::Engine::builder().build());
    let mut server = http::Server::start(engine, &settings).unwrap();
    let address = server.metrics_addresses()[0];
    let mut watcher = Client::connect(address);
    Scrape::parse(&watcher.call("GET", "/metrics").body).expect([("heartbeat_ready", 1.0)]);

    assert!(server.drain(wire::PATIENCE), "whoever only watches is not waited for");
    assert!(Client::try_connect(server.addresses()[0]).is_err());
    Scrape::parse(&watcher.call("GET", "/metrics").body).expect([("heartbeat_ready", 0.0)]);
    let readiness = Client::connect(address).call("GET", "/readyz");
    assert_eq!(readiness.brief(), (503, r#"{"ready":false,"reasons":["draining"]}"#));
    drop(server);
    assert!(Client::try_connect(address).is_err());
}
