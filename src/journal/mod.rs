//! The write-ahead journal: what has been acknowledged is in it.
//!
//! It is a chain of segment files in the data directory, each preallocated, zeroed and mapped shared into memory. Appending
//! reserves a slot of 24 bytes and stores it: no system call, no lock, no other thread. The moment its last word is stored,
//! the slot is in the kernel's page cache and survives the death of the process.
//!
//! ```text
//!   journal-0000000007.seg ──▶ journal-0000000008.seg ──▶ journal-0000000009.seg
//!   sealed, being synced       writers append here         prepared: zeroed, synced, waiting
//!         │                         │                           ▲
//!         └──────── syncer ─────────┘                        preparer
//! ```
//!
//! - [`append`](Journal::append) is called under the shard's guard, between deciding and applying.
//! - The `syncer` thread tells the disk (see [`Durability`]) and lets go of segments that are sealed and synced.
//! - The `preparer` thread keeps segments ready, so that a full disk shows before anybody needs the room.
//! - `replay` reads segments back; it uses `pread`, never the mapping.
//!
//! A file is a page of `header`, a page with two words of `mark`, then slots (`slot`). Formats are drawn there.

mod append;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod header;
mod mark;
mod prepare;
#[cfg(all(test, not(shuttle)))]
mod races;
mod replay;
mod salvage;
mod segment;
mod slot;
#[cfg(shuttle)]
mod stand_in;
mod sync;
mod words;

use std::io;
#[cfg(not(shuttle))]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::directory::{Directory, DirectoryId};
use crate::durability::Durability;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{ArcSwap, AtomicBool, AtomicU64, Mutex, Ordering, PoisonError, look_again};
use crate::time::Clock;

pub(crate) use header::Header;
pub(crate) use mark::Mark;
pub use mark::MarkFound;
pub(crate) use prepare::{random_salt, write_segment};
pub(crate) use replay::Row;
pub(crate) use replay::SegmentFile;
pub use replay::Verdicts;
pub(crate) use salvage::{Clues, Rebuilt};
pub(crate) use segment::{SLOTS_AT, capacity_of};

/// Where in a segment's file the alive second stands.
pub(crate) const ALIVE_AT: u64 = mark::Mark::Alive.offset() as u64;

pub use slot::Kind;
pub(crate) use slot::{Found, SLOT_BYTES, Slot};
#[cfg(feature = "service")]
pub(crate) use sync::Ticket;

use prepare::Preparer;
use segment::Segment;
use sync::{Syncer, Syncs, coarse_millis};

/// In `interval` and `always`, writes are refused once the last sync that succeeded began this much longer ago than the interval.
const OVERDUE: Duration = Duration::from_secs(5);
/// A thread of the journal that has panicked pauses this long before it goes on.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Why the journal takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The segment in service is full and the next one is not ready: the disk is full, as a rule.
    #[error("the journal has no room")]
    NoRoom,
    /// The disk has not confirmed a sync for longer than the durability mode allows.
    #[error("the disk has not confirmed the journal in time")]
    Overdue,
    /// The data directory's path leads to another folder, or to none: what was written now would be lost to whoever starts there.
    #[error("the data directory has been moved or removed")]
    Displaced,
    /// Somebody has taken a segment out of the directory: what was written to it now no start would find. Writes are taken again
    /// after a snapshot of everything, from which a segment that is in its place goes on.
    #[error("a segment of the journal has been removed")]
    Removed,
    /// A sync failed. Writes are taken again after a snapshot of everything has been written to new files.
    #[error("the disk has failed to take the journal")]
    SyncFailed,
}

/// What the journal tells its owner.
#[derive(Debug)]
pub enum JournalReport {
    /// The next segment cannot be prepared. It is tried again every second; this is told once.
    NotPrepared(io::Error),
    /// It could be prepared again.
    PreparedAgain,
    /// Something was synced, which took so long.
    Synced(Duration),
    /// A sync failed: from now on writes are refused.
    SyncFailed(io::Error),
    /// Somebody has taken this segment out of the directory: writes are refused.
    Removed(PathBuf),
    /// The disk is full, and a generation that was kept beside the newest has gone for room. Told by whoever takes a snapshot.
    GivenUp {
        /// The number of its snapshot.
        snapshot: u64,
        /// Bytes that are wanted.
        wanted: u64,
        /// Bytes that there were.
        free: u64,
    },
    /// A thread panicked: a bug of ours. It goes on after a pause.
    Fault {
        /// Its name.
        thread: &'static str,
    },
}

/// Called on the journal's threads.
pub(crate) type Report = Arc<dyn Fn(JournalReport) + Send + Sync>;

/// How a journal works.
#[derive(Clone)]
pub(crate) struct Plan {
    pub durability: Durability,
    pub sync_interval: Duration,
    /// What every header says; number, predecessor and salt are filled in.
    pub header: Header,
    pub directory: Arc<Directory>,
    pub clock: Arc<dyn Clock>,
    pub report: Report,
}

/// The journal in service. Dropping it syncs, notes that the service was alive until now, and ends its threads.
pub(crate) struct Journal {
    state: Arc<State>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What writers and the journal's threads share.
struct State {
    plan: Plan,
    /// The segment that is written to.
    current: ArcSwap<Segment>,
    syncs: Syncs,
    /// The number of a segment, and how many slots were written before its first. Only the syncer changes it.
    counted: Mutex<(u64, u64)>,
    /// Bytes of the disk that segments leave for a snapshot.
    left_for_snapshot: AtomicU64,
    /// The next segment could not be prepared.
    is_short_of_room: AtomicBool,
    /// … because the disk is full, and not for another reason.
    is_disk_full: AtomicBool,
    /// A snapshot is being written, in the room that segments have left for it.
    is_snapshot_under_way: AtomicBool,
    /// A sync has failed.
    failed: AtomicBool,
    /// The data directory is not where it was.
    is_displaced: AtomicBool,
    /// A segment that is in service, or ready behind it, is not in the directory any more.
    is_removed: AtomicBool,
    /// When the last sync that succeeded began, on the coarse monotonic clock, in ms.
    synced_at: AtomicU64,
    /// So many ms after that writes are refused; outside `interval` never.
    overdue_after: u64,
    stop: AtomicBool,
}

impl Journal {
    /// Prepares the segment that is numbered after `highest`, follows `last` (0 for none), and starts the journal's threads.
    ///
    /// If the disk has no room for a segment, the journal starts all the same and refuses writes until it has.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub fn start(plan: Plan, highest: u64, last: u64) -> io::Result<Self> {
        let first = match prepare::prepare(&plan, highest + 1, last) {
            Ok(first) => first,
            Err(error) => {
                (plan.report)(JournalReport::NotPrepared(error));
                Segment::in_memory(highest, 0, 0)
            }
        };
        let first = Arc::new(first);
        let overdue_after = match plan.durability {
            Durability::Interval | Durability::Always => {
                u64::try_from((plan.sync_interval + OVERDUE).as_millis()).unwrap_or(u64::MAX)
            }
            Durability::Process => u64::MAX,
        };
        let state = Arc::new(State {
            plan,
            current: ArcSwap::new(Arc::clone(&first)),
            counted: Mutex::new((first.number, 0)),
            syncs: Syncs::default(),
            left_for_snapshot: AtomicU64::new(0),
            is_short_of_room: AtomicBool::new(false),
            is_disk_full: AtomicBool::new(false),
            is_snapshot_under_way: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            is_displaced: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            synced_at: AtomicU64::new(coarse_millis()),
            overdue_after,
            stop: AtomicBool::new(false),
        });
        let journal = Self { state: Arc::clone(&state), threads: Mutex::default() };
        let mut syncer = Syncer::new(Arc::clone(&state), Arc::clone(&first));
        let syncer = journal.spawn("syncer", move || syncer.run())?;
        // Nobody else sets it.
        let _ = journal.state.syncs.syncer.set(syncer);
        let mut preparer = Preparer::new(state, first, last);
        journal.spawn("preparer", move || preparer.run())?;
        Ok(journal)
    }

    fn spawn(&self, name: &'static str, mut run: impl FnMut() + Send + 'static) -> io::Result<Thread> {
        let state = Arc::clone(&self.state);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            while panics(&mut run) {
                (state.plan.report)(JournalReport::Fault { thread: name });
                look_again(FAULT_PAUSE);
            }
        })?;
        let handle = thread.thread().clone();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(handle)
    }

    /// Syncs, notes that the service was alive until now, and ends the journal's threads. What is written after that survives
    /// the process, as everything does, and is synced by nobody.
    pub fn close(&self) {
        self.state.stop.store(true, Ordering::Release);
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            thread.thread().unpark();
            // It catches its own panics.
            let _ = thread.join();
        }
    }

    pub fn durability(&self) -> Durability {
        self.state.plan.durability
    }

    pub fn directory_id(&self) -> DirectoryId {
        self.state.plan.header.directory
    }

    /// Length of a segment's file.
    pub fn segment_bytes(&self) -> u64 {
        self.state.plan.header.length
    }

    /// As if a sync had failed: the segments that were replayed could not be synced.
    pub fn fail(&self) {
        self.state.failed.store(true, Ordering::Release);
    }

    /// A snapshot would take so many bytes: from now on segments leave that much of the disk. Else the journal could fill it, and
    /// the snapshot that makes room would find none.
    pub fn leave_for_snapshot(&self, bytes: u64) {
        self.state.left_for_snapshot.store(bytes, Ordering::Relaxed);
    }

    /// Whether the disk had no room for another segment when last asked. The last one that is ready is then kept for a snapshot,
    /// which makes room.
    pub fn is_short_of_room(&self) -> bool {
        self.state.is_short_of_room.load(Ordering::Acquire)
    }

    /// Whether the next segment could not be prepared because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.state.is_disk_full.load(Ordering::Acquire)
    }

    /// The snapshot for which [`rotate`](Self::rotate) was called has been taken, or has failed.
    pub fn end_snapshot(&self) {
        self.state.is_snapshot_under_way.store(false, Ordering::Release);
    }

    /// For the journal's owner to tell what it has done about the disk.
    pub fn report(&self, report: JournalReport) {
        (self.state.plan.report)(report);
    }

    /// As if the disk had not answered for longer than it may.
    #[cfg(all(test, not(shuttle)))]
    pub fn hang(&self) {
        let late = u64::try_from((self.state.plan.sync_interval + OVERDUE).as_millis()).unwrap_or(u64::MAX);
        self.state.synced_at.store(coarse_millis().saturating_sub(late + 1_000), Ordering::Release);
    }

    /// The number of the segment in service, and how many slots are in it.
    pub fn position(&self) -> (u64, u32) {
        let current = self.state.current.load();
        (current.number, current.reserved())
    }

    /// Slots written since the start. Those in a segment that has just come into service count once the syncer has seen it, a
    /// second later at most.
    pub fn written(&self) -> u64 {
        let (number, before) = *self.state.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, slots) = self.position();
        before + if current == number { u64::from(slots) } else { 0 }
    }

    /// How long ago a sync may have begun, with writes still taken; `None` if it does not matter.
    pub fn unsynced_limit(&self) -> Option<Duration> {
        let limit = self.state.overdue_after;
        (limit != u64::MAX).then(|| Duration::from_millis(limit))
    }

    /// How long ago the last sync that succeeded began.
    pub fn unsynced(&self) -> Duration {
        let synced_at = self.state.synced_at.load(Ordering::Acquire);
        Duration::from_millis(coarse_millis().saturating_sub(synced_at))
    }
}

#[cfg(not(shuttle))]
fn panics(run: impl FnMut()) -> bool {
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

/// A panic is for the checker: it ends the test.
#[cfg(shuttle)]
fn panics(mut run: impl FnMut()) -> bool {
    run();
    false
}

// The checker drops what is left of a run that has failed, and there is nobody left to wait for then: its tests close.
#[cfg(not(shuttle))]
impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(all(test, shuttle))]
mod interleavings;
#[cfg(all(test, not(shuttle)))]
mod tests;
