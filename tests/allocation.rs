//! Healing someone who is online, and asking whether they are, allocates nothing and locks nobody else out.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used)] // a test may panic, and so may what it calls
#![allow(unsafe_code)] // a global allocator cannot be written without; this one only counts and hands on

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use common::{ANA, BO, NOON, engine_at};
use heartbeat::{Clock, Engine, Heal, ManualClock, Status, UnixSeconds};

struct Counting;

thread_local! {
    /// Of this thread alone: the tests run at the same time.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came. Counting allocates nothing: the cell is made of a
// constant and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the ones asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc`, which the system's allocator served.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7_u64)))), 1);

    // A user's first heal makes room in the map and in a bucket.
    let (engine, _clock) = engine_at(NOON);
    assert_ne!(allocations(|| assert_eq!(engine.heal(ANA), Ok(Heal::Opened))), 0);
}

#[test]
fn healing_someone_online_allocates_nothing() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    let count = allocations(|| {
        for _ in 0..100 {
            clock.advance(1);
            assert_eq!(engine.heal(ANA), Ok(Heal::Extended));
            assert_eq!(engine.heal(ANA), Ok(Heal::Unchanged));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn asking_for_a_status_allocates_nothing() {
    let (engine, clock) = engine_at(NOON);
    engine.heal(ANA).unwrap();

    let count = allocations(|| {
        assert_eq!((engine.status(ANA), engine.status(BO)), (Status::Online, Status::Offline));
        clock.advance(100);
        assert_eq!(engine.status(ANA), Status::Offline);
    });
    assert_eq!(count, 0);
}

/// A clock that, when it is read next, first lets another thread make a call of the engine and waits for it, with whatever
/// guard its reader holds.
struct Meddling {
    time: ManualClock,
    engine: OnceLock<Arc<Engine>>,
    next: Mutex<Option<Meddler>>,
    outcome: Mutex<Option<Result<(), RecvTimeoutError>>>,
}

struct Meddler {
    call: fn(&Engine),
    patience: Duration,
}

impl Clock for Meddling {
    fn now(&self) -> UnixSeconds {
        let next = self.next.lock().unwrap().take();
        if let Some(meddler) = next {
            let finished = start(self.engine.get().unwrap(), meddler.call);
            *self.outcome.lock().unwrap() = Some(finished.recv_timeout(meddler.patience));
        }
        self.time.now()
    }

    fn until(&self, at: UnixSeconds) -> Duration {
        self.time.until(at)
    }
}

fn start(engine: &Arc<Engine>, call: fn(&Engine)) -> Receiver<()> {
    let (finish, finished) = channel();
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        call(&engine);
        // Whoever waited may have given up.
        let _ = finish.send(());
    });
    finished
}

/// Whether a call about a user can be made while another about the same user, and so in the same shard, is under its guard.
fn passes(held: fn(&Engine), call: fn(&Engine), patience: Duration) -> Result<(), RecvTimeoutError> {
    let clock = Arc::new(Meddling {
        time: ManualClock::at(UnixSeconds::new(NOON)),
        engine: OnceLock::new(),
        next: Mutex::new(None),
        outcome: Mutex::new(None),
    });
    let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
    assert!(clock.engine.set(Arc::clone(&engine)).is_ok());
    engine.heal(ANA).unwrap();
    clock.time.advance(3);

    *clock.next.lock().unwrap() = Some(Meddler { call, patience });
    held(&engine);
    clock.outcome.lock().unwrap().take().expect("the call under test reads the clock")
}

fn heal(engine: &Engine) {
    engine.heal(ANA).unwrap();
}

fn status(engine: &Engine) {
    engine.status(ANA);
}

fn leave(engine: &Engine) {
    engine.leave(ANA).unwrap();
}

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_heal_of_someone_online_locks_nobody_out() {
    assert_eq!(passes(heal, heal, PATIENCE), Ok(()));
    assert_eq!(passes(heal, status, PATIENCE), Ok(()));
    assert_eq!(passes(status, heal, PATIENCE), Ok(()));
}

/// The other test could not fail if this one did not pass: an exclusive guard does lock others out.
#[test]
fn a_leave_locks_others_out_and_is_found_to() {
    assert_eq!(passes(leave, heal, Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
}
