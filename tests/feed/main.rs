//! Following what happens, over a real socket: `GET /v1/watch` and `GET /v1/events`.
//!
//! First come stories with their texts written out. Then whoever follows is checked against a model: heals, leaves, forgets and
//! sweeps at random, connections cut at random, rings so small that they are overrun. What is seen must be what has happened,
//! each transition once, or a `reset` that was due. At the end threads do it all at once.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod model;
mod source;
mod stories;
mod threads;
#[path = "../wire/mod.rs"]
mod wire;

use serde_json::Value;
use source::Source;
use wire::Service;

fn watch(service: &Service, target: &str) -> Source {
    Source::open(service.address(), target, None)
}

/// What a poll says, and where the next one begins.
fn poll(response: &wire::Response) -> (Value, String) {
    assert_eq!(response.status, 200, "{response:?}");
    let mut body: Value = serde_json::from_str(&response.body).unwrap();
    (body["events"].take(), body["next"].as_str().unwrap().to_owned())
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}
