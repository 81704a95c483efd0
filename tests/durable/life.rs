//! An engine at work on a disk that is watched, and the book of what it has written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartbeat::faults::{Watching, watch};
use heartbeat::{
    Clock, Disk, Durability, Engine, JournalReport, ManualClock, OpenError, UnixSeconds, UserId,
};
use tempfile::TempDir;

use super::book::{Book, told};
use super::common::folder::{SEGMENT_BYTES, patiently};
use super::common::ttl;
use super::image::{Dice, Luck};
use super::recorder::{Moment, Promise, Recorder};

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Heal(UserId),
    Leave(UserId),
    Forget(UserId),
    Pass(u32),
    Sweep,
    Snapshot,
    /// A clean stop, and a start in the same second.
    Restart,
    /// A `kill -9`, and a start in the same second.
    Kill,
    /// So many users whom nobody has seen before.
    Crowd(i64),
}

/// How the engine is set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub durability: Durability,
    pub sync_interval: Duration,
    pub ttl: u32,
    pub grace: u32,
}

impl Settings {
    fn promise(self) -> Promise {
        match self.durability {
            Durability::Always => Promise::Acknowledged,
            Durability::Interval => Promise::Synced,
            Durability::Process => Promise::Nothing,
        }
    }

    pub fn open(
        self,
        path: &Path,
        clock: Arc<ManualClock>,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Engine, OpenError> {
        let disk = Disk {
            durability: self.durability,
            sync_interval: self.sync_interval,
            segment_bytes: SEGMENT_BYTES,
            restart_grace: false,
            threads: 1,
            report: Arc::new(move |report| {
                if let (JournalReport::Synced(_), Some(recorder)) = (report, &recorder) {
                    recorder.synced();
                }
            }),
            ..Disk::at(path)
        };
        Engine::builder()
            .ttl(ttl(self.ttl))
            .grace_seconds(self.grace)
            .clock(clock)
            .open(disk)
            .map(|(engine, _)| engine)
    }
}

/// In memory if there is such a file system: a sync then costs nothing, and the power is only thought to go.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Dropped, the watch ends first, then the engine; then the folder goes.
pub struct Life {
    #[allow(dead_code, reason = "it watches until it is dropped")]
    watching: Watching,
    /// None for the moment between a stop and a start.
    engine: Option<Engine>,
    pub settings: Settings,
    pub folder: TempDir,
    pub clock: Arc<ManualClock>,
    pub recorder: Arc<Recorder>,
    strangers: i64,
}

impl Life {
    /// Begins with an empty folder.
    pub fn begin(settings: Settings, now: u32) -> Self {
        Self::in_folder(settings, now, folder(), Book::new(settings.ttl, settings.grace)).unwrap()
    }

    fn in_folder(settings: Settings, now: u32, folder: TempDir, book: Book) -> Result<Self, OpenError> {
        let book = Arc::new(Mutex::new(book));
        let recorder = Arc::new(Recorder::new(folder.path(), settings.promise(), book));
        let watching = watch(folder.path(), recorder.clone());
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(now)));
        let engine = Some(settings.open(folder.path(), clock.clone(), Some(recorder.clone()))?);
        Ok(Self { settings, folder, clock, recorder, engine, watching, strangers: 1_000 })
    }

    /// Goes on with what the disk has after a loss of power.
    pub fn after(&self, moment: &Moment, luck: Luck, dice: &mut Dice) -> Result<Self, OpenError> {
        let left = folder();
        moment.lay_out(left.path(), luck, dice);
        let book = self.recorder.book.lock().unwrap().after_power_loss(BTreeMap::new());
        // What was live is over by then.
        let now = self.clock.now().as_u32() + 1_000;
        let life = Self::in_folder(self.settings, now, left, book)?;
        let known = self.recorder.book.lock().unwrap().users().into_iter();
        let base = known.map(|user| (user, told(&life.engine().timeline(user)))).collect();
        let strangers = self.strangers;
        let mut book = life.recorder.book.lock().unwrap();
        *book = book.after_power_loss(base);
        drop(book);
        let mut life = life;
        life.strangers = strangers;
        Ok(life)
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    pub fn take(&mut self, step: Step) {
        let now = self.clock.now().as_u32();
        let book = |note: &dyn Fn(&mut Book)| note(&mut self.recorder.book.lock().unwrap());
        match step {
            Step::Heal(user) => {
                book(&|book| book.heal(user, now));
                patiently(|| self.engine().heal(user));
            }
            Step::Leave(user) => {
                book(&|book| book.leave(user, now));
                patiently(|| self.engine().leave(user));
            }
            Step::Forget(user) => {
                book(&|book| book.forget(user));
                patiently(|| self.engine().forget(user));
            }
            Step::Pass(seconds) => self.clock.advance(seconds),
            Step::Sweep => _ = self.engine().sweep(),
            Step::Snapshot => {
                self.engine().snapshot().unwrap();
                self.recorder.promise_all();
            }
            Step::Restart => {
                self.engine = None;
                self.recorder.promise_all();
                self.engine = Some(self.opened());
            }
            Step::Kill => self.kill(),
            Step::Crowd(users) => {
                for user in self.strangers..self.strangers + users {
                    book(&|book| book.heal(UserId::new(user), now));
                    patiently(|| self.engine().heal(UserId::new(user)));
                    self.acknowledge();
                }
                self.strangers += users;
            }
        }
        self.acknowledge();
    }

    /// What is in the kernel's memory outlives the process, and what is not on the disk is still not there.
    fn kill(&mut self) {
        let moment = self.recorder.moment("when it is killed");
        let left = folder();
        moment.lay_out(left.path(), Luck::Everything, &mut Dice(0));
        let mut book = self.recorder.book.lock().unwrap().clone();
        // The syncer goes on until the engine is dropped: what it has put on the disk since the moment is not in the files of that.
        book.promised = book.promised.min(moment.promised);
        let recorder =
            Arc::new(Recorder::new(left.path(), self.settings.promise(), Arc::new(Mutex::new(book))));
        recorder.goes_on_from(&moment, self.recorder.moments());
        self.watching = watch(left.path(), recorder.clone());
        self.engine = None;
        self.folder = left;
        self.recorder = recorder;
        self.engine = Some(self.opened());
        // A start syncs what it has replayed.
        self.recorder.promise_all();
    }

    fn opened(&self) -> Engine {
        self.settings.open(self.folder.path(), self.clock.clone(), Some(self.recorder.clone())).unwrap()
    }

    /// Whatever has begun has been acknowledged.
    pub fn acknowledge(&self) {
        let mut book = self.recorder.book.lock().unwrap();
        book.acknowledged = book.len();
    }

    /// Whether a start after a loss of power in this moment finds what it must.
    pub fn check(&self, moment: &Moment, luck: Luck, dice: &mut Dice) -> Result<(), String> {
        let left = folder();
        moment.lay_out(left.path(), luck, dice);
        self.check_folder(left.path(), moment).map_err(|found| {
            let Moment { at, promised, begun, .. } = moment;
            format!("{at}, with {luck:?} of what was not synced; {promised} of {begun} writes are promised: {found}")
        })
    }

    fn check_folder(&self, folder: &Path, moment: &Moment) -> Result<(), String> {
        let long_after = Arc::new(ManualClock::at(self.clock.now().plus(10_000)));
        let engine = match self.settings.open(folder, long_after, None) {
            Ok(engine) => engine,
            Err(refusal) => return Err(format!("the start refuses: {refusal} ({refusal:?})")),
        };
        let book = self.recorder.book.lock().unwrap();
        for user in book.users() {
            let found = told(&engine.timeline(user));
            let possible = book.possible(user, moment.promised, moment.begun);
            if !possible.contains(&found) {
                return Err(format!("user {user} has {found:?}, which is none of {possible:?}"));
            }
        }
        // Half a slot speaks of user 0, or of somebody whom nobody has seen.
        let (known, users) = (engine.figures().users, book.users().len() as u64);
        drop(book);
        if known > users {
            return Err(format!("{known} users are known, and there were {users}"));
        }
        engine
            .heal(UserId::new(0))
            .map(|_| ())
            .map_err(|error| format!("no heal is taken afterwards: {error}"))
    }
}
