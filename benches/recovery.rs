//! What a restart costs, and what a snapshot costs those who heal meanwhile.
//!
//! ```text
//!   cargo bench --no-default-features --bench recovery                              1 million users, 128 MiB of journal
//!   HEARTBEAT_BENCH_LARGE=1 cargo bench --no-default-features --bench recovery     10 million users, 1 GiB of journal
//! ```
//!
//! Recovery stands beside the sum of three bare costs, measured in the same run on one thread: reading the files, inserting as
//! many users into a map with room for them, and one map operation for each slot of the journal. It runs in a process of its
//! own, whose greatest memory is compared with what it has at the end.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)] // a measuring program
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "engine/crowd.rs"]
#[allow(dead_code, reason = "of the crowd it takes the ids alone")]
mod crowd;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use heartbeat::{Disk, Durability, Engine, ManualClock, UnixSeconds, UserId};

use crowd::{NOON, Random, SEED};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLOSED_SESSIONS: u32 = 5;
const SLOT_BYTES: u64 = 24;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--recover") {
        return recover(Path::new(&arguments[at + 1]));
    }
    let is_large = std::env::var_os("HEARTBEAT_BENCH_LARGE").is_some();
    let (users, journal_bytes) = if is_large { (10_000_000, 1 << 30) } else { (1_000_000, 128 << 20) };
    let folder = tempfile::tempdir_in(".").unwrap();
    let ids = Random(SEED).ids(users);
    fill(folder.path(), &ids, journal_bytes);
    compare(folder.path(), &ids, journal_bytes / SLOT_BYTES);
}

fn disk(folder: &Path) -> Disk {
    Disk { durability: Durability::Process, ..Disk::at(folder) }
}

/// A snapshot of everybody with their closed sessions, and a journal of heals behind it.
fn fill(folder: &Path, ids: &[UserId], journal_bytes: u64) {
    let clock = Arc::new(ManualClock::at(NOON));
    let (engine, _) = Engine::builder().clock(clock.clone()).open(disk(folder)).unwrap();
    let engine = Arc::new(engine);
    for _ in 0..=CLOSED_SESSIONS {
        clock.advance(60);
        for &user in ids {
            heal(&engine, user);
        }
    }
    under_load(&engine, &clock, ids);
    let taken = engine.snapshot().unwrap();
    let mut slots = journal_bytes / SLOT_BYTES;
    while slots > 0 {
        clock.advance(1);
        let some = ids.len().min(slots as usize);
        for &user in &ids[..some] {
            heal(&engine, user);
        }
        slots -= some as u64;
    }
    println!(
        "on disk: {:.1} bytes a user beside 8 a closed session",
        (taken.bytes - 8 * taken.sessions) as f64 / taken.users as f64,
    );
}

fn heal(engine: &Engine, user: UserId) {
    // Refused only while the next segment is not ready.
    while engine.heal(user).is_err() {
        thread::yield_now();
    }
}

/// Takes a snapshot while a thread heals as fast as it can, and says what that thread noticed.
fn under_load(engine: &Arc<Engine>, clock: &Arc<ManualClock>, ids: &[UserId]) {
    let (stop, healed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut latencies = hdrhistogram::Histogram::<u64>::new(3).unwrap();
            let mut during = hdrhistogram::Histogram::<u64>::new(3).unwrap();
            let mut users = ids.iter().cycle();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                heal(engine, *users.next().unwrap());
                let took = start.elapsed().as_nanos() as u64;
                let count = healed.fetch_add(1, Ordering::Relaxed);
                if count % ids.len() as u64 == 0 {
                    clock.advance(1);
                }
                if SNAPSHOT.load(Ordering::Relaxed) {
                    during.record(took).unwrap();
                } else {
                    latencies.record(took).unwrap();
                }
            }
            (latencies, during)
        });
        let rate = |seconds: Duration| {
            let before = healed.load(Ordering::Relaxed);
            let start = Instant::now();
            thread::sleep(seconds);
            (healed.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
        };
        let usual = rate(Duration::from_secs(3));
        // The journal's mapped segments are the kernel's memory, which it takes back when it likes.
        let resident = resident("RssAnon");
        SNAPSHOT.store(true, Ordering::Relaxed);
        let (before, start) = (healed.load(Ordering::Relaxed), Instant::now());
        let taken = engine.snapshot().unwrap();
        let during_rate = (healed.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
        SNAPSHOT.store(false, Ordering::Relaxed);
        let grown = crate::resident("RssAnon").saturating_sub(resident);
        let usual = usual.midpoint(rate(Duration::from_secs(3)));
        stop.store(true, Ordering::Relaxed);
        let (latencies, during) = load.join().unwrap();
        println!(
            "snapshot of {} users under full load: {:.1} s, longest hold {:.3} ms, memory grown by {:.1} %",
            taken.users,
            taken.elapsed.as_secs_f64(),
            taken.longest_hold.as_secs_f64() * 1e3,
            grown as f64 * 100.0 / resident as f64,
        );
        println!(
            "  heals {:.2} million/s, usually {:.2}: {:.0} %; p99 {} ns, usually {} ns: {:.2} times; max {:.3} ms",
            during_rate / 1e6,
            usual / 1e6,
            during_rate * 100.0 / usual,
            during.value_at_quantile(0.99),
            latencies.value_at_quantile(0.99),
            during.value_at_quantile(0.99) as f64 / latencies.value_at_quantile(0.99) as f64,
            during.max() as f64 / 1e6,
        );
    });
}

static SNAPSHOT: AtomicBool = AtomicBool::new(false);

fn compare(folder: &Path, ids: &[UserId], slots: u64) {
    let bare = [reading(folder), inserting(ids), slots_on_a_map(ids, slots)];
    let sum: f64 = bare.iter().map(Duration::as_secs_f64).sum();
    let output =
        Command::new(std::env::current_exe().unwrap()).arg("--recover").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    println!("recovery of {} users and {slots} slots: {:.2} s", ids.len(), figures[0]);
    println!(
        "  bare, on one thread: reading {:.2} s, inserting {:.2} s, an operation a slot {:.2} s, together {sum:.2} s; ratio {:.2}",
        bare[0].as_secs_f64(),
        bare[1].as_secs_f64(),
        bare[2].as_secs_f64(),
        figures[0] / sum,
    );
    println!("  greatest memory / memory at the end: {:.2}", figures[1] / figures[2]);
}

fn recover(folder: &Path) {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON.as_u32() + 100_000)));
    let start = Instant::now();
    let (engine, _) = Engine::builder().clock(clock).open(disk(folder)).unwrap();
    let elapsed = start.elapsed();
    println!("{} {} {}", elapsed.as_secs_f64(), resident("VmHWM"), resident("VmRSS"));
    drop(engine);
}

fn reading(folder: &Path) -> Duration {
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    for entry in fs::read_dir(folder).unwrap() {
        let mut file = File::open(entry.unwrap().path()).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
    start.elapsed()
}

type Map = DashMap<UserId, [AtomicU64; 3], RandomState>;

fn map(ids: &[UserId]) -> Map {
    let map = Map::with_capacity_and_hasher_and_shard_amount(ids.len(), RandomState::default(), 1_024);
    for &user in ids {
        map.insert(user, Default::default());
    }
    map
}

fn inserting(ids: &[UserId]) -> Duration {
    let start = Instant::now();
    let map = map(ids);
    let elapsed = start.elapsed();
    drop(map);
    elapsed
}

fn slots_on_a_map(ids: &[UserId], slots: u64) -> Duration {
    let map = map(ids);
    let start = Instant::now();
    for (user, word) in ids.iter().cycle().zip(0..slots) {
        map.get(user).unwrap()[0].fetch_max(word, Ordering::AcqRel);
    }
    start.elapsed()
}

/// In bytes.
fn resident(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}
