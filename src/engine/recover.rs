//! Building an engine from what lies in a data directory.
//!
//! ```text
//!   lock ─ newest good snapshot ─ segments from its first one on, in order ─ sync them ─ close what has ended
//!        ─ clock no earlier than anything found ─ journal in a new segment ─ outage as its first slot ─ ready
//! ```
//!
//! Nothing is changed, truncated or removed while reading. What cannot be explained by a power loss is refused with file and
//! offset: a presence service that starts with a hole in its timelines has told nobody.
//!
//! All of it is shared out among threads: sections of the snapshot, parts of a segment, shards of the roster.

#![allow(clippy::disallowed_methods, reason = "it measures how long it took")]

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::loaded::Loaded;
use super::persist::Persistence;
use super::replayed::Latest;
use super::rules::{Outage, Rules};
use super::rules_then::RuleChange;
use super::threads::for_each_shard;
use super::{Builder, Engine};
use crate::clock::SystemClock;
use crate::damage::ReadError;
use crate::directory::{Directory, DirectoryError, FileError, FileSystem};
use crate::durability::Durability;
use crate::journal::{self, Journal, JournalReport, Plan, Slot, Verdicts};
use crate::planted::{Planted, planted};
use crate::sync::Ordering;
use crate::time::{Clock, UnixSeconds};

/// Where and how an engine keeps what it knows.
#[derive(Clone)]
pub struct Disk {
    /// The data directory; made if it is missing.
    pub path: PathBuf,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How often the journal is synced in [`Durability::Interval`].
    pub sync_interval: Duration,
    /// Length of a journal segment: at least 16 KiB.
    pub segment_bytes: u64,
    /// Whether a session whose deadline fell into an outage can still be extended.
    pub restart_grace: bool,
    /// Start also where the file system cannot reserve room.
    pub allow_unsafe_filesystem: bool,
    /// Start also when the journal is more than a day ahead of the clock.
    pub allow_future_journal: bool,
    /// Threads that read; at least 1.
    pub threads: usize,
    /// Called on the journal's threads.
    pub report: Arc<dyn Fn(JournalReport) + Send + Sync>,
    /// Told how far recovery has got.
    pub progress: Arc<Progress>,
}

impl Disk {
    /// Defaults: `interval` of one second, segments of 64 MiB, one thread a core.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::default(),
            sync_interval: Duration::from_secs(1),
            segment_bytes: 64 << 20,
            restart_grace: true,
            allow_unsafe_filesystem: false,
            allow_future_journal: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            report: Arc::new(|_| {}),
            progress: Arc::default(),
        }
    }
}

/// How far a recovery has got, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Share of the bytes that have been read, in percent; 0 before their number is known.
    pub fn percent(&self) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total) * 100).checked_div(total).unwrap_or(0)
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn did(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why there is no engine. Nothing on disk has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used, or another process does.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file system cannot reserve room for a mapping: on a full disk the process would be killed.
    #[error("{} is on {file_system}, which cannot reserve room for the journal", path.display())]
    FileSystem {
        /// The data directory.
        path: PathBuf,
        /// What it is on.
        file_system: FileSystem,
    },
    /// A file cannot be read, or does not hold what was written to it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The files do not belong together.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The journal is ahead of the clock by more than a day.
    #[error(
        "{}, offset {offset}, speaks of second {second}, more than a day ahead of the clock, which says {now}",
        file.display()
    )]
    Future {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What it says.
        second: UnixSeconds,
        /// What the clock says.
        now: UnixSeconds,
    },
    /// A file cannot be moved, removed or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system gave no thread, or no random number.
    #[error("cannot start")]
    System(#[from] std::io::Error),
}

pub use super::chain::ChainError;

/// What a recovery found and did.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The snapshot that it began from.
    pub snapshot: Option<u64>,
    /// Damaged snapshots that were put aside, each with what is wrong.
    pub quarantined: Vec<(PathBuf, String)>,
    /// Those of them that could not be, and why: they stay where they are, until two whole ones are newer.
    pub not_put_aside: Vec<(PathBuf, Arc<FileError>)>,
    /// Segments replayed.
    pub segments: usize,
    /// What stood in their slots.
    pub slots: Verdicts,
    /// Of the whole ones those that changed nothing: what was known before contained them.
    pub stale_slots: u64,
    /// Segments whose synced mark could not be read: what is damaged in them counts as torn.
    pub unreadable_marks: Vec<PathBuf>,
    /// Users known now.
    pub users: u64,
    /// Sessions in their timelines.
    pub sessions: u64,
    /// Sessions still live.
    pub online: u64,
    /// When the service was not there: from, to.
    pub outage: Option<(UnixSeconds, UnixSeconds)>,
    /// Files in the directory that are nobody's.
    pub unknown: Vec<PathBuf>,
    /// The segments could not be synced: writes are refused until a snapshot has been taken.
    pub sync_failed: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl Builder {
    /// An engine that keeps what it knows on disk: it begins with what is there.
    ///
    /// A clock that was handed in is taken as it is; the real one starts no earlier than the latest second that was found.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self, disk: Disk) -> Result<(Engine, Recovery), OpenError> {
        let start = Instant::now();
        let directory = Directory::open(&disk.path)?;
        let file_system = directory.file_system()?;
        if !file_system.is_reservable() && !disk.allow_unsafe_filesystem {
            return Err(OpenError::FileSystem { path: disk.path, file_system });
        }
        let contents = directory.list()?;
        let rules = Rules { ttl: self.ttl, grace: self.grace };
        let mut loaded = Loaded::load(&contents, rules, &disk)?;
        let clock = self.start_clock(&loaded.latest, disk.allow_future_journal)?;
        loaded.settle_files(&directory, &contents)?;

        let directory = Arc::new(directory);
        let Loaded {
            roster,
            id,
            rules: rules_before,
            outages,
            alive,
            chain,
            mut recovery,
            last_snapshot,
            forgotten,
            ..
        } = loaded;
        let header = journal::Header {
            directory: id,
            number: 0,
            previous: 0,
            salt: 0,
            length: disk.segment_bytes,
            ttl: self.ttl,
            grace: self.grace,
        };
        let plan = Plan {
            durability: disk.durability,
            sync_interval: disk.sync_interval,
            header,
            directory: Arc::clone(&directory),
            clock: Arc::clone(&clock),
            report: disk.report,
        };
        let journal = Journal::start(plan, chain.highest(), chain.last())?;
        if recovery.sync_failed {
            journal.fail();
        }
        directory.remove(chain.needless())?;
        let mut engine = self.build_with(roster, clock);
        engine.persistence = Some(Persistence {
            journal,
            directory,
            outages: Mutex::new(outages),
            forgotten: crate::sync::AtomicU64::new(forgotten),
            snapshots: Mutex::new(last_snapshot),
            last_taken: Mutex::default(),
            oldest_end: crate::sync::AtomicU32::new(0),
            restart_grace: disk.restart_grace,
        });
        recovery.outage = engine.note_absence(alive);
        if recovery.outage.is_none() && rules_before != engine.rules {
            engine.note_rules();
        }
        engine.note_earlier_outages();
        engine.settle(rules_before, disk.threads, &mut recovery);
        recovery.elapsed = start.elapsed();
        Ok((engine, recovery))
    }

    fn start_clock(&self, latest: &Latest, allow_future: bool) -> Result<Arc<dyn Clock>, OpenError> {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::start()));
        let now = clock.now();
        if !allow_future {
            latest.check(now)?;
        }
        Ok(match self.clock {
            Some(_) => clock,
            None => Arc::new(SystemClock::start_no_earlier_than(latest.second())),
        })
    }
}

impl Engine {
    /// We were away from `alive` until now. It is kept.
    fn note_absence(&self, alive: UnixSeconds) -> Option<(UnixSeconds, UnixSeconds)> {
        let now = self.clock.now();
        let outage = (alive.as_u32() > 0 && alive < now).then_some(Outage { from: alive, to: now })?;
        if planted(Planted::OutageForgotten) {
            return Some((outage.from, outage.to));
        }
        if let Some(persistence) = &self.persistence {
            persistence.keep_outage(outage);
        }
        Some((outage.from, outage.to))
    }

    /// The rules are others than before, and stand in the header of our first segment. Without a slot that would be removed by
    /// the next start, and what they had ended would go on.
    fn note_rules(&self) {
        if let Some(persistence) = &self.persistence {
            // On a full disk nothing is written under them.
            let _ = persistence.journal.append(Slot::void());
        }
    }

    /// If the setting says so, neither this absence nor the ones before it cut anybody's session.
    fn note_earlier_outages(&self) {
        if let Some(persistence) = self.persistence.as_ref().filter(|persistence| persistence.restart_grace) {
            let outages = persistence.outages.lock().unwrap_or_else(PoisonError::into_inner);
            outages.iter().for_each(|&outage| self.note_outage(outage));
        }
    }

    /// Closes what has ended while nobody looked, under the rules of that time, drops what is not to be kept, and arms the rest.
    fn settle(&mut self, before: Rules, threads: usize, recovery: &mut Recovery) {
        let engine = &*self;
        let now = engine.clock.now();
        // Under the rules of then, and what they would still let go on but ours do not.
        let over = [before, engine.rules].map(|rules| RuleChange {
            before: rules,
            outages: engine.recent_outages(),
            at: now,
        });
        for_each_shard(threads, |shard| {
            let (mut users, mut online, mut sessions, mut timeline_bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
            let mut gone = Vec::new();
            engine.roster.walk(shard, |user, known| {
                for rules in &over {
                    rules.apply(known);
                }
                if !planted(Planted::RetentionUndone) {
                    engine.retention.apply(known, now);
                }
                if known.is_empty() {
                    gone.push(user);
                    return;
                }
                let live = known.live.load();
                if let Some(live) = live {
                    known.armed = engine.buckets.arm(user, engine.due(live));
                }
                users += 1;
                online += u64::from(live.is_some());
                sessions += known.closed.len() as u64 + u64::from(live.is_some());
                timeline_bytes += known.closed.heap_bytes();
            });
            for user in gone {
                engine.roster.remove_if(user, |_| (true, ()));
            }
            engine.counts.recovered(users, online, sessions);
            engine.counts.resized(0, timeline_bytes);
        });
        let figures = engine.figures();
        (recovery.users, recovery.online, recovery.sessions) =
            (figures.users, figures.online, figures.sessions);
    }
}
