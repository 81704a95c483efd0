//! `GET /v1/status`: what runs and how it is doing, in one answer for people and scripts.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::admin::SnapshotReply;
use super::app::Served;
use super::error::Error;
use super::query::Common;
use super::routes::Shared;
use super::stats::HealCounts;
use super::user::json;
use crate::durability::Durability;
use crate::engine::{JournalState, Recovery, SnapshotTaken};
use crate::process;
use crate::time::UnixSeconds;

#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    /// Of which the binary was built; `unknown` if it was not built from a repository.
    commit: &'static str,
    /// What built it.
    rustc: &'static str,
    uptime_seconds: u64,
    users: u64,
    online: u64,
    /// The second last swept.
    at: u32,
    sessions: u64,
    heals: Heals,
    connections: u64,
    /// Null if nothing is kept on disk.
    #[schema(required)]
    journal: Option<Journal>,
    /// The last one taken since the start; null before that.
    #[schema(required)]
    snapshot: Option<Snapshot>,
    /// How this start went; null if nothing is kept on disk.
    #[schema(required)]
    recovery: Option<Recovered>,
    /// When the service was not there, oldest first.
    outages: Vec<Outage>,
    /// Segments and snapshots; null if nothing is kept on disk, or the directory cannot be read.
    #[schema(required)]
    disk_bytes: Option<u64>,
    process: Option<process::Usage>,
}

#[derive(Serialize, ToSchema)]
struct Heals {
    opened: u64,
    extended: u64,
    unchanged: u64,
    refused: u64,
    invalid: u64,
}

impl From<HealCounts> for Heals {
    fn from(heals: HealCounts) -> Self {
        let HealCounts { opened, extended, unchanged, refused, invalid } = heals;
        Self { opened, extended, unchanged, refused, invalid }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Journal {
    /// `process`, `interval` or `always`.
    durability: String,
    /// Whether writes are taken; if not, `refusal` says why.
    accepting: bool,
    #[schema(required)]
    refusal: Option<String>,
    /// The number of the segment in service.
    segment: u64,
    /// Slots in it.
    slots: u32,
    /// Since the last sync that succeeded began; null in `process`, where there is none on a schedule.
    #[schema(required)]
    unsynced_seconds: Option<f64>,
    /// Since the start.
    syncs: u64,
}

impl From<JournalState> for Journal {
    fn from(state: JournalState) -> Self {
        let is_synced = state.durability != Durability::Process;
        Self {
            durability: state.durability.to_string(),
            accepting: state.refusal.is_none(),
            refusal: state.refusal.map(|refusal| refusal.to_string()),
            segment: state.segment,
            slots: state.slots,
            unsynced_seconds: is_synced.then_some(state.unsynced.as_secs_f64()),
            syncs: state.syncs,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Snapshot {
    /// The engine's second when it had been taken.
    at: u32,
    #[serde(flatten)]
    taken: SnapshotReply,
}

impl From<(UnixSeconds, SnapshotTaken)> for Snapshot {
    fn from((at, taken): (UnixSeconds, SnapshotTaken)) -> Self {
        Self { at: at.as_u32(), taken: SnapshotReply::from(&taken) }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Outage {
    from: u32,
    to: u32,
}

impl From<(UnixSeconds, UnixSeconds)> for Outage {
    fn from((from, to): (UnixSeconds, UnixSeconds)) -> Self {
        Self { from: from.as_u32(), to: to.as_u32() }
    }
}

#[derive(Serialize, ToSchema)]
struct Recovered {
    seconds: f64,
    /// The snapshot it began from; null if there was none.
    #[schema(required)]
    snapshot: Option<u64>,
    /// Damaged snapshots that were put aside.
    quarantined: usize,
    /// Segments replayed.
    segments: usize,
    slots: Slots,
    /// Segments whose synced mark could not be read.
    unreadable_marks: usize,
    users: u64,
    sessions: u64,
    online: u64,
    #[schema(required)]
    outage: Option<Outage>,
    /// Files in the directory that are nobody's.
    unknown_files: usize,
}

#[derive(Serialize, ToSchema)]
struct Slots {
    good: u64,
    empty: u64,
    torn: u64,
}

impl From<&Recovery> for Recovered {
    fn from(recovery: &Recovery) -> Self {
        Self {
            seconds: recovery.elapsed.as_secs_f64(),
            snapshot: recovery.snapshot,
            quarantined: recovery.quarantined.len(),
            segments: recovery.segments,
            slots: Slots {
                good: recovery.slots.good,
                empty: recovery.slots.empty,
                torn: recovery.slots.torn,
            },
            unreadable_marks: recovery.unreadable_marks.len(),
            users: recovery.users,
            sessions: recovery.sessions,
            online: recovery.online,
            outage: recovery.outage.map(Outage::from),
            unknown_files: recovery.unknown.len(),
        }
    }
}

/// What runs and how it is doing.
pub(super) async fn status(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    let served = shared.app.served()?;
    let Served { engine, recovery, .. } = served;
    let (figures, journal) = (engine.figures(), engine.journal_state());
    let stats = shared.app.stats();
    let disk_bytes = if journal.is_some() { disk_bytes(served).await } else { None };
    Ok(json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("HEARTBEAT_COMMIT"),
        rustc: env!("HEARTBEAT_RUSTC"),
        uptime_seconds: shared.app.started.elapsed().as_secs(),
        users: figures.users,
        online: figures.online,
        at: figures.at.as_u32(),
        sessions: figures.sessions,
        heals: stats.heals.into(),
        connections: stats.connections,
        journal: journal.map(Journal::from),
        snapshot: engine.last_snapshot().map(Snapshot::from),
        recovery: recovery.as_ref().map(Recovered::from),
        outages: engine.outages().into_iter().map(Outage::from).collect(),
        disk_bytes,
        process: process::usage(),
    }))
}

/// A disk that hangs must not take the worker with it.
async fn disk_bytes(served: &Served) -> Option<u64> {
    let engine = Arc::clone(&served.engine);
    let state =
        tokio::task::spawn_blocking(move || engine.disk_state().ok().flatten()).await.ok().flatten()?;
    Some(state.segment_bytes + state.snapshot_bytes)
}
