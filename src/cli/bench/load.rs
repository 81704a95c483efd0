//! Throughput: as many heals a second as asked for, or as many as get through.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::args::IdOrder;
use super::random::SplitMix;
use super::request::{BatchRequest, HealRequest};
use super::schedule::{Schedule, Share};
use super::source::{Dispatched, Source};

/// What every connection of a throughput run does.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// How clients call the service: `name:port`.
    pub host: String,
    /// Heals a second over all connections; `None`: as many as the pipeline allows.
    pub rate: Option<u64>,
    /// Requests in flight on one connection.
    pub pipeline: u32,
    /// Ids in a request to `/v1/heal`; `None`: one id a request, to `/heal/{user_id}`.
    pub batch: Option<u32>,
    /// Size of the id space.
    pub users: u64,
    /// In which order ids are healed.
    pub order: IdOrder,
    /// For how long requests fall due.
    pub duration: Duration,
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Load {
    start: Instant,
    pace: Pace,
    ids: Ids,
    form: Form,
}

#[derive(Debug)]
enum Pace {
    Open(Share),
    /// The next request is due as soon as there is room for it.
    Closed {
        next: u64,
        connections: u64,
    },
}

#[derive(Debug)]
enum Form {
    One(HealRequest),
    Batch(BatchRequest, u32),
}

#[derive(Debug)]
enum Ids {
    Cycled { users: u64 },
    Random { users: u64, random: SplitMix },
}

impl Load {
    /// The requests of connection `lane` (from 0) of `connections`, the first of them due at `start` or later.
    pub fn new(plan: &LoadPlan, start: Instant, lane: u64, connections: u64) -> Self {
        let LoadPlan { users, pipeline, duration, .. } = *plan;
        let batch = plan.batch.unwrap_or(1);
        Self {
            start,
            pace: match plan.rate {
                Some(rate) => {
                    Pace::Open(Share::new(Schedule { rate, batch, pipeline, duration }, lane, connections))
                }
                None => Pace::Closed { next: lane, connections },
            },
            ids: match plan.order {
                IdOrder::Cycled => Ids::Cycled { users },
                IdOrder::Random => Ids::Random { users, random: SplitMix::new(lane) },
            },
            form: match plan.batch {
                Some(ids) => Form::Batch(BatchRequest::new(&plan.host, ids), ids),
                None => Form::One(HealRequest::new(&plan.host)),
            },
        }
    }

    fn batch(&self) -> u32 {
        match self.form {
            Form::One(_) => 1,
            Form::Batch(_, ids) => ids,
        }
    }
}

impl Source for Load {
    fn due(&self) -> Option<Instant> {
        match &self.pace {
            Pace::Open(share) => share.due().map(|after| self.start + after),
            Pace::Closed { .. } => Some(self.start),
        }
    }

    fn take(&mut self, now: Instant, out: &mut Vec<u8>) -> Dispatched {
        let (intended, request) = match &mut self.pace {
            Pace::Open(share) => (share.due().map_or(now, |after| self.start + after), share.take()),
            Pace::Closed { next, connections } => {
                let request = *next;
                *next += *connections;
                (now, request)
            }
        };
        let heals = self.batch();
        let mut position = request.wrapping_mul(u64::from(heals));
        let mut id = || {
            let id = self.ids.at(position);
            position = position.wrapping_add(1);
            id
        };
        let user = match &self.form {
            Form::One(form) => {
                let user = id();
                form.write(user, out);
                user
            }
            Form::Batch(form, ids) => {
                form.write((0..*ids).map(|_| id()), out);
                0
            }
        };
        Dispatched { intended, sent_at: now, user, heals }
    }

    fn healed(&self, body: &[u8]) -> Option<u64> {
        #[derive(Deserialize)]
        struct Healed {
            healed: u64,
        }
        match self.form {
            Form::One(_) => Some(1),
            Form::Batch(..) => serde_json::from_slice::<Healed>(body).ok().map(|reply| reply.healed),
        }
    }

    fn settled(&mut self, _sent: &Dispatched, _now: Instant) {}

    fn unsent(&self) -> u64 {
        match &self.pace {
            Pace::Open(share) => share.left() * u64::from(self.batch()),
            Pace::Closed { .. } => 0,
        }
    }
}

impl Ids {
    /// The id at that position of the whole run: 1 to the number of users.
    fn at(&mut self, position: u64) -> i64 {
        let index = match self {
            Self::Cycled { users } => position % *users,
            Self::Random { users, random } => random.below(*users),
        };
        i64::try_from(index + 1).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::moment;

    fn plan() -> LoadPlan {
        LoadPlan {
            host: "localhost:3519".into(),
            rate: Some(1_000),
            pipeline: 1,
            batch: None,
            users: 5,
            order: IdOrder::Cycled,
            duration: Duration::from_secs(1),
        }
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let start = moment::now();
        let mut load = Load::new(&plan(), start, 1, 2);
        assert_eq!(load.due(), Some(start + Duration::from_millis(1)));

        let late = start + Duration::from_millis(900);
        let sent = load.take(late, &mut Vec::new());
        assert_eq!(
            sent,
            Dispatched { intended: start + Duration::from_millis(1), sent_at: late, user: 2, heals: 1 }
        );
        assert_eq!(load.unsent(), 499);
    }

    #[test]
    fn a_closed_loop_counts_from_sending() {
        let start = moment::now();
        let mut load = Load::new(&LoadPlan { rate: None, ..plan() }, start, 0, 1);
        let later = start + Duration::from_millis(900);
        assert_eq!(load.take(later, &mut Vec::new()).intended, later);
        assert_eq!(load.unsent(), 0);
    }

    #[test]
    fn connections_go_through_the_id_space_together() {
        let start = moment::now();
        let closed = LoadPlan { rate: None, ..plan() };
        let users = |lane| {
            let mut load = Load::new(&closed, start, lane, 2);
            [(); 4].map(|()| load.take(start, &mut Vec::new()).user)
        };
        assert_eq!(users(0), [1, 3, 5, 2]);
        assert_eq!(users(1), [2, 4, 1, 3]);
    }

    #[test]
    fn random_ids_stay_within_the_id_space() {
        let random = LoadPlan { rate: None, order: IdOrder::Random, ..plan() };
        let mut load = Load::new(&random, moment::now(), 0, 1);
        let mut seen: Vec<i64> = (0..1_000).map(|_| load.take(moment::now(), &mut Vec::new()).user).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_batch_holds_consecutive_ids_and_is_answered_with_a_count() {
        let mut load = Load::new(&LoadPlan { batch: Some(3), ..plan() }, moment::now(), 1, 2);
        let mut out = Vec::new();
        assert_eq!(load.take(moment::now(), &mut out).heals, 3);
        let body: Vec<i64> = out[out.len() - 24..]
            .chunks(8)
            .map(|id| i64::from_le_bytes(id.try_into().expect("8 bytes")))
            .collect();
        assert_eq!(body, [4, 5, 1]);
        assert_eq!(load.healed(br#"{"healed":3,"opened":1}"#), Some(3));
        assert_eq!(load.healed(b"{}"), None);
    }
}
