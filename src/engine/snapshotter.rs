//! When snapshots are taken: the thread that does it.
//!
//! | when | |
//! |---|---|
//! | the interval has passed, and something has been written since the last one | or something has grown too old to keep |
//! | so much of the journal would have to be replayed | a restart shall not take for ever |
//! | there is no room for another segment of the journal | what a snapshot makes needless is room |
//! | a sync has failed, or a segment was removed | writes are refused until everything has been written to new files |
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
/// While the disk is short of room and yet takes writes, a snapshot is taken no more often than this.
const SHORT_PAUSE: Duration = Duration::from_secs(10);
/// After a failure the next attempt waits so long, then twice as long, up to the interval, and no longer than the second of these:
/// a disk that has been mended should not wait a day.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

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
                    .min(self.plan.interval.clamp(PAUSE_MIN, PAUSE_MAX));
                self.failures += 1;
                self.retry_at = Some(Instant::now() + retry);
                Some(SnapshotterReport::Failed { error, retry })
            }
        }
    }

    fn is_due(&self) -> bool {
        let refusal = self.engine.refusal();
        if self.retry_at.is_some() || matches!(refusal, Some(Refusal::SyncFailed | Refusal::Removed)) {
            return true;
        }
        let written = self.engine.journal_bytes_since_snapshot();
        let is_pressing = self.engine.is_short_of_room()
            && (refusal == Some(Refusal::NoRoom) || self.last.elapsed() >= SHORT_PAUSE);
        let is_time = self.last.elapsed() >= self.plan.interval;
        if written == 0 {
            return is_time && self.engine.has_aged_sessions();
        }
        is_pressing || is_time || written >= self.plan.journal_bytes
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::durability::Durability;
    use crate::engine::Disk;
    use crate::time::{ManualClock, UnixSeconds};
    use crate::user_id::UserId;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const GIB: u64 = 1 << 30;

    fn work(interval: Duration, journal_bytes: u64) -> (tempfile::TempDir, Work) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
        let disk =
            Disk { segment_bytes: 16 << 10, durability: Durability::Process, ..Disk::at(folder.path()) };
        let (engine, _) = Engine::builder().clock(clock).open(disk).unwrap();
        let plan = SnapshotPlan { interval, journal_bytes };
        let last = Instant::now();
        (folder, Work { engine: Arc::new(engine), plan, last, failures: 0, retry_at: None })
    }

    fn takes_one(work: &mut Work, is_wished: bool) -> bool {
        match work.look(is_wished) {
            None => false,
            Some(SnapshotterReport::Taken(_)) => true,
            Some(told) => panic!("{told:?}"),
        }
    }

    fn heal(work: &Work, user: i64) {
        work.engine.heal(UserId::new(user)).unwrap();
    }

    #[test]
    fn after_the_interval_one_is_taken_if_something_has_been_written() {
        let (_folder, mut work) = work(Duration::ZERO, GIB);
        assert!(!takes_one(&mut work, false), "nothing has been written");
        heal(&work, 1);
        assert!(takes_one(&mut work, false));
        assert!(!takes_one(&mut work, false), "nothing has been written since");
        heal(&work, 2);
        work.plan.interval = DAY;
        assert!(!takes_one(&mut work, false), "the interval has not passed");
    }

    /// On a service that is idle nobody else looks at those who stay away.
    #[test]
    fn what_has_grown_too_old_makes_one_due_though_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
        let disk =
            Disk { segment_bytes: 16 << 10, durability: Durability::Process, ..Disk::at(folder.path()) };
        let (engine, _) = Engine::builder().retain_seconds(60).clock(clock.clone()).open(disk).unwrap();
        let plan = SnapshotPlan { interval: Duration::ZERO, journal_bytes: GIB };
        let engine = Arc::new(engine);
        let mut work =
            Work { engine: Arc::clone(&engine), plan, last: Instant::now(), failures: 0, retry_at: None };
        heal(&work, 1);
        assert!(takes_one(&mut work, false));
        clock.advance(8);
        engine.sweep();
        clock.advance(59);
        assert!(!takes_one(&mut work, false), "it ended just a minute ago");
        clock.advance(1);
        assert!(takes_one(&mut work, false));
        assert_eq!(engine.figures().users, 0);
        assert!(!takes_one(&mut work, false), "there is nobody left");
    }

    /// A session that a heal can still continue has not ended, however short `retain` is: snapshot after snapshot would find nothing
    /// to drop.
    #[test]
    fn what_grace_still_holds_makes_none_due() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
        let disk =
            Disk { segment_bytes: 16 << 10, durability: Durability::Process, ..Disk::at(folder.path()) };
        let builder = Engine::builder().retain_seconds(60).grace_seconds(120).clock(clock.clone());
        let engine = Arc::new(builder.open(disk).unwrap().0);
        let plan = SnapshotPlan { interval: Duration::ZERO, journal_bytes: GIB };
        let mut work =
            Work { engine: Arc::clone(&engine), plan, last: Instant::now(), failures: 0, retry_at: None };
        heal(&work, 1);
        assert!(takes_one(&mut work, false));
        for _ in 0..127 {
            clock.advance(1);
            engine.sweep();
            assert!(!takes_one(&mut work, false));
        }
        assert_eq!(engine.figures().users, 1);
        clock.advance(1);
        engine.sweep();
        assert_eq!(engine.figures().users, 0, "the sweep has dropped it");
        assert!(!takes_one(&mut work, false));
    }

    #[test]
    fn so_much_journal_makes_one_due() {
        let (_folder, mut work) = work(DAY, 3 * 24);
        for user in 1..=3 {
            assert!(!takes_one(&mut work, false), "{user}");
            heal(&work, user);
        }
        assert!(takes_one(&mut work, false));
        assert!(!takes_one(&mut work, false));
    }

    #[test]
    fn a_wish_needs_no_reason() {
        let (_folder, mut work) = work(DAY, GIB);
        assert!(takes_one(&mut work, true));
        assert!(takes_one(&mut work, true));
    }

    #[test]
    fn a_failed_sync_makes_one_due_and_then_writes_are_taken_again() {
        let (_folder, mut work) = work(DAY, GIB);
        heal(&work, 1);
        work.engine.fail_journal();
        assert!(work.engine.heal(UserId::new(2)).is_err());
        assert!(takes_one(&mut work, false));
        heal(&work, 2);
    }

    #[test]
    fn after_a_failure_it_waits_longer_and_longer_and_a_wish_does_not() {
        let (folder, mut work) = work(Duration::from_secs(60), 1);
        heal(&work, 1);
        // In the way of each attempt.
        for number in 1..=10 {
            std::fs::create_dir(folder.path().join(format!("snapshot-{number:010}.snap.tmp"))).unwrap();
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let Some(SnapshotterReport::Failed { retry, .. }) = work.look(true) else {
                panic!("it was taken")
            };
            assert_eq!(retry, Duration::from_secs(expected));
            assert!(work.look(false).is_none(), "it waits");
        }
    }
}
