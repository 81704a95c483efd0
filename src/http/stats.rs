//! What a worker has done, counted by the worker itself.
//!
//! Each worker thread has its own [`WorkerStats`] and is the only one to write to it, so counting is a plain load and store.
//! Others read the sums.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;

use super::error::Refused;
use super::route::{CODES_AND_OTHERS, ROUTES, Route, VERBS, Verb, code_index};
use crate::engine::Heal;

/// Heals by what they did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealCounts {
    /// The user was offline.
    pub opened: u64,
    /// The user was online.
    pub extended: u64,
    /// The user had healed in the same second before.
    pub unchanged: u64,
    /// Answered 503.
    pub refused: u64,
    /// Answered 400: no id, or not one.
    pub invalid: u64,
}

/// What the service has done since it started.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Heals, single and in bulk.
    pub heals: HealCounts,
    /// Connections open now.
    pub connections: u64,
    /// Connections taken since the start.
    pub accepted: u64,
    /// Connections closed at once because there were too many.
    pub refused: u64,
    /// From reading a request to handing its response to the kernel, for one read in [`LATENCY_SAMPLE`], on all routes.
    pub latency: LatencySnapshot,
}

/// One read in this many is timed: timing each would cost two clock readings, 50 ns.
pub const LATENCY_SAMPLE: u32 = 16;

/// Four buckets per doubling from 1 µs on: a quantile is exact to a fifth.
const BUCKETS_PER_DOUBLING: usize = 4;
/// Up to 2^24 µs, 17 s.
const BUCKETS: usize = 24 * BUCKETS_PER_DOUBLING;

/// How many requests took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencySnapshot([u64; BUCKETS]);

impl Default for LatencySnapshot {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl LatencySnapshot {
    /// Those counted here and not yet in `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.0;
        for (bucket, before) in buckets.iter_mut().zip(earlier.0) {
            *bucket = bucket.saturating_sub(before);
        }
        Self(buckets)
    }

    /// The latency that the share `quantile` (0 to 1) of requests stayed within, rounded up to a bucket's end; `None` if
    /// none was counted.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().sum();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.0.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= rank.max(1) {
                return Some(bucket_end(index));
            }
        }
        None
    }

    /// How many took how long: a latency from the middle of each bucket, and its count.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, &count)| {
            let start = index.checked_sub(1).map_or(Duration::ZERO, bucket_end);
            ((start + bucket_end(index)) / 2, count)
        })
    }

    fn add(&mut self, other: &[AtomicU64; BUCKETS]) {
        for (sum, bucket) in self.0.iter_mut().zip(other) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
}

fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2() as usize;
    // The two bits below the leading one say which quarter of the doubling.
    let quarter = usize::try_from((micros << 2) >> doubling & 3).unwrap_or(0);
    (doubling * BUCKETS_PER_DOUBLING + quarter).min(BUCKETS - 1)
}

fn bucket_end(index: usize) -> Duration {
    let (doubling, quarter) = (index / BUCKETS_PER_DOUBLING, index % BUCKETS_PER_DOUBLING);
    Duration::from_nanos(((1_000 * (5 + quarter as u64)) << doubling) / 4)
}

/// Where in a list of counts a heal is counted.
fn kind(heal: Result<Heal, Refused>) -> usize {
    match heal {
        Ok(Heal::Opened) => 0,
        Ok(Heal::Extended) => 1,
        Ok(Heal::Unchanged) => 2,
        Err(_) => REFUSED,
    }
}

const REFUSED: usize = 3;
const INVALID: usize = 4;
const KINDS: usize = 5;

/// The heals of a batch, counted before they are added to a worker's all at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally([u64; KINDS]);

impl Tally {
    pub fn count(&mut self, heal: Heal) {
        self.0[kind(Ok(heal))] += 1;
    }

    /// Of `ids` those that have not been counted were refused.
    pub fn refuse(&mut self, ids: usize) {
        let counted: u64 = self.0.iter().sum();
        self.0[REFUSED] += (ids as u64).saturating_sub(counted);
    }

    pub fn counts(self) -> HealCounts {
        let [opened, extended, unchanged, refused, invalid] = self.0;
        HealCounts { opened, extended, unchanged, refused, invalid }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}

/// One worker's counts.
#[derive(Debug)]
pub(super) struct WorkerStats {
    heals: [AtomicU64; KINDS],
    /// Written by the acceptor, which adds, and the worker, which subtracts.
    pub connections: AtomicU64,
    /// By route, method and status.
    requests: Box<[AtomicU64; ROUTES * VERBS * CODES_AND_OTHERS]>,
    in_flight: AtomicU64,
    latency: Box<[[AtomicU64; BUCKETS]; ROUTES]>,
    /// False only where it is measured what counting costs.
    is_counting: bool,
}

impl Default for WorkerStats {
    fn default() -> Self {
        let none = |_| AtomicU64::new(0);
        Self {
            heals: std::array::from_fn(none),
            connections: AtomicU64::new(0),
            requests: Box::new(std::array::from_fn(none)),
            in_flight: AtomicU64::new(0),
            latency: Box::new(std::array::from_fn(|_| std::array::from_fn(none))),
            is_counting: true,
        }
    }
}

impl WorkerStats {
    /// Stats that stay at 0, but for connections and heals.
    pub fn uncounted() -> Self {
        Self { is_counting: false, ..Self::default() }
    }

    /// A request has been answered.
    #[inline]
    pub fn answered(&self, route: Route, verb: Verb, status: StatusCode) {
        if self.is_counting {
            add(&self.requests[request_index(route, verb, code_index(status))], 1);
        }
    }

    /// Requests answered, for each route, method and status (see [`code_name`](super::route::code_name)) that there were any.
    pub fn requests(workers: &[Arc<Self>]) -> impl Iterator<Item = (Route, Verb, usize, u64)> {
        Route::ALL.into_iter().flat_map(move |route| {
            Verb::ALL.into_iter().flat_map(move |verb| {
                (0..CODES_AND_OTHERS).filter_map(move |code| {
                    let index = request_index(route, verb, code);
                    let count =
                        workers.iter().map(|worker| worker.requests[index].load(Ordering::Relaxed)).sum();
                    (count > 0).then_some((route, verb, code, count))
                })
            })
        })
    }

    /// How long requests on `route` took.
    pub fn latency(workers: &[Arc<Self>], route: Route) -> LatencySnapshot {
        let mut latency = LatencySnapshot::default();
        for worker in workers {
            latency.add(&worker.latency[route as usize]);
        }
        latency
    }

    /// A request that is not answered at once; until what this gives is dropped.
    pub fn wait(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn healed(&self, heal: Result<Heal, Refused>) {
        add(&self.heals[kind(heal)], 1);
    }

    pub fn healed_many(&self, tally: Tally) {
        for (sum, count) in self.heals.iter().zip(tally.0) {
            add(sum, count);
        }
    }

    /// Ids that heals were asked for: it changes while heals arrive.
    pub fn heals_asked(&self) -> u64 {
        self.heals.iter().map(|heals| heals.load(Ordering::Relaxed)).sum()
    }

    pub fn invalid(&self) {
        add(&self.heals[INVALID], 1);
    }

    pub fn took(&self, route: Route, latency: Duration) {
        add(&self.latency[route as usize][bucket_of(latency)], 1);
    }

    fn tally(&self) -> Tally {
        Tally(std::array::from_fn(|kind| self.heals[kind].load(Ordering::Relaxed)))
    }
}

/// A request in flight.
pub(super) struct InFlight(Arc<WorkerStats>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn request_index(route: Route, verb: Verb, code: usize) -> usize {
    (route as usize * VERBS + verb as usize) * CODES_AND_OTHERS + code
}

/// There is one writer, so nothing can come between the load and the store.
fn add(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

impl Stats {
    /// The sums over `workers`.
    pub(super) fn of(workers: &[Arc<WorkerStats>]) -> Self {
        let mut tally = Tally::default();
        let mut stats = Self::default();
        for worker in workers {
            tally += worker.tally();
            stats.connections += worker.connections.load(Ordering::Relaxed);
            for route in &*worker.latency {
                stats.latency.add(route);
            }
        }
        Self { heals: tally.counts(), ..stats }
    }
}

impl HealCounts {
    /// Those that were taken.
    pub fn taken(&self) -> u64 {
        self.opened + self.extended + self.unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_in_its_bucket() {
        for micros in [1_u64, 2, 3, 4, 5, 7, 8, 9, 15, 100, 1_000, 999_999, 16_000_000] {
            let index = bucket_of(Duration::from_micros(micros));
            let end = bucket_end(index);
            assert!(Duration::from_micros(micros) < end, "{micros} µs beyond {end:?}");
            if micros >= 4 {
                assert!(end <= Duration::from_micros(micros * 5 / 4 + 1), "{micros} µs far below {end:?}");
            }
        }
        assert_eq!(bucket_of(Duration::from_secs(1_000)), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_covers_its_share() {
        let worker = Arc::new(WorkerStats::default());
        for _ in 0..99 {
            worker.took(Route::Heal, Duration::from_micros(10));
        }
        worker.took(Route::Heal, Duration::from_millis(50));

        let stats = Stats::of(&[worker]);

        assert_eq!(stats.latency.quantile(0.99), Some(Duration::from_micros(12)));
        assert_eq!(stats.latency.quantile(1.0), Some(Duration::from_micros(57_344)));
        assert_eq!(stats.latency.since(&stats.latency).quantile(0.5), None);
    }
}
