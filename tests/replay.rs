//! Any history gives the same after any restarts as without them.
//!
//! A history is lived through by a persistent engine that is dropped and opened again wherever the history says so, and by a
//! plain list of sessions that never is. After every step both must tell the same. What a restart legitimately changes is in
//! the list, too: the outage, and the rules from then on.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::collections::BTreeMap;

use common::folder::{Site, heal, patiently, set_alive};
use common::{NOON, ttl};
use heartbeat::{End, Engine, Heal, Leave, Recovery, Session, Status, UnixSeconds, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

const USERS: [UserId; 3] = [UserId::new(1), UserId::new(-2), UserId::new(i64::MAX)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    ttl: u32,
    grace: u32,
    restart_grace: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Heal(UserId),
    Leave(UserId),
    Forget(UserId),
    Pass(u32),
    Sweep,
    Snapshot,
    /// Drop and open, so many seconds later, under other settings if there are some. Those take longer to change than a second.
    Restart(u32, Option<Settings>),
    /// The same without the drop: what a `kill -9` leaves.
    Kill(u32),
    /// So many users come and are forgotten, so that segments follow one another.
    Crowd(u32),
}

#[derive(Debug, Clone)]
struct History {
    settings: Settings,
    steps: Vec<Step>,
}

fn settings() -> impl Strategy<Value = Settings> {
    (1_u32..=10, prop_oneof![2 => Just(0_u32), 1 => 1_u32..=20], prop::bool::weighted(0.8))
        .prop_map(|(ttl, grace, restart_grace)| Settings { ttl, grace, restart_grace })
}

fn steps() -> impl Strategy<Value = Step> {
    let user = prop::sample::select(&USERS[..]);
    prop_oneof![
        12 => user.clone().prop_map(Step::Heal),
        4 => user.clone().prop_map(Step::Leave),
        1 => user.prop_map(Step::Forget),
        9 => (0_u32..12).prop_map(Step::Pass),
        1 => (12_u32..1_000).prop_map(Step::Pass),
        3 => Just(Step::Sweep),
        3 => Just(Step::Snapshot),
        3 => (0_u32..15).prop_map(|pause| Step::Restart(pause, None)),
        1 => (1_u32..15, settings()).prop_map(|(pause, settings)| Step::Restart(pause, Some(settings))),
        1 => (0_u32..5).prop_map(Step::Kill),
        1 => (1_u32..200).prop_map(Step::Crowd),
    ]
}

fn histories(longest: usize) -> impl Strategy<Value = History> {
    (settings(), vec(steps(), 1..longest)).prop_map(|(settings, steps)| History { settings, steps })
}

/// The sessions of everybody, and the rules by which they end.
struct Plain {
    now: u32,
    settings: Settings,
    outages: Vec<(u32, u32)>,
    users: BTreeMap<UserId, Vec<Session>>,
}

impl Plain {
    /// The last second in which this session can be extended.
    fn extendable_until(&self, deadline: u32) -> u32 {
        let Settings { ttl, grace, restart_grace } = self.settings;
        let mut until = deadline + grace;
        let mut end = deadline;
        for &(from, to) in self.outages.iter().filter(|_| restart_grace) {
            if (from..to).contains(&end) {
                end = to + ttl + grace;
                until = until.max(end);
            }
        }
        until
    }

    fn close_what_is_over(&mut self) {
        let mut users = std::mem::take(&mut self.users);
        for session in users.values_mut().flatten() {
            if session.end == End::Live && self.now > self.extendable_until(session.offline_at.as_u32()) {
                session.end = End::Lapsed;
            }
        }
        self.users = users;
    }

    fn pass(&mut self, seconds: u32) {
        self.now += seconds;
        self.close_what_is_over();
    }

    /// Down from `from` until now. What is over then is so under the old rules.
    fn restart(&mut self, outage: Option<(u32, u32)>, settings: Settings) {
        self.outages.extend(outage);
        self.settings.restart_grace = settings.restart_grace;
        self.close_what_is_over();
        self.settings = settings;
        self.close_what_is_over();
    }

    fn heal(&mut self, user: UserId) -> Heal {
        let (now, deadline) = (UnixSeconds::new(self.now), UnixSeconds::new(self.now + self.settings.ttl));
        let timeline = self.users.entry(user).or_default();
        match timeline.last_mut() {
            Some(live) if live.end == End::Live && live.offline_at >= deadline => return Heal::Unchanged,
            Some(live) if live.end == End::Live => {
                live.offline_at = deadline;
                return Heal::Extended;
            }
            Some(left) if left.end == End::Left && left.offline_at == now => {
                (left.offline_at, left.end) = (deadline, End::Live);
            }
            _ => timeline.push(Session { online_at: now, offline_at: deadline, end: End::Live }),
        }
        Heal::Opened
    }

    fn leave(&mut self, user: UserId) -> Leave {
        match self.users.get_mut(&user).and_then(|timeline| timeline.last_mut()) {
            Some(live) if live.end == End::Live => {
                (live.offline_at, live.end) = (live.offline_at.min(UnixSeconds::new(self.now)), End::Left);
                Leave::Left
            }
            _ => Leave::NotLive,
        }
    }

    fn timeline(&self, user: UserId) -> Vec<Session> {
        let all = self.users.get(&user).into_iter().flatten();
        all.filter(|session| session.online_at < session.offline_at).copied().collect()
    }

    fn status(&self, user: UserId) -> Status {
        let now = UnixSeconds::new(self.now);
        let is_online = self
            .users
            .get(&user)
            .into_iter()
            .flatten()
            .any(|session| session.online_at <= now && now < session.offline_at);
        if is_online { Status::Online } else { Status::Offline }
    }

    /// Users, live sessions, all sessions.
    fn counts(&self) -> (u64, u64, u64) {
        let all = || self.users.values().flatten();
        let live = all().filter(|session| session.end == End::Live).count();
        (self.users.len() as u64, live as u64, all().count() as u64)
    }
}

struct Run {
    site: Site,
    engine: Option<Engine>,
    plain: Plain,
    crowd: i64,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let site = with(Site::new(NOON), settings);
        let engine = Some(site.open().0);
        let plain = Plain { now: NOON, settings, outages: Vec::new(), users: BTreeMap::new() };
        Self { site, engine, plain, crowd: 1_000 }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Heal(user) => prop_assert_eq!(heal(self.engine(), user), self.plain.heal(user)),
            Step::Leave(user) => {
                prop_assert_eq!(patiently(|| self.engine().leave(user)), self.plain.leave(user));
            }
            Step::Forget(user) => {
                let shown = self.plain.timeline(user).len() as u64;
                self.plain.users.remove(&user);
                prop_assert_eq!(patiently(|| self.engine().forget(user)), shown);
            }
            Step::Pass(seconds) => self.pass(seconds),
            Step::Sweep => {
                self.engine().sweep();
            }
            Step::Snapshot => {
                self.engine().snapshot().unwrap();
            }
            Step::Restart(pause, settings) => {
                drop(self.engine.take());
                let settings = settings.unwrap_or(self.plain.settings);
                // Whether an outage was granted is written down nowhere: it is, or it is not, for as long as there are any.
                let restart_grace = self.plain.settings.restart_grace;
                self.reopen(pause, Settings { restart_grace, ..settings })?;
            }
            Step::Kill(pause) => {
                self.site = with(self.site.killed(), self.plain.settings);
                // The journal's thread stamps once in a second that really passes, and never a segment of an earlier start:
                // what is over by the rules of then would be judged as of the second in it.
                self.site.segments().last().into_iter().for_each(|path| set_alive(path, self.plain.now));
                self.engine = None;
                self.reopen(pause, self.plain.settings)?;
            }
            Step::Crowd(users) => {
                for _ in 0..users {
                    let user = UserId::new(self.crowd);
                    self.crowd += 1;
                    heal(self.engine(), user);
                    patiently(|| self.engine().forget(user));
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, seconds: u32) {
        self.site.clock.advance(seconds);
        self.plain.pass(seconds);
    }

    fn reopen(&mut self, pause: u32, settings: Settings) -> Result<(), TestCaseError> {
        let was = UnixSeconds::new(self.plain.now);
        self.plain.now += pause;
        self.site.clock.advance(pause);
        self.site = with(std::mem::replace(&mut self.site, Site::new(NOON)), settings);
        let (engine, recovery) = self.site.open();
        if let Some((from, to)) = recovery.outage {
            prop_assert!(from <= was && to == engine.now());
        }
        let outage = recovery.outage.map(|(from, to)| (from.as_u32(), to.as_u32()));
        self.plain.restart(outage, settings);
        self.counted(&recovery)?;
        self.engine = Some(engine);
        Ok(())
    }

    /// What was found is what there is.
    fn counted(&self, recovery: &Recovery) -> Result<(), TestCaseError> {
        let (users, online, sessions) = self.plain.counts();
        prop_assert_eq!((recovery.users, recovery.online, recovery.sessions), (users, online, sessions));
        Ok(())
    }

    fn agrees(&self) -> Result<(), TestCaseError> {
        for user in USERS {
            prop_assert_eq!(self.engine().timeline(user), self.plain.timeline(user));
            prop_assert_eq!(self.engine().status(user), self.plain.status(user));
        }
        let figures = self.engine().figures();
        let (users, _, sessions) = self.plain.counts();
        prop_assert_eq!((figures.users, figures.sessions), (users, sessions));
        Ok(())
    }
}

fn with(site: Site, settings: Settings) -> Site {
    let builder = Engine::builder().ttl(ttl(settings.ttl)).grace_seconds(settings.grace);
    Site { builder, restart_grace: settings.restart_grace, ..site }
}

fn live_through(history: &History) -> Result<(), TestCaseError> {
    let mut run = Run::new(history.settings);
    for &step in &history.steps {
        run.take(step)?;
        run.agrees()?;
    }
    run.engine().sweep();
    run.agrees()?;
    let figures = run.engine().figures();
    prop_assert_eq!((figures.users, figures.online, figures.sessions), run.plain.counts());
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    // What it finds becomes a written-out test in `recovery.rs`, not a file of seeds.
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_history_gives_the_same_whenever_the_engine_is_restarted(history in histories(40)) {
        live_through(&history)?;
    }

    /// What is dropped may be dropped sooner or later; what is kept is never wrong, and after a sweep and a snapshot the
    /// limits hold.
    #[test]
    fn retention_drops_only_the_oldest(history in histories(40), sessions in 1_usize..4) {
        retain(&history, sessions)?;
    }
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    #[ignore = "long: fifty times as many histories, and longer ones"]
    fn very_many_histories_give_the_same_whenever_the_engine_is_restarted(history in histories(120)) {
        live_through(&history)?;
    }
}

/// Timelines end with what they would end with without retention.
fn retain(history: &History, sessions: usize) -> Result<(), TestCaseError> {
    let mut run = Run::new(history.settings);
    drop(run.engine.take());
    run.site.builder = run.site.builder.clone().retain_sessions(sessions);
    run.engine = Some(run.site.open().0);
    for &step in &history.steps {
        match step {
            Step::Restart(pause, _) | Step::Kill(pause) => {
                drop(run.engine.take());
                run.site.clock.advance(pause);
                run.plain.now += pause;
                let (engine, recovery) = run.site.open();
                let outage = recovery.outage.map(|(from, to)| (from.as_u32(), to.as_u32()));
                run.plain.restart(outage, run.plain.settings);
                run.engine = Some(engine);
            }
            Step::Forget(user) => {
                run.plain.users.remove(&user);
                patiently(|| run.engine().forget(user));
            }
            step => run.take(step)?,
        }
        for user in USERS {
            let (all, kept) = (run.plain.timeline(user), run.engine().timeline(user));
            prop_assert!(all.ends_with(&kept), "{:?} of {:?}", kept, all);
            // An empty session counts, and is never shown.
            let empty = run.plain.users.get(&user).map_or(0, Vec::len) - all.len();
            prop_assert!(kept.len() + empty >= all.len().min(sessions), "{:?} of {:?}", kept, all);
            prop_assert_eq!(run.engine().status(user), run.plain.status(user));
        }
    }
    run.engine().sweep();
    run.engine().snapshot().unwrap();
    for user in USERS {
        prop_assert!(run.engine().timeline(user).len() <= sessions);
    }
    Ok(())
}
