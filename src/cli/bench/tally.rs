//! What has been counted: heals by how they ended, and how long the acknowledged ones took.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency told from longer ones; no request is waited for as long as that, but one may be sent late.
const LATENCY_MAX: Duration = Duration::from_secs(60 * 60);
/// Latencies are exact to a thousandth.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Why a heal was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Answered with another status than 200.
    Status(u16),
    /// Answered with 200, but the body says that fewer users were healed.
    NotHealed,
    /// The answer was not understood.
    Malformed,
    /// The connection was closed before the answer.
    Closed,
    /// There was no answer in time.
    TimedOut,
    /// Any other error of the connection.
    Io,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status {code}"),
            Self::NotHealed => f.write_str("not healed"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Closed => f.write_str("connection closed"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Io => f.write_str("I/O error"),
        }
    }
}

/// Counts of a stretch of time. Heals are counted one by one also when a request carries many; latencies are of requests.
#[derive(Debug)]
pub struct Tally {
    /// Heals sent.
    pub sent: u64,
    /// Heals answered with 200.
    pub acknowledged: u64,
    /// Heals sent and not acknowledged.
    pub failed: BTreeMap<Failure, u64>,
    /// Heals that were due and never sent.
    pub unsent: u64,
    /// Attempts to connect that failed.
    pub connects_failed: u64,
    /// Connections that ended before the load did.
    pub connections_lost: u64,
    /// When the load began; the latest, if several began.
    pub started: Option<Instant>,
    /// When the last answer came.
    pub last_answer: Option<Instant>,
    /// Nanoseconds from when a request was due to its answer.
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let longest = u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
        Self {
            sent: 0,
            acknowledged: 0,
            failed: BTreeMap::new(),
            unsent: 0,
            connects_failed: 0,
            connections_lost: 0,
            started: None,
            last_answer: None,
            latency: Histogram::new_with_max(longest, SIGNIFICANT_DIGITS)
                .expect("an hour in nanoseconds and three digits are within its bounds"),
        }
    }
}

impl Tally {
    /// Counts heals that failed.
    pub fn fail(&mut self, failure: Failure, heals: u64) {
        *self.failed.entry(failure).or_default() += heals;
    }

    /// Counts an answered request and the time it took.
    pub fn acknowledge(&mut self, heals: u64, latency: Duration) {
        self.acknowledged += heals;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All heals that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The latency that `quantile` (0 to 1) of the requests did not exceed; `None` when none was answered.
    pub fn latency(&self, quantile: f64) -> Option<Duration> {
        let answered = !self.latency.is_empty();
        answered.then(|| Duration::from_nanos(self.latency.value_at_quantile(quantile)))
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.unsent += other.unsent;
        self.connects_failed += other.connects_failed;
        self.connections_lost += other.connections_lost;
        self.started = self.started.max(other.started);
        self.last_answer = self.last_answer.max(other.last_answer);
        for (&failure, &heals) in &other.failed {
            self.fail(failure, heals);
        }
        self.latency.add(&other.latency).expect("every tally has the same bounds");
    }
}

/// A tally that the connections of one worker fill and the reporter empties.
#[derive(Debug, Clone, Default)]
pub struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    /// The tally. Hold it for a few counts only.
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Tally {
        // Allocated before the lock is taken: a connection may be waiting to count.
        let empty = Tally::default();
        std::mem::replace(&mut *self.lock(), empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_counted_once() {
        let shared = SharedTally::default();
        shared.lock().acknowledge(3, Duration::from_micros(100));
        shared.lock().fail(Failure::Status(503), 2);
        let first = shared.take();
        shared.lock().acknowledge(1, Duration::from_micros(900));
        shared.lock().fail(Failure::Status(503), 1);

        let mut total = Tally::default();
        total.add(&first);
        total.add(&shared.take());
        total.add(&shared.take());

        assert_eq!((total.acknowledged, total.failures()), (4, 3));
        assert_eq!(total.failed, BTreeMap::from([(Failure::Status(503), 3)]));
        let p50 = total.latency(0.5).unwrap().as_nanos();
        assert!((100_000..100_100).contains(&p50), "{p50}");
        let max = total.latency(1.0).unwrap().as_nanos();
        assert!((900_000..901_000).contains(&max), "{max}");
    }

    #[test]
    fn without_an_answer_there_is_no_latency() {
        assert_eq!(Tally::default().latency(0.99), None);
    }
}
