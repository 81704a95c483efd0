//! An engine that is dropped and opened again knows what it knew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;

use heartbeat::{Disk, Engine, Heal, Leave, ManualClock, Status, UnixSeconds, UserId};

const NOON: u32 = 1_638_360_000;
const ANA: UserId = UserId::new(1);
const BO: UserId = UserId::new(-2);

fn disk(folder: &tempfile::TempDir) -> Disk {
    Disk { segment_bytes: 16 << 10, ..Disk::at(folder.path()) }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Engine {
    Engine::builder().clock(clock.clone()).open(disk(folder)).unwrap().0
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let engine = open(&folder, &clock);
    assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
    clock.advance(3);
    assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
    assert_eq!(engine.heal(BO), Ok(Heal::Opened));
    assert_eq!(engine.leave(BO), Ok(Leave::Left));
    let before = (engine.timeline(ANA), engine.timeline(BO));
    drop(engine);

    let engine = open(&folder, &clock);
    assert_eq!((engine.timeline(ANA), engine.timeline(BO)), before);
    assert_eq!((engine.status(ANA), engine.status(BO)), (Status::Online, Status::Offline));
    assert_eq!(engine.snapshot().unwrap().users, 2);
    engine.forget(BO).unwrap();
    drop(engine);

    clock.advance(1);
    let engine = open(&folder, &clock);
    assert_eq!((engine.timeline(ANA), engine.timeline(BO)), (before.0, vec![]));
    assert_eq!(engine.outages().len(), 1);
}
