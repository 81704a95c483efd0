//! What the threads of the engine report: counted, and logged where an operator would want to know.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::exit::sentence;
use crate::engine::{SnapshotTaken, SnapshotterReport, SweeperReport};
use crate::journal::JournalReport;
use crate::metrics::Metrics;
use crate::time::ClockStep;

/// Where reports go.
#[derive(Clone)]
pub(super) struct Reports(pub Arc<Metrics>);

impl Reports {
    /// Called on the sweeper's thread, every second.
    pub fn sweeper(&self, report: SweeperReport) {
        match report {
            SweeperReport::Swept { elapsed, lag, .. } => {
                self.0.sweep_duration.record(elapsed);
                if let Some(lag) = lag {
                    self.0.expiry_lag.record(lag);
                }
            }
            SweeperReport::ClockStep(step) => self.step(step),
            SweeperReport::Fault(fault) => {
                self.0.thread_restarts.sweeper.increment(1);
                error!(
                    pause_ms = millis(fault.pause),
                    "the sweeper panicked and goes on after a pause; answers about users are not affected"
                );
            }
        }
    }

    /// A step forwards counts when it is noticed, not again when it is adopted.
    fn step(&self, step: ClockStep) {
        match step {
            ClockStep::Ahead { seconds } => {
                self.0.clock_steps.forward.increment(1);
                error!(seconds, "the wall clock was set forwards; we follow if it stays so for a minute");
            }
            ClockStep::Adopted { from, to } => error!(
                from = from.as_u32(),
                to = to.as_u32(),
                "the wall clock stayed ahead and we follow; the seconds between end no session"
            ),
            ClockStep::Behind { seconds } => {
                self.0.clock_steps.backward.increment(1);
                error!(seconds, "the wall clock was set back; our seconds are longer until it has caught up");
            }
        }
    }

    /// Called on the journal's threads, after every sync among others.
    pub fn journal(&self, report: &JournalReport) {
        match report {
            JournalReport::Synced(elapsed) => self.0.sync_duration.record(*elapsed),
            JournalReport::NotPrepared(error) => {
                self.0.journal_errors.prepare.increment(1);
                error!(
                    %error,
                    "the journal's next segment cannot be prepared; writes are refused once the one in service is full"
                );
            }
            JournalReport::PreparedAgain => info!("the journal's next segment is ready again"),
            JournalReport::SyncFailed(error) => {
                self.0.journal_errors.sync.increment(1);
                error!(
                    %error,
                    "the disk has failed to take the journal: writes are refused until a snapshot has been written to new files"
                );
            }
            JournalReport::Removed(path) => error!(
                path = %path.display(),
                "somebody has removed a segment of the journal: writes are refused until a snapshot has been written"
            ),
            JournalReport::GivenUp { snapshot, wanted, free } => error!(
                snapshot,
                wanted_bytes = wanted,
                free_bytes = free,
                "the disk is full: the generation before the newest snapshot was given up"
            ),
            JournalReport::Fault { thread } => {
                match *thread {
                    "syncer" => &self.0.thread_restarts.syncer,
                    _ => &self.0.thread_restarts.preparer,
                }
                .increment(1);
                error!(thread, "a thread of the journal panicked and goes on after a pause");
            }
        }
    }

    /// Called on the snapshotter's thread.
    pub fn snapshotter(&self, report: SnapshotterReport) {
        match report {
            SnapshotterReport::Taken(taken) => self.snapshot(&taken),
            SnapshotterReport::Failed { error, retry } => {
                self.0.snapshot_failures.increment(1);
                error!(error = %sentence(&error), retry_seconds = retry.as_secs(), "no snapshot could be taken; it is tried again");
            }
            SnapshotterReport::Fault => {
                self.0.thread_restarts.snapshotter.increment(1);
                error!("the snapshotter panicked and goes on");
            }
        }
    }

    /// A snapshot has been taken.
    pub fn snapshot(&self, taken: &SnapshotTaken) {
        self.0.took_snapshot(taken);
        info!(
            number = taken.number,
            bytes = taken.bytes,
            users = taken.users,
            sessions = taken.sessions,
            elapsed_ms = millis(taken.elapsed),
            longest_hold_ms = taken.longest_hold.as_secs_f64() * 1_000.0,
            "a snapshot was taken"
        );
        if let Some(error) = &taken.not_removed {
            error!(error = %sentence(&**error), "what the snapshot has made needless could not all be removed");
        }
    }
}

pub(super) fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::engine::{SnapshotError, SweepFault, Swept};
    use crate::metrics::RouteNames;
    use crate::time::UnixSeconds;

    /// The value of each of these series, written as Prometheus does.
    fn values<const N: usize>(metrics: &Metrics, series: [&str; N]) -> [String; N] {
        let text = metrics.render();
        series.map(|series| {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{series} in\n{text}")).to_owned()
        })
    }

    #[test]
    fn every_report_is_counted_once() {
        let metrics = Arc::new(Metrics::new(RouteNames { all: &[], bulk: &[] }));
        let reports = Reports(Arc::clone(&metrics));
        let (from, to) = (UnixSeconds::new(1_000), UnixSeconds::new(2_000));
        let milli = Duration::from_millis(1);
        for report in [
            SweeperReport::Swept { swept: Swept::default(), elapsed: milli, lag: None },
            SweeperReport::Swept { swept: Swept::default(), elapsed: milli, lag: Some(milli * 3) },
            SweeperReport::Fault(SweepFault { pause: milli }),
            SweeperReport::ClockStep(ClockStep::Ahead { seconds: 1_000 }),
            SweeperReport::ClockStep(ClockStep::Adopted { from, to }),
            SweeperReport::ClockStep(ClockStep::Behind { seconds: 90 }),
        ] {
            reports.sweeper(report);
        }
        for report in [
            JournalReport::Synced(milli),
            JournalReport::NotPrepared(io::ErrorKind::StorageFull.into()),
            JournalReport::PreparedAgain,
            JournalReport::SyncFailed(io::ErrorKind::Other.into()),
            JournalReport::Fault { thread: "syncer" },
            JournalReport::Fault { thread: "preparer" },
        ] {
            reports.journal(&report);
        }
        for report in [
            SnapshotterReport::Taken(SnapshotTaken {
                number: 1,
                bytes: 468,
                users: 4,
                sessions: 1,
                elapsed: milli * 40,
                longest_hold: milli,
                not_removed: None,
            }),
            SnapshotterReport::Failed { error: SnapshotError::UnderWay, retry: milli },
            SnapshotterReport::Fault,
        ] {
            reports.snapshotter(report);
        }
        let expected = [
            ("heartbeat_sweep_duration_seconds_count", "2"),
            ("heartbeat_expiry_lag_seconds_count", "1"),
            ("heartbeat_expiry_lag_seconds_sum", "0.003"),
            ("heartbeat_thread_restarts_total{thread=\"sweeper\"}", "1"),
            ("heartbeat_thread_restarts_total{thread=\"syncer\"}", "1"),
            ("heartbeat_thread_restarts_total{thread=\"preparer\"}", "1"),
            ("heartbeat_thread_restarts_total{thread=\"snapshotter\"}", "1"),
            ("heartbeat_clock_steps_total{direction=\"forward\"}", "1"),
            ("heartbeat_clock_steps_total{direction=\"backward\"}", "1"),
            ("heartbeat_journal_sync_duration_seconds_sum", "0.001"),
            ("heartbeat_journal_errors_total{op=\"prepare\"}", "1"),
            ("heartbeat_journal_errors_total{op=\"sync\"}", "1"),
            ("heartbeat_snapshot_duration_seconds_sum", "0.04"),
            ("heartbeat_snapshot_shard_hold_seconds_sum", "0.001"),
            ("heartbeat_snapshot_failures_total", "1"),
        ];
        assert_eq!(values(&metrics, expected.map(|(series, _)| series)), expected.map(|(_, value)| value));
    }
}
