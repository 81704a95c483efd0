//! Users come and go for an hour, at 80 % of what this machine can do, while segments rotate, snapshots are taken, retention
//! drops who has gone, and kills come in between: memory, descriptors, threads and disk stay flat, and nothing acknowledged is lost.
//!
//! ```text
//!   closed loop     long life                        short lives                     long life        …
//!   ├── peak ──┤├── settles ┬ second ┬ last third ──┤├─┤  ├──┤ ├─┤    ├─┤ ├────┤   ├── settles ┬ …
//!                           └── are compared ──┘     kill -9, restarts, some after longer than the ttl
//! ```
//!
//! A kill makes memory and descriptors begin anew, so a leak shows within a life and only in a long one; what is on disk, and what
//! retention has to do, goes on from life to life. [`flat`] has the bounds and the reasons, [`ledger`] what must be there after a
//! kill. Latency is told and never judged.
//!
//! `SOAK_SECONDS` changes how long the long form takes, `SOAK_CSV` names a file for all samples.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::print_stdout, reason = "it tells what it has measured")]

#[path = "../driver/mod.rs"]
mod driver;
mod flat;
mod ledger;
mod lives;
#[path = "../process/mod.rs"]
mod process;
mod sample;
mod traffic;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use driver::now;
use driver::random::Random;
use lives::Soak;
use traffic::{CLIENTS, Client, PERIOD, Pace, Traffic};

#[test]
fn users_come_and_go_under_kills_and_nothing_grows() {
    soak(&Plan {
        times: Times { ttl: 4, retain: 3, retain_sessions: 2, snapshot_interval: 1, stay: 12 },
        cycles: 1,
        long_life: Duration::from_secs(33),
        kills: 5,
        short_life_max: Duration::from_millis(2_500),
        sample_every: Duration::from_millis(500),
    });
}

#[test]
#[ignore = "long: an hour; SOAK_SECONDS changes it"]
fn users_come_and_go_for_an_hour_and_nothing_grows() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(3_600, |seconds| seconds.parse().unwrap());
    assert!(seconds >= 240, "in less than 240 s it does not settle");
    let cycles = (seconds / 600).max(2);
    let cycle = seconds / cycles;
    soak(&Plan {
        times: Times { ttl: 4, retain: 15, retain_sessions: 3, snapshot_interval: 5, stay: 30 },
        cycles,
        long_life: Duration::from_secs(cycle * 3 / 4),
        // A short life and what is between it and the next take nine seconds on average.
        kills: cycle / 4 / 9,
        short_life_max: Duration::from_secs(14),
        sample_every: Duration::from_secs(1 + cycle / 150),
    });
}

/// The settings that matter, and how long users stay, in seconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    ttl: u32,
    retain: u32,
    retain_sessions: usize,
    snapshot_interval: u32,
    stay: u32,
}

impl Times {
    /// From the last heal of a user until nothing is known of them: lapsed, too old, and found by the next snapshot.
    fn settle(&self) -> u32 {
        self.ttl + 1 + self.retain + self.snapshot_interval + 2
    }
}

struct Plan {
    times: Times,
    cycles: u64,
    /// One in each cycle,
    long_life: Duration,
    /// and then so many short ones, of this length at most.
    kills: u64,
    short_life_max: Duration,
    sample_every: Duration,
}

/// The load of a test is bounded.
const CALLS_MIN: u64 = 200;
const CALLS_MAX: u64 = 80_000;

struct Load {
    /// Calls a second.
    rate: u64,
    /// Users at a time.
    window: u64,
    segment_bytes: u64,
}

impl Load {
    fn of(rate: u64) -> Self {
        // Everybody is healed about twice a second, half of the time by a gateway; a heal in a second that had one writes nothing.
        let window = rate.next_multiple_of(CLIENTS * PERIOD).max(512);
        // A rotation about every second.
        let segment_bytes = (window * 24 * 7 / 8).next_multiple_of(4 << 10).max(16 << 10);
        Self { rate, window, segment_bytes }
    }
}

fn soak(plan: &Plan) {
    let seed = u64::from(now());
    // With as many users as there may be: what they cost in memory that is far away is in the peak.
    let peak = peak(plan.times, &Load::of(CALLS_MAX));
    let Load { rate, window, segment_bytes } = Load::of((peak * 4 / 5).clamp(CALLS_MIN, CALLS_MAX));
    println!(
        "seed {seed:#x}, {rate} calls/s of {peak}, {window} users at a time, segments of {segment_bytes} bytes"
    );

    let folder = tempfile::tempdir().unwrap();
    let traffic = Traffic::new(plan.times, window / CLIENTS);
    let clients = (0..CLIENTS).map(|index| Client::new(index, seed)).collect();
    let mut soak = Soak {
        plan,
        folder: folder.path(),
        segment_bytes,
        interval: Duration::from_nanos(1_000_000_000 * CLIENTS / rate),
        traffic,
        clients,
        random: Random(seed),
        samples: Vec::new(),
        outages: Vec::new(),
        lives: 0,
        judged: 0,
        warnings: 0,
    };
    let mut long_lives = Vec::new();
    for _ in 0..plan.cycles {
        let first = soak.samples.len();
        soak.live(plan.long_life, true);
        long_lives.push(first..soak.samples.len());
        for _ in 0..plan.kills {
            let longest = u64::try_from(plan.short_life_max.as_millis()).unwrap();
            let shorter = longest / 8 + soak.random.below(longest * 7 / 8);
            let millis = if soak.comes_back_late() { longest } else { shorter };
            soak.live(Duration::from_millis(millis), false);
        }
    }
    let last = soak.stop();
    soak.tell(last);
    let thirds: Vec<_> = long_lives.into_iter().map(|life| flat::thirds(&soak.samples[life])).collect();
    let lives = (thirds.len() > 1)
        .then(|| ("the first to the last".to_owned(), (thirds[0].1, thirds[thirds.len() - 1].1)));
    let each =
        thirds.iter().enumerate().map(|(index, &third)| (format!("within long life {}", index + 1), third));
    let mut grown = Vec::new();
    for (which, judged) in each.chain(lives) {
        println!("{which}:");
        for figure in flat::judge(judged, &plan.times, window, segment_bytes) {
            println!("  {figure}");
            if !figure.is_flat() {
                grown.push(format!("{which}: {figure}"));
            }
        }
    }
    assert!(grown.is_empty(), "{grown:#?}");
    assert!(soak.judged > 0, "no user could be judged after a kill");
}

/// Calls a second in a closed loop, of everything that the clients do, by a service like the one that will live.
fn peak(times: Times, load: &Load) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut service = lives::start(folder.path(), times, load.segment_bytes);
    let address = service.listening();
    service.stop_reading_log();
    let traffic = Traffic::new(times, load.window / CLIENTS);
    let (forgets, ending) = (AtomicBool::new(true), AtomicBool::new(false));
    let pace = Pace { address, interval: None, forgets: &forgets, ending: &ending };
    thread::scope(|scope| {
        for index in 0..CLIENTS {
            let traffic = &traffic;
            scope.spawn(move || Client::new(index, 1).drive(traffic, pace, &[]));
        }
        let calls = || traffic.calls.load(Ordering::Relaxed);
        // Until most of them are online.
        pass(Duration::from_secs(3));
        let (start, before) = (instant(), calls());
        pass(Duration::from_secs(3));
        let (elapsed, calls) = (start.elapsed(), calls() - before);
        ending.store(true, Ordering::Relaxed);
        calls * 1_000 / u64::try_from(elapsed.as_millis()).unwrap()
    })
}

fn history(body: &str) -> Vec<(u32, u32)> {
    let body: Value = serde_json::from_str(body).unwrap();
    let second = |row: &Value, name: &str| u32::try_from(row[name].as_u64().unwrap()).unwrap();
    let rows = body["history"].as_array().unwrap();
    rows.iter().map(|row| (second(row, "online_at"), second(row, "offline_at"))).collect()
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

/// The service is another process, and its clock the real one.
#[allow(clippy::disallowed_methods)]
fn instant() -> Instant {
    Instant::now()
}

/// Real time.
fn pass(time: Duration) {
    let (mut left, start) = (time, instant());
    while !left.is_zero() {
        thread::park_timeout(left);
        left = time.saturating_sub(start.elapsed());
    }
}
