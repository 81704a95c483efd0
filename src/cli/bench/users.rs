//! Simulated users, as the original service's bench had them.
//!
//! Each heals, and after the answer waits: 7 s five times out of ten, and 11, 12, 13, 14 or 15 s one time out of ten each. With
//! the default ttl of 7 s the shorter wait just keeps a session alive, and each of the longer ones ends it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::random::SplitMix;
use super::request::HealRequest;
use super::source::{Dispatched, Source};

/// Users arrive spread over this time, so that they do not all heal in one moment for ever after.
const ARRIVAL: Duration = Duration::from_secs(5);

/// What every connection of a run with simulated users does.
#[derive(Debug, Clone)]
pub struct UsersPlan {
    /// How clients call the service: `name:port`.
    pub host: String,
    /// How many users, over all connections.
    pub users: u64,
    /// For how long they heal.
    pub duration: Duration,
}

/// The users of one connection.
#[derive(Debug)]
pub struct Users {
    /// Who heals when, the next first. Who waits for an answer is not in it.
    waiting: BinaryHeap<Reverse<(Instant, i64)>>,
    ends: Instant,
    request: HealRequest,
    random: SplitMix,
}

impl Users {
    /// The users of connection `lane` (from 0) of `connections`.
    pub fn new(plan: &UsersPlan, start: Instant, lane: u64, connections: u64) -> Self {
        let arrival = ARRIVAL.min(plan.duration);
        let step = usize::try_from(connections).unwrap_or(usize::MAX);
        let waiting = (lane..plan.users).step_by(step).map(|index| {
            let after = arrival.as_nanos() * u128::from(index) / u128::from(plan.users);
            let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
            Reverse((start + after, i64::try_from(index + 1).unwrap_or(i64::MAX)))
        });
        Self {
            waiting: waiting.collect(),
            ends: start + plan.duration,
            request: HealRequest::new(&plan.host),
            random: SplitMix::new(lane),
        }
    }
}

impl Source for Users {
    fn due(&self) -> Option<Instant> {
        self.waiting.peek().map(|&Reverse((due, _))| due).filter(|&due| due < self.ends)
    }

    fn take(&mut self, now: Instant, out: &mut Vec<u8>) -> Dispatched {
        let Reverse((intended, user)) = self.waiting.pop().expect("only called when a request is due");
        self.request.write(user, out);
        Dispatched { intended, sent_at: now, user, heals: 1 }
    }

    fn healed(&self, _body: &[u8]) -> Option<u64> {
        Some(1)
    }

    fn settled(&mut self, sent: &Dispatched, now: Instant) {
        let next = now + wait(self.random.below(10));
        self.waiting.push(Reverse((next, sent.user)));
    }

    fn unsent(&self) -> u64 {
        let unsent = self.waiting.iter().filter(|Reverse((due, _))| *due < self.ends).count();
        u64::try_from(unsent).unwrap_or(u64::MAX)
    }
}

/// How long a user waits who rolled `roll` of 0 to 9.
fn wait(roll: u64) -> Duration {
    let seconds = match roll {
        0..=4 => 7,
        5 => 11,
        6 => 12,
        7 => 13,
        8 => 14,
        _ => 15,
    };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::bench::moment;

    fn plan() -> UsersPlan {
        UsersPlan { host: "localhost:3519".into(), users: 10, duration: Duration::from_secs(60) }
    }

    #[test]
    fn half_the_waits_are_7_seconds_and_a_tenth_each_11_to_15() {
        let mut random = SplitMix::new(0);
        let mut waits = BTreeMap::new();
        for _ in 0..100_000 {
            *waits.entry(wait(random.below(10)).as_secs()).or_insert(0_u32) += 1;
        }
        assert_eq!(waits.keys().copied().collect::<Vec<_>>(), [7, 11, 12, 13, 14, 15]);
        for (seconds, count) in waits {
            // Five standard deviations of a binomial: 5 * sqrt(100,000 * 0.5 * 0.5) = 790.
            let expected = if seconds == 7 { 50_000 } else { 10_000 };
            assert!(u32::abs_diff(count, expected) < 790, "{seconds} s: {count}");
        }
    }

    #[test]
    fn users_arrive_spread_over_five_seconds_and_are_shared_out() {
        let start = moment::now();
        let mut users = Users::new(&plan(), start, 1, 4);
        let mut seen = Vec::new();
        while let Some(due) = users.due() {
            let sent = users.take(due, &mut Vec::new());
            seen.push((sent.user, sent.intended.duration_since(start).as_millis()));
        }
        assert_eq!(seen, [(2, 500), (6, 2_500), (10, 4_500)]);
    }

    #[test]
    fn a_user_waits_from_the_answer_on_and_not_beyond_the_end() {
        let start = moment::now();
        let one = UsersPlan { users: 1, duration: Duration::from_secs(30), ..plan() };
        let mut users = Users::new(&one, start, 0, 1);
        let sent = users.take(start, &mut Vec::new());
        assert_eq!(users.due(), None);

        users.settled(&sent, start + Duration::from_secs(2));
        let due = users.due().unwrap().duration_since(start).as_secs();
        assert!([9, 13, 14, 15, 16, 17].contains(&due), "{due}");
        assert_eq!(users.unsent(), 1);

        let sent = users.take(start, &mut Vec::new());
        users.settled(&sent, start + Duration::from_secs(29));
        assert_eq!((users.due(), users.unsent()), (None, 0));
    }
}
