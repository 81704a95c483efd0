//! An engine lives through a wall clock that is set forth and back, a machine that sleeps, and a sweeper that is late.
//!
//! The three clocks below the engine's are the test's, and the sweeper's turns come as its thread would take them. What must
//! hold is written from the rule's text: time never goes back, never stands still, never runs away; nobody's session is ended
//! by a step; whoever stops ends at the deadline.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::engine::{Engine, Heal};
use crate::session::{End, Session};
use crate::time::Ttl;
use crate::user_id::UserId;

/// 2021-12-01T12:00:00Z.
const NOON: i64 = 1_638_360_000;
const MILLI: i64 = 1_000_000;
const HOUR: i64 = 3_600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

/// The machine's clocks.
#[derive(Debug)]
struct Machine {
    /// Stands still while the machine sleeps.
    monotonic: AtomicI64,
    boot: AtomicI64,
    /// Wall clock minus boot time.
    set_to: AtomicI64,
}

impl Machine {
    fn new() -> Arc<Self> {
        // As if it had been up for a while, and not a whole number of anything.
        let boot = 12_345 * SECOND + 678_901_234;
        let [monotonic, boot, set_to] =
            [boot / 2, boot, NOON * SECOND + 345_678_912 - boot].map(AtomicI64::new);
        Arc::new(Self { monotonic, boot, set_to })
    }

    fn boot(&self) -> i64 {
        self.boot.load(Ordering::SeqCst)
    }

    fn set_to(&self) -> i64 {
        self.set_to.load(Ordering::SeqCst)
    }

    fn pass(&self, nanoseconds: i64) {
        self.monotonic.fetch_add(nanoseconds, Ordering::SeqCst);
        self.boot.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    fn sleep(&self, seconds: i64) {
        self.boot.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    fn set_wall(&self, by_seconds: i64) {
        self.set_to.fetch_add(by_seconds * SECOND, Ordering::SeqCst);
    }
}

impl Clocks for Arc<Machine> {
    fn read(&self, clock: ClockId) -> i64 {
        match clock {
            ClockId::Boottime => self.boot(),
            ClockId::Realtime => self.boot() + self.set_to(),
            ClockId::MonotonicCoarse => self.monotonic.load(Ordering::SeqCst) / (4 * MILLI) * (4 * MILLI),
            other => panic!("the engine's clock does not know {other:?}"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The wall clock is set by so many seconds.
    Set(i64),
    /// It is set, and set back so many seconds later.
    SetAndBack(i64, i64),
    /// The machine sleeps.
    Sleep(i64),
    /// The sweeper does not get to its turn.
    Late(i64),
}

fn steps() -> impl Strategy<Value = i64> {
    let named = prop::sample::select(vec![HOUR, YEARS, 59, 61, 3]);
    (prop_oneof![3 => named, 1 => 1_i64..200_000], any::<bool>())
        .prop_map(|(by, back)| if back { -by } else { by })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => steps().prop_map(Event::Set),
        3 => (steps(), 1_i64..60).prop_map(|(by, after)| Event::SetAndBack(by, after)),
        1 => (20_i64..100_000).prop_map(Event::Sleep),
        1 => (2_i64..20).prop_map(Event::Late),
    ]
}

/// Seconds until the event.
fn scripts() -> impl Strategy<Value = Vec<(i64, Event)>> {
    vec((prop_oneof![2 => 0_i64..10, 2 => 10_i64..130], events()), 1..8)
}

/// A user who heals at certain intervals, up to a moment.
#[derive(Debug)]
struct User {
    id: UserId,
    every: i64,
    next: i64,
    /// Heals no more after this many ns of the machine's waking time.
    stops: i64,
    last: Option<UnixSeconds>,
    /// Seconds that were jumped over since.
    jumped: u32,
    opened: u64,
}

/// An engine, its users, and what has been seen of its time so far.
struct Life {
    machine: Arc<Machine>,
    clock: Arc<Follower<Arc<Machine>>>,
    engine: Engine,
    ttl: u32,
    users: Vec<User>,
    /// When the sweeper takes its next turn, in waking time.
    next_turn: i64,
    last: UnixSeconds,
    /// `now` minus 95 % of boot time is never much less than it was, minus 105 % never much more but for jumps.
    slowest: f64,
    fastest: f64,
    /// What the wall clock was set to at each turn of the last minute or more.
    history: Vec<(i64, i64)>,
    steps: Vec<ClockStep>,
}

impl Life {
    fn new(ttl: u32, users: &[(i64, i64)]) -> Self {
        let machine = Machine::new();
        let clock = Arc::new(Follower::start_no_earlier_than(UnixSeconds::new(0), Arc::clone(&machine)));
        let engine = Engine::builder().ttl(Ttl::from_seconds(ttl).unwrap()).clock(clock.clone()).build();
        let start = machine.monotonic.load(Ordering::SeqCst);
        let users = users.iter().zip(1..).map(|(&(every, stops), id)| User {
            id: UserId::new(id),
            every: every * MILLI,
            next: start,
            stops: start.saturating_add(stops.saturating_mul(SECOND)),
            last: None,
            jumped: 0,
            opened: 0,
        });
        let last = clock.now();
        let users = users.collect();
        Self {
            machine,
            clock,
            engine,
            ttl,
            users,
            next_turn: start,
            last,
            slowest: f64::MIN,
            fastest: f64::MAX,
            history: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Lives through so many seconds in which the machine is awake.
    fn live(&mut self, seconds: i64) {
        let end = self.monotonic() + seconds * SECOND;
        loop {
            let next = self.users.iter().filter(|user| user.next <= user.stops).map(|user| user.next);
            let next = next.chain([self.next_turn]).min().unwrap().clamp(self.monotonic(), end);
            self.machine.pass(next - self.monotonic());
            if next == end {
                return;
            }
            if self.next_turn <= next {
                self.turn();
            }
            for at in 0..self.users.len() {
                if self.users[at].next <= next && next <= self.users[at].stops {
                    self.heal(at);
                }
            }
            self.look();
        }
    }

    fn monotonic(&self) -> i64 {
        self.machine.monotonic.load(Ordering::SeqCst)
    }

    /// As the sweeper's thread does it.
    fn turn(&mut self) {
        let (boot, set_to) = (self.machine.boot(), self.machine.set_to());
        self.history.push((boot, set_to));
        if let Some(step) = self.engine.follow_clock() {
            self.steps.push(step);
            if let ClockStep::Adopted { from, to } = step {
                self.adopted(from, to, boot, set_to);
            }
        }
        self.engine.sweep();
        let wait = i64::try_from(self.clock.until(self.clock.now().plus(1)).as_nanos()).unwrap();
        assert!(wait <= 12 * SECOND / 10, "the sweeper would sleep for {wait} ns");
        self.next_turn = self.monotonic() + wait.max(MILLI);
    }

    /// Only where the wall clock has stood for a minute, up to what is no step, and to where it stood.
    fn adopted(&mut self, from: UnixSeconds, to: UnixSeconds, boot: i64, set_to: i64) {
        let held = self.history.iter().rev().take_while(|(seen, _)| boot - seen < 60 * SECOND);
        for (seen, was) in held {
            assert!(
                (set_to - was).abs() <= 2 * 60 * SECOND,
                "a step was adopted that {} s before was another",
                (boot - seen) / SECOND
            );
        }
        assert_eq!(i64::from(to.as_u32()), (boot + set_to).div_euclid(SECOND));
        assert_eq!(self.clock.now(), to);
        self.fastest = f64::MAX;
        for user in &mut self.users {
            user.jumped += to.since(from);
        }
    }

    fn heal(&mut self, at: usize) {
        let user = &mut self.users[at];
        let healed = self.engine.heal(user.id).unwrap();
        let now = self.engine.now();
        let passed = user.last.map(|last| now.since(last).saturating_sub(user.jumped));
        let is_cut = passed.is_none_or(|passed| passed > self.ttl);
        assert_eq!(healed == Heal::Opened, is_cut, "{passed:?} s after the last heal, at {now}");
        user.opened += u64::from(is_cut);
        (user.last, user.jumped) = (Some(now), 0);
        user.next += user.every;
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds since a start in this century")]
    fn look(&mut self) {
        let now = self.engine.now();
        assert!(now >= self.last, "{now} after {}", self.last);
        self.last = now;
        let (now, boot) = (f64::from(now.as_u32()), self.machine.boot() as f64 / 1e9);
        self.slowest = self.slowest.max(now - 0.95 * boot);
        // After a sleep the old second is given for up to a turn; here a sleep is followed by a turn at once.
        assert!(now - 0.95 * boot > self.slowest - 2.0, "time stands still at {now}");
        self.fastest = self.fastest.min(now - 1.05 * boot);
        assert!(now - 1.05 * boot < self.fastest + 2.0, "time runs away at {now}");
    }

    fn follow_script(&mut self, script: &[(i64, Event)]) {
        for &(pause, event) in script {
            self.live(pause);
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Set(by) => self.set(by),
            Event::SetAndBack(by, after) => {
                self.set(by);
                self.live(after);
                self.set(-by);
            }
            Event::Sleep(seconds) => {
                self.machine.sleep(seconds);
                self.turn();
            }
            Event::Late(seconds) => {
                self.next_turn += seconds * SECOND;
                self.live(seconds);
            }
        }
    }

    /// Within what a real wall clock and the engine's seconds can say.
    fn set(&mut self, by: i64) {
        let wall = (self.machine.boot() + self.machine.set_to()) / SECOND + by;
        if (NOON - 2 * YEARS..NOON + 4 * YEARS).contains(&wall) {
            self.machine.set_wall(by);
        }
    }

    /// How far the wall clock is ahead, in seconds.
    #[allow(clippy::cast_precision_loss)]
    fn ahead(&self) -> f64 {
        let wall = (self.machine.boot() + self.machine.set_to()) as f64 / 1e9;
        wall - f64::from(self.clock.now().as_u32())
    }

    fn timeline(&self, at: usize) -> Vec<Session> {
        self.engine.timeline(self.users[at].id)
    }

    /// What must hold of every timeline at the end, when whoever has stopped has stopped long ago.
    fn check_timelines(&self) {
        for (at, user) in self.users.iter().enumerate() {
            let sessions = self.timeline(at);
            assert_eq!(sessions.len() as u64, user.opened, "{sessions:?}");
            for session in &sessions {
                assert!(session.online_at < session.offline_at, "{sessions:?}");
            }
            for pair in sessions.windows(2) {
                assert!(pair[0].offline_at <= pair[1].online_at, "{sessions:?}");
            }
            let last = sessions.last().unwrap();
            assert_eq!(last.offline_at, user.last.unwrap().plus(self.ttl), "{sessions:?}");
            let expected = if user.stops == i64::MAX { End::Live } else { End::Lapsed };
            assert_eq!(last.end, expected);
        }
    }
}

/// Two who go on and two who stop.
const USERS: [(i64, i64); 4] = [(2_900, i64::MAX), (1_700, i64::MAX), (2_300, 30), (900, 100)];

fn life_of(script: &[(i64, Event)]) -> Life {
    let mut life = Life::new(7, &USERS);
    life.follow_script(script);
    life
}

/// Whatever is done to the clocks, nobody's session ends by it.
fn ends_no_session(script: &[(i64, Event)]) {
    let mut life = life_of(script);
    life.live(250);
    life.check_timelines();
}

/// A minute for what is ahead, and 20 times the rest for what is slewed.
fn is_followed_in_the_end(script: &[(i64, Event)]) {
    let mut life = Life::new(7, &[]);
    life.follow_script(script);
    life.live(63);
    let before = life.ahead();
    assert!(before < 61.0, "{before} s ahead for a minute");
    life.live(1_300);
    let after = life.ahead();
    if before > -60.0 {
        assert!((-0.2..1.2).contains(&after), "{after} s ahead");
    } else {
        let expected = (before + 1_300.0 / 20.0).min(0.0);
        assert!((after - expected).abs() < 3.0, "{after} s ahead, it was {before}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_script_of_steps_stops_time_or_ends_a_session(script in scripts()) {
        ends_no_session(&script);
    }

    #[test]
    fn after_any_script_the_wall_clock_is_followed(script in scripts()) {
        is_followed_in_the_end(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "long: ten thousand scripts, some minutes"]
    fn no_script_of_ten_thousand_stops_time_or_ends_a_session(script in scripts()) {
        ends_no_session(&script);
        is_followed_in_the_end(&script);
    }
}

fn healed_all_along(script: &[(i64, Event)]) -> Life {
    let mut life = life_of(script);
    life.live(250);
    life.check_timelines();
    assert_eq!(life.timeline(0).len(), 1);
    assert_eq!(life.timeline(0)[0].online_at, second_of(NOON * SECOND));
    assert_eq!(life.timeline(2).len(), 1);
    life
}

#[test]
fn each_named_step_ends_no_session() {
    for by in [HOUR, -HOUR, YEARS, -YEARS, 59, -59, 61, -61] {
        let life = healed_all_along(&[(10, Event::Set(by))]);
        let expected: &[_] = match by {
            61.. => &["Ahead", "Adopted"],
            -60..=60 => &[],
            _ => &["Behind"],
        };
        let found: Vec<_> = life.steps.iter().map(|step| format!("{step:?}")).collect();
        assert_eq!(found.len(), expected.len(), "{by}: {found:?}");
        assert!(found.iter().zip(expected).all(|(found, name)| found.starts_with(name)), "{found:?}");
    }
}

#[test]
fn ten_years_there_and_back_within_a_minute_have_no_effect() {
    for after in [1, 30, 58] {
        let mut calm = healed_all_along(&[(10 + after, Event::Set(0))]);
        let mut life = healed_all_along(&[(10, Event::SetAndBack(YEARS, after))]);
        assert_eq!(life.clock.now(), calm.clock.now());
        assert_eq!(life.timeline(0), calm.timeline(0));
        assert_eq!(life.steps.len(), 1);
        life.live(100);
        calm.live(100);
        assert_eq!(life.clock.now(), calm.clock.now());
    }
}

/// What had held for a minute was an hour; ten years had held for a second.
#[test]
fn a_second_step_ahead_has_to_hold_for_a_minute_of_its_own() {
    let mut life = healed_all_along(&[(10, Event::Set(HOUR)), (58, Event::SetAndBack(YEARS, 5))]);
    assert!((-1.2..1.2).contains(&life.ahead()), "{}", life.ahead());
    assert_eq!(life.steps.len(), 3, "{:?}", life.steps);
    life.live(10);
    let years = [(10, Event::Set(HOUR)), (58, Event::Set(YEARS))];
    let life = healed_all_along(&years);
    assert!((-1.2..1.2).contains(&life.ahead()), "{}", life.ahead());
}

/// Slewing for the time that nobody looked would set time back by a twentieth of it, and so let it stand still for that long.
#[test]
fn a_sleep_while_time_is_slewed_does_not_make_it_stand_still() {
    let mut life = life_of(&[(10, Event::Set(-HOUR)), (10, Event::Sleep(8 * HOUR))]);
    life.live(250);
    life.check_timelines();
    let [before, after] = [life.timeline(0)[0], life.timeline(0)[1]];
    assert!(after.online_at.since(before.offline_at) > 27_000, "{before:?} {after:?}");
    assert_eq!((before.end, after.end), (End::Lapsed, End::Live));
}

/// Of a ttl longer than the step: the seconds that were jumped over are nobody's, also where the deadline lies beyond them.
#[test]
fn a_step_shorter_than_a_ttl_ends_no_session_either() {
    for (ttl, every) in [(120, 90_000), (7_200, 5_400_000), (7_200, 7_000_000)] {
        for by in [61, 100, HOUR, 2 * HOUR] {
            for phase in 0..8 {
                let mut life = Life::new(ttl, &[(every, i64::MAX)]);
                life.live(1 + phase * every / 8_000);
                life.take(Event::Set(by));
                life.live(3 * every / 1_000 + 100);
                assert_eq!(life.timeline(0).len(), 1, "ttl {ttl}, every {every} ms, {by} s, phase {phase}");
            }
        }
    }
}
