//! Tells whoever waits for transitions that there are new ones, and writes each down once for all who read them.
//!
//! ```text
//!   engine's ring ──▶ announcer ──▶ turns: up to 128 events, and their text ──▶ watchers that keep up
//!        │                └───────▶ wake-up ──▶ watchers, long polls
//!        └───────────────────────────────────▶ watchers that are behind, or look for a few users: they read for themselves
//! ```
//!
//! A heal wakes nobody: one thread looks at the ring ten times a second, and only while anybody reads. A watcher never gets
//! ahead of it, so all who keep up stand at the same places and share the same bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::app::App;
use super::json::IdFormat;
use super::sse;
use crate::engine::{Event, Events, Overrun};
use crate::user_id::UserId;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);
/// So many events at a time: some 16 KiB of text, written in 20 µs.
pub(super) const TURN_EVENTS: usize = 128;
/// So many turns are kept, at most 5 MiB of text in each form of ids; who is further behind reads the ring.
const TURNS_MAX: usize = 256;
/// After so many it tells that there are more, and goes on.
const TURNS_AT_ONCE: usize = 32;

/// Events that follow one another.
pub(super) struct Turn {
    /// The sequence before the first.
    pub after: u64,
    /// That of the last.
    pub to: u64,
    pub events: Vec<Event>,
    /// Whom they are about, sorted.
    users: Vec<UserId>,
    number: Bytes,
    /// Only if anybody wants it.
    string: Option<Bytes>,
}

impl Turn {
    fn new(after: u64, events: Vec<Event>, generation: u64, wants_strings: bool) -> Self {
        let text = |format| Bytes::from(sse::events(&events, generation, format, |_| true));
        let mut users: Vec<_> = events.iter().map(|event| event.user).collect();
        users.sort_unstable();
        Self {
            after,
            to: events.last().map_or(after, |last| last.sequence),
            users,
            number: text(IdFormat::Number),
            string: wants_strings.then(|| text(IdFormat::String)),
            events,
        }
    }

    /// Whether any of these users, sorted, is among those that it is about: looks for those that are fewer among the others.
    pub fn is_about(&self, ids: &[UserId]) -> bool {
        let (few, many) =
            if ids.len() < self.users.len() { (ids, &*self.users) } else { (&*self.users, ids) };
        few.iter().any(|user| many.binary_search(user).is_ok())
    }

    /// All of them as text, if it has been written in this form.
    pub fn text(&self, format: IdFormat) -> Option<&Bytes> {
        match format {
            IdFormat::Number => Some(&self.number),
            IdFormat::String => self.string.as_ref(),
        }
    }
}

/// What the announcer has told so far.
#[derive(Default)]
pub(super) struct Told {
    /// The latest, without a gap up to `up_to`.
    pub turns: Vec<Arc<Turn>>,
    pub up_to: u64,
}

#[derive(Default)]
pub(super) struct Announcer {
    /// Watchers, and long polls that wait.
    readers: AtomicU64,
    /// Of them those that want ids as strings.
    strings: AtomicU64,
    told: Mutex<Arc<Told>>,
    news: Arc<Notify>,
    /// Somebody has come upon an event that was not yet there, and has to be woken although nothing is new.
    look_again: AtomicBool,
    thread: OnceLock<Thread>,
    ended: AtomicBool,
}

impl Announcer {
    pub fn readers(&self) -> u64 {
        self.readers.load(Ordering::Relaxed)
    }

    pub fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes with the next news that are told after this call.
    pub fn news(&self) -> OwnedNotified {
        Arc::clone(&self.news).notified_owned()
    }

    /// Wakes everybody who reads, with the next look at the latest.
    pub fn look_again(&self) {
        self.look_again.store(true, Ordering::Release);
    }

    /// Wakes everybody who reads: the service drains, and they are to look.
    pub fn drain(&self) {
        self.news.notify_waiters();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn tell(&self, turns: Vec<Arc<Turn>>, up_to: u64) {
        let told = Arc::new(Told { turns, up_to });
        // What it replaces is let go of when the lock is free again.
        let _before = std::mem::replace(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner), told);
        self.news.notify_waiters();
    }

    /// Nobody reads any more.
    fn forget(&self) {
        self.tell(Vec::new(), self.told().up_to);
    }

    /// Goes on from here: what was told before is forgotten.
    fn begin(&self, events: &Events) {
        self.tell(Vec::new(), events.tail());
    }

    /// Tells what is new.
    pub(super) fn look(&self, events: &Events) {
        if self.look_again.swap(false, Ordering::AcqRel) {
            self.news.notify_waiters();
        }
        loop {
            let told = self.told();
            match self.next_turns(events, told.up_to) {
                Ok(new) if new.is_empty() => return,
                Ok(new) => {
                    let up_to = new.last().map_or(told.up_to, |turn| turn.to);
                    let kept = told.turns.len().min(TURNS_MAX - new.len());
                    let old = &told.turns[told.turns.len() - kept..];
                    self.tell(old.iter().cloned().chain(new).collect(), up_to);
                }
                Err(Overrun) => return self.begin(events),
            }
        }
    }

    fn next_turns(&self, events: &Events, mut after: u64) -> Result<Vec<Arc<Turn>>, Overrun> {
        let wants_strings = self.strings.load(Ordering::Relaxed) > 0;
        let mut turns = Vec::new();
        while turns.len() < TURNS_AT_ONCE {
            let mut read = Vec::with_capacity(TURN_EVENTS);
            events.read(after, TURN_EVENTS, &mut read)?;
            if read.is_empty() {
                break;
            }
            let turn = Turn::new(after, read, events.generation(), wants_strings);
            after = turn.to;
            turns.push(Arc::new(turn));
        }
        Ok(turns)
    }
}

/// Somebody who reads, until this is dropped.
pub(super) struct Reader {
    app: Arc<App>,
    format: IdFormat,
}

impl Reader {
    pub fn new(app: &Arc<App>, format: IdFormat) -> Self {
        if format == IdFormat::String {
            app.announcer.strings.fetch_add(1, Ordering::Relaxed);
        }
        if app.announcer.readers.fetch_add(1, Ordering::AcqRel) == 0 {
            app.announcer.wake();
        }
        Self { app: Arc::clone(app), format }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.app.announcer.readers.fetch_sub(1, Ordering::AcqRel);
        if self.format == IdFormat::String {
            self.app.announcer.strings.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The announcer's thread. It ends when this is dropped.
pub(super) struct Announcing {
    app: Arc<App>,
    thread: Option<JoinHandle<()>>,
}

impl Announcing {
    /// # Errors
    /// The operating system's.
    pub fn start(app: &Arc<App>) -> std::io::Result<Self> {
        let runs = Arc::clone(app);
        let thread = std::thread::Builder::new().name("announcer".into()).spawn(move || run(&runs))?;
        // A reader from before this is found by the thread's first look.
        let _ = app.announcer.thread.set(thread.thread().clone());
        Ok(Self { app: Arc::clone(app), thread: Some(thread) })
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.app.announcer.ended.store(true, Ordering::Release);
        self.app.announcer.wake();
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

fn run(app: &App) {
    let announcer = &app.announcer;
    let mut is_idle = true;
    while !announcer.ended.load(Ordering::Acquire) {
        // Readers need an engine that holds events.
        let events = app.served().ok().and_then(|served| served.engine.events());
        let (Some(events), true) = (events, announcer.readers.load(Ordering::Acquire) > 0) else {
            if !std::mem::replace(&mut is_idle, true) {
                announcer.forget();
            }
            std::thread::park();
            continue;
        };
        let turn = catch_unwind(AssertUnwindSafe(|| {
            if std::mem::replace(&mut is_idle, false) {
                announcer.begin(events);
            }
            announcer.look(events);
        }));
        if turn.is_err() {
            is_idle = true;
            app.metrics.thread_restarts.announcer.increment(1);
            tracing::error!("the thread that tells of transitions panicked and goes on");
        }
        std::thread::park_timeout(EVERY);
    }
}
