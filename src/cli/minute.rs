//! Once a minute, one line of figures.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::info;

use super::counts::SweeperCounts;
use crate::engine::Engine;
use crate::http::{HealCounts, Server, Stats};

const MINUTE: Duration = Duration::from_secs(60);

/// When the next line is due, and what the figures were at the last.
pub(super) struct Minute {
    ticks: Interval,
    since: Instant,
    before: Stats,
}

impl Minute {
    /// The first line is due in a minute.
    pub fn start(server: &Server) -> Self {
        let since = Instant::now();
        let mut ticks = interval_at(since + MINUTE, MINUTE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, since, before: server.stats() }
    }

    /// Waits until a line is due. Can be dropped at any time.
    pub async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Writes it, and begins anew.
    pub fn log(&mut self, engine: &Engine, server: &Server, counts: &SweeperCounts) {
        let stats = server.stats();
        let seconds = self.since.elapsed().as_secs().max(1);
        let heals = taken(stats.heals).saturating_sub(taken(self.before.heals));
        let p99 = stats.latency.since(&self.before.latency).quantile(0.99);
        info!(
            heals_per_second = heals / seconds,
            online = engine.figures().online,
            p99_ms = p99.map(|latency| latency.as_secs_f64() * 1_000.0),
            resident_bytes = resident_bytes(),
            connections = stats.connections,
            thread_restarts = counts.thread_restarts(),
            clock_steps = counts.clock_steps(),
            "figures of the last minute"
        );
        self.before = stats;
        self.since = Instant::now();
    }
}

fn taken(heals: HealCounts) -> u64 {
    heals.opened + heals.extended + heals.unchanged
}

/// Memory of this process that is in RAM; `None` where the kernel does not say.
fn resident_bytes() -> Option<u64> {
    resident_bytes_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From `/proc/self/status`, not `statm`: that one counts in pages of a size it does not tell.
fn resident_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_kernels_text() {
        let status = "Name:\theartbeat\nVmHWM:\t    9000 kB\nVmRSS:\t    8400 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes_in(status), Some(8_601_600));
        assert_eq!(resident_bytes_in("Name:\theartbeat\n"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn refused_and_invalid_heals_are_not_taken() {
        let heals = HealCounts { opened: 1, extended: 20, unchanged: 300, refused: 4_000, invalid: 50_000 };
        assert_eq!(taken(heals), 321);
    }
}
