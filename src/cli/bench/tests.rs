//! Whole runs against a server with a fixed answer.

use clap::Parser;
use rstest::rstest;
use serde_json::Value;

use super::fixed_server::{Behaviour, FixedServer};
use super::url::ServiceUrl;
use super::*;

/// The arguments as a command line of their own.
#[derive(Debug, clap::Parser)]
pub struct BenchLine {
    #[command(flatten)]
    pub bench: BenchArgs,
}

/// What a run of about a second against `server` reports, and the lines it printed.
fn run_against(server: &FixedServer, args: &[&str]) -> (Value, String) {
    let url = server.url();
    let duration: &[&str] = if args.contains(&"--duration") { &[] } else { &["--duration", "1s"] };
    let line = [&["bench", "--url", &url], duration, args].concat();
    let args = BenchLine::parse_from(line).bench;
    let url: ServiceUrl = url.parse().unwrap();
    let mut lines = Vec::new();
    let report = drive::drive(&args.plan(url.host()), &url, url.resolve().unwrap(), &mut lines).unwrap();
    (serde_json::to_value(&report).unwrap(), String::from_utf8(lines).unwrap())
}

fn heals(report: &Value, what: &str) -> u64 {
    report["heals"][what].as_u64().unwrap()
}

#[rstest]
#[case::one_by_one(&[])]
#[case::pipelined(&["--pipeline", "8"])]
#[case::in_batches(&["--batch", "10"])]
#[case::on_two_threads(&["--threads", "2"])]
#[case::at_random(&["--ids", "random"])]
fn an_open_loop_sends_just_what_was_asked_for(#[case] args: &[&str]) {
    let server = FixedServer::start(Behaviour::Heals);
    let asked = ["--rate", "2000", "--connections", "4"];
    let (report, _) = run_against(&server, &[&asked, args].concat());

    assert_eq!(report["heals"]["acknowledged"], 2_000, "{report}");
    assert_eq!(heals(&report, "failed"), 0, "{report}");
    assert_eq!(server.heals(), 2_000);
    assert_eq!(report["rate"], serde_json::json!({"asked": 2_000, "reached": 2_000.0}));
    assert_eq!(report["service"]["version"], "fixed");
    assert_eq!(report["passed"], true, "{report}");
}

#[test]
fn a_closed_loop_sends_what_gets_through() {
    let server = FixedServer::start(Behaviour::HealsLate);
    let (report, _) = run_against(&server, &["--rate", "max", "--connections", "2", "--pipeline", "3"]);

    // Two connections, each with an answer every 20 ms or a little more.
    let acknowledged = heals(&report, "acknowledged");
    assert!((20..=110).contains(&acknowledged), "{report}");
    assert_eq!(server.heals(), acknowledged);
    // Each waits for the two that are before it in the pipeline.
    assert!(report["latency_seconds"]["p50"].as_f64().unwrap() >= 0.055, "{report}");
    assert_eq!(report["passed"], true, "{report}");
}

/// The server answers at most 50 a second; of the 500 asked for, each has waited longer than the one before.
#[test]
fn a_slow_server_cannot_hide_what_waits() {
    let server = FixedServer::start(Behaviour::HealsLate);
    let (report, _) = run_against(&server, &["--rate", "500", "--connections", "1", "--max-p99", "100ms"]);

    assert_eq!(report["passed"], false);
    assert!(report["latency_seconds"]["p99"].as_f64().unwrap() > 0.5, "{report}");
    assert_eq!(heals(&report, "sent") + heals(&report, "unsent"), 500, "{report}");
    let complaints = report["complaints"].to_string();
    assert!(complaints.contains("p99 is") && complaints.contains("was not reached"), "{report}");
}

#[test]
fn a_threshold_that_is_kept_passes() {
    let server = FixedServer::start(Behaviour::HealsLate);
    let (report, _) = run_against(&server, &["--rate", "10", "--connections", "1", "--max-p99", "900ms"]);
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(heals(&report, "acknowledged"), 10);
}

#[test]
fn refused_heals_are_counted_by_their_status() {
    let server = FixedServer::start(Behaviour::Refuses);
    let (report, _) = run_against(&server, &["--rate", "100", "--connections", "2"]);

    assert_eq!(report["heals"]["failed_by_kind"], serde_json::json!({"status 503": 100}));
    assert_eq!((heals(&report, "acknowledged"), &report["latency_seconds"]), (0, &Value::Null));
    assert_eq!(report["passed"], false);
}

#[test]
fn a_server_that_closes_is_connected_to_again() {
    let server = FixedServer::start(Behaviour::ClosesAfterThree);
    let (report, _) = run_against(&server, &["--rate", "100", "--connections", "1"]);

    assert_eq!(report["heals"]["failed_by_kind"], serde_json::json!({"connection closed": 25}));
    assert_eq!(heals(&report, "acknowledged"), 75, "{report}");
    assert_eq!(report["connections_lost"], 25);
    assert_eq!(report["passed"], false);
}

#[test]
fn a_server_that_speaks_something_else_is_found_out() {
    let server = FixedServer::start(Behaviour::SpeaksGarbage);
    let (report, _) = run_against(&server, &["--rate", "100", "--connections", "1"]);
    assert_eq!(heals(&report, "acknowledged"), 0);
    assert!(heals(&report, "failed") > 0, "{report}");
    assert_eq!(report["heals"]["failed_by_kind"]["malformed answer"], report["heals"]["failed"]);
}

/// They arrive within the run's second, and none heals twice in it.
#[test]
fn simulated_users_heal() {
    let server = FixedServer::start(Behaviour::Heals);
    let (report, _) = run_against(&server, &["--users", "200"]);
    assert_eq!((heals(&report, "acknowledged"), server.heals()), (200, 200));
    assert_eq!((&report["mode"], &report["passed"]), (&"users".into(), &true.into()), "{report}");
}

#[test]
fn simulated_users_that_are_refused_fail_the_run() {
    let server = FixedServer::start(Behaviour::Refuses);
    let (report, _) = run_against(&server, &["--users", "20"]);
    assert_eq!(report["heals"]["failed_by_kind"], serde_json::json!({"status 503": 20}));
    assert_eq!(report["passed"], false);
}

/// All have healed long before the end, and the run still lasts as long as it should.
#[test]
fn the_last_stretch_of_a_run_gets_its_line() {
    let server = FixedServer::start(Behaviour::Heals);
    let (_, lines) = run_against(&server, &["--users", "2", "--duration", "1200ms"]);
    let lines: Vec<_> = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0][..4], ["time", "online", "sessions", "heals/s"]);
    assert_eq!(lines[1][..3], ["1s", "3", "-"]);
}

#[test]
fn an_address_where_nobody_listens_is_an_error() {
    let url = FixedServer::start(Behaviour::Heals).url();
    // The server ends when the wake-up connection of its end has been taken; until then one may still get in.
    let args = BenchLine::parse_from(["bench", "--url", &url, "--duration", "100ms"]).bench;
    let refused = (0..100).any(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
        run(&args).is_err_and(|error| error.to_string() == format!("{url} does not answer"))
    });
    assert!(refused);
}
