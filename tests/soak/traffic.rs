//! Users who come and go, and the clients that speak for them.
//!
//! ```text
//!   departed, never to come back │ here: healed at random, some left and come again │ not yet
//!   ─────────────────────────────┴──────────────────────────────────────────────────┴────────▶ number
//!                            base(t) = window · t / stay                       base(t) + window
//! ```
//!
//! The window moves with the time and not with the calls, so that a machine that lags has as many users as one that does not.
//! Each client has every [`CLIENTS`]th user for its own. One user in [`PERIOD`] is in the ledger and is healed steadily, another
//! leaves again and again. Who departs leaves, is forgotten or just falls silent.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::driver::connection::Connection;
use super::driver::now;
use super::driver::random::Random;
use super::ledger::{Between, Entry, Outage, SLACK, extendable_until};
use super::{Times, histogram, history, instant};

pub const CLIENTS: u64 = 4;
/// Of so many users one is in the ledger and one flaps.
pub const PERIOD: u64 = 16;
const IN_LEDGER: u64 = 5;
const FLAPS: u64 = 7;
const BULK: u64 = 32;
/// When the calls are behind their times by more, those that are missing are given up: the load is what the machine can bear.
const LAG_MAX: Duration = Duration::from_secs(1);

/// What is common to all clients.
pub struct Traffic {
    pub times: Times,
    /// Users here at one time, of each client.
    pub window: u64,
    pub beginning: Instant,
    /// Calls answered.
    pub calls: AtomicU64,
    /// Heals acknowledged.
    pub healed: AtomicU64,
    pub refused: AtomicU64,
    /// Calls whose answer a kill took.
    pub unknown: AtomicU64,
    /// Calls given up.
    pub shed: AtomicU64,
    /// Of single heals, in microseconds, from when they were due.
    pub latency: Mutex<Histogram<u64>>,
}

/// How a client is to drive.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    pub address: SocketAddr,
    /// Between two calls of one client; `None` is a closed loop.
    pub interval: Option<Duration>,
    /// Users are forgotten as long as this stands.
    pub forgets: &'a AtomicBool,
    pub ending: &'a AtomicBool,
}

#[derive(Debug, Clone)]
enum Act {
    Heal(u64),
    HealMany(Vec<u64>),
    Leave(u64),
    Forget(u64),
    Checkup(u64),
    CheckupMany(Vec<u64>),
    Rhythm(u64),
    User(u64),
}

pub struct Client {
    index: u64,
    random: Random,
    ledger: VecDeque<Entry>,
    /// Who is healed next of the ledger.
    steady: usize,
    /// The first who has not been seen off.
    departing: u64,
    /// The same at the end of each drive, with its second.
    seen_off: Vec<(u32, u64)>,
}

impl Traffic {
    pub fn new(times: Times, window: u64) -> Self {
        Self {
            times,
            window,
            beginning: instant(),
            calls: AtomicU64::new(0),
            healed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            latency: Mutex::new(histogram()),
        }
    }

    /// Each client's first user who is here after such a time.
    pub fn base(&self, elapsed: Duration) -> u64 {
        let stay = u128::from(self.times.stay) * 1_000;
        u64::try_from(u128::from(self.window) * elapsed.as_millis() / stay).unwrap()
    }
}

impl Client {
    pub fn new(index: u64, seed: u64) -> Self {
        Self {
            index,
            random: Random(seed ^ index),
            ledger: VecDeque::new(),
            steady: 0,
            departing: 0,
            seen_off: Vec::new(),
        }
    }

    pub fn user(&self, number: u64) -> u64 {
        number * CLIENTS + self.index + 1
    }

    /// Until the end, or until the service is gone.
    pub fn drive(&mut self, traffic: &Traffic, pace: Pace<'_>, outages: &[Outage]) {
        self.call_and_call(traffic, pace, outages);
        self.seen_off.push((now(), self.departing));
    }

    fn call_and_call(&mut self, traffic: &Traffic, pace: Pace<'_>, outages: &[Outage]) {
        let open = || Connection::open(pace.address);
        let Ok([a, b, c]) = open().and_then(|a| Ok([a, open()?, open()?])) else { return };
        let mut connections = [a, b, c];
        let mut due = instant();
        for turn in 0.. {
            if pace.ending.load(Ordering::Relaxed) {
                return;
            }
            if let Some(interval) = pace.interval {
                due += interval;
                let early = due.saturating_duration_since(instant());
                // To wait for no time at all takes the kernel some fifty microseconds, half of what a call takes.
                if !early.is_zero() {
                    std::thread::park_timeout(early);
                }
                let lag = due.elapsed();
                if lag > LAG_MAX {
                    let shed = lag.as_nanos() / interval.as_nanos();
                    traffic.shed.fetch_add(u64::try_from(shed).unwrap(), Ordering::Relaxed);
                    due += lag;
                }
            } else {
                due = instant();
            }
            let act = self.next(traffic, pace.forgets.load(Ordering::Relaxed));
            let is_heal = matches!(act, Act::Heal(_));
            if self.act(&act, &mut connections[turn % 3], traffic, outages).is_err() {
                traffic.unknown.fetch_add(1, Ordering::Relaxed);
                return;
            }
            traffic.calls.fetch_add(1, Ordering::Relaxed);
            if is_heal {
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap();
                traffic.latency.lock().unwrap().record(micros).unwrap();
            }
        }
    }

    fn next(&mut self, traffic: &Traffic, forgets: bool) -> Act {
        let base = traffic.base(traffic.beginning.elapsed());
        // In turns with the others, also when many have departed while the service was down.
        while self.departing < base && self.random.below(2) == 0 {
            let number = self.departing;
            self.departing += 1;
            if self.ledger.front().is_some_and(|entry| entry.number <= number) {
                self.ledger.pop_front();
            }
            match number % 4 {
                0 => return Act::Leave(number),
                1 if forgets => return Act::Forget(number),
                _ => {}
            }
        }
        let any = base + self.random.below(traffic.window);
        let flapping = any - any % PERIOD + FLAPS;
        let somebody = if flapping < base { any } else { flapping };
        match self.random.below(100) {
            0..2 => Act::HealMany(self.many(base, traffic.window)),
            2 => Act::CheckupMany(self.many(base, traffic.window)),
            3..11 if somebody % PERIOD == FLAPS => Act::Leave(somebody),
            11 if forgets && any % PERIOD != IN_LEDGER => Act::Forget(any),
            12..18 => Act::Checkup(any),
            18..21 => Act::Rhythm(any),
            21 => Act::User(any),
            22..34 if !self.ledger.is_empty() => {
                self.steady = (self.steady + 1) % self.ledger.len();
                Act::Heal(self.ledger[self.steady].number)
            }
            _ => Act::Heal(any),
        }
    }

    fn many(&mut self, base: u64, window: u64) -> Vec<u64> {
        (0..BULK).map(|_| base + self.random.below(window)).collect()
    }

    fn act(
        &mut self,
        act: &Act,
        connection: &mut Connection,
        traffic: &Traffic,
        outages: &[Outage],
    ) -> io::Result<()> {
        let before = now();
        let healing = match act {
            Act::Heal(number) => std::slice::from_ref(number),
            Act::HealMany(numbers) => numbers,
            _ => &[],
        };
        for &number in healing {
            self.attempt(number, before);
        }
        let users = |numbers: &[u64]| numbers.iter().map(|&number| self.user(number)).collect::<Vec<_>>();
        let (status, body) = match act {
            Act::Heal(number) => connection.call("PUT", &format!("/heal/{}", self.user(*number))),
            Act::HealMany(numbers) => connection.send("/v1/heal", &users(numbers)),
            Act::Leave(number) => connection.call("DELETE", &format!("/heal/{}", self.user(*number))),
            Act::Forget(number) => connection.call("DELETE", &format!("/v1/users/{}", self.user(*number))),
            Act::Checkup(number) => connection.call("GET", &format!("/checkup/{}", self.user(*number))),
            Act::CheckupMany(numbers) => connection.send("/v1/checkup", &users(numbers)),
            Act::Rhythm(number) => connection.call("GET", &format!("/heart_rhythm/{}", self.user(*number))),
            Act::User(number) => connection.call("GET", &format!("/v1/users/{}", self.user(*number))),
        }?;
        let at = Between(before, now());
        match (status, act) {
            (200, Act::Checkup(number)) => {
                let ttl = traffic.times.ttl;
                if let Some(entry) = self.entry(*number).filter(|entry| entry.is_online_at(at.1, ttl)) {
                    assert!(body.contains(r#""online""#), "{body}: {entry:?} at {at:?}");
                }
            }
            (200, _) => {
                traffic.healed.fetch_add(healing.len() as u64, Ordering::Relaxed);
                for &number in healing {
                    if let Some(entry) = self.entry(number) {
                        entry.healed(at, traffic.times.ttl, outages);
                    }
                }
            }
            (404, Act::User(_)) => {}
            // Not acknowledged: of many some may have been healed.
            (503, _) => _ = traffic.refused.fetch_add(1, Ordering::Relaxed),
            _ => panic!("{act:?}: {status} {body}"),
        }
        Ok(())
    }

    /// Whoever is in the ledger is entered before the first heal.
    fn attempt(&mut self, number: u64, second: u32) {
        if number % PERIOD == IN_LEDGER
            && let Err(place) = self.ledger.binary_search_by_key(&number, |entry| entry.number)
        {
            self.ledger.insert(place, Entry::new(number, second));
        }
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let place = self.ledger.binary_search_by_key(&number, |entry| entry.number).ok()?;
        self.ledger.get_mut(place)
    }

    /// After a restart, before anything else is asked of the service that was started in second `started`: whoever is in the
    /// ledger has what was acknowledged, and retention has left nobody more than it may. Gives how many could be judged.
    pub fn check(&self, address: SocketAddr, traffic: &Traffic, outages: &[Outage], started: u32) -> u64 {
        let Times { ttl, retain, retain_sessions, .. } = traffic.times;
        // A session that a heal would still continue is not over.
        let may_be_live = |deadline| extendable_until(deadline, ttl, outages) + SLACK >= started;
        let mut connection = Connection::open(address).unwrap();
        let mut ask = |number| {
            let (status, body) =
                connection.call("GET", &format!("/heart_rhythm/{}", self.user(number))).unwrap();
            assert_eq!(status, 200, "{body}");
            let history = history(&body);
            assert!(history.len() <= retain_sessions, "more than {retain_sessions} sessions: {body}");
            let is_kept = |&(_, offline_at): &(u32, u32)| {
                offline_at + retain + SLACK >= started || may_be_live(offline_at)
            };
            assert!(history.iter().all(is_kept), "older than {retain} s in second {started}: {body}");
            history
        };
        let mut judged = 0;
        for entry in &self.ledger {
            let history = ask(entry.number);
            if entry.is_kept_at(now(), ttl, retain) {
                judged += 1;
                assert!(entry.fits(&history, ttl), "{history:?} of {entry:?}, after a start in {started}");
            }
        }
        let base = traffic.base(traffic.beginning.elapsed());
        for number in (base..base + traffic.window).filter(|number| number % PERIOD == FLAPS) {
            ask(number);
        }
        // Whoever had been seen off so long ago that nothing of them may be kept.
        let is_long_ago = |&&(second, _): &&(u32, u64)| {
            let deadline = second + SLACK + ttl;
            deadline + retain + SLACK < started && !may_be_live(deadline)
        };
        if let Some(&(_, departed)) = self.seen_off.iter().rev().find(is_long_ago) {
            for number in departed.saturating_sub(traffic.window / 8)..departed {
                let (status, body) =
                    connection.call("GET", &format!("/v1/users/{}", self.user(number))).unwrap();
                assert_eq!(status, 404, "departed, and still known in second {started}: {body}");
            }
        }
        judged
    }
}
