//! What a query over everybody costs, and what heals feel of it: `cargo bench --bench queries`.
//!
//! Ten million users with five closed sessions each, spread over a day, and a tenth of them live. In turn: a bare pass over the same
//! memory, which adds up the words of all sessions; who was online in a second, counted; and a curve of 288 points over the day.
//! The goal is at most twice the bare pass. Then heals over HTTP, with clients that ask such queries in a loop and without: they
//! are to keep 90 % of their throughput.
//!
//! It takes 2 GiB. `cargo bench --bench queries -- 1000000` takes so many users.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)] // a measuring program
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heartbeat::config::Settings;
use heartbeat::{Clock, Concurrency, Engine, UnixSeconds, UserId, http};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USERS: u64 = 10_000_000;
const NOON: u32 = 1_638_360_000;
const DAY: u32 = 86_400;
const SESSIONS: u32 = 5;
const ROUNDS: usize = 9;
const HEAL_ROUNDS: usize = 5;
const RUN: Duration = Duration::from_secs(4);
/// Requests in a pipeline: so that heals, and not the client, take most of the processor.
const PIPELINE: usize = 16;

/// Goes as time does, from a beginning of its own: every second heals extend again.
struct Running {
    start: Instant,
    set: AtomicU64,
}

impl Clock for Running {
    fn now(&self) -> UnixSeconds {
        let set = self.set.load(Ordering::Relaxed) as u32;
        let passed = if set >= NOON { self.start.elapsed().as_secs() as u32 } else { 0 };
        UnixSeconds::new(set + passed)
    }

    fn until(&self, at: UnixSeconds) -> Duration {
        Duration::from_secs(u64::from(at.since(self.now())))
    }
}

fn main() {
    let users = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(USERS);
    let clock = Arc::new(Running { start: Instant::now(), set: AtomicU64::new(u64::from(NOON - DAY)) });
    let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
    fill(&engine, &clock, users);
    let figures = engine.figures();
    println!("{} users, {} sessions, {} live", figures.users, figures.sessions, figures.online);
    passes(&engine);
    heals(&engine, users);
}

/// Everybody comes and leaves five times in the day, at a time of their own; a tenth is there at its end.
fn fill(engine: &Engine, clock: &Running, users: u64) {
    let parts = 1_440;
    for round in 0..u64::from(SESSIONS) {
        for part in 0..parts {
            // Sixty minutes' worth of users in each round, in another order each: sessions of half a minute to an hour.
            let second = u64::from(DAY) * (round * parts + part) / (u64::from(SESSIONS) * parts);
            clock.set.store(u64::from(NOON - DAY) + second, Ordering::Relaxed);
            for number in (part..users).step_by(parts as usize) {
                engine.heal(user(number)).unwrap();
            }
            let stay = 30 + round * 17 % 60;
            if part >= stay {
                leave(engine, part - stay, users, parts);
            }
        }
        for part in parts - (30 + round * 17 % 60)..parts {
            leave(engine, part, users, parts);
        }
    }
    clock.set.store(u64::from(NOON), Ordering::Relaxed);
    for number in (0..users).step_by(10) {
        engine.heal(user(number)).unwrap();
    }
}

fn leave(engine: &Engine, part: u64, users: u64, parts: u64) {
    for number in (part..users).step_by(parts as usize) {
        engine.leave(user(number)).unwrap();
    }
}

/// Random ids, the same for the same number (the finish of splitmix64, which is one to one).
fn user(number: u64) -> UserId {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    UserId::new((z ^ (z >> 31)).cast_signed())
}

fn passes(engine: &Engine) {
    let end = engine.now();
    let (start, then) = (end.minus(DAY), end.minus(DAY / 3));
    let mut took = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        took[0].push(time(|| {
            (0..Engine::SHARDS).fold(0_u64, |sum, shard| sum.wrapping_add(engine.sum_of_words(shard)))
        }));
        took[1]
            .push(time(|| (0..Engine::SHARDS).map(|shard| engine.count_online_in(shard, then)).sum::<u64>()));
        took[2].push(time(|| {
            let mut concurrency = Concurrency::of(start..end);
            (0..Engine::SHARDS).for_each(|shard| engine.add_concurrency(shard, &mut concurrency));
            let curve = concurrency.curve(DAY / 288);
            assert_eq!(curve.points.len(), 288);
            curve.peak.online
        }));
        took[3].push(time(|| {
            let mut online = Vec::new();
            (0..Engine::SHARDS).for_each(|shard| engine.online_now_in(shard, &mut online));
            online.len() as u64
        }));
    }
    let bare = median(&mut took[0]);
    for (name, took) in
        ["a bare pass", "online at, counted", "concurrency, 288 points", "all who are online now"]
            .iter()
            .zip(&mut took)
    {
        let median = median(took);
        println!("{name:<26} {:>8.1} ms   {:.2} times a bare pass", median * 1e3, median / bare);
    }
}

fn time(pass: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    black_box(pass());
    start.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One of each kind that goes over everybody.
const QUERIES: [&str; 2] = ["/v1/online/at?t=1638331200", "/v1/concurrency?to=1638360000"];

/// Heals with and without queries, in turn.
fn heals(engine: &Arc<Engine>, users: u64) {
    let settings = Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads: 1, ..Settings::default() };
    let server = http::Server::start(Arc::clone(engine), &settings).unwrap();
    let address = server.addresses()[0];
    let mut ratios = Vec::new();
    for _ in 0..HEAL_ROUNDS {
        let alone = heals_a_second(address, users, &[]).0;
        let (beside, answered) = heals_a_second(address, users, &QUERIES);
        println!(
            "{alone:>9.0} heals/s alone, {beside:>9.0} beside queries, of which {answered} were answered in {RUN:?}"
        );
        ratios.push(beside / alone);
    }
    println!("beside queries: {:.3} of the heals", median(&mut ratios));
    let latency = time(|| u64::from(ask(address, QUERIES[1])));
    println!("a curve over HTTP while no heal arrives: {:.0} ms", latency * 1e3);
}

fn heals_a_second(address: SocketAddr, users: u64, queries: &'static [&'static str]) -> (f64, u64) {
    let (ends, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for target in queries {
            let (ends, answered) = (&ends, &answered);
            scope.spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    assert!(ask(address, target));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let rate = heal(address, users);
        ends.store(true, Ordering::Relaxed);
        (rate, answered.load(Ordering::Relaxed))
    })
}

/// Those who are live, in turn.
fn heal(address: SocketAddr, users: u64) -> f64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (start, mut healed, mut read) = (Instant::now(), 0_u64, vec![0; 64 << 10]);
    while start.elapsed() < RUN {
        let ids = (0..PIPELINE as u64).map(|next| user((healed + next) * 10 % users).as_i64());
        let requests: Vec<_> = ids.map(|id| format!("PUT /heal/{id} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        stream.write_all(requests.concat().as_bytes()).unwrap();
        let mut answers = 0;
        while answers < PIPELINE {
            let length = stream.read(&mut read).unwrap();
            assert!(length > 0);
            // Each body ends so, and no answer has it elsewhere.
            answers += read[..length].split(|&byte| byte == b'}').count() - 1;
        }
        healed += PIPELINE as u64;
    }
    healed as f64 / start.elapsed().as_secs_f64()
}

fn ask(address: SocketAddr, target: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer.starts_with(b"HTTP/1.1 200 OK")
}
