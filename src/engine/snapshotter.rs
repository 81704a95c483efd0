//! When snapshots are taken: the thread that does it.
//!
//! | when | |
//! |---|---|
//! | the interval has passed, and something has been written since the last one | |
//! | so much of the journal would have to be replayed | a restart shall not take for ever |
//! | a sync has failed | writes are refused until everything has been written to new files |
//! | it is asked to | |
//!
//! A failure blocks no write. It is told, and tried again, later and later.

#![allow(clippy::disallowed_methods, reason = "when it works is no matter of the time of day")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::snapshots::{SnapshotError, SnapshotTaken};
use super::{Engine, Refusal};

/// How often the thread looks whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure the next attempt waits so long, then twice as long, up to the interval.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// When a snapshot is due.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotPlan {
    /// So long after the last one.
    pub interval: Duration,
    /// When so many bytes of journal have been written since the last one.
    pub journal_bytes: u64,
}

/// What the snapshotter tells its owner.
#[derive(Debug)]
pub enum SnapshotterReport {
    /// A snapshot has been taken.
    Taken(SnapshotTaken),
    /// None could be taken.
    Failed {
        /// Why.
        error: SnapshotError,
        /// When it is tried again.
        retry: Duration,
    },
    /// It panicked: a bug of ours. It goes on.
    Fault,
}

/// The thread. It ends when this is dropped, once a snapshot under way is done.
#[derive(Debug)]
pub struct Snapshotter {
    wishes: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshotter {
    /// Starts it. `report` is called on its thread.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub fn start(
        engine: Arc<Engine>,
        plan: SnapshotPlan,
        report: impl Fn(SnapshotterReport) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (wishes, received) = mpsc::channel();
        let thread = std::thread::Builder::new().name("snapshotter".into()).spawn(move || {
            let mut work = Work { engine, plan, last: Instant::now(), failures: 0, retry_at: None };
            loop {
                let is_wished = match received.recv_timeout(LOOK) {
                    Ok(()) => true,
                    Err(mpsc::RecvTimeoutError::Timeout) => false,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                };
                match catch_unwind(AssertUnwindSafe(|| work.look(is_wished))) {
                    Ok(None) => {}
                    Ok(Some(told)) => report(told),
                    Err(_) => report(SnapshotterReport::Fault),
                }
            }
        })?;
        Ok(Self { wishes: Some(wishes), thread: Some(thread) })
    }

    /// Asks for a snapshot now. Asked again while one is under way, it takes another.
    pub fn request(&self) {
        if let Some(wishes) = &self.wishes {
            // The thread ends only with this.
            let _ = wishes.send(());
        }
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        drop(self.wishes.take());
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

struct Work {
    engine: Arc<Engine>,
    plan: SnapshotPlan,
    last: Instant,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Work {
    fn look(&mut self, is_wished: bool) -> Option<SnapshotterReport> {
        let waits = self.retry_at.is_some_and(|at| Instant::now() < at);
        if !is_wished && (waits || !self.is_due()) {
            return None;
        }
        match self.engine.snapshot() {
            // Somebody else takes one, and it serves as well.
            Err(SnapshotError::UnderWay) => None,
            Ok(taken) => {
                (self.last, self.failures, self.retry_at) = (Instant::now(), 0, None);
                Some(SnapshotterReport::Taken(taken))
            }
            Err(error) => {
                let retry = (PAUSE_MIN * 2_u32.saturating_pow(self.failures.min(16)))
                    .min(self.plan.interval.max(PAUSE_MIN));
                self.failures += 1;
                self.retry_at = Some(Instant::now() + retry);
                Some(SnapshotterReport::Failed { error, retry })
            }
        }
    }

    fn is_due(&self) -> bool {
        if self.retry_at.is_some() || self.engine.refusal() == Some(Refusal::SyncFailed) {
            return true;
        }
        let written = self.engine.journal_bytes_since_snapshot();
        written > 0 && (written >= self.plan.journal_bytes || self.last.elapsed() >= self.plan.interval)
    }
}
