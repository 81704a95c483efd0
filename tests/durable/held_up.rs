//! A thread is held up between two steps, the others go on, and the power goes.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use heartbeat::faults::{Call, Place, Watch, Watching, watch};
use heartbeat::{Durability, Engine, Heal, Leave, ManualClock, UnixSeconds, UserId};

use super::book::{Book, told};
use super::common::{ANA, BO, NOON};
use super::image::{Dice, LUCKS, Luck};
use super::life::{Settings, folder};
use super::recorder::{Promise, Recorder};

const ALWAYS: Settings =
    Settings { durability: Durability::Always, sync_interval: Duration::from_secs(60), ttl: 7, grace: 0 };

thread_local! {
    /// Where this thread is to be held up.
    static HELD_AT: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Holds up threads that want it, records everything, and does something when a file is made.
#[derive(Default)]
struct Bystander {
    recorder: Mutex<Option<Arc<Recorder>>>,
    /// Threads that are held up, and whether they may go on.
    held: AtomicUsize,
    may_go_on: Mutex<bool>,
    signal: Condvar,
    /// So many of the next syncs of the journal fail.
    failures: AtomicUsize,
    /// What happens before the first slot of a snapshot is written.
    during_snapshot: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// What happens while the next sync of the journal is under way.
    during_sync: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Bystander {
    fn recorder(&self) -> Arc<Recorder> {
        self.recorder.lock().unwrap().clone().unwrap()
    }

    fn wait_until_held(&self, threads: usize) {
        let start = Instant::now();
        while self.held.load(Ordering::SeqCst) < threads {
            assert!(start.elapsed() < Duration::from_secs(60), "it never came to that place");
            std::thread::yield_now();
        }
    }

    fn let_go(&self) {
        *self.may_go_on.lock().unwrap() = true;
        self.signal.notify_all();
    }
}

impl Watch for Bystander {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        if call == Call::Create && path.to_string_lossy().contains("snapshot") {
            let happens = self.during_snapshot.lock().unwrap().take();
            if let Some(happens) = happens {
                happens();
            }
        }
        self.recorder().before(call, path)?;
        if call == Call::SyncData {
            let happens = self.during_sync.lock().unwrap().take();
            if let Some(happens) = happens {
                happens();
            }
            let left = |left: usize| left.checked_sub(1);
            if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
                self.recorder().failed(path);
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        Ok(())
    }

    fn after(&self, call: Call, path: &Path) {
        self.recorder().after(call, path);
    }

    fn at(&self, place: Place) {
        if HELD_AT.get() == Some(place) {
            HELD_AT.set(None);
            self.held.fetch_add(1, Ordering::SeqCst);
            let mut may_go_on = self.may_go_on.lock().unwrap();
            while !*may_go_on {
                may_go_on = self.signal.wait(may_go_on).unwrap();
            }
        }
    }
}

/// An engine that is watched.
struct Scene {
    _watching: Watching,
    engine: Arc<Engine>,
    bystander: Arc<Bystander>,
    clock: Arc<ManualClock>,
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn set(settings: Settings) -> Self {
        let folder = folder();
        let bystander = Arc::new(Bystander::default());
        let book = Arc::new(Mutex::new(Book::new(settings.ttl, settings.grace)));
        let recorder = Arc::new(Recorder::new(folder.path(), Promise::Nothing, book));
        *bystander.recorder.lock().unwrap() = Some(recorder);
        let watching = watch(folder.path(), bystander.clone());
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = Arc::new(settings.open(folder.path(), clock.clone(), None).unwrap());
        Self { _watching: watching, engine, bystander, clock, settings, _folder: folder }
    }

    /// Heals on another thread, which is held up there.
    fn heal_held_at(&self, place: Place, user: UserId) -> std::thread::JoinHandle<()> {
        let engine = Arc::downgrade(&self.engine);
        let held = self.bystander.held.load(Ordering::SeqCst);
        let healing = std::thread::spawn(move || {
            HELD_AT.set(Some(place));
            // Whether it is acknowledged in the end does not matter.
            let _ = engine.upgrade().unwrap().heal(user);
        });
        self.bystander.wait_until_held(held + 1);
        healing
    }

    /// The engine that begins with what the disk has.
    fn after_power_loss(&self, luck: Luck, dice: &mut Dice) -> (Engine, tempfile::TempDir) {
        let left = folder();
        self.bystander.recorder().moment("now").lay_out(left.path(), luck, dice);
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON + 10_000)));
        (self.settings.open(left.path(), clock, None).unwrap(), left)
    }
}

/// Another writer's hole holds nobody up, and is below no mark. Both are online already: a heal that extends shares its guard, and
/// the two users may be in one shard.
#[test]
fn a_slot_that_is_reserved_and_not_stored_is_no_damage_and_hides_nothing() {
    let scene = Scene::set(ALWAYS);
    for user in [ANA, BO] {
        assert_eq!(scene.engine.heal(user), Ok(Heal::Opened));
    }
    scene.clock.advance(1);
    let held = scene.heal_held_at(Place::Reserved, ANA);
    assert_eq!(scene.engine.heal(BO), Ok(Heal::Extended));
    // The mark itself is on disk with the next sync.
    scene.clock.advance(1);
    assert_eq!(scene.engine.heal(BO), Ok(Heal::Extended));
    let mut dice = Dice(7);
    for _ in 0..20 {
        for luck in LUCKS {
            let (after, _left) = scene.after_power_loss(luck, &mut dice);
            assert_eq!(told(&after.timeline(BO))[0].1, NOON + 9, "{luck:?}");
            assert_eq!(told(&after.timeline(ANA))[0].1, NOON + 7, "the second heal was never acknowledged");
        }
    }
    scene.bystander.let_go();
    held.join().unwrap();
}

/// Two heals of one session, a second apart: the later one writes its slot first.
#[test]
fn the_later_of_two_deadlines_counts_in_whatever_order_their_slots_stand() {
    let scene = Scene::set(ALWAYS);
    assert_eq!(scene.engine.heal(ANA), Ok(Heal::Opened));
    scene.clock.advance(1);
    let held = scene.heal_held_at(Place::Decided, ANA);
    scene.clock.advance(1);
    assert_eq!(scene.engine.heal(ANA), Ok(Heal::Extended));
    scene.bystander.let_go();
    held.join().unwrap();
    let (after, _left) = scene.after_power_loss(Luck::Everything, &mut Dice(0));
    assert_eq!(told(&after.timeline(ANA))[0].1, NOON + 9);
}

/// Somebody leaves while a snapshot is about to copy. Whatever else the power takes, the snapshot that was then published says so,
/// and replaying what is left of the journal must not undo it.
#[test]
fn a_leave_that_a_snapshot_contains_survives_with_it() {
    for durability in [Durability::Process, Durability::Interval, Durability::Always] {
        let scene = Scene::set(Settings { durability, ..ALWAYS });
        let engine = Arc::downgrade(&scene.engine);
        let clock = scene.clock.clone();
        *scene.bystander.during_snapshot.lock().unwrap() = Some(Box::new(move || {
            let engine = Weak::upgrade(&engine).unwrap();
            assert_eq!(engine.heal(ANA), Ok(Heal::Opened));
            // So that the leave's slot is on another page than the heal's: there are 170 slots in one.
            for user in 0..200 {
                assert_eq!(engine.heal(UserId::new(1_000 + user)), Ok(Heal::Opened));
            }
            clock.advance(2);
            assert_eq!(engine.leave(ANA), Ok(Leave::Left));
        }));
        scene.engine.snapshot().unwrap();
        let mut dice = Dice(5);
        for _ in 0..20 {
            for luck in LUCKS {
                let (after, _left) = scene.after_power_loss(luck, &mut dice);
                assert_eq!(told(&after.timeline(ANA))[0].1, NOON + 2, "{durability:?}, {luck:?}");
            }
        }
    }
}

/// A heal in the same second changes nothing, and says only what the disk will remember.
#[test]
fn in_always_a_heal_that_changes_nothing_waits_for_the_one_that_did() {
    let scene = Scene::set(ALWAYS);
    let engine = Arc::downgrade(&scene.engine);
    let second = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&second);
    scene.bystander.failures.store(1, Ordering::SeqCst);
    *scene.bystander.during_sync.lock().unwrap() = Some(Box::new(move || {
        let healing = std::thread::spawn(move || engine.upgrade().unwrap().heal(ANA));
        *answer.lock().unwrap() = Some(healing);
    }));
    assert!(scene.engine.heal(ANA).is_err(), "its sync failed");
    let second = second.lock().unwrap().take().unwrap();
    assert!(second.join().unwrap().is_err(), "it spoke of the same slot");
}
