//! Followers that come and go at random, against a model that keeps a list of what has happened to each user.
//!
//! One thread does it all, so it is known of each event whether the ring holds it still, and a reset that was not due is as
//! wrong as one that is missing.
//!
//! Seen to be caught, each planted alone: a turn of which a part is known sent whole; a place that is taken for held without a
//! look; a place that the ring has gone past skipped without a word; the end of a session that was not swept told after the
//! next one, or with the second in which it was noticed; a snapshot that says what a checkup says.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use heartbeat::Ttl;
use rstest::rstest;
use serde_json::{Value, json};

use crate::source::Source;
use crate::wire::{Client, NOON, Service};
use crate::{Dice, poll};

/// What has happened to each user, by the rules: a list for each, and who has a session that is not told to be over.
struct Model {
    now: u32,
    grace: u32,
    live: BTreeMap<i64, u32>,
    told: BTreeMap<i64, Vec<(&'static str, Value)>>,
    total: u64,
}

const TTL: u32 = 2;
const USERS: i64 = 6;

impl Model {
    fn new(grace: u32) -> Self {
        let told = (0..USERS).map(|id| (id, Vec::new())).collect();
        Self { now: NOON, grace, live: BTreeMap::new(), told, total: 0 }
    }

    fn tell(&mut self, id: i64, event: &'static str, data: Value) {
        self.told.get_mut(&id).unwrap().push((event, data));
        self.total += 1;
    }

    fn end(&mut self, id: i64, at: u32, reason: &str) {
        self.live.remove(&id);
        self.tell(id, "offline", json!({"id": id, "at": at, "reason": reason}));
    }

    /// Until when the session lasts, if it is not over for good; one that is lapses.
    fn extendable(&mut self, id: i64) -> Option<u32> {
        let deadline = *self.live.get(&id)?;
        if self.now <= deadline + self.grace {
            return Some(deadline);
        }
        self.end(id, deadline, "lapsed");
        None
    }

    fn heal(&mut self, id: i64) {
        if self.extendable(id).is_none() {
            self.tell(id, "online", json!({"id": id, "at": self.now}));
        }
        self.live.insert(id, self.now + TTL);
    }

    fn stop(&mut self, id: i64, reason: &str) {
        if let Some(deadline) = self.extendable(id) {
            self.end(id, deadline.min(self.now), reason);
        }
    }

    fn sweep(&mut self) {
        for id in 0..USERS {
            self.extendable(id);
        }
    }
}

/// Whoever follows, and how much of each user's list it has seen.
struct Follower {
    ids: Option<Vec<i64>>,
    source: Option<Source>,
    last_id: String,
    seen: HashMap<i64, usize>,
    resets: u64,
    resumed: u64,
}

impl Follower {
    fn new(ids: Option<&[i64]>) -> Self {
        let ids = ids.map(<[i64]>::to_vec);
        Self { ids, source: None, last_id: String::new(), seen: HashMap::new(), resets: 0, resumed: 0 }
    }

    fn wanted(&self) -> Vec<i64> {
        self.ids.clone().unwrap_or_else(|| (0..USERS).collect())
    }

    /// Connects, from where it was if it was anywhere, and checks that it is reset if it has to be and only then.
    fn connect(&mut self, address: SocketAddr, model: &Model, held: u64, dice: &mut Dice) {
        let mut target = "/v1/watch?id_format=number".to_owned();
        if let Some(ids) = &self.ids {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            target = format!("{target}&ids={}", ids.join(","));
        }
        let header = if self.last_id.is_empty() {
            None
        } else if dice.roll(2) == 0 {
            Some(self.last_id.clone())
        } else {
            target = format!("{target}&after={}", self.last_id);
            None
        };
        let mut source = Source::open(address, &target, header.as_deref());
        if !self.last_id.is_empty() && self.missed(model) <= held {
            source.last_id.clone_from(&self.last_id);
            self.resumed += 1;
        } else {
            if !self.last_id.is_empty() {
                source.expect("reset", json!({}));
                self.resets += 1;
            }
            self.take_snapshot(&mut source, model);
        }
        self.source = Some(source);
    }

    /// How many events there have been since the last that it knows of.
    fn missed(&self, model: &Model) -> u64 {
        model.total - u64::from_str_radix(self.last_id.split_once('-').unwrap().1, 16).unwrap()
    }

    fn take_snapshot(&mut self, source: &mut Source, model: &Model) {
        if self.ids.is_some() {
            let status = |id| if model.live.contains_key(id) { "online" } else { "offline" };
            let users: Vec<_> =
                self.wanted().iter().map(|id| json!({"id": id, "status": status(id)})).collect();
            source.expect_snapshot(json!({ "users": users }));
        } else {
            source.expect_snapshot(json!({"online": model.live.len()}));
        }
        self.seen = self.wanted().into_iter().map(|id| (id, model.told[&id].len())).collect();
        self.last_id.clone_from(&source.last_id);
        assert_eq!(self.missed(model), 0, "a snapshot is of now");
    }

    fn is_behind(&self, model: &Model) -> bool {
        self.seen.iter().any(|(id, seen)| *seen < model.told[id].len())
    }

    /// Takes one event, which must be the next of its user. False if the ring has overtaken it.
    fn take(&mut self, model: &Model, held: u64) -> bool {
        let message = self.source.as_mut().unwrap().next().unwrap();
        if message.event == "lagged" {
            assert!(self.missed(model) > held, "nothing it needed was gone");
            assert_eq!(self.source.as_mut().unwrap().next(), None);
            self.source = None;
            return false;
        }
        let id = message.data["id"].as_i64().unwrap();
        let seen = self.seen.get_mut(&id).expect("one that was asked for");
        let next = model.told[&id].get(*seen);
        let next = next.unwrap_or_else(|| panic!("{message:?} was told twice, or never was"));
        assert_eq!((message.event.as_str(), &message.data), (next.0, &next.1));
        *seen += 1;
        let number = |id: &str| u64::from_str_radix(id.split_once('-').unwrap().1, 16).unwrap();
        assert!(number(&message.id) > number(&self.last_id), "in order");
        self.last_id = message.id;
        true
    }
}

/// One call at random, to the service and to the model.
fn act(dice: &mut Dice, model: &mut Model, service: &Service, client: &mut Client) {
    let id = i64::try_from(dice.roll(6)).unwrap();
    match dice.roll(12) {
        0..5 => {
            client.call("PUT", &format!("/heal/{id}"));
            model.heal(id);
        }
        5..7 => {
            client.call("DELETE", &format!("/heal/{id}"));
            model.stop(id, "left");
        }
        7 => {
            client.call("DELETE", &format!("/v1/users/{id}"));
            model.stop(id, "forgotten");
        }
        8..10 => {
            let seconds = 1 + u32::try_from(dice.roll(3)).unwrap();
            service.clock.advance(seconds);
            model.now += seconds;
        }
        _ => {
            service.engine.sweep();
            model.sweep();
        }
    }
}

/// Whoever reconnects at random sees every transition once, or is told that it has not.
#[rstest]
#[case::a_tiny_ring(3, 0, 1, true)]
#[case::a_tiny_ring_and_grace(5, 2, 2, true)]
#[case::a_small_ring(12, 1, 3, true)]
#[case::a_ring_that_holds_everything(100_000, 0, 4, false)]
fn followers_see_what_the_model_says(
    #[case] held: usize,
    #[case] grace: u32,
    #[case] seed: u64,
    #[case] is_small: bool,
) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let ttl = Ttl::from_seconds(TTL).unwrap();
    let service =
        Service::start_with(|engine| engine.ttl(ttl).grace_seconds(grace).events_held(held), |_| {});
    let mut model = Model::new(grace);
    let mut client = service.connect();
    let mut polled = Polled::start(&mut client, &model);
    let mut followers = [Follower::new(None), Follower::new(Some(&[0, 3, 5])), Follower::new(Some(&[4]))];
    let held = held as u64;
    for _ in 0..60 {
        for _ in 0..dice.roll(10) {
            act(&mut dice, &mut model, &service, &mut client);
        }
        for follower in &mut followers {
            if follower.source.is_none() {
                follower.connect(service.address(), &model, held, &mut dice);
            }
            match dice.roll(3) {
                // Goes, with whatever was on its way.
                0 => follower.source = None,
                // Stays, and reads later.
                1 => {}
                _ => while follower.is_behind(&model) && follower.take(&model, held) {},
            }
        }
        if dice.roll(2) == 0 {
            polled.go_on(&mut client, &model, held, &mut dice);
        }
    }
    let resets: Vec<_> = followers.iter().map(|follower| follower.resets).chain([polled.resets]).collect();
    let resumed: Vec<_> = followers.iter().map(|follower| follower.resumed).collect();
    assert!(resumed.iter().all(|&resumed| resumed > 1), "{resumed:?}");
    assert!(resets.iter().all(|&resets| (resets > 0) == is_small), "{resets:?}");
}

/// The same by polls.
struct Polled {
    next: String,
    seen: HashMap<i64, usize>,
    resets: u64,
}

impl Polled {
    fn start(client: &mut Client, model: &Model) -> Self {
        let (events, next) = poll(&client.call("GET", "/v1/events"));
        assert_eq!(events, json!([]));
        Self { next, seen: model.told.iter().map(|(id, told)| (*id, told.len())).collect(), resets: 0 }
    }

    fn go_on(&mut self, client: &mut Client, model: &Model, held: u64, dice: &mut Dice) {
        let limit = 1 + dice.roll(8);
        loop {
            let response = client.call("GET", &format!("/v1/events?limit={limit}&after={}", self.next));
            let behind = model.total - u64::from_str_radix(self.next.split_once('-').unwrap().1, 16).unwrap();
            if behind > held {
                assert_eq!(response.status, 410);
                *self = Self { resets: self.resets + 1, ..Self::start(client, model) };
                return;
            }
            let (events, next) = poll(&response);
            let events = events.as_array().unwrap();
            assert_eq!(events.len() as u64, behind.min(limit));
            for event in events {
                let id = event["id"].as_i64().unwrap();
                let (name, mut data) = model.told[&id][self.seen[&id]].clone();
                data["event"] = json!(name);
                assert_eq!(*event, data);
                *self.seen.get_mut(&id).unwrap() += 1;
            }
            self.next = next;
            if events.is_empty() {
                return;
            }
        }
    }
}
