//! Promises broken on purpose, each in the one place that keeps it, to see that the tests notice.
//!
//! With the feature `faults`, which no release is built with, the environment variable `HEARTBEAT_PLANTED` names the one that is
//! in force; without it none ever is, and the compiler leaves nothing of them. `tests/durable/planted.rs` goes through the list.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "none is in force"))]
pub enum Planted {
    /// A write is acknowledged when the slot of the one before it is stored.
    AcknowledgedBeforeSlot,
    /// The synced mark is the tail, and not the end of the unbroken run.
    MarkFromTail,
    /// The synced mark is set before the sync that it speaks of.
    MarkBeforeSync,
    /// A heal that changes nothing does not wait for the disk in `always`.
    UnchangedNotConfirmed,
    /// A sync that failed is tried once more, and believed.
    FailedSyncRetried,
    /// After a failed sync writes are taken again without a snapshot.
    ResumedWithoutSnapshot,
    /// After a failed sync the older generation is kept.
    OlderKeptAfterFailedSync,
    /// A disk that hangs is waited for for ever.
    HungDiskIgnored,
    /// Only the segment in service is synced, not the ones that have just been sealed.
    SealedNotSynced,
    /// Names in the folder are not synced.
    FolderNotSynced,
    /// A file gets its name before it is synced.
    PublishedBeforeSynced,
    /// A snapshot is published before the journal is synced.
    SnapshotWithoutBarrier,
    /// What a snapshot makes needless goes before the snapshot is on disk.
    PrunedBeforeDurable,
    /// After a forget the older generation, which knows the user, is kept.
    ForgottenKept,
    /// What was read at a start is not synced.
    ReplayedNotSynced,
    /// Recovery believes the synced mark of no segment.
    MarkIgnored,
    /// Recovery refuses an empty slot above the synced mark.
    EmptySlotRefused,
    /// A slot is believed without its checksum.
    ChecksumIgnored,
    /// Replay sets the deadline that a slot has, also if it is earlier.
    DeadlineLowered,
    /// What retention has dropped is there again after a start.
    RetentionUndone,
    /// An outage is not kept.
    OutageForgotten,
    /// The alive second is never stamped.
    AliveNotStamped,
}

/// Whether this is in force.
#[cfg(not(feature = "faults"))]
#[inline]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}

/// Whether this is in force.
#[cfg(feature = "faults")]
pub(crate) fn planted(fault: Planted) -> bool {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("HEARTBEAT_PLANTED").ok());
    named.as_ref().is_some_and(|named| *named == format!("{fault:?}"))
}
