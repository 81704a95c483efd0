//! Copies what the workers and the engine have counted into metrics, before these are read.
//!
//! On the path of a heal nothing is known of metrics: a worker counts in its own memory. Whoever reads metrics has the sums
//! copied first ([`publish`]); that looks at counters only, so it answers also while the disk hangs. What takes a system call
//! about the disk, or a look at each shard, is copied once a second by a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use super::app::{App, Served};
use super::route::{Route, code_name};
use super::stats::{LatencySnapshot, WorkerStats};
use crate::durability::Durability;
use crate::engine::{Engine, Figures, JournalState, Recovery};
use crate::metrics::{Metrics, number, seconds};
use crate::process;

/// How often the thread works.
const EVERY: Duration = Duration::from_secs(1);

/// What has been copied of the counts that metrics take as samples.
pub(super) type Published = [LatencySnapshot; Route::ALL.len()];

/// Copies everything that costs next to nothing to look at.
pub(super) fn publish(app: &App) {
    let metrics = &app.metrics;
    requests(app, metrics);
    metrics.ready.set(if app.unready_reasons().is_empty() { 1.0 } else { 0.0 });
    if let Ok(Served { engine, recovery, .. }) = app.served() {
        figures(engine.figures(), metrics);
        metrics.memory.timelines.set(number(engine.timeline_bytes()));
        if let Some(state) = engine.journal_state() {
            journal(engine, state, metrics);
        }
        if let Some((at, taken)) = engine.last_snapshot() {
            metrics.snapshot_last_success.set(f64::from(at.as_u32()));
            metrics.snapshot_bytes.set(number(taken.bytes));
        }
        if let Some(recovery) = recovery {
            recovered(recovery, metrics);
        }
    }
}

fn requests(app: &App, metrics: &Metrics) {
    let stats = app.stats();
    metrics.heals.opened.absolute(stats.heals.opened);
    metrics.heals.extended.absolute(stats.heals.extended);
    metrics.heals.unchanged.absolute(stats.heals.unchanged);
    metrics.heals.refused.absolute(stats.heals.refused);
    metrics.heals.invalid.absolute(stats.heals.invalid);
    metrics.connections.set(number(stats.connections));
    metrics.connections_made.accepted.absolute(stats.accepted);
    metrics.connections_made.refused.absolute(stats.refused);
    metrics.watchers.set(number(app.announcer.readers()));
    let workers = app.counted();
    metrics.http_requests_in_flight.set(number(workers.iter().map(|worker| worker.in_flight()).sum()));
    for (route, verb, code, count) in WorkerStats::requests(workers) {
        metrics.http_requests(route.path(), verb.name(), code_name(code)).absolute(count);
    }
    let mut published = app.published.lock().unwrap_or_else(PoisonError::into_inner);
    for (route, published) in Route::ALL.into_iter().zip(&mut *published) {
        let now = WorkerStats::latency(workers, route);
        let histogram = metrics.http_durations().of(route.path());
        for (latency, count) in now.since(published).counts() {
            histogram.record_many(latency, usize::try_from(count).unwrap_or(usize::MAX));
        }
        *published = now;
    }
}

fn figures(figures: Figures, metrics: &Metrics) {
    metrics.users.set(number(figures.users));
    metrics.online_users.set(number(figures.online));
    metrics.sessions_stored.set(number(figures.sessions));
    metrics.sessions_opened.absolute(figures.opened);
    metrics.sessions_closed.lapsed.absolute(figures.lapsed);
    metrics.sessions_closed.left.absolute(figures.left);
    metrics.sessions_closed.forgotten.absolute(figures.forgotten);
    metrics.flaps.absolute(figures.flaps);
    metrics.users_refused.absolute(figures.users_refused);
    metrics.sweep_last_run.set(f64::from(figures.at.as_u32()));
}

fn journal(engine: &Engine, state: JournalState, metrics: &Metrics) {
    let is_synced = state.durability != Durability::Process;
    metrics.journal_slots.absolute(state.written);
    metrics.journal_replay_bytes.set(number(engine.journal_bytes_since_snapshot()));
    metrics.journal_unsynced.set(seconds(is_synced.then_some(state.unsynced)));
    metrics.journal_unsynced_limit.set(seconds(state.unsynced_limit));
    metrics.journal_accepting.set(if state.refusal.is_none() { 1.0 } else { 0.0 });
}

fn recovered(recovery: &Recovery, metrics: &Metrics) {
    metrics.recovery_duration.set(recovery.elapsed.as_secs_f64());
    metrics.outages.absolute(u64::from(recovery.outage.is_some()));
    metrics.recovery_quarantined.set(number(recovery.quarantined.len() as u64));
    let slots = &metrics.recovery_slots;
    slots.applied.set(number(recovery.slots.good.saturating_sub(recovery.stale_slots)));
    slots.stale.set(number(recovery.stale_slots));
    slots.torn.set(number(recovery.slots.torn));
    slots.empty.set(number(recovery.slots.empty));
}

/// Copies what the operating system says of the process and the disk, and what each shard says of its table.
pub(super) fn publish_slowly(app: &App) {
    let metrics = &app.metrics;
    let process = metrics_process::collector::collect();
    let copy = |gauge: &metrics::Gauge, value: Option<u64>| {
        if let Some(value) = value {
            gauge.set(number(value));
        }
    };
    copy(&metrics.open_files, process.open_fds);
    copy(&metrics.open_files_max, process.max_fds);
    copy(&metrics.resident, process.resident_memory_bytes);
    copy(&metrics.virtual_memory, process.virtual_memory_bytes);
    copy(&metrics.start_time, process.start_time_seconds);
    copy(&metrics.os_threads, process.threads);
    copy(&metrics.memory_limit, process::memory_limit());
    let Ok(Served { engine, .. }) = app.served() else { return };
    let (roster, timelines) = (engine.roster_bytes(), engine.timeline_bytes());
    metrics.memory.roster.set(number(roster));
    copy(
        &metrics.memory.allocator,
        process::anonymous_bytes().map(|all| all.saturating_sub(roster + timelines)),
    );
    if let Ok(Some(disk)) = engine.disk_state() {
        metrics.journal_segments.set(number(disk.segments));
        metrics.journal_bytes.set(number(disk.segment_bytes));
        metrics.disk_free.set(number(disk.free_bytes));
        metrics.disk_size.set(number(disk.size_bytes));
        metrics.disk_reserved.set(number(disk.reserved_bytes));
    }
}

/// Once a second, until nobody is left who could end it.
pub(super) fn run(app: &Arc<App>, ended: &mpsc::Receiver<()>) {
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| {
            publish(app);
            publish_slowly(app);
            app.metrics.run_upkeep();
        }));
        if turn.is_err() {
            app.metrics.thread_restarts.metrics.increment(1);
            tracing::error!("the thread that publishes metrics panicked and goes on");
        }
        if ended.recv_timeout(EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}
