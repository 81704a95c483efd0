//! The lives of the service: each one process, from its start on what the one before has left to its kill.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStderr, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::driver::connection::Connection;
use super::driver::now;
use super::driver::random::Random;
use super::ledger::Outage;
use super::process::{self, Service};
use super::sample::{self, Files, Sample};
use super::traffic::{CLIENTS, Client, Pace, Traffic};
use super::{Plan, Times, instant, pass};

/// How long a departed user may still be known while the service runs: a snapshot has to come by, on a machine that may lag.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Soak<'a> {
    pub plan: &'a Plan,
    pub folder: &'a Path,
    pub segment_bytes: u64,
    /// Between two calls of one client.
    pub interval: Duration,
    pub traffic: Traffic,
    pub clients: Vec<Client>,
    pub random: Random,
    pub samples: Vec<Sample>,
    pub outages: Vec<Outage>,
    pub lives: usize,
    /// Users of the ledger who could be judged after a kill.
    pub judged: u64,
    pub warnings: u64,
}

/// A service that has everything on which a long life depends often.
pub fn start(folder: &Path, times: Times, segment_bytes: u64) -> Service {
    let arguments = [
        ("--data-dir", folder.to_str().unwrap().to_owned()),
        ("--ttl", format!("{}s", times.ttl)),
        ("--retain", format!("{}s", times.retain)),
        ("--retain-sessions", times.retain_sessions.to_string()),
        ("--snapshot-interval", format!("{}s", times.snapshot_interval)),
        ("--segment-bytes", format!("{}KiB", segment_bytes >> 10)),
        ("--threads", "2".to_owned()),
    ];
    let arguments: Vec<_> = arguments.iter().flat_map(|(flag, value)| [*flag, value.as_str()]).collect();
    Service::start(&arguments, |_| {})
}

impl Soak<'_> {
    /// Starts, and checks what is there, before anybody comes.
    fn started(&mut self) -> (Service, SocketAddr) {
        let second = now();
        let mut service = start(self.folder, self.plan.times, self.segment_bytes);
        let address = service.listening();
        self.outages.extend(sample::outage(address));
        for client in &self.clients {
            self.judged += client.check(address, &self.traffic, &self.outages, second);
        }
        (service, address)
    }

    /// One process, from its start to its kill.
    pub fn live(&mut self, length: Duration, is_long: bool) {
        let (mut service, address) = self.started();
        let log = service.take_log();
        let (forgets, ending) = (AtomicBool::new(true), AtomicBool::new(false));
        let pace = Pace { address, interval: Some(self.interval), forgets: &forgets, ending: &ending };
        let (traffic, outages) = (&self.traffic, &self.outages[..]);
        let life = self.lives;
        let samples = thread::scope(|scope| {
            // Killed also when a check fails here: else the clients would go on.
            let mut service = service;
            let warnings = scope.spawn(|| read_log(log));
            for client in &mut self.clients {
                scope.spawn(move || client.drive(traffic, pace, outages));
            }
            let mut status = Connection::open(address).unwrap();
            let mut samples = Vec::new();
            let start = instant();
            loop {
                let left = length.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break;
                }
                pass(left.min(self.plan.sample_every));
                let sample = sample::take(service.id(), self.folder, &mut status, traffic);
                samples.push(Sample { life, ..sample.expect("it lives") });
                // A forgotten user costs the older generation: two thirds of a long life have both.
                let third = length / 3;
                forgets.store(!is_long || start.elapsed() < third, Ordering::Relaxed);
            }
            if is_long {
                see_off(address, traffic);
            }
            service.kill();
            ending.store(true, Ordering::Relaxed);
            self.warnings += warnings.join().unwrap();
            samples
        });
        self.samples.extend(samples);
        self.lives += 1;
        // Mostly it comes again at once; now and then only when every deadline has passed, and then nobody's session may be cut.
        let millis = if self.comes_back_late() {
            1_000 * u64::from(self.plan.times.ttl + 2) + 500
        } else {
            self.random.below(3) * self.random.below(1_000)
        };
        pass(Duration::from_millis(millis));
    }

    /// Whether the service is down for long between the last life and the next, which then has to last a while: only heals after it can
    /// be found to have been taken for new sessions.
    pub fn comes_back_late(&self) -> bool {
        self.lives % 4 == 3
    }

    /// After the last kill: started once more, stopped as it should be, and nothing is left that nobody needs.
    pub fn stop(&mut self) -> Files {
        let (mut service, _) = self.started();
        service.signal(Signal::TERM);
        let log = service.take_log();
        self.warnings += read_log(log);
        assert_eq!(service.wait().code(), Some(0));
        let files = Files::read(self.folder);
        assert!(files.snapshots <= 2 && files.needless == 0 && files.others == 0, "{files:?}");
        let verified = Command::new(process::BINARY).arg("verify").arg(self.folder).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        files
    }

    pub fn tell(&self, last: Files) {
        let traffic = &self.traffic;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        println!(
            "{} kills, {} segments, {} snapshots, {} calls, {} users healed, {} refused, {} without an answer, {} given up, {} judged after a kill, {} warnings",
            self.lives,
            last.last_segment,
            last.last_snapshot,
            count(&traffic.calls),
            count(&traffic.healed),
            count(&traffic.refused),
            count(&traffic.unknown),
            count(&traffic.shed),
            self.judged,
            self.warnings
        );
    }
}

/// Also when a check has failed, and then above all.
impl Drop for Soak<'_> {
    fn drop(&mut self) {
        println!("{}", sample::table(&self.samples, 36));
        if let Ok(path) = std::env::var("SOAK_CSV") {
            fs::write(path, sample::csv(&self.samples)).unwrap();
        }
    }
}

/// Of users who have just departed nothing is known soon, though the service goes on and nobody asks for them.
fn see_off(address: SocketAddr, traffic: &Traffic) {
    let base = traffic.base(traffic.beginning.elapsed());
    let mut connection = Connection::open(address).unwrap();
    let start = instant();
    for user in (base.saturating_sub(64)..base).map(|number| number * CLIENTS + 1) {
        loop {
            let (status, body) = connection.call("GET", &format!("/v1/users/{user}")).unwrap();
            if status == 404 {
                break;
            }
            let is_patient = start.elapsed() < PATIENCE;
            assert!(is_patient, "departed {PATIENCE:?} ago, and still known: {body}");
            pass(Duration::from_millis(50));
        }
    }
}

/// To its end. An error in it is one of ours; gives how many warnings there were.
fn read_log(log: BufReader<ChildStderr>) -> u64 {
    let mut warnings = 0;
    for line in log.lines() {
        let line = line.unwrap();
        let Ok(told) = serde_json::from_str::<Value>(&line) else { panic!("{line}") };
        assert!(told["level"] != "ERROR", "{line}");
        if told["level"] == "WARN" {
            println!("{line}");
            warnings += 1;
        }
    }
    warnings
}
