//! Each call to the operating system fails in turn: the n-th of its kind, for every n, once or from then on.
//!
//! Whatever fails: what is acknowledged is there after a kill at the end of the story, and in `always` after a loss of power;
//! reads go on; and when the disk works again, so does the service, by itself.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heartbeat::faults::{Call, Watch, watch};
use heartbeat::{
    DirectoryError, Durability, Engine, ManualClock, OpenError, ReadError, Refusal, SnapshotPlan,
    Snapshotter, UnixSeconds, UserId, WriteError,
};

use super::book::{Book, told};
use super::common::NOON;
use super::common::folder::{copy, files};
use super::image::{Dice, LUCKS};
use super::life::{Settings, folder};
use super::recorder::{Promise, Recorder};

const CALLS: [Call; 10] = [
    Call::Open,
    Call::Create,
    Call::Reserve,
    Call::Write,
    Call::Map,
    Call::SyncData,
    Call::SyncFile,
    Call::SyncFolder,
    Call::Rename,
    Call::Remove,
];
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Stories under way at once: most of their time they wait for the next attempt.
const AT_ONCE: usize = 16;
/// The service tries again every second, and a snapshot waits up to ten for a segment.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Case {
    call: Call,
    /// Counted from 0.
    nth: usize,
    is_for_good: bool,
    /// The first call on the file of this name instead, once.
    only_on: Option<&'static str>,
    errno: i32,
    durability: Durability,
}

impl Case {
    fn is_meant(self, call: Call, path: &Path, nth: usize, has_failed: bool) -> bool {
        let is_due = self.only_on.map_or(nth == self.nth || self.is_for_good && nth > self.nth, |name| {
            path.ends_with(name) && !has_failed
        });
        self.call == call && is_due
    }
}

/// Lets one call fail, and records all.
struct Failing {
    case: Mutex<Option<Case>>,
    counts: Mutex<BTreeMap<Call, usize>>,
    failed: AtomicUsize,
    recorder: Recorder,
}

/// Of a folder in which nothing is promised by itself.
fn recorder_of(folder: &tempfile::TempDir) -> Recorder {
    Recorder::new(folder.path(), Promise::Nothing, Arc::new(Mutex::new(Book::new(7, 0))))
}

impl Failing {
    fn with(recorder: Recorder) -> Arc<Self> {
        Arc::new(Self {
            case: Mutex::default(),
            counts: Mutex::default(),
            failed: AtomicUsize::new(0),
            recorder,
        })
    }

    fn lift(&self) {
        *self.case.lock().unwrap() = None;
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst) > 0
    }
}

impl Watch for Failing {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        self.recorder.before(call, path)?;
        let nth = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(call).or_default();
            *count += 1;
            *count - 1
        };
        match *self.case.lock().unwrap() {
            Some(case) if case.is_meant(call, path, nth, self.has_failed()) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                if matches!(call, Call::SyncData | Call::SyncFile) {
                    self.recorder.failed(path);
                }
                Err(io::Error::from_raw_os_error(case.errno))
            }
            _ => Ok(()),
        }
    }

    fn after(&self, call: Call, path: &Path) {
        self.recorder.after(call, path);
    }
}

/// What is known of a user's writes.
#[allow(clippy::struct_excessive_bools, reason = "each answer says one thing")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    healed: bool,
    may_have_left: bool,
    left: bool,
    may_be_forgotten: bool,
    forgotten: bool,
}

struct Story {
    settings: Settings,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    failing: Arc<Failing>,
    engine: Option<Arc<Engine>>,
    known: BTreeMap<i64, Known>,
}

impl Story {
    /// An engine that works on this folder. A start that the disk has failed is tried once more when it works again.
    fn open(&mut self) -> Result<(), String> {
        let open = || self.settings.open(self.folder.path(), self.clock.clone(), None);
        let engine = match open() {
            Ok(engine) => engine,
            Err(
                OpenError::File(_)
                | OpenError::System(_)
                | OpenError::Directory(DirectoryError::File(_))
                | OpenError::Read(ReadError::Io { .. }),
            ) if self.failing.has_failed() => {
                self.failing.lift();
                open().map_err(|error| format!("the second start refuses: {error}"))?
            }
            Err(error) => return Err(format!("the start says {error} ({error:?})")),
        };
        self.engine = Some(Arc::new(engine));
        Ok(())
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn heal(&mut self, user: i64) {
        let healed = self.engine().heal(UserId::new(user)).is_ok();
        self.known.entry(user).or_default().healed |= healed;
    }

    fn leave(&mut self, user: i64) {
        let answer = self.engine().leave(UserId::new(user));
        let known = self.known.entry(user).or_default();
        known.may_have_left = true;
        known.left = answer.is_ok() && known.healed;
    }

    fn forget(&mut self, user: i64) {
        let answer = self.engine().forget(UserId::new(user));
        let known = self.known.entry(user).or_default();
        known.may_be_forgotten = true;
        known.forgotten = answer.is_ok();
    }

    /// Not when it would wait for ten seconds for a segment that does not come.
    fn snapshot(&self) {
        if !self.engine().is_short_of_room() {
            // That it may fail is the point.
            let _ = self.engine().snapshot();
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.open()?;
        (1..6).for_each(|user| self.heal(user));
        self.clock.advance(1);
        self.leave(1);
        self.snapshot();
        (6..9).for_each(|user| self.heal(user));
        self.clock.advance(1);
        self.leave(6);
        self.forget(2);
        self.snapshot();
        self.heal(9);
        self.leave(7);
        self.check(self.engine(), "in memory")?;
        self.engine = None;
        self.open()?;
        self.heal(10);
        self.check(self.engine(), "after a stop and a start")
    }

    /// Whether what was acknowledged is there, and nothing else.
    fn check(&self, engine: &Engine, when: &str) -> Result<(), String> {
        for (&user, known) in &self.known {
            let found = told(&engine.timeline(UserId::new(user)));
            let is_right = match found[..] {
                [] => !known.healed || known.may_be_forgotten,
                [(_, until, _)] => {
                    let has_left = until < NOON + 7;
                    !known.forgotten && (has_left || !known.left) && (!has_left || known.may_have_left)
                }
                _ => false,
            };
            if !is_right {
                return Err(format!("{when}: user {user}, {known:?}, has {found:?}"));
            }
        }
        Ok(())
    }

    /// What a kill leaves now, and what a loss of power does.
    fn check_crashes(&self, case: Case) -> Result<(), String> {
        let later = || Arc::new(ManualClock::at(UnixSeconds::new(NOON + 1_000)));
        let open = |path: &Path| {
            self.settings
                .open(path, later(), None)
                .map_err(|error| format!("after a crash: {error} ({error:?})"))
        };
        let killed = folder();
        copy(self.folder.path(), killed.path());
        self.check(&open(killed.path())?, "after a kill")?;
        if case.durability != Durability::Always {
            return Ok(());
        }
        let moment = self.failing.recorder.moment("at the end");
        let mut dice = Dice(case.nth as u64);
        for luck in LUCKS {
            let left = folder();
            moment.lay_out(left.path(), luck, &mut dice);
            self.check(&open(left.path())?, &format!("after a loss of power, {luck:?}"))?;
        }
        Ok(())
    }

    /// The disk works again: so does the service, and nobody has to do anything.
    fn check_return(&mut self) -> Result<(), String> {
        self.failing.lift();
        let plan = SnapshotPlan { interval: Duration::from_secs(3_600), journal_bytes: u64::MAX };
        let engine = Arc::clone(self.engine.as_ref().unwrap());
        let snapshotter = Snapshotter::start(Arc::clone(&engine), plan, |_| {}).unwrap();
        let start = Instant::now();
        while let Err(error) = engine.heal(UserId::new(99)) {
            if start.elapsed() > BACK_WITHIN {
                return Err(format!("the disk has been well for {BACK_WITHIN:?}, and a heal gets {error}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.known.entry(99).or_default().healed = true;
        drop(snapshotter);
        drop(engine);
        self.check(self.engine(), "when the disk worked again")?;
        self.engine = None;
        self.open()?;
        self.check(self.engine(), "after the last start")
    }
}

/// Gives how many calls of each kind there were.
fn tell(case: Option<Case>, durability: Durability) -> Result<BTreeMap<Call, usize>, String> {
    let settings = Settings { durability, sync_interval: Duration::from_millis(2), ttl: 7, grace: 0 };
    let folder = folder();
    let recorder = recorder_of(&folder);
    recorder.take_one_in(u64::MAX);
    let failing = Failing::with(recorder);
    *failing.case.lock().unwrap() = case;
    let watching = watch(folder.path(), failing.clone());
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let mut story = Story { settings, folder, clock, failing, engine: None, known: BTreeMap::new() };
    story.live()?;
    if let Some(case) = case {
        story.check_crashes(case)?;
        story.check_return()?;
    }
    let counts = story.failing.counts.lock().unwrap().clone();
    drop(watching);
    Ok(counts)
}

/// Every call of every kind; one of the two errors for each, or both.
fn each_call_fails(durability: Durability, both_errors: bool) {
    let counts = tell(None, durability).unwrap();
    let mut cases = Vec::new();
    for call in CALLS {
        let count = counts.get(&call).copied().unwrap_or_default();
        assert!(count > 0 || call == Call::Remove, "{call:?} is never made");
        // How often the syncer and the preparer go round is never quite the same.
        for nth in 0..count.min(40) {
            for is_for_good in [false, true] {
                for errno in [EIO, ENOSPC] {
                    if both_errors || (nth % 2 == 0) == (errno == EIO) {
                        cases.push(Case { call, nth, is_for_good, only_on: None, errno, durability });
                    }
                }
            }
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(found) = tell(Some(case), durability) {
                        next.store(cases.len(), Ordering::SeqCst);
                        panic!("{case:?}: {found}");
                    }
                }
            });
        }
    });
    println!("{durability:?}: {} ways for a call to fail", cases.len());
}

#[test]
fn in_always_any_call_may_fail() {
    each_call_fails(Durability::Always, false);
}

#[test]
fn in_interval_any_call_may_fail() {
    each_call_fails(Durability::Interval, false);
}

#[test]
#[ignore = "long: both errors, in all three modes"]
fn any_call_may_fail_with_either_error_in_every_mode() {
    for durability in [Durability::Always, Durability::Interval, Durability::Process] {
        each_call_fails(durability, true);
    }
}

/// Design section 4: refused at once, then a snapshot into new files, a new segment, and only then writes again; and the older
/// generation, whose segment lacks what the disk lost, is gone.
#[test]
fn a_sync_that_failed_is_never_believed_again() {
    let settings =
        Settings { durability: Durability::Always, sync_interval: Duration::from_secs(60), ttl: 7, grace: 0 };
    let folder = folder();
    let failing = Failing::with(recorder_of(&folder));
    let _watching = watch(folder.path(), failing.clone());
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
    let engine = settings.open(folder.path(), clock, None).unwrap();
    let user = UserId::new;
    engine.heal(user(1)).unwrap();
    engine.snapshot().unwrap();
    // Of the segment that the snapshot has put into service: the sealed one is synced once more for its mark, by and by.
    *failing.case.lock().unwrap() = Some(Case {
        call: Call::SyncData,
        nth: 0,
        is_for_good: false,
        only_on: Some("journal-0000000002.seg"),
        errno: EIO,
        durability: Durability::Always,
    });
    assert_eq!(engine.heal(user(2)), Err(WriteError::Journal(Refusal::SyncFailed)));
    assert!(failing.has_failed());
    for _ in 0..3 {
        assert_eq!(engine.heal(user(3)), Err(WriteError::Journal(Refusal::SyncFailed)));
        assert_eq!(engine.refusal(), Some(Refusal::SyncFailed));
    }
    assert!(engine.timeline(user(3)).is_empty(), "a write that is refused leaves no trace");
    assert_eq!(engine.timeline(user(1)).len(), 1, "reads go on");

    engine.snapshot().unwrap();
    engine.heal(user(4)).unwrap();
    let snapshots =
        files(folder.path()).into_iter().filter(|file| file.extension().is_some_and(|end| end == "snap"));
    assert_eq!(snapshots.count(), 1, "the older generation lacks what was lost");
    let moment = failing.recorder.moment("now");
    let mut dice = Dice(1);
    for luck in LUCKS {
        let left = super::life::folder();
        moment.lay_out(left.path(), luck, &mut dice);
        let later = Arc::new(ManualClock::at(UnixSeconds::new(NOON + 1_000)));
        let after = settings.open(left.path(), later, None).unwrap();
        for acknowledged in [1, 4] {
            assert_eq!(after.timeline(user(acknowledged)).len(), 1, "{luck:?}, user {acknowledged}");
        }
    }
}

/// Files cannot be made, and that is no lack of room: giving anything up would not help.
#[test]
fn the_older_generation_is_given_up_for_room_only() {
    for (errno, left) in [(EIO, 2), (ENOSPC, 1)] {
        let settings = Settings {
            durability: Durability::Always,
            sync_interval: Duration::from_secs(60),
            ttl: 7,
            grace: 0,
        };
        let folder = folder();
        let failing = Failing::with(recorder_of(&folder));
        let _watching = watch(folder.path(), failing.clone());
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = settings.open(folder.path(), clock, None).unwrap();
        engine.heal(UserId::new(1)).unwrap();
        engine.snapshot().unwrap();
        let nth = failing.counts.lock().unwrap()[&Call::Reserve];
        *failing.case.lock().unwrap() = Some(Case {
            call: Call::Reserve,
            nth,
            is_for_good: true,
            only_on: None,
            errno,
            durability: Durability::Always,
        });
        for user in 1_000.. {
            if engine.is_short_of_room() {
                break;
            }
            // A full segment brings the preparer to its next attempt.
            let _ = engine.heal(UserId::new(user));
        }
        engine.snapshot().unwrap();
        let is_snapshot = |file: &std::path::PathBuf| file.extension().is_some_and(|end| end == "snap");
        assert_eq!(files(folder.path()).iter().filter(|file| is_snapshot(file)).count(), left, "{errno}");
    }
}
