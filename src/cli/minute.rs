//! Once a minute, one line of figures.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::info;

use super::reports::millis;
use crate::engine::Engine;
use crate::http::{Server, Stats};
use crate::process;

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
    pub fn log(&mut self, engine: &Engine, server: &Server) {
        let stats = server.stats();
        let seconds = self.since.elapsed().as_secs().max(1);
        let heals = stats.heals.taken().saturating_sub(self.before.heals.taken());
        let p99 = stats.latency.since(&self.before.latency).quantile(0.99);
        info!(
            heals_per_second = heals / seconds,
            online = engine.figures().online,
            p99_ms = p99.map(|latency| latency.as_secs_f64() * 1_000.0),
            unsynced_ms = engine.journal_state().map(|state| millis(state.unsynced)),
            resident_bytes = process::usage().map(|usage| usage.resident_bytes),
            connections = stats.connections,
            "figures of the last minute"
        );
        self.before = stats;
        self.since = Instant::now();
    }
}
