//! What a heal costs beside the least that it could: the same map, the same keys in the same order, a get and a `fetch_max`.
//!
//! A user takes more room than a bare word, so that at a million users its map no longer fits into a cache into which the
//! bare one does. A third map, with the same get and `fetch_max` on a value as large as a user, shows that part by itself.
//!
//! Each operation waits for the one before, as it does in a service, where something else comes between. Independent ones in a
//! row the processor starts before the last has found its cache line, the more of them the shorter they are: then a bare get
//! takes a quarter of the time, and a heal less than half. The last rows show that as well.
//!
//! The machine's speed drifts by a quarter within minutes, so they take turns, pass by pass, and the medians are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use heartbeat::{Clock, ManualClock, SystemClock, UserId};

use crate::crowd::{Crowd, NOON, Random, SEED, Shares, wait};

const USERS: usize = 1_000_000;
const PASSES: usize = 15;
/// As the roster has.
const SHARDS: usize = 1_024;

type Map<V> = DashMap<u64, V, RandomState>;

/// A word in a value of so many more.
struct Value<const REST: usize> {
    word: AtomicU64,
    _rest: [u64; REST],
}

pub fn print() {
    println!(
        "heal of someone online against a bare get and fetch_max, {USERS} users, median of {PASSES} passes each"
    );
    println!("{:<30} {:>9} {:>9} {:>6} {:>9} {:>6}", "", "heal", "bare", "ratio", "as large", "ratio");
    for threads in [1, 2] {
        let clock = Arc::new(ManualClock::at(NOON));
        let name = format!("manual clock, {threads} thread(s)");
        compare::<true>(&name, threads, clock.clone(), || clock.advance(1));
    }
    compare::<true>("the real clock, 1 thread", 1, Arc::new(SystemClock::start()), || {});
    for threads in [1, 2] {
        let clock = Arc::new(ManualClock::at(NOON));
        let name = format!("overlapping, {threads} thread(s)");
        compare::<false>(&name, threads, clock.clone(), || clock.advance(1));
    }
    println!();
}

/// `WAITS`: each operation waits for the one before.
fn compare<const WAITS: bool>(name: &str, threads: usize, clock: Arc<dyn Clock>, tick: impl Fn()) {
    // All three made in the same way and order, which shows in the times.
    let ids = Random(SEED).ids(USERS);
    let (bare, as_large) = (map::<0>(&ids), map::<2>(&ids));
    let crowd = Crowd::new(USERS, clock);
    let (mut heals, mut bares, mut as_larges, mut shares) = (vec![], vec![], vec![], Shares::default());
    for pass in 0..PASSES {
        tick();
        let (elapsed, done) = timed(threads, &crowd.order, |users| crowd.heal::<WAITS>(users));
        heals.push(elapsed);
        for done in done {
            shares += done;
        }
        let word = u64::from(NOON.as_u32()) << 32 | pass as u64;
        bares.push(timed(threads, &crowd.order, |users| raise::<WAITS, _>(&bare, users, word)).0);
        as_larges.push(timed(threads, &crowd.order, |users| raise::<WAITS, _>(&as_large, users, word)).0);
    }
    let (heal, bare, as_large) = (median(heals), median(bares), median(as_larges));
    let (over_bare, over_as_large) = (heal / bare, heal / as_large);
    println!(
        "{name:<30} {heal:>6.1} ns {bare:>6.1} ns {over_bare:>6.2} {as_large:>6.1} ns {over_as_large:>6.2}"
    );
    println!("    {shares}");
}

fn map<const REST: usize>(ids: &[UserId]) -> Map<Value<REST>> {
    let map = Map::with_hasher_and_shard_amount(RandomState::default(), SHARDS);
    for user in ids {
        map.insert(user.as_i64().cast_unsigned(), Value { word: AtomicU64::new(0), _rest: [0; REST] });
    }
    map
}

fn raise<const WAITS: bool, const REST: usize>(map: &Map<Value<REST>>, users: &[UserId], word: u64) {
    for user in users {
        let value = map.get(&user.as_i64().cast_unsigned()).expect("all are in it");
        value.word.fetch_max(word, Ordering::AcqRel);
        drop(value);
        if WAITS {
            wait();
        }
    }
}

/// Lets each thread work on a part of its own, and gives how long all of it took.
fn timed<R: Send>(
    threads: usize,
    users: &[UserId],
    work: impl Fn(&[UserId]) -> R + Sync,
) -> (Duration, Vec<R>) {
    let start = Instant::now();
    let done = thread::scope(|scope| {
        let parts: Vec<_> =
            users.chunks(users.len().div_ceil(threads)).map(|part| scope.spawn(|| work(part))).collect();
        parts.into_iter().map(|part| part.join().expect("no part panics")).collect()
    });
    (start.elapsed(), done)
}

/// In ns for each user.
#[allow(clippy::cast_precision_loss)]
fn median(mut passes: Vec<Duration>) -> f64 {
    passes.sort_unstable();
    passes[passes.len() / 2].as_nanos() as f64 / USERS as f64
}
