//! What goes to disk and comes from it: how the settings say it, and what is logged about it.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::exit::sentence;
use crate::config::Settings;
use crate::engine::{Disk, Progress, Recovery, SnapshotPlan, SnapshotTaken, SnapshotterReport};
use crate::journal::JournalReport;

/// Where and how, as the settings say.
pub(super) fn disk(settings: &Settings, progress: Arc<Progress>) -> Disk {
    Disk {
        path: settings.data_dir.clone(),
        durability: settings.durability,
        sync_interval: settings.sync_interval,
        segment_bytes: settings.segment_bytes,
        restart_grace: settings.restart_grace,
        allow_unsafe_filesystem: settings.allow_unsafe_filesystem,
        allow_future_journal: settings.allow_future_journal,
        threads: settings.threads,
        report: Arc::new(|report| log_journal(&report)),
        progress,
    }
}

/// When snapshots are taken, as the settings say.
pub(super) fn plan(settings: &Settings) -> SnapshotPlan {
    SnapshotPlan { interval: settings.snapshot_interval, journal_bytes: settings.snapshot_journal_bytes }
}

fn log_journal(report: &JournalReport) {
    match report {
        JournalReport::NotPrepared(error) => error!(
            %error,
            "the journal's next segment cannot be prepared; writes are refused once the one in service is full"
        ),
        JournalReport::PreparedAgain => info!("the journal's next segment is ready again"),
        JournalReport::SyncFailed(error) => error!(
            %error,
            "the disk has failed to take the journal: writes are refused until a snapshot has been written to new files"
        ),
        JournalReport::Fault { thread } => {
            error!(thread, "a thread of the journal panicked and goes on after a pause");
        }
    }
}

pub(super) fn log_snapshotter(report: SnapshotterReport) {
    match report {
        SnapshotterReport::Taken(taken) => log_snapshot(&taken),
        SnapshotterReport::Failed { error, retry } => {
            error!(error = %sentence(&error), retry_seconds = retry.as_secs(), "no snapshot could be taken; it is tried again");
        }
        SnapshotterReport::Fault => error!("the snapshotter panicked and goes on"),
    }
}

pub(super) fn log_snapshot(taken: &SnapshotTaken) {
    info!(
        number = taken.number,
        bytes = taken.bytes,
        users = taken.users,
        sessions = taken.sessions,
        elapsed_ms = millis(taken.elapsed),
        longest_hold_ms = taken.longest_hold.as_secs_f64() * 1_000.0,
        "a snapshot was taken"
    );
}

pub(super) fn log_recovery(recovery: &Recovery) {
    for (file, damage) in &recovery.quarantined {
        error!(file = %file.display(), damage, "a damaged snapshot was put aside; the one before and the journal say the same");
    }
    for file in &recovery.unreadable_marks {
        warn!(file = %file.display(), "the synced mark or the alive second of a segment cannot be read");
    }
    for file in &recovery.unknown {
        warn!(file = %file.display(), "a file in the data directory is not ours and is left alone");
    }
    if recovery.slots.torn > 0 {
        warn!(slots = recovery.slots.torn, "slots were torn by a power loss; none of them had been synced");
    }
    if recovery.sync_failed {
        error!(
            "the journal could not be synced: writes are refused until a snapshot has been written to new files"
        );
    }
    info!(
        snapshot = recovery.snapshot,
        segments = recovery.segments,
        slots = recovery.slots.good,
        users = recovery.users,
        sessions = recovery.sessions,
        online = recovery.online,
        outage_seconds = recovery.outage.map(|(from, to)| to.since(from)),
        elapsed_ms = millis(recovery.elapsed),
        "recovered"
    );
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
