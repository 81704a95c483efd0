//! Whatever writers, syncer, preparer and snapshots do at the same time, the journal keeps its promises.
//!
//! Only with `RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle cargo test --no-default-features --lib journal::`:
//! [shuttle](https://docs.rs/shuttle) runs the threads one at a time and tries thousands of interleavings. Every atomic and
//! lock of the journal, and every word of a segment, is a place where it may change threads. Memory is ordinary, and the disk
//! is a stand-in (`stand_in`) that knows what a sync has seen.
//!
//! No time passes: nobody is woken by a timeout, so a wake-up that is lost is a run that does not end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::RwLock;
use shuttle::{Config, MaxSteps, Runner, thread};

use super::stand_in::{self, Disk};
use super::*;
use crate::time::{ManualClock, Ttl, UnixSeconds};
use crate::user_id::UserId;

/// Of each test with each scheduler.
const ITERATIONS: usize = 500;
/// No run that ends takes so many. One that waits for ever does: the preparer goes on looking.
const STEPS_MAX: usize = 50_000;
const NOON: u32 = 1_638_360_000;
/// Slots in a segment: few, so that a run goes through several.
const SLOTS: u64 = 3;
/// Under the checker for ever.
const PATIENCE: Duration = Duration::from_secs(1);

fn check(run: impl Fn(&Plan) + Send + Sync + 'static) {
    let folder = tempfile::tempdir().unwrap();
    // Nobody writes there; the preparer looks whether it is still in its place.
    let directory = Arc::new(Directory::open(folder.path()).unwrap());
    let header = Header {
        directory: DirectoryId::random().unwrap(),
        number: 0,
        previous: 0,
        salt: 0,
        length: SLOTS_AT + SLOTS * SLOT_BYTES,
        ttl: Ttl::DEFAULT,
        grace: 0,
    };
    let run = Arc::new(run);
    for scheduler in [
        Box::new(RandomScheduler::new(ITERATIONS)) as Box<dyn Scheduler + Send>,
        Box::new(PctScheduler::new(3, ITERATIONS)),
    ] {
        let mut config = Config::new();
        config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
        config.stack_size = 1 << 18;
        let (run, directory, header) = (Arc::clone(&run), Arc::clone(&directory), header.clone());
        Runner::new(scheduler, config).run(move || {
            stand_in::begin(None);
            run(&Plan {
                durability: Durability::Always,
                sync_interval: PATIENCE,
                header: header.clone(),
                directory: Arc::clone(&directory),
                clock: Arc::new(ManualClock::at(UnixSeconds::new(NOON))),
                report: Arc::new(|_| ()),
            });
        });
    }
}

fn start(plan: &Plan) -> Arc<Journal> {
    Arc::new(Journal::start(plan.clone(), 0, 0).unwrap())
}

fn slot(id: i64) -> Slot {
    let second = UnixSeconds::new(NOON);
    Slot { kind: Kind::Live, user: UserId::new(id), online_at: second, until: second }
}

/// The ids of these slots. One that is being written while we look is bad, and counts as little as an empty one.
fn ids(slots: &[Found]) -> Vec<i64> {
    let id = |found: &Found| match found {
        Found::Slot(slot) => Some(slot.user.as_i64()),
        Found::Empty | Found::Bad => None,
    };
    slots.iter().filter_map(id).collect()
}

fn is_on_disk(id: i64) -> bool {
    let is_it = |found: &Found| *found == Found::Slot(slot(id));
    stand_in::disks().iter().any(|disk| disk.on_disk().iter().any(is_it))
}

/// What has come of writes.
#[derive(Debug, Default)]
struct Written {
    taken: Vec<i64>,
    /// Of those the ones that were acknowledged in `always`.
    confirmed: Vec<i64>,
    refused: Vec<i64>,
}

/// Writes each once, and waits for the disk as the mode asks.
fn write(journal: &Journal, ids: impl IntoIterator<Item = i64>) -> Written {
    let mut written = Written::default();
    for id in ids {
        if journal.append(slot(id)).is_err() {
            written.refused.push(id);
            look_again(PATIENCE);
            continue;
        }
        written.taken.push(id);
        let Some(ticket) = journal.ticket() else { continue };
        if confirm(journal, ticket).is_ok() {
            assert!(is_on_disk(id), "{id} was acknowledged");
            written.confirmed.push(id);
        }
    }
    written
}

/// As a thread that waits, or as one that has better to do and asks now and then.
fn confirm(journal: &Journal, ticket: sync::Ticket) -> Result<(), Refusal> {
    if thread_rng().gen_range(0..2) == 0 {
        return journal.wait(ticket);
    }
    loop {
        if let Some(outcome) = journal.outcome(ticket) {
            return outcome;
        }
        look_again(PATIENCE);
    }
}

fn write_from(journal: &Arc<Journal>, threads: i64, each: i64) -> Vec<thread::JoinHandle<Written>> {
    let spawn = |number| {
        let journal = Arc::clone(journal);
        thread::spawn(move || write(&journal, number * each + 1..=(number + 1) * each))
    };
    (0..threads).map(spawn).collect()
}

fn joined(threads: Vec<thread::JoinHandle<Written>>) -> Written {
    let mut all = Written::default();
    for thread in threads {
        let written = thread.join().unwrap();
        all.taken.extend(written.taken);
        all.confirmed.extend(written.confirmed);
        all.refused.extend(written.refused);
    }
    all.taken.sort_unstable();
    all
}

/// Stands for the time that passes where the syncer or a snapshot waits for it.
fn wake_syncer(journal: &Arc<Journal>, times: u32) -> thread::JoinHandle<()> {
    let journal = Arc::clone(journal);
    thread::spawn(move || {
        for _ in 0..times {
            journal.state.syncs.syncer.get().unwrap().unpark();
            look_again(PATIENCE);
        }
    })
}

/// What was taken stands there, each once, and nothing else; segments follow one another.
fn check_memory(taken: &[i64]) {
    let disks = stand_in::disks();
    let mut found: Vec<i64> = disks.iter().flat_map(|disk| ids(&disk.in_memory())).collect();
    found.sort_unstable();
    assert_eq!(found, taken, "each once, and nothing that was refused");
    let numbers: Vec<u64> = disks.iter().map(|disk| disk.number).collect();
    assert_eq!(numbers, (1..=disks.len() as u64).collect::<Vec<_>>());
}

/// All of it is on disk, and the marks say so.
fn check_disk() {
    for disk in stand_in::disks() {
        assert_eq!(ids(&disk.on_disk()), ids(&disk.in_memory()), "segment {}", disk.number);
        assert_eq!(disk.mark() as usize, ids(&disk.in_memory()).len(), "segment {}", disk.number);
    }
}

/// Two segments are ready behind the one in service, each behind the one before it, and no other has been made.
fn check_ahead(journal: &Journal) {
    let current = journal.state.current.load_full();
    let next = loop {
        if let Some(next) = current.next().and_then(|next| next.next().cloned()) {
            break next;
        }
        look_again(PATIENCE);
    };
    assert_eq!(next.number, current.number + 2);
    assert!(next.next().is_none());
    assert_eq!(stand_in::disks().last().unwrap().number, next.number);
}

#[test]
fn what_is_acknowledged_in_always_is_on_disk() {
    check(|plan| {
        let journal = start(plan);
        let written = joined(write_from(&journal, 3, 2));
        assert_eq!(written.confirmed.len(), written.taken.len());
        check_ahead(&journal);
        journal.close();
        check_memory(&written.taken);
        check_disk();
        assert_eq!(journal.written(), written.taken.len() as u64);
    });
}

#[test]
fn a_journal_that_is_closed_has_left_nothing_unsynced() {
    check(|plan| {
        let durability = match thread_rng().gen_range(0..2) {
            0 => Durability::Process,
            _ => Durability::Interval,
        };
        // Under the checker a pause of zero is over, and any other is not.
        let journal = start(&Plan { durability, sync_interval: Duration::ZERO, ..plan.clone() });
        let waking = wake_syncer(&journal, 3);
        let written = joined(write_from(&journal, 2, 4));
        waking.join().unwrap();
        journal.close();
        check_memory(&written.taken);
        check_disk();
        assert_eq!(journal.written(), written.taken.len() as u64);
    });
}

/// Users of even and of odd ids, as in the roster: a bit for each that is known.
#[derive(Default)]
struct Shards([(RwLock<()>, AtomicU64); 2]);

impl Shards {
    fn of(&self, id: i64) -> &(RwLock<()>, AtomicU64) {
        &self.0[usize::from(id % 2 != 0)]
    }

    /// Guard, slot, apply, release.
    fn write(&self, journal: &Journal, id: i64) -> bool {
        let (lock, known) = self.of(id);
        let _guard = lock.read().unwrap();
        let is_taken = journal.append(slot(id)).is_ok();
        if is_taken {
            known.fetch_or(1 << id, Ordering::SeqCst);
        }
        is_taken
    }

    fn copy(&self) -> BTreeSet<i64> {
        let copied = self.0.iter().map(|(lock, known)| {
            let _guard = lock.write().unwrap();
            known.load(Ordering::SeqCst)
        });
        let copied = copied.fold(0, |all, shard| all | shard);
        (0..64).filter(|id| copied & 1 << id != 0).collect()
    }
}

/// A snapshot: the first segment that is not in it, and whom it knows.
fn snapshot(journal: &Journal, shards: &Shards) -> (u64, BTreeSet<i64>) {
    let first = journal.rotate(PATIENCE).unwrap();
    let copied = shards.copy();
    let reserved: Vec<Vec<i64>> = from(first).iter().map(|disk| ids(&disk.in_memory())).collect();
    journal.wait(journal.next_sync()).unwrap();
    for (disk, reserved) in from(first).iter().zip(reserved) {
        let on_disk = ids(&disk.on_disk());
        assert!(
            reserved.iter().all(|id| on_disk.contains(id)),
            "{reserved:?} before the barrier, {on_disk:?}"
        );
    }
    (first, copied)
}

fn from(first: u64) -> Vec<Disk> {
    stand_in::disks().into_iter().filter(|disk| disk.number >= first).collect()
}

/// What is in a segment before the one that a rotation gave is in the snapshot, and what the snapshot has beyond that the
/// disk has, too.
#[test]
fn a_snapshot_and_what_is_replayed_from_its_first_segment_are_everything() {
    check(|plan| {
        let durability = match thread_rng().gen_range(0..2) {
            0 => Durability::Process,
            _ => Durability::Always,
        };
        let journal = start(&Plan { durability, ..plan.clone() });
        let shards = Arc::new(Shards::default());
        let writers: Vec<_> = (0..2)
            .map(|number| {
                let (journal, shards) = (Arc::clone(&journal), Arc::clone(&shards));
                thread::spawn(move || {
                    (number * 4 + 1..=number * 4 + 4)
                        .filter(|&id| shards.write(&journal, id))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let taken = [snapshot(&journal, &shards), snapshot(&journal, &shards)];
        let mut written: Vec<i64> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        written.sort_unstable();
        journal.close();
        check_memory(&written);
        check_disk();
        assert_eq!(journal.written(), written.len() as u64);
        for (first, copied) in taken {
            for disk in stand_in::disks().iter().filter(|disk| disk.number < first) {
                let before = ids(&disk.in_memory());
                assert!(before.iter().all(|id| copied.contains(id)), "{before:?} before {first}, {copied:?}");
            }
        }
    });
}

#[test]
fn after_a_failed_sync_nobody_waits_for_ever_and_nothing_is_believed() {
    check(|plan| {
        stand_in::begin(Some(thread_rng().gen_range(0..4)));
        let journal = start(plan);
        let written = joined(write_from(&journal, 3, 2));
        let has_failed = journal.refusal() == Some(Refusal::SyncFailed);
        if has_failed {
            assert_eq!(journal.append(slot(60)), Err(Refusal::SyncFailed));
        }
        assert!(written.confirmed.iter().all(|&id| is_on_disk(id)));
        check_memory(&written.taken);
        // A snapshot of what is in memory, and writes are taken again.
        journal.rotate(PATIENCE).unwrap();
        stand_in::begin_again();
        journal.resume();
        let again = write(&journal, [61]);
        assert_eq!(again.confirmed, [61]);
        journal.close();
        assert!(written.confirmed.iter().all(|&id| is_on_disk(id)));
    });
}

/// Every place is given to one writer, and whoever seals knows them all.
#[test]
fn a_segment_that_is_sealed_while_others_write_knows_all_it_took() {
    check(|_| {
        let segment = Arc::new(Segment::in_memory(1, 42, 4));
        let seal = |_| {
            let segment = Arc::clone(&segment);
            thread::spawn(move || segment.seal())
        };
        let sealing: Vec<_> = (0..2).map(seal).collect();
        let append = |id| {
            let segment = Arc::clone(&segment);
            thread::spawn(move || {
                [id, id + 1].into_iter().filter(|&id| segment.append(slot(id))).collect::<Vec<_>>()
            })
        };
        let appending: Vec<_> = [1, 3, 5].into_iter().map(append).collect();
        for thread in sealing {
            thread.join().unwrap();
        }
        let reserved = segment.reserved();
        let mut taken: Vec<i64> = appending.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        taken.sort_unstable();
        check_memory(&taken);
        assert_eq!((reserved as usize, segment.committed_from(0) as usize), (taken.len(), taken.len()));
        assert!(segment.is_full());
        assert!(!segment.append(slot(9)));
    });
}
