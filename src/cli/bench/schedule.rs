//! When the requests of an open loop are due.
//!
//! The moments are fixed before the first request is sent, and depend on no answer: a service that stalls is sent what fell due
//! meanwhile as soon as it answers again, and each of those requests has waited since its own moment. Measuring only from
//! sending would leave the stall out of all but one figure (coordinated omission: Gil Tene, "How NOT to Measure Latency").
//!
//! Requests are numbered over all connections. With a pipeline of `K`, groups of `K` fall due together, and groups go round the
//! connections:
//!
//! ```text
//!   request      0 1 2 │ 3 4 5 │ 6 7 8 │ 9 …        K = 3, two connections
//!   due          0     │ 3/r   │ 6/r   │ 9/r        r requests a second
//!   connection   first │ second│ first │ second
//! ```

use std::time::Duration;

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// Which requests there are and when they are due, over all connections.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Heals a second, over all connections.
    pub rate: u64,
    /// Heals in a request.
    pub batch: u32,
    /// Requests that fall due together.
    pub pipeline: u32,
    /// For how long.
    pub duration: Duration,
}

impl Schedule {
    /// How many requests there are: those whose first heal, at an even pace, falls before the end.
    pub fn requests(&self) -> u64 {
        let heals = u128::from(self.rate) * self.duration.as_nanos();
        saturate(heals.div_ceil(SECOND * u128::from(self.batch)))
    }

    /// How long after the start the request is due. Computed from the start each time, so nothing adds up.
    fn due(&self, request: u64) -> Duration {
        let group = u128::from(request / u64::from(self.pipeline));
        let heals_before = group * u128::from(self.pipeline) * u128::from(self.batch);
        Duration::from_nanos(saturate(heals_before * SECOND / u128::from(self.rate)))
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The part of a schedule that falls to one connection.
#[derive(Debug, Clone)]
pub struct Share {
    schedule: Schedule,
    requests: u64,
    connections: u64,
    next: u64,
}

impl Share {
    /// What falls to connection `lane` (from 0) of `connections`.
    pub fn new(schedule: Schedule, lane: u64, connections: u64) -> Self {
        let next = lane * u64::from(schedule.pipeline);
        Self { schedule, requests: schedule.requests(), connections, next }
    }

    /// How long after the start the next request is due; `None` after the last.
    pub fn due(&self) -> Option<Duration> {
        (self.next < self.requests).then(|| self.schedule.due(self.next))
    }

    /// The number of the next request, and on to the one after it.
    pub fn take(&mut self) -> u64 {
        let request = self.next;
        let pipeline = u64::from(self.schedule.pipeline);
        let last_of_group = request % pipeline == pipeline - 1;
        self.next += if last_of_group { 1 + (self.connections - 1) * pipeline } else { 1 };
        request
    }

    /// How many requests are left.
    pub fn left(&self) -> u64 {
        let mut share = self.clone();
        std::iter::from_fn(|| share.due().map(|_| share.take())).fold(0, |count, _| count + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn schedule(rate: u64, batch: u32, pipeline: u32, duration: Duration) -> Schedule {
        Schedule { rate, batch, pipeline, duration }
    }

    fn all(mut share: Share) -> Vec<(u64, u64)> {
        let next = || {
            let due = share.due()?;
            Some((share.take(), u64::try_from(due.as_micros()).unwrap()))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn requests_are_due_at_an_even_pace() {
        let second = schedule(4, 1, 1, Duration::from_secs(1));
        assert_eq!(all(Share::new(second, 0, 1)), [(0, 0), (1, 250_000), (2, 500_000), (3, 750_000)]);
    }

    #[test]
    fn connections_take_turns() {
        let second = schedule(5, 1, 1, Duration::from_secs(1));
        assert_eq!(all(Share::new(second, 0, 2)), [(0, 0), (2, 400_000), (4, 800_000)]);
        assert_eq!(all(Share::new(second, 1, 2)), [(1, 200_000), (3, 600_000)]);
    }

    #[test]
    fn a_pipeline_falls_due_together() {
        let second = schedule(8, 1, 3, Duration::from_secs(1));
        assert_eq!(all(Share::new(second, 0, 2)), [(0, 0), (1, 0), (2, 0), (6, 750_000), (7, 750_000)]);
        assert_eq!(all(Share::new(second, 1, 2)), [(3, 375_000), (4, 375_000), (5, 375_000)]);
    }

    #[test]
    fn a_batch_counts_as_its_heals() {
        let second = schedule(3_000, 1_000, 1, Duration::from_secs(1));
        assert_eq!(all(Share::new(second, 0, 1)), [(0, 0), (1, 333_333), (2, 666_666)]);
    }

    #[test]
    fn a_pace_that_is_no_whole_number_of_nanoseconds_does_not_drift() {
        let day = schedule(30_000, 1, 1, Duration::from_secs(86_400));
        assert_eq!(day.requests(), 2_592_000_000);
        assert_eq!(day.due(2_592_000_000), Duration::from_secs(86_400));
        assert_eq!(day.due(2_591_999_999), Duration::from_nanos(86_399_999_966_666));
    }

    #[test]
    fn what_is_left_is_counted() {
        let mut share = Share::new(schedule(8, 1, 3, Duration::from_secs(1)), 0, 2);
        assert_eq!(share.left(), 5);
        share.take();
        assert_eq!(share.left(), 4);
    }
}
