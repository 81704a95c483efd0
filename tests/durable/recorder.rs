//! Looks on while an engine works, and knows at every call what a loss of power could leave on the disk.
//!
//! What a sync that has succeeded found when it began is on the disk; of everything written since, any part may be. The same of
//! names: a folder's sync keeps those that were there when it began.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{ThreadId, current};

use heartbeat::faults::{Call, Watch};

use super::book::Book;

pub type Bytes = Arc<Vec<u8>>;
/// Which file has this name. A file is known by a number, whatever it is called.
pub type Names = BTreeMap<String, u64>;

/// A file as the disk may have it.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// What is on the disk for certain.
    pub durable: Bytes,
    /// What it has held since, each with the moment at which it was seen.
    pub later: Vec<(u64, Bytes)>,
    /// A sync of it has failed: the kernel calls its pages clean, and no later sync writes them.
    is_lost: bool,
}

impl Versions {
    pub fn latest(&self) -> &Bytes {
        self.later.last().map_or(&self.durable, |(_, bytes)| bytes)
    }

    /// All that it has held since it was last synced.
    pub fn all(&self) -> Vec<&Bytes> {
        std::iter::once(&self.durable).chain(self.later.iter().map(|(_, bytes)| bytes)).collect()
    }
}

/// A moment at which the power may go.
#[derive(Debug, Clone)]
pub struct Moment {
    pub files: HashMap<u64, Versions>,
    /// Which names are on the disk for certain, and every state of the folder since.
    pub names: Vec<Names>,
    /// Writes that must survive, and writes that may have begun.
    pub promised: usize,
    pub begun: usize,
    /// The call that is about to be made, or has just been made.
    pub at: String,
}

/// When writes are promised to survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// When they are acknowledged.
    Acknowledged,
    /// When a sync of the journal that began after they were acknowledged has succeeded.
    Synced,
    /// When something else says so: a snapshot, a clean end, a start.
    Nothing,
}

struct State {
    files: HashMap<u64, Versions>,
    /// By inode; an inode is used again for another file.
    numbers: HashMap<u64, u64>,
    next_number: u64,
    names: Vec<(u64, Names)>,
    /// Counts the looks.
    now: u64,
    /// Syncs under way: when each began, and what it found.
    syncs: HashMap<(ThreadId, PathBuf), (u64, Bytes)>,
    /// What was acknowledged when the syncer began its round.
    round: Option<usize>,
    moments: Vec<Moment>,
    calls: u64,
}

impl State {
    fn number_of(&self, path: &Path) -> Option<u64> {
        let ino = fs::metadata(path).ok()?.ino();
        self.numbers.get(&ino).copied()
    }
}

pub struct Recorder {
    folder: PathBuf,
    promise: Promise,
    pub book: Arc<Mutex<Book>>,
    /// One call in so many is a moment.
    one_in: Mutex<u64>,
    state: Mutex<State>,
}

impl Recorder {
    /// What is in the folder now is on the disk.
    pub fn new(folder: &Path, promise: Promise, book: Arc<Mutex<Book>>) -> Self {
        let state = State {
            files: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            names: vec![(0, Names::new())],
            now: 0,
            syncs: HashMap::new(),
            round: None,
            moments: Vec::new(),
            calls: 0,
        };
        let recorder =
            Self { folder: folder.into(), promise, book, one_in: Mutex::new(1), state: Mutex::new(state) };
        {
            let mut state = recorder.state();
            recorder.look(&mut state);
            for versions in state.files.values_mut() {
                *versions = Versions { durable: versions.latest().clone(), ..Versions::default() };
            }
            let names = state.names.pop().unwrap();
            state.names = vec![names];
        }
        recorder
    }

    /// The process has been killed in that moment and its files are here: what was not on the disk is so still.
    pub fn goes_on_from(&self, moment: &Moment, moments: Vec<Moment>) {
        let mut state = self.state();
        let now = state.names[0].1.clone();
        for (name, number) in &now {
            let before = moment.names[moment.names.len() - 1][name];
            let mut versions = moment.files[&before].clone();
            versions.later.iter_mut().for_each(|(seen, _)| *seen = 0);
            state.files.insert(*number, versions);
        }
        state.moments = moments;
        // The names were synced when the files got them.
        let mut book = self.book.lock().unwrap();
        book.acknowledged = book.len();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on one call in so many is a moment at which the power may go.
    pub fn take_one_in(&self, calls: u64) {
        *self.one_in.lock().unwrap() = calls;
    }

    /// The moments so far; they are counted anew.
    pub fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.state().moments)
    }

    /// This moment, whatever was to be a moment.
    pub fn moment(&self, at: &str) -> Moment {
        let mut state = self.state();
        self.moment_of(&mut state, at.into())
    }

    /// Everything acknowledged is on the disk for another reason than a sync.
    pub fn promise_all(&self) {
        let mut book = self.book.lock().unwrap();
        book.promised = book.acknowledged;
    }

    /// The syncer has gone round.
    pub fn synced(&self) {
        let round = self.state().round.take();
        if let (Some(acknowledged), Promise::Synced) = (round, self.promise) {
            let mut book = self.book.lock().unwrap();
            book.promised = book.promised.max(acknowledged);
        }
    }

    fn moment_of(&self, state: &mut State, at: String) -> Moment {
        // Before the look what is promised, after it what has begun: what comes between is either.
        let promised = {
            let book = self.book.lock().unwrap();
            if self.promise == Promise::Acknowledged { book.acknowledged } else { book.promised }
        };
        self.look(state);
        Moment {
            files: state.files.clone(),
            names: state.names.iter().map(|(_, names)| names.clone()).collect(),
            promised,
            begun: self.book.lock().unwrap().len(),
            at,
        }
    }

    /// Notes what the files hold and how they are called.
    fn look(&self, state: &mut State) {
        state.now += 1;
        let now = state.now;
        let mut names = Names::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // One that goes meanwhile is gone.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let next = &mut state.next_number;
            let number = *state.numbers.entry(metadata.ino()).or_insert_with(|| {
                *next += 1;
                *next
            });
            if let Ok(bytes) = fs::read(entry.path()) {
                let versions = state.files.entry(number).or_default();
                if **versions.latest() != bytes {
                    versions.later.push((now, Arc::new(bytes)));
                }
                names.insert(entry.file_name().into_string().unwrap(), number);
            }
        }
        if state.names.last().is_none_or(|(_, last)| *last != names) {
            state.names.push((now, names));
        }
    }

    fn maybe_moment(&self, state: &mut State, call: Call, path: &Path, when: &str) {
        state.calls += 1;
        if state.calls.is_multiple_of(*self.one_in.lock().unwrap()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let moment = self.moment_of(state, format!("{when} {call:?} {name}"));
            state.moments.push(moment);
        }
    }

    /// The call was made to fail: what a sync did not write will not be written by another.
    pub fn failed(&self, path: &Path) {
        let mut state = self.state();
        self.look(&mut state);
        if let Some(number) = state.number_of(path)
            && let Some(versions) = state.files.get_mut(&number)
        {
            versions.is_lost = true;
        }
    }
}

impl Watch for Recorder {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        let acknowledged = self.book.lock().unwrap().acknowledged;
        let mut state = self.state();
        self.look(&mut state);
        self.maybe_moment(&mut state, call, path, "before");
        match call {
            Call::SyncData | Call::SyncFile => {
                if call == Call::SyncData {
                    state.round.get_or_insert(acknowledged);
                }
                if let Some(number) = state.number_of(path) {
                    let found = (state.now, state.files[&number].latest().clone());
                    state.syncs.insert((current().id(), path.into()), found);
                }
            }
            Call::SyncFolder => {
                let found = (state.now, Bytes::default());
                state.syncs.insert((current().id(), path.into()), found);
            }
            _ => {}
        }
        Ok(())
    }

    fn after(&self, call: Call, path: &Path) {
        let mut state = self.state();
        match call {
            Call::Create => {
                // Another file may have had this inode.
                if let Ok(metadata) = fs::metadata(path) {
                    state.next_number += 1;
                    let number = state.next_number;
                    state.numbers.insert(metadata.ino(), number);
                    state.files.insert(number, Versions::default());
                }
            }
            Call::SyncData | Call::SyncFile => {
                let found = state.syncs.remove(&(current().id(), path.into()));
                let number = state.number_of(path);
                if let (Some((began, bytes)), Some(number)) = (found, number)
                    && let Some(versions) = state.files.get_mut(&number).filter(|versions| !versions.is_lost)
                {
                    versions.durable = bytes;
                    versions.later.retain(|&(seen, _)| seen > began);
                }
            }
            Call::SyncFolder if path == self.folder => {
                if let Some((began, _)) = state.syncs.remove(&(current().id(), path.into())) {
                    let kept = state.names.iter().rposition(|&(seen, _)| seen <= began).unwrap_or(0);
                    state.names.drain(..kept);
                }
            }
            _ => {}
        }
        self.maybe_moment(&mut state, call, path, "after");
    }
}
