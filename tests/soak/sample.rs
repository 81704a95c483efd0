//! What the service takes of the machine at one moment, as the kernel and the directory show it, and what it says of itself.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::driver::connection::Connection;
use super::traffic::Traffic;

/// One row of the table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Since the beginning.
    pub seconds: f64,
    /// Which process.
    pub life: usize,
    pub resident: u64,
    /// Of it, what no file stands behind.
    pub anonymous: u64,
    pub descriptors: u64,
    pub threads: u64,
    pub files: Files,
    pub users: u64,
    pub online: u64,
    pub sessions: u64,
    /// Up to now.
    pub calls: u64,
    pub healed: u64,
    pub shed: u64,
    /// Of single heals since the last sample, in microseconds.
    pub p50: u64,
    pub p99: u64,
}

/// What lies in the data directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files {
    pub segments: u64,
    pub snapshots: u64,
    /// Of these, what no kept generation needs: the third snapshot and older, and segments before the first that a kept one names.
    pub needless: u64,
    pub others: u64,
    pub bytes: u64,
    /// The highest numbers: how many there have been.
    pub last_segment: u64,
    pub last_snapshot: u64,
}

impl Files {
    /// Files that vanish meanwhile count as they were.
    pub fn read(folder: &Path) -> Self {
        let mut found = Self::default();
        let (mut segments, mut snapshots) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).unwrap().flatten() {
            found.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            let name = entry.file_name().into_string().unwrap();
            let number = |prefix, suffix| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok();
            if let Some(number) = number("journal-", ".seg") {
                segments.push(number);
            } else if let Some(number) = number("snapshot-", ".snap") {
                snapshots.push((number, first_segment(&entry.path())));
            } else if !name.starts_with('.') {
                found.others += 1;
            }
        }
        snapshots.sort_unstable();
        let older = snapshots.len().saturating_sub(2);
        let first = snapshots[older..].iter().filter_map(|&(_, first)| first).min();
        let is_needless = |&&number: &&u64| first.is_some_and(|first| number < first);
        found.needless = (older + segments.iter().filter(is_needless).count()) as u64;
        found.segments = segments.len() as u64;
        found.snapshots = snapshots.len() as u64;
        found.last_segment = segments.into_iter().max().unwrap_or(0);
        found.last_snapshot = snapshots.last().map_or(0, |&(number, _)| number);
        found
    }

    pub fn all(self) -> u64 {
        self.segments + self.snapshots + self.others
    }
}

/// Where the format has it (src/snapshot/mod.rs): after 16 bytes of preamble, 16 of directory id and 8 of number.
fn first_segment(snapshot: &Path) -> Option<u64> {
    let mut word = [0; 8];
    File::open(snapshot).ok()?.read_exact_at(&mut word, 40).ok()?;
    Some(u64::from_le_bytes(word))
}

/// The figures of process `id`; `None` once it is gone.
pub fn take(id: u32, folder: &Path, status: &mut Connection, traffic: &Traffic) -> Option<Sample> {
    let kernel = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let figure = |name: &str| {
        let value = kernel.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count() as u64;
    let files = Files::read(folder);
    let (code, body) = status.call("GET", "/v1/status").ok()?;
    assert_eq!(code, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    let told = |name: &str| told[name].as_u64().unwrap();
    let latency = std::mem::replace(&mut *traffic.latency.lock().unwrap(), super::histogram());
    Some(Sample {
        seconds: traffic.beginning.elapsed().as_secs_f64(),
        resident: figure("VmRSS:")? << 10,
        anonymous: figure("RssAnon:")? << 10,
        threads: figure("Threads:")?,
        descriptors,
        files,
        users: told("users"),
        online: told("online"),
        sessions: told("sessions"),
        calls: traffic.calls.load(Ordering::Relaxed),
        healed: traffic.healed.load(Ordering::Relaxed),
        shed: traffic.shed.load(Ordering::Relaxed),
        p50: latency.value_at_quantile(0.5),
        p99: latency.value_at_quantile(0.99),
        life: 0,
    })
}

/// Where the service listens, and what it says of the outage before it.
pub fn outage(address: SocketAddr) -> Option<super::ledger::Outage> {
    let (_, body) = Connection::open(address).unwrap().call("GET", "/v1/status").unwrap();
    let told: Value = serde_json::from_str(&body).unwrap();
    let outage = &told["recovery"]["outage"];
    let second = |name: &str| outage[name].as_u64().map(|second| u32::try_from(second).unwrap());
    Some(super::ledger::Outage { from: second("from")?, to: second("to")? })
}

pub const CSV_HEAD: &str = "seconds,life,resident_bytes,anonymous_bytes,descriptors,threads,segments,snapshots,needless_files,other_files,disk_bytes,last_segment,last_snapshot,users,online,sessions,calls,healed,shed,heal_p50_micros,heal_p99_micros";

pub fn csv(samples: &[Sample]) -> String {
    let mut text = format!("{CSV_HEAD}\n");
    for s in samples {
        let f = s.files;
        let columns = [
            s.life as u64,
            s.resident,
            s.anonymous,
            s.descriptors,
            s.threads,
            f.segments,
            f.snapshots,
            f.needless,
            f.others,
            f.bytes,
            f.last_segment,
            f.last_snapshot,
            s.users,
            s.online,
            s.sessions,
            s.calls,
            s.healed,
            s.shed,
            s.p50,
            s.p99,
        ];
        let columns = columns.map(|column| column.to_string()).join(",");
        writeln!(text, "{:.1},{columns}", s.seconds).unwrap();
    }
    text
}

/// For people: at most so many rows, evenly spread.
pub fn table(samples: &[Sample], rows: usize) -> String {
    let mut text = String::from(
        "     s life  resident anonymous  fds thr  seg snap  disk KiB   users  online sessions   heals p50 µs p99 µs\n",
    );
    for s in samples.iter().step_by(samples.len().div_ceil(rows).max(1)) {
        let f = s.files;
        writeln!(
            text,
            "{:6.1} {:4} {:5} KiB {:5} KiB {:4} {:3} {:4} {:4} {:9} {:7} {:7} {:8} {:7} {:6} {:6}",
            s.seconds,
            s.life,
            s.resident >> 10,
            s.anonymous >> 10,
            s.descriptors,
            s.threads,
            f.segments,
            f.snapshots,
            f.bytes >> 10,
            s.users,
            s.online,
            s.sessions,
            s.healed,
            s.p50,
            s.p99
        )
        .unwrap();
    }
    text
}
