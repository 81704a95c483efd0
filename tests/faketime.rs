//! The binary under a wall clock that is set while it runs, by libfaketime. That sees only what goes through the C library:
//! `faketime-tests` builds `rustix` so that it does. `CLOCK_BOOTTIME` stays the machine's.
//!
//! Debian has it in the package `libfaketime`; `FAKETIME_LIBRARY` says where it is, if not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "the machine's time passes by itself")]

mod process;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use process::Service;
use serde_json::Value;
use wire::Client;

const HOUR: i64 = 3_600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

/// What the wall clock is ahead of the true one from that second on.
type Script = &'static [(u64, i64)];

struct Life {
    /// The engine's second as of the first and the last heal, and the true seconds between.
    first: i64,
    last: i64,
    passed: i64,
    sessions: usize,
    steps: [u64; 2],
}

impl Life {
    fn gained(&self) -> i64 {
        self.last - self.first - self.passed
    }
}

/// A user heals every two seconds while the wall clock is set.
fn live(script: Script, seconds: u64) -> Life {
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    set(&offset, 0);
    let mut service = Service::start(&["--threads", "1"], |command| {
        let library = std::env::var("FAKETIME_LIBRARY")
            .unwrap_or_else(|_| "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1".into());
        assert!(Path::new(&library).exists(), "no {library}");
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
    });
    let mut client = Client::connect(service.listening());
    let start = Instant::now();
    let (mut first, mut last, mut passed) = (None, 0, 0);
    let mut script = script.iter().peekable();
    while start.elapsed().as_secs() < seconds {
        if let Some((_, ahead)) = script.next_if(|(at, _)| start.elapsed().as_secs() >= *at) {
            set(&offset, *ahead);
        }
        assert_eq!(client.call("PUT", "/heal/5").status, 200);
        last = history(&mut client).last().unwrap().1 - 7;
        first.get_or_insert(last);
        passed = i64::try_from(start.elapsed().as_secs()).unwrap();
        std::thread::park_timeout(Duration::from_secs(2));
    }
    let metrics = client.call("GET", "/metrics").body;
    let sessions = history(&mut client);
    assert!(sessions.iter().all(|(online_at, offline_at)| online_at < offline_at), "{sessions:?}");
    Life {
        first: first.unwrap(),
        last,
        passed,
        sessions: sessions.len(),
        steps: ["forward", "backward"].map(|direction| {
            let name = format!("heartbeat_clock_steps_total{{direction=\"{direction}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse().unwrap()
        }),
    }
}

/// At once, or the service could read half of it.
fn set(offset: &Path, seconds: i64) {
    let new = offset.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(new, offset).unwrap();
}

fn history(client: &mut Client) -> Vec<(i64, i64)> {
    let body: Value = serde_json::from_str(&client.call("GET", "/heart_rhythm/5").body).unwrap();
    let row = |row: &Value| (row["online_at"].as_i64().unwrap(), row["offline_at"].as_i64().unwrap());
    body["history"].as_array().unwrap().iter().map(row).collect()
}

/// All at once: each waits most of the time.
#[test]
fn a_wall_clock_that_is_set_while_it_runs_ends_no_session() {
    let scripts: [(Script, i64, [u64; 2]); 7] = [
        (&[(4, HOUR)], HOUR, [1, 0]),
        (&[(4, YEARS)], YEARS, [1, 0]),
        (&[(4, -HOUR)], -4, [0, 1]),
        (&[(4, -YEARS)], -4, [0, 1]),
        (&[(4, 59)], 4, [0, 0]),
        (&[(4, YEARS), (34, 0)], 0, [1, 0]),
        (&[(4, 61), (50, YEARS), (60, 61)], 0, [2, 0]),
    ];
    let lives = scripts
        .map(|(script, gained, steps)| (script, gained, steps, std::thread::spawn(move || live(script, 90))));
    for (script, gained, steps, life) in lives {
        let life = life.join().unwrap();
        assert_eq!((life.sessions, life.steps), (1, steps), "{script:?}");
        assert!((life.gained() - gained).abs() <= 3, "{script:?}: {} s gained", life.gained());
    }
}
