#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::time::{ManualClock, Ttl, UnixSeconds};
use crate::user_id::UserId;

const NOON: u32 = 1_638_360_000;
/// The shortest segments there are: 341 slots.
const BYTES: u64 = 16 << 10;
const SLOTS: u32 = 341;
const PATIENCE: Duration = Duration::from_secs(10);

type Reports = Arc<Mutex<Vec<String>>>;

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    reports: Reports,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(UnixSeconds::new(NOON))),
            reports: Arc::default(),
        }
    }

    fn journal(&self, durability: Durability) -> Journal {
        let directory = Arc::new(Directory::open(self.folder.path()).unwrap());
        let header = Header {
            directory: DirectoryId::random().unwrap(),
            number: 0,
            previous: 0,
            salt: 0,
            length: BYTES,
            ttl: Ttl::DEFAULT,
            grace: 0,
        };
        let reports = Arc::clone(&self.reports);
        let report: Report = Arc::new(move |report| reports.lock().unwrap().push(format!("{report:?}")));
        let clock = self.clock.clone();
        let sync_interval = Duration::from_millis(5);
        let plan = Plan { durability, sync_interval, header, directory, clock, report };
        Journal::start(plan, 0, 0).unwrap()
    }

    /// All slots of all segments, by number and place.
    fn slots(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        for file in segment_files(self.folder.path()) {
            file.read(0..file.capacity(), |_, slot| slots.push(slot)).unwrap();
        }
        slots
    }

    fn wait_for(&self, report: &str) {
        until(|| self.reports.lock().unwrap().iter().any(|told| told.starts_with(report)));
    }
}

fn segment_files(folder: &Path) -> Vec<SegmentFile> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .map(|path| SegmentFile::open(&path).unwrap())
        .collect();
    files.sort_by_key(|file| file.header.number);
    files
}

#[allow(clippy::disallowed_methods)] // how long a test waits for another thread
fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it does not come about");
        std::thread::yield_now();
    }
}

fn slot(id: i64) -> Slot {
    Slot {
        kind: Kind::Live,
        user: UserId::new(id),
        online_at: UnixSeconds::new(NOON),
        until: UnixSeconds::new(NOON + 7),
    }
}

/// Appends from several threads, each its own ids, each once, and gives what was taken and what refused.
fn append_from(journal: &Journal, threads: i64, each: i64) -> (HashSet<i64>, HashSet<i64>) {
    let append = |thread: i64| {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for id in thread * each..(thread + 1) * each {
            if journal.append(slot(id)).is_ok() {
                taken.push(id);
            } else {
                refused.push(id);
                until(|| journal.refusal().is_none());
            }
        }
        (taken, refused)
    };
    let append = &append;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || append(thread))).collect();
        let (mut taken, mut refused) = (HashSet::new(), HashSet::new());
        for thread in running {
            let (some, others) = thread.join().unwrap();
            taken.extend(some);
            refused.extend(others);
        }
        (taken, refused)
    })
}

fn check_found(bench: &Bench, taken: &HashSet<i64>) {
    let found: Vec<i64> = bench.slots().iter().map(|slot| slot.user.as_i64()).collect();
    assert_eq!(found.len(), taken.len(), "each once");
    assert_eq!(&found.into_iter().collect::<HashSet<_>>(), taken);
}

#[test]
fn what_several_threads_append_is_found_once_and_what_was_refused_is_not_found() {
    for durability in [Durability::Process, Durability::Interval, Durability::Always] {
        let bench = Bench::new();
        let journal = bench.journal(durability);
        let (taken, refused) = append_from(&journal, 4, 4_000);
        assert_eq!(taken.len() + refused.len(), 16_000);
        assert!(journal.position().0 > 20, "over many segments");
        check_found(&bench, &taken);
        drop(journal);
        check_found(&bench, &taken);
        for file in segment_files(bench.folder.path()) {
            let slots = file.read(0..file.capacity(), |_, _| {}).unwrap().verdicts;
            assert_eq!(u64::from(file.synced.value()), slots.good, "{}", file.path.display());
        }
    }
}

#[test]
fn rotation_while_others_append_loses_and_doubles_nothing() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Interval);
    let taken = std::thread::scope(|scope| {
        let appending = scope.spawn(|| append_from(&journal, 3, 5_000).0);
        let mut last = 0;
        while !appending.is_finished() {
            let number = journal.rotate(PATIENCE).unwrap();
            assert!(number > last, "{number} after {last}");
            last = number;
        }
        appending.join().unwrap()
    });
    check_found(&bench, &taken);
    drop(journal);
    check_found(&bench, &taken);
}

/// Every slot that was acknowledged before the rotation is in an earlier segment.
#[test]
fn what_was_written_before_a_rotation_is_in_an_earlier_segment() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Process);
    for turn in 0..20 {
        journal.append(slot(turn)).unwrap();
        let old = journal.state.current.load_full();
        let number = journal.rotate(PATIENCE).unwrap();
        assert!(!old.append(slot(turn)), "whoever comes late looks again");
        assert_eq!(journal.position(), (number, 0));
        let earlier = segment_files(bench.folder.path());
        let earlier = earlier.iter().filter(|file| file.header.number < number);
        let slots: u64 =
            earlier.map(|file| file.read(0..file.capacity(), |_, _| {}).unwrap().verdicts.good).sum();
        assert_eq!(slots, turn.unsigned_abs() + 1);
    }
}

#[test]
fn a_ticket_is_kept_by_a_sync_that_began_later_and_covers_what_was_written_before() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Always);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..10 {
                    journal.append(slot(thread * 10 + n)).unwrap();
                    let begun = journal.state.syncs.begun();
                    let ticket = journal.ticket().unwrap();
                    assert!(ticket > super::sync::Ticket::of(begun), "a sync under way does not count");
                    assert_eq!(journal.wait(ticket), Ok(()));
                    assert_eq!(journal.outcome(ticket), Some(Ok(())));
                    assert!(journal.state.syncs.begun() > begun);
                }
            });
        }
    });
    assert_eq!(segment_files(bench.folder.path())[0].synced.value(), 80, "no writer has left a hole");
}

#[test]
fn only_always_has_tickets_and_any_mode_can_ask_for_a_sync() {
    for (durability, has) in
        [(Durability::Process, false), (Durability::Interval, false), (Durability::Always, true)]
    {
        let bench = Bench::new();
        let journal = bench.journal(durability);
        journal.append(slot(1)).unwrap();
        assert_eq!(journal.ticket().is_some(), has);
        assert_eq!(journal.wait(journal.next_sync()), Ok(()));
        assert_eq!(segment_files(bench.folder.path())[0].synced.value(), 1);
    }
}

#[test]
fn a_segment_is_let_go_when_it_is_synced_and_nobody_holds_it() {
    for durability in [Durability::Process, Durability::Interval] {
        let bench = Bench::new();
        let journal = bench.journal(durability);
        let first = journal.state.current.load_full();
        let watched = Arc::downgrade(&first);
        journal.append(slot(1)).unwrap();
        journal.rotate(PATIENCE).unwrap();
        for _ in 0..20 {
            journal.wait(journal.next_sync()).unwrap();
            assert!(watched.strong_count() > 1, "the syncer keeps what a writer may still look at");
        }
        drop(first);
        until(|| {
            journal.wait(journal.next_sync()).unwrap();
            watched.strong_count() == 0
        });
    }
}

#[test]
fn a_segment_with_a_hole_is_kept_and_its_mark_stays_before_the_hole() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Interval);
    journal.append(slot(1)).unwrap();
    let first = Arc::downgrade(&journal.state.current.load_full());
    // A writer that has reserved a place and is not heard of again.
    journal.state.current.load().reserve_only();
    journal.append(slot(2)).unwrap();
    journal.rotate(PATIENCE).unwrap();
    for _ in 0..20 {
        assert_eq!(journal.wait(journal.next_sync()), Ok(()), "it holds nobody up");
    }
    assert!(first.strong_count() > 0);
    assert_eq!(segment_files(bench.folder.path())[0].synced.value(), 1);
}

#[test]
fn without_a_next_segment_writes_are_refused_until_there_is_one() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Interval);
    until(|| segment_files(bench.folder.path()).len() == 3);
    let away = bench.folder.path().with_extension("away");
    std::fs::rename(bench.folder.path(), &away).unwrap();

    let mut taken = 0;
    until(|| journal.state.current.load().next().is_some_and(|next| next.next().is_some()));
    while journal.append(slot(taken)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, i64::from(3 * SLOTS), "all that had been prepared");
    assert_eq!(journal.append(slot(taken)), Err(Refusal::NoRoom));
    assert_eq!(journal.refusal(), Some(Refusal::NoRoom));
    assert_eq!(journal.rotate(Duration::ZERO), Err(Refusal::NoRoom));
    bench.wait_for("NotPrepared");

    std::fs::rename(&away, bench.folder.path()).unwrap();
    until(|| journal.refusal().is_none());
    assert_eq!(journal.append(slot(taken)), Ok(()));
    bench.wait_for("PreparedAgain");
    check_found(&bench, &(0..=taken).collect());
}

#[test]
fn on_a_healthy_disk_nothing_is_refused() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Interval);
    for id in 0..5_000 {
        loop {
            match journal.append(slot(id)) {
                Ok(()) => break,
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::NoRoom, "but for a disk that is slower than the test");
                }
            }
            std::thread::yield_now();
        }
    }
    assert!(journal.unsynced() < OVERDUE);
}

#[test]
fn writes_are_refused_when_the_disk_has_not_answered_for_too_long() {
    for durability in [Durability::Interval, Durability::Always, Durability::Process] {
        let bench = Bench::new();
        let journal = bench.journal(durability);
        journal.close(); // nobody syncs any more
        journal.append(slot(1)).unwrap();
        journal.hang();
        if durability == Durability::Process {
            assert_eq!(journal.append(slot(2)), Ok(()), "it promises nothing about the disk");
            continue;
        }
        assert_eq!(journal.append(slot(2)), Err(Refusal::Overdue));
        assert_eq!(journal.wait(journal.next_sync()), Err(Refusal::Overdue), "nobody waits for ever");
        assert_eq!(bench.slots().len(), 1);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_taken_or_promised_until_it_resumes() {
    let bench = Bench::new();
    let journal = bench.journal(Durability::Always);
    journal.append(slot(1)).unwrap();
    journal.fail();
    assert_eq!(journal.append(slot(2)), Err(Refusal::SyncFailed));
    assert_eq!(journal.wait(journal.next_sync()), Err(Refusal::SyncFailed));

    let number = journal.rotate(PATIENCE).unwrap();
    journal.resume();
    journal.append(slot(3)).unwrap();
    assert_eq!(journal.wait(journal.next_sync()), Ok(()));
    assert_eq!(journal.position(), (number, 1));
    check_found(&bench, &HashSet::from([1, 3]));
}

#[test]
fn dropped_it_leaves_the_mark_at_the_end_and_says_until_when_it_was_there() {
    for durability in [Durability::Process, Durability::Interval, Durability::Always] {
        let bench = Bench::new();
        let journal = bench.journal(durability);
        for id in 0..5 {
            journal.append(slot(id)).unwrap();
        }
        bench.clock.advance(60);
        drop(journal);
        let first = &segment_files(bench.folder.path())[0];
        assert_eq!((first.synced.value(), first.alive.value()), (5, NOON + 60));
    }
}

/// Made by another program from the drawings in `header`, `mark` and `slot`.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/journal-v1.seg");
const GOLDEN_SALT: u64 = 0x0123_4567_89ab_cdef;

fn golden_header() -> Header {
    Header {
        directory: DirectoryId::from_bytes(std::array::from_fn(|byte| u8::try_from(byte).unwrap())),
        number: 3,
        previous: 2,
        salt: GOLDEN_SALT,
        length: GOLDEN.len() as u64,
        ttl: Ttl::DEFAULT,
        grace: 2,
    }
}

fn golden_slots() -> Vec<Slot> {
    let slot = |kind, user, online_at, until| Slot {
        kind,
        user: UserId::new(user),
        online_at: UnixSeconds::new(online_at),
        until: UnixSeconds::new(until),
    };
    vec![
        slot(Kind::Live, 1, NOON, NOON + 7),
        slot(Kind::Left, 1, NOON, NOON + 3),
        slot(Kind::Live, -5, NOON + 1, NOON + 8),
        slot(Kind::Closed, 7, NOON - 100, NOON - 50),
        slot(Kind::Outage, 0, NOON + 8, NOON + 30),
        slot(Kind::Forgotten, 1, NOON + 31, NOON + 31),
        slot(Kind::Void, 0, 0, 0),
    ]
}

#[test]
fn todays_bytes_are_those_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let file = write_segment(&directory, &golden_header()).unwrap();
    let segment = Segment::map(&golden_header(), file).unwrap();
    for slot in golden_slots() {
        assert!(segment.append(slot));
    }
    segment.set(mark::Mark::Synced, 4);
    segment.stamp_alive(UnixSeconds::new(NOON + 42));
    segment.sync().unwrap();
    let written = std::fs::read(folder.path().join("journal-0000000003.seg")).unwrap();
    assert_eq!(written.len(), GOLDEN.len());
    let differs = written.iter().zip(GOLDEN).position(|(written, golden)| written != golden);
    assert_eq!(differs, None, "the format has changed: then its version must, too");
}

#[test]
fn a_segment_of_version_1_still_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal-0000000003.seg");
    std::fs::write(&path, GOLDEN).unwrap();
    let file = SegmentFile::open(&path).unwrap();
    assert_eq!(file.header, golden_header());
    assert_eq!((file.synced, file.alive), (MarkFound::Value(4), MarkFound::Value(NOON + 42)));
    let mut slots = Vec::new();
    let row = file.read(0..file.capacity(), |_, slot| slots.push(slot)).unwrap();
    assert_eq!(slots, golden_slots());
    assert_eq!(row.verdicts, Verdicts { good: 7, empty: 0, torn: 0 });
}
