//! What goes to disk and comes from it: how the settings say it, and what is logged of a recovery.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::exit::sentence;
use super::reports::{Reports, millis};
use crate::config::Settings;
use crate::engine::{Disk, Progress, Recovery, SnapshotPlan};

/// Where and how, as the settings say.
pub(super) fn disk(settings: &Settings, progress: Arc<Progress>, reports: Reports) -> Disk {
    Disk {
        path: settings.data_dir.clone(),
        durability: settings.durability,
        sync_interval: settings.sync_interval,
        segment_bytes: settings.segment_bytes,
        restart_grace: settings.restart_grace,
        allow_unsafe_filesystem: settings.allow_unsafe_filesystem,
        allow_future_journal: settings.allow_future_journal,
        threads: settings.threads,
        report: Arc::new(move |report| reports.journal(&report)),
        progress,
    }
}

/// When snapshots are taken, as the settings say.
pub(super) fn plan(settings: &Settings) -> SnapshotPlan {
    SnapshotPlan { interval: settings.snapshot_interval, journal_bytes: settings.snapshot_journal_bytes }
}

pub(super) fn log_recovery(recovery: &Recovery) {
    for (file, damage) in &recovery.quarantined {
        match recovery.not_put_aside.iter().find(|(left, _)| left == file) {
            None => {
                error!(file = %file.display(), damage, "a damaged snapshot was put aside; the one before and the journal say the same");
            }
            Some((_, error)) => error!(
                file = %file.display(),
                damage,
                error = %sentence(&**error),
                "a damaged snapshot cannot be put aside and stays; the one before and the journal say the same"
            ),
        }
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
