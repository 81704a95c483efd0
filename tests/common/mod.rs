//! What several tests need: an engine on a clock that stands still, and a short way to write a session down.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod call;
pub mod folder;
pub mod reference;

use std::sync::Arc;

use heartbeat::{Builder, End, Engine, ManualClock, Session, Ttl, UnixSeconds, UserId};

/// 2021-12-01T12:00:00Z, the known instant that tests start from.
pub const NOON: u32 = 1_638_360_000;
pub const ANA: UserId = UserId::new(12_345);
/// In another shard than Ana, under the checker too.
pub const BO: UserId = UserId::new(-8);

/// An engine with the default ttl of 7 seconds and no grace, and its clock, which stands at `start`.
pub fn engine_at(start: u32) -> (Engine, Arc<ManualClock>) {
    engine_with(start, |builder| builder)
}

pub fn engine_with(start: u32, settings: impl FnOnce(Builder) -> Builder) -> (Engine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(start)));
    (settings(Engine::builder()).clock(clock.clone()).build(), clock)
}

pub fn ttl(seconds: u32) -> Ttl {
    Ttl::from_seconds(seconds).expect("tests ask for a ttl within its limits")
}

pub fn live(online_at: u32, deadline: u32) -> Session {
    session(online_at, deadline, End::Live)
}

pub fn lapsed(online_at: u32, offline_at: u32) -> Session {
    session(online_at, offline_at, End::Lapsed)
}

pub fn left(online_at: u32, offline_at: u32) -> Session {
    session(online_at, offline_at, End::Left)
}

fn session(online_at: u32, offline_at: u32, end: End) -> Session {
    Session { online_at: UnixSeconds::new(online_at), offline_at: UnixSeconds::new(offline_at), end }
}
