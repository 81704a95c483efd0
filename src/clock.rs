//! The real clock: starts at the wall clock's time and from then on only goes forwards.
//!
//! It counts `CLOCK_BOOTTIME`, which nobody can set and which goes on while the machine sleeps, and follows the wall clock
//! from afar: see [`Discipline`]. Setting the wall clock back or forth therefore neither ends sessions nor freezes them.
//!
//! Reading it is on the path of every heal, and `CLOCK_BOOTTIME` costs 40 ns. So the current second is kept, together with
//! the moment until which it is certain to last, in terms of a clock that costs 5 ns and is late by a timer tick:
//!
//! ```text
//!   engine     … 41 ─────────────────────────────────────────┬─ 42 …
//!   coarse       ├───────────────── 41 for sure ────┤ margin │
//!                                                    read exactly here
//! ```
//!
//! `CLOCK_MONOTONIC_COARSE` stands still while the machine sleeps, so after a resume the second from before the sleep is
//! given until the sweeper has looked at the clock, at most a second later.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::sync::{AtomicU64, Mutex, Ordering, PoisonError};
use crate::time::{Clock, ClockStep, UnixSeconds, pack, unpack};

const SECOND: i64 = 1_000_000_000;

/// A difference to the wall clock of up to this is corrected in passing; beyond it the wall clock has been set.
const SLEW_MAX: i64 = 60 * SECOND;
/// The engine's clock goes this much faster or slower while it corrects a difference: one part in 20 is 5 %.
const SLEW_DIVISOR: i64 = 20;
/// The sweeper looks once a second. For the time that it did not, in a sleep of the machine's above all, nothing is slewed: the
/// twentieth of a night in one go would be half an hour in which time stands still.
const SLEW_ELAPSED_MAX: i64 = 2 * SECOND;
/// How long the wall clock must have been ahead before the engine's clock jumps after it.
const STEP_HOLD: i64 = 60 * SECOND;

/// The coarse clock is late by up to a timer tick, 10 ms at 100 Hz; twice that is on the safe side.
const COARSE_MARGIN: i64 = 20_000_000;
/// The certain moment is kept in units of 2^26 ns (67 ms), of which 32 bits hold 9 years of uptime. After that every
/// reading is an exact one, which costs 35 ns more and is right all the same.
const CERTAIN_SHIFT: u32 = 26;

/// The wall clock at start plus the time since, following the wall clock slowly (see the module's page).
#[derive(Debug)]
pub struct SystemClock(Follower<Kernel>);

impl SystemClock {
    /// A clock that starts at the wall clock's time.
    pub fn start() -> Self {
        Self::start_no_earlier_than(UnixSeconds::new(0))
    }

    /// A clock that starts at the wall clock's time or at `floor`, whichever is later: what was written down before a restart
    /// must not lie in the future after it.
    pub fn start_no_earlier_than(floor: UnixSeconds) -> Self {
        Self(Follower::start_no_earlier_than(floor, Kernel))
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> UnixSeconds {
        self.0.now()
    }

    fn until(&self, at: UnixSeconds) -> Duration {
        self.0.until(at)
    }

    fn follow(&self, found: &mut dyn FnMut(ClockStep)) {
        self.0.follow(found);
    }
}

/// Where the clocks below this one are read: in the kernel, or in a test that sets them.
trait Clocks: Send + Sync + 'static {
    /// In ns; since 1970 or since the machine was started, as it is with that clock.
    fn read(&self, clock: ClockId) -> i64;
}

#[derive(Debug)]
struct Kernel;

impl Clocks for Kernel {
    #[inline]
    fn read(&self, clock: ClockId) -> i64 {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        tv_sec * SECOND + tv_nsec
    }
}

#[derive(Debug)]
struct Follower<C> {
    clocks: C,
    /// The coarse clock's reading at start, in ns.
    origin: i64,
    /// The second in the upper half, the end of its certainty in the lower. Only ever raised, so no thread can see an
    /// earlier second than another saw before.
    current: AtomicU64,
    /// What to add to `CLOCK_BOOTTIME` for the engine's time, in ns since 1970; an `i64` in two's complement.
    offset: AtomicU64,
    discipline: Mutex<Discipline>,
}

impl<C: Clocks> Follower<C> {
    fn start_no_earlier_than(floor: UnixSeconds, clocks: C) -> Self {
        let boot = clocks.read(ClockId::Boottime);
        let wall = clocks.read(ClockId::Realtime).max(i64::from(floor.as_u32()) * SECOND);
        let discipline = Discipline::start(boot, wall);
        let clock = Self {
            origin: clocks.read(ClockId::MonotonicCoarse),
            clocks,
            current: AtomicU64::new(0),
            offset: AtomicU64::new(discipline.offset.cast_unsigned()),
            discipline: Mutex::new(discipline),
        };
        clock.read_exactly();
        clock
    }

    fn engine_time(&self) -> i64 {
        self.clocks.read(ClockId::Boottime) + self.offset.load(Ordering::Acquire).cast_signed()
    }

    fn coarse(&self) -> i64 {
        self.clocks.read(ClockId::MonotonicCoarse) - self.origin
    }

    #[cold]
    fn read_exactly(&self) -> UnixSeconds {
        // The coarse clock first: read later, it could be ahead of the exact one and promise too much.
        let coarse = self.coarse();
        let time = self.engine_time();
        let certain = (coarse + SECOND - time.rem_euclid(SECOND) - COARSE_MARGIN).max(0) >> CERTAIN_SHIFT;
        let certain = UnixSeconds::new(u32::try_from(certain).unwrap_or(0));
        let read = pack(second_of(time), certain);

        let before = self.current.load(Ordering::Acquire);
        let current =
            if read > before { self.current.fetch_max(read, Ordering::AcqRel).max(read) } else { before };
        unpack(current).0
    }
}

impl<C: Clocks> Clock for Follower<C> {
    #[inline]
    fn now(&self) -> UnixSeconds {
        let (second, certain) = unpack(self.current.load(Ordering::Acquire));
        if self.coarse() >> CERTAIN_SHIFT < i64::from(certain.as_u32()) {
            return second;
        }
        self.read_exactly()
    }

    fn until(&self, at: UnixSeconds) -> Duration {
        let left = i64::from(at.as_u32()) * SECOND - self.engine_time();
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }

    fn follow(&self, found: &mut dyn FnMut(ClockStep)) {
        let mut discipline = self.discipline.lock().unwrap_or_else(PoisonError::into_inner);
        let (boot, wall) = (self.clocks.read(ClockId::Boottime), self.clocks.read(ClockId::Realtime));
        let step = discipline.observe(boot, wall);
        if let Some(step) = step {
            found(step);
        }
        self.offset.store(discipline.offset.cast_unsigned(), Ordering::Release);
        drop(discipline);
        self.read_exactly();
    }
}

/// How the engine's clock follows the wall clock:
///
/// - a difference of up to a minute is slewed away: the engine's clock goes 5 % faster or slower until it is gone;
/// - a wall clock further ahead is followed in one jump, once it has been ahead by that for a minute: when it is set again
///   meanwhile, the minute begins anew;
/// - a wall clock further behind is only slewed after: time never goes back.
#[derive(Debug)]
struct Discipline {
    offset: i64,
    observed_at: i64,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    None,
    Ahead { since: i64, set_to: i64 },
    Behind { set_to: i64 },
}

impl Discipline {
    fn start(boot: i64, wall: i64) -> Self {
        Self { offset: wall - boot, observed_at: boot, step: Step::None }
    }

    fn observe(&mut self, boot: i64, wall: i64) -> Option<ClockStep> {
        let elapsed = boot - self.observed_at;
        self.observed_at = boot;
        let difference = wall - (boot + self.offset);
        if difference <= SLEW_MAX {
            let most = elapsed.min(SLEW_ELAPSED_MAX) / SLEW_DIVISOR;
            self.offset += difference.clamp(-most, most);
        }
        let seconds = difference.unsigned_abs() / SECOND.unsigned_abs();

        // Whatever the engine's clock does meanwhile, this changes only if the wall clock is set.
        let set_to = wall - boot;
        let is_still = |before: i64| (set_to - before).abs() <= SLEW_MAX;
        let was = self.step;
        self.step = match was {
            _ if (-SLEW_MAX..=SLEW_MAX).contains(&difference) => Step::None,
            Step::Ahead { set_to, .. } if difference > 0 && is_still(set_to) => was,
            Step::Behind { set_to } if difference < 0 && is_still(set_to) => was,
            _ if difference > 0 => Step::Ahead { since: boot, set_to },
            _ => Step::Behind { set_to },
        };
        match (was, self.step) {
            _ if was == self.step => self.adopt(boot, wall),
            (Step::Ahead { set_to: before, .. }, Step::Ahead { .. }) if set_to < before => None,
            (Step::Behind { set_to: before }, Step::Behind { .. }) if set_to > before => None,
            (_, Step::Ahead { .. }) => Some(ClockStep::Ahead { seconds }),
            (_, Step::Behind { .. }) => Some(ClockStep::Behind { seconds }),
            (_, Step::None) => None,
        }
    }

    /// Follows a wall clock that has been ahead by the same for long enough.
    fn adopt(&mut self, boot: i64, wall: i64) -> Option<ClockStep> {
        let Step::Ahead { since, .. } = self.step else { return None };
        if boot - since < STEP_HOLD {
            return None;
        }
        let from = second_of(boot + self.offset);
        self.offset = wall - boot;
        self.step = Step::None;
        Some(ClockStep::Adopted { from, to: second_of(wall) })
    }
}

fn second_of(time: i64) -> UnixSeconds {
    UnixSeconds::new(u32::try_from(time.div_euclid(SECOND).max(0)).unwrap_or(u32::MAX))
}

#[cfg(all(test, not(shuttle)))]
#[path = "clock_tests.rs"]
mod steps;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_638_360_000 * SECOND;
    const HOUR: i64 = 3_600 * SECOND;

    /// Observes once a second for so many seconds, with the wall clock `ahead` of where it started, and gives the steps found.
    fn observe_for(seconds: i64, discipline: &mut Discipline, boot: &mut i64, ahead: i64) -> Vec<ClockStep> {
        let mut steps = Vec::new();
        for _ in 0..seconds {
            *boot += SECOND;
            steps.extend(discipline.observe(*boot, NOON + *boot + ahead));
        }
        steps
    }

    #[test]
    fn a_small_difference_is_slewed_at_a_twentieth() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(observe_for(10, &mut discipline, &mut boot, SECOND), []);
        assert_eq!(discipline.offset, NOON + SECOND / 2);

        assert_eq!(observe_for(30, &mut discipline, &mut boot, SECOND), []);
        assert_eq!(discipline.offset, NOON + SECOND);
    }

    #[test]
    fn a_forward_step_is_adopted_once_it_has_held_for_a_minute() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(observe_for(60, &mut discipline, &mut boot, HOUR), [ClockStep::Ahead { seconds: 3_600 }]);
        assert_eq!(discipline.offset, NOON);

        let (from, to) = (UnixSeconds::new(1_638_360_061), UnixSeconds::new(1_638_363_661));
        assert_eq!(observe_for(1, &mut discipline, &mut boot, HOUR), [ClockStep::Adopted { from, to }]);
        assert_eq!(discipline.offset, NOON + HOUR);
    }

    #[test]
    fn a_forward_step_that_is_taken_back_leaves_nothing_behind() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(observe_for(59, &mut discipline, &mut boot, HOUR).len(), 1);
        assert_eq!(observe_for(59, &mut discipline, &mut boot, 0), []);
        assert_eq!(observe_for(59, &mut discipline, &mut boot, HOUR).len(), 1);
        assert_eq!(discipline.offset, NOON);
    }

    /// The hour had been there for a minute; the ten hours had not, and used to be adopted in its place.
    #[test]
    fn a_step_upon_a_step_has_to_hold_for_a_minute_of_its_own() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(observe_for(59, &mut discipline, &mut boot, HOUR), [ClockStep::Ahead { seconds: 3_600 }]);
        let further = observe_for(3, &mut discipline, &mut boot, 10 * HOUR);
        assert_eq!(further, [ClockStep::Ahead { seconds: 36_000 }]);
        assert_eq!(observe_for(60, &mut discipline, &mut boot, HOUR), []);
        assert_eq!(discipline.offset, NOON);

        let adopted = observe_for(1, &mut discipline, &mut boot, HOUR);
        assert!(matches!(adopted[..], [ClockStep::Adopted { .. }]), "{adopted:?}");
        assert_eq!(discipline.offset, NOON + HOUR);
    }

    #[test]
    fn a_step_back_upon_a_step_back_is_told_too() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(
            observe_for(59, &mut discipline, &mut boot, -HOUR),
            [ClockStep::Behind { seconds: 3_600 }]
        );
        let further = observe_for(2_000, &mut discipline, &mut boot, -2 * HOUR);
        assert_eq!(further, [ClockStep::Behind { seconds: 7_197 }]);
        assert_eq!(observe_for(59, &mut discipline, &mut boot, -HOUR), []);
    }

    /// Time would have gone back by 24 minutes, and so stood still for that long.
    #[test]
    fn nothing_is_slewed_for_a_time_in_which_nobody_looked() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);
        observe_for(1, &mut discipline, &mut boot, -HOUR);
        boot += 8 * HOUR;
        observe_for(1, &mut discipline, &mut boot, -HOUR);
        assert!(discipline.offset > NOON - SECOND / 5, "{}", NOON - discipline.offset);
    }

    #[test]
    fn a_backward_step_is_only_slewed_after() {
        let (mut discipline, mut boot) = (Discipline::start(0, NOON), 0);

        assert_eq!(
            observe_for(100, &mut discipline, &mut boot, -HOUR),
            [ClockStep::Behind { seconds: 3_600 }]
        );
        assert_eq!(discipline.offset, NOON - 5 * SECOND);
    }

    #[test]
    fn it_tells_the_wall_clocks_second() {
        let clock = SystemClock::start();
        for _ in 0..100_000 {
            let before = Kernel.read(ClockId::Realtime);
            let now = clock.now();
            let after = Kernel.read(ClockId::Realtime);
            // The wall clock may be slewed by a time daemon between two readings, but not by a millisecond.
            let slack = SECOND / 1_000;
            assert!(second_of(before - slack) <= now && now <= second_of(after + slack));
        }
    }

    #[test]
    fn it_starts_no_earlier_than_it_is_told_to() {
        let floor = second_of(Kernel.read(ClockId::Realtime)).plus(30);
        assert_eq!(SystemClock::start_no_earlier_than(floor).now(), floor);
    }
}
