//! What the engine's operations cost: `cargo bench --no-default-features --bench engine`.
//!
//! First the ratio of a heal to the least that it could cost (`-- --ratio` for it alone), what the journal adds to it
//! (`-- --journal`), then each operation by itself. Ten
//! million users take 2 GB and some minutes, and are only there with `HEARTBEAT_BENCH_LARGE=1`.
//!
//! Every heal is to change something: whoever is healed again is healed in a later second. Beside the times stands what the
//! heals did, so that it can be seen.
#![allow(missing_docs)] // criterion's macros make functions without
#![allow(clippy::print_stdout)] // its output is what a benchmark is for
#![allow(clippy::disallowed_methods)] // it measures our own cost, and that by the real clock

mod crowd;
mod journaled;
mod ratio;

use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use heartbeat::{ManualClock, UserId};

use crowd::{Crowd, Shares};

fn main() {
    let is_asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if !is_asked("--journal") {
        ratio::print();
    }
    if !is_asked("--ratio") {
        journaled::print();
    }
    if is_asked("--ratio") || is_asked("--journal") {
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for users in sizes() {
        heals_and_checkups(&mut criterion, users);
        opens(&mut criterion, users);
        sweeps(&mut criterion, users);
    }
    criterion.final_summary();
}

fn sizes() -> Vec<usize> {
    let is_large = std::env::var_os("HEARTBEAT_BENCH_LARGE").is_some();
    let mut sizes = vec![10_000, 1_000_000];
    sizes.extend(is_large.then_some(10_000_000));
    sizes
}

/// Goes through some users again and again, and lets time pass after each round.
struct Rounds<'a> {
    users: &'a [UserId],
    at: usize,
}

impl Rounds<'_> {
    /// Gives `work` the next so many users, in pieces; calls `round` whenever all have had their turn.
    fn take(&mut self, mut count: u64, mut work: impl FnMut(&[UserId]), mut round: impl FnMut()) {
        while count > 0 {
            if self.at == self.users.len() {
                self.at = 0;
                round();
            }
            let rest = &self.users[self.at..];
            let piece = &rest[..rest.len().min(usize::try_from(count).unwrap_or(usize::MAX))];
            work(piece);
            self.at += piece.len();
            count -= piece.len() as u64;
        }
    }
}

fn heals_and_checkups(criterion: &mut Criterion, users: usize) {
    let (crowd, clock) = Crowd::by_hand(users);
    clock.advance(1);
    let mut group = criterion.benchmark_group("heal of someone online");
    for threads in [1, 2] {
        let parts = parts(&crowd.order, threads);
        let shares = Mutex::new(Shares::default());
        let heal = |piece: &[UserId]| {
            let done = crowd.heal::<false>(piece);
            *shares.lock().expect("no part panics") += done;
        };
        group.bench_function(id(threads, users), |bencher| {
            bencher.iter_custom(|count| at_once(&parts, count, &clock, &heal));
        });
        println!("    {}", shares.into_inner().expect("no part panics"));
    }
    group.finish();

    let mut group = criterion.benchmark_group("checkup");
    for threads in [1, 2] {
        let parts = parts(&crowd.order, threads);
        let checkup = |piece: &[UserId]| {
            for &user in piece {
                black_box(crowd.engine.status(user));
            }
        };
        group.bench_function(id(threads, users), |bencher| {
            bencher.iter_custom(|count| at_once(&parts, count, &clock, &checkup));
        });
    }
    group.finish();
}

fn parts(users: &[UserId], threads: usize) -> Vec<Mutex<Rounds<'_>>> {
    let parts = users.chunks(users.len().div_ceil(threads));
    parts.map(|users| Mutex::new(Rounds { users, at: 0 })).collect()
}

/// Each part by a thread of its own; time passes with the first part's rounds.
fn at_once(
    parts: &[Mutex<Rounds<'_>>],
    count: u64,
    clock: &ManualClock,
    work: &(impl Fn(&[UserId]) + Sync),
) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for (index, part) in parts.iter().enumerate() {
            scope.spawn(move || {
                let mut rounds = part.lock().expect("no part panics");
                let each = count.div_ceil(parts.len() as u64);
                rounds.take(each, work, || {
                    if index == 0 {
                        clock.advance(1);
                    }
                });
            });
        }
    });
    start.elapsed()
}

fn opens(criterion: &mut Criterion, users: usize) {
    let (crowd, clock) = Crowd::by_hand(users);
    let pass = || {
        clock.advance(8);
        crowd.engine.sweep();
    };
    pass();
    let mut rounds = Rounds { users: &crowd.order, at: 0 };
    let mut shares = Shares::default();
    criterion.benchmark_group("heal that opens").bench_function(id(1, users), |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let work = |piece: &[UserId]| {
                let start = Instant::now();
                shares += crowd.heal::<false>(piece);
                spent += start.elapsed();
            };
            rounds.take(count, work, pass);
            spent
        });
    });
    println!("    {shares}");
}

fn sweeps(criterion: &mut Criterion, users: usize) {
    let (crowd, clock) = Crowd::by_hand(users);
    let mut group = criterion.benchmark_group("sweep in which all lapse");
    group.throughput(Throughput::Elements(users as u64));
    group.bench_function(id(1, users), |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                crowd.heal::<false>(&crowd.order);
                clock.advance(8);
                let start = Instant::now();
                let swept = crowd.engine.sweep();
                spent += start.elapsed();
                assert_eq!(swept.lapsed, users as u64);
            }
            spent
        });
    });
    group.finish();
}

fn id(threads: usize, users: usize) -> BenchmarkId {
    BenchmarkId::new(format!("{threads} thread(s)"), format!("{users} users"))
}
