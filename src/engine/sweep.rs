//! Notices who has gone.
//!
//! [`Engine::sweep`] looks at everybody whose session may be over and closes those that are. It changes no answer about a
//! user, only the counts. [`Sweeper`] is the thread that does it at the beginning of every second.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Engine, Outage, User};
use crate::sync::{Ordering, PoisonError};
use crate::time::{ClockStep, UnixSeconds};
use crate::user_id::UserId;

/// What one sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions that were over and are closed now.
    pub lapsed: u64,
    /// Sessions that had been extended and will be looked at again.
    pub extended: u64,
    /// Entries of users who have left, or been forgotten, meanwhile.
    pub dropped: u64,
}

impl Engine {
    /// Closes every session that is over. A session is due in second deadline + grace + 1.
    ///
    /// Costs as much as users are due, never as all who are known: 0.4 µs each of ten thousand, 0.9 µs each of ten million.
    pub fn sweep(&self) -> Swept {
        self.sweep_and_date().0
    }

    /// The same, with the earliest second in which a session that was closed had been due.
    fn sweep_and_date(&self) -> (Swept, Option<UnixSeconds>) {
        // A sweep that panicked has left nothing half done: each user is handled under their own guard.
        let _turn = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let (mut swept, mut earliest) = (Swept::default(), None);
        self.buckets.empty_until(now, |second, user| {
            match self.roster.change(user, |known| self.visit(user, known, second, now)) {
                Some(Visit::Lapsed { left_nothing }) => {
                    swept.lapsed += 1;
                    earliest.get_or_insert(second);
                    if left_nothing {
                        self.remove_if_empty(user);
                    }
                }
                Some(Visit::Extended) => swept.extended += 1,
                Some(Visit::Nothing) | None => swept.dropped += 1,
            }
        });
        self.swept_at.fetch_max(now.as_u32(), Ordering::AcqRel);
        self.leave_for_snapshot();
        (swept, earliest)
    }

    /// How long ago `second` began.
    fn since_start_of(&self, second: UnixSeconds) -> Duration {
        let now = self.clock.now();
        let into_this_second = Duration::from_secs(1).saturating_sub(self.clock.until(now.plus(1)));
        Duration::from_secs(u64::from(now.since(second))) + into_this_second
    }

    fn visit(&self, user: UserId, known: &mut User, second: UnixSeconds, now: UnixSeconds) -> Visit {
        if !self.buckets.is_valid(known.armed, second) {
            return Visit::Nothing;
        }
        let Some(live) = known.live.load() else {
            known.armed = 0;
            return Visit::Nothing;
        };
        let due = self.due(live);
        if due <= second {
            self.close_lapsed(user, known, live);
            known.armed = 0;
            self.retain(known, now);
            Visit::Lapsed { left_nothing: known.is_empty() }
        } else {
            known.armed = self.buckets.arm(user, due);
            Visit::Extended
        }
    }

    /// Lets the clock follow the one it follows. When it jumps forwards, the seconds between never passed here: nobody could
    /// heal in them, so they count as an outage and cut no session.
    ///
    /// Not even one whose deadline lies beyond the jump: its user was told a ttl, and would have what is left after it. No
    /// deadline is later than a ttl from now, so the outage reaches at least as far; whoever heals after the jump is beyond it.
    pub(crate) fn follow_clock(&self) -> Option<ClockStep> {
        let mut found = None;
        self.clock.follow(&mut |step| {
            if let ClockStep::Adopted { from, to } = step {
                let beyond = from.plus(self.rules.ttl.as_seconds()).plus(1);
                self.note_outage(Outage { from, to: to.max(beyond) });
                // A restart in the next ttl must not take back what is granted here.
                if let Some(persistence) = &self.persistence {
                    persistence.keep_outage(Outage { from, to });
                }
            }
            found = Some(step);
        });
        found
    }
}

enum Visit {
    /// If nothing of the user is to be kept, there is nobody to know any more.
    Lapsed {
        left_nothing: bool,
    },
    Extended,
    Nothing,
}

/// What the sweeper thread tells its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweeperReport {
    /// It has swept.
    Swept {
        /// What it found.
        swept: Swept,
        /// How long it took.
        elapsed: Duration,
        /// How long ago, at its end, the earliest of the sessions that it closed had been due; `None` if it closed none.
        lag: Option<Duration>,
    },
    /// The wall clock was set.
    ClockStep(ClockStep),
    /// It panicked and goes on after a pause.
    Fault(SweepFault),
}

/// The sweeper panicked: a bug of ours, or of the clock that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepFault {
    /// How long it pauses.
    pub pause: Duration,
}

/// After a first panic the sweeper pauses this long, and twice as long after each further one in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The sweeper thread. It stops when this is dropped.
#[derive(Debug)]
pub struct Sweeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts sweeping `engine` at the beginning of every second. `report` is called on the sweeper's thread.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub fn start(
        engine: Arc<Engine>,
        report: impl Fn(SweeperReport) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("sweeper".into())
            .spawn(move || run(&engine, &report, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It catches its own panics; one that escaped has been printed and is of no more use here.
            let _ = thread.join();
        }
    }
}

fn run(engine: &Engine, report: &impl Fn(SweeperReport), stopped: &mpsc::Receiver<()>) {
    let mut pause = PAUSE_MIN;
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| {
            let step = engine.follow_clock();
            let start = Instant::now();
            let (swept, earliest) = engine.sweep_and_date();
            let lag = earliest.map(|second| engine.since_start_of(second));
            let report = SweeperReport::Swept { swept, elapsed: start.elapsed(), lag };
            (step, report, engine.clock.until(engine.clock.now().plus(1)))
        }));
        let wait = if let Ok((step, swept, wait)) = turn {
            pause = PAUSE_MIN;
            if let Some(step) = step {
                report(SweeperReport::ClockStep(step));
            }
            report(swept);
            wait
        } else {
            report(SweeperReport::Fault(SweepFault { pause }));
            let longer = (pause * 2).min(PAUSE_MAX);
            std::mem::replace(&mut pause, longer)
        };
        if stopped.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::{Mutex, OnceLock};

    use super::*;
    use crate::engine::{Disk, Heal};
    use crate::time::{Clock, ManualClock};

    const ANA: UserId = UserId::new(1);

    /// Jumps ahead by an hour, and lets a client heal as soon as it has.
    struct Jump {
        time: ManualClock,
        engine: OnceLock<Arc<Engine>>,
        healed: Mutex<Option<Heal>>,
    }

    impl Clock for Jump {
        fn now(&self) -> UnixSeconds {
            self.time.now()
        }

        fn until(&self, at: UnixSeconds) -> Duration {
            self.time.until(at)
        }

        fn follow(&self, found: &mut dyn FnMut(ClockStep)) {
            let from = self.now();
            found(ClockStep::Adopted { from, to: from.plus(3_600) });
            self.time.advance(3_600);
            let healed = self.engine.get().and_then(|engine| engine.heal(ANA).ok());
            *self.healed.lock().unwrap_or_else(PoisonError::into_inner) = healed;
        }
    }

    /// The outage used to be noted after the jump, and a heal in between opened a session.
    #[test]
    fn a_clock_that_jumps_ahead_cuts_no_session_not_even_for_a_moment() {
        let time = ManualClock::at(UnixSeconds::new(1_638_360_000));
        let clock = Arc::new(Jump { time, engine: OnceLock::new(), healed: Mutex::new(None) });
        let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
        assert!(clock.engine.set(Arc::clone(&engine)).is_ok());

        engine.heal(ANA).unwrap();
        engine.follow_clock();
        assert_eq!(*clock.healed.lock().unwrap(), Some(Heal::Extended));
        assert_eq!(engine.timeline(ANA).len(), 1);
    }

    /// The seconds that were jumped over used to be known to this process alone.
    #[test]
    fn a_restart_after_a_jump_does_not_take_back_what_the_jump_has_granted() {
        let noon = UnixSeconds::new(1_638_360_000);
        let folder = tempfile::tempdir().unwrap();
        let disk = || Disk { segment_bytes: 16 << 10, ..Disk::at(folder.path()) };
        for with_snapshot in [false, true] {
            let start = noon.plus(u32::from(with_snapshot) * 86_400);
            let clock = Arc::new(Jump {
                time: ManualClock::at(start),
                engine: OnceLock::new(),
                healed: Mutex::new(None),
            });
            let (engine, _) = Engine::builder().clock(clock.clone()).open(disk()).unwrap();
            let bo = UserId::new(if with_snapshot { 3 } else { 2 });
            engine.heal(bo).unwrap();
            clock.time.advance(2);
            engine.follow_clock();
            if with_snapshot {
                engine.snapshot().unwrap();
                engine.snapshot().unwrap();
            }
            // Stamped as alive after the jump.
            clock.time.advance(1);
            drop(engine);
            clock.time.advance(2);

            let now = Arc::new(ManualClock::at(clock.now()));
            let (engine, recovery) = Engine::builder().clock(now).open(disk()).unwrap();
            let jump = (start.plus(2), start.plus(3_602));
            assert!(engine.outages().contains(&jump), "{:?}", engine.outages());
            assert_eq!(recovery.outage, Some((start.plus(3_603), start.plus(3_605))));
            assert_eq!(engine.heal(bo), Ok(Heal::Extended));
            assert_eq!(engine.timeline(bo).len(), 1);
        }
    }
}
