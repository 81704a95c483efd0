//! The real binary at its limits: connections, descriptors, bad input by the thousand, a hurried shutdown, its own bench.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "a real process is awaited, and how long that takes is asked")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

mod process;
mod wire;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use process::Service;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};
use serde_json::Value;
use wire::{Client, PATIENCE};

struct Running {
    service: Service,
    address: SocketAddr,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut service = Service::start(args, |_| ());
        let address = service.logged("listening")["fields"]["addresses"].as_str().unwrap().parse().unwrap();
        Self { service, address }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn status(&self) -> Value {
        let body = self.connect().call("GET", "/v1/status").body;
        serde_json::from_str(&body).unwrap()
    }
}

/// The client's descriptors are this process's, the service's are its own.
#[test]
fn fifteen_thousand_connections_at_once() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let connections = maximum.map_or(15_000, |maximum| maximum.saturating_sub(200).min(15_000)) as usize;
    if connections < 15_000 {
        eprintln!("the hard limit on open files is {maximum:?}: {connections} connections must do");
    }
    let running = Running::start(&[]);

    let mut clients: Vec<Client> = (0..connections).map(|_| running.connect()).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.write(format!("PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let mut observer = running.connect();
    // A connection that is being handed to its worker is counted twice for a moment.
    let start = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&observer.call("GET", "/v1/status").body).unwrap();
        assert_eq!(status["users"], connections);
        if status["connections"] == connections + 1 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{status}");
    }
}

#[test]
fn without_descriptors_it_waits_without_spinning_and_goes_on_when_there_are_some() {
    let mut running = Running::start(&[]);
    let open = running.status()["process"]["open_files"].as_u64().unwrap();
    let pid = Pid::from_raw(running.service.id().try_into().unwrap()).unwrap();
    let few = Rlimit { current: Some(open + 4), maximum: Some(open + 4) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();

    let mut clients: Vec<Client> = (0..50).map(|_| running.connect()).collect();
    running.service.logged("connections cannot be accepted");
    let spent = |pid: Pid| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (before, start) = (spent(pid), Instant::now());
    std::thread::park_timeout(Duration::from_millis(500));
    let share = (spent(pid) - before) as f64 / 100.0 / start.elapsed().as_secs_f64();
    assert!(share < 0.5, "it spins: {share:.2} of a core");

    // Those that were accepted are served, and the others once these have gone.
    assert_eq!(clients[0].call("PUT", "/heal/1").status, 200);
    clients.truncate(1);
    let start = Instant::now();
    assert_eq!(running.connect().call("PUT", "/heal/2").status, 200);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_client_cannot_fill_the_log() {
    let mut running = Running::start(&[]);
    let mut client = running.connect();
    for _ in 0..1_000 {
        assert_eq!(client.call("PUT", "/heal/not-an-id").status, 400);
    }
    let line = running.service.logged("requests were refused as invalid");
    assert_eq!((&line["level"], &line["fields"]["example"]), (&"WARN".into(), &"not-an-id".into()));
    assert_eq!(line["fields"]["count"], 1);

    // The next line is the shutdown's, not one of 999 others.
    running.service.signal(Signal::TERM);
    assert_eq!(
        running.service.next_line()["fields"]["message"].as_str().unwrap().split(':').next(),
        Some("draining")
    );
    assert_eq!(running.service.wait().code(), Some(0));
}

/// A heal whose body is still to come; the service has read its head.
fn half_a_heal(running: &Running) -> Client {
    let mut client = running.connect();
    client.write("PUT /heal/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let mut running = Running::start(&[]);
    let mut client = half_a_heal(&running);
    running.service.signal(Signal::TERM);
    running.service.logged("draining");

    client.write("abc");
    assert_eq!(client.response().status, 200);
    assert_eq!(running.service.wait().code(), Some(0));
    assert!(TcpStream::connect(running.address).is_err());
}

#[test]
fn a_request_in_flight_is_cut_at_the_drain_timeout() {
    let mut running = Running::start(&["--drain-timeout", "200ms"]);
    let mut client = half_a_heal(&running);
    running.service.signal(Signal::TERM);
    running.service.logged("requests in flight were cut at the drain timeout");
    assert!(client.is_closed());
    assert_eq!(running.service.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut running = Running::start(&["--drain-timeout", "1h"]);
    let mut client = half_a_heal(&running);
    running.service.signal(Signal::TERM);
    running.service.logged("draining");
    running.service.signal(Signal::INT);
    running.service.logged("asked a second time");
    assert!(client.is_closed());
    assert_eq!(running.service.wait().code(), Some(0));
}

#[test]
fn healthcheck_finds_a_running_service_ready() {
    let running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    Command::new(process::BINARY).env_clear().args(["healthcheck", "--url", &url]).assert().success();
}

#[test]
fn bench_drives_a_service_of_its_own_with_users() {
    let output = Command::new(process::BINARY)
        .env_clear()
        .args(["bench", "--users", "20", "--duration", "2s", "--json"])
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert!(report.is_object(), "{report}");
}

#[test]
fn bench_drives_a_running_service_at_a_rate_and_judges_it() {
    let running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    let bench = |limit: &str| {
        Command::new(process::BINARY)
            .env_clear()
            .args([
                "bench",
                "--url",
                &url,
                "--rate",
                "500",
                "--duration",
                "1s",
                "--users",
                "100",
                "--json",
                "--max-p99",
                limit,
            ])
            .assert()
    };
    bench("10s").success();
    bench("1ns").code(1);
    assert_eq!(running.status()["users"], 100);
}
