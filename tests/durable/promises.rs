//! What a start owes, apart from what was written last.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heartbeat::faults::{Call, Watch, watch};
use heartbeat::{Durability, Heal, Refusal, UnixSeconds, WriteError};

use super::common::folder::{Site, files, flip, heal, overwrite, slot_at, three_heals};
use super::common::{ANA, BO, NOON};

#[test]
fn a_slot_that_was_synced_and_is_not_whole_is_never_passed_over() {
    let site = Site::synced(NOON);
    drop(three_heals(&site));
    flip(&site.segment(1), slot_at(1));
    assert!(site.try_open().is_err());
}

/// Above the synced mark half a slot is what a loss of power may leave: it is counted, and is nobody's.
#[test]
fn half_a_slot_that_was_not_synced_is_nobodys() {
    let site = Site::new(NOON);
    let _engine = three_heals(&site);
    let killed = site.killed();
    overwrite(&killed.segment(1), slot_at(1), &[0; 8]);
    let (after, recovery) = killed.open();
    assert_eq!((recovery.slots.torn, after.figures().users), (1, 2));
}

#[test]
fn what_retention_has_dropped_does_not_come_back() {
    let mut site = Site::new(NOON);
    site.builder = site.builder.clone().retain_sessions(1);
    let (engine, _) = site.open();
    for _ in 0..3 {
        heal(&engine, ANA);
        site.clock.advance(60);
        engine.sweep();
    }
    let kept = engine.timeline(ANA).len();
    let (after, _) = site.killed().open();
    assert_eq!((kept, after.timeline(ANA).len()), (1, 1));
}

#[test]
fn an_outage_is_known_from_the_last_second_in_which_the_service_was_there() {
    let site = Site::new(NOON);
    let (engine, _) = site.open();
    heal(&engine, ANA);
    // The syncer stamps every second.
    site.clock.advance(30);
    let stamped = Instant::now();
    let killed = loop {
        let killed = site.killed();
        killed.clock.advance(100);
        if killed.try_open().is_ok_and(|(_, recovery)| {
            recovery.outage == Some((UnixSeconds::new(NOON + 30), UnixSeconds::new(NOON + 130)))
        }) {
            break killed;
        }
        assert!(stamped.elapsed() < Duration::from_secs(10), "the alive second is never stamped");
        std::thread::yield_now();
    };
    killed.clock.advance(1);
    let (again, _) = killed.open();
    assert_eq!(again.outages()[0], (UnixSeconds::new(NOON + 30), UnixSeconds::new(NOON + 130)));
}

#[test]
fn who_was_forgotten_is_in_no_file_after_the_next_snapshot() {
    let site = Site::new(NOON);
    let (engine, _) = site.open();
    heal(&engine, ANA);
    heal(&engine, BO);
    engine.snapshot().unwrap();
    engine.forget(ANA).unwrap();
    engine.snapshot().unwrap();
    drop(engine); // its preparer renames the next segment whenever it is ready
    let ana = ANA.as_i64().to_le_bytes();
    for file in files(site.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|window| window == ana), "{}", file.display());
    }
}

/// Syncs hang.
#[derive(Default)]
struct Hanging(AtomicBool);

impl Watch for Hanging {
    fn before(&self, call: Call, _: &Path) -> io::Result<()> {
        while call == Call::SyncData && self.0.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// The bound of `interval`: a disk that says nothing for five seconds more than the interval gets no more writes to lose.
#[test]
fn a_disk_that_hangs_is_not_waited_for_for_ever() {
    let site = Site { durability: Durability::Interval, ..Site::new(NOON) };
    let hanging = Arc::new(Hanging::default());
    let _watching = watch(site.path(), hanging.clone());
    let (engine, _) = site.open();
    hanging.0.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let refused = loop {
        site.clock.advance(1);
        match engine.heal(ANA) {
            Ok(Heal::Opened | Heal::Extended | Heal::Unchanged) => {}
            Err(error) => break error,
        }
        if start.elapsed() > Duration::from_secs(20) {
            hanging.0.store(false, Ordering::SeqCst);
            panic!("twenty seconds without a word of the disk");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    hanging.0.store(false, Ordering::SeqCst);
    assert_eq!(refused, WriteError::Journal(Refusal::Overdue));
}
