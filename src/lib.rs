//! Heartbeat knows who is online. Clients heal (send a heartbeat) every few seconds; a user who has not healed for one ttl
//! is offline, and every user has a complete timeline of sessions.
//!
//! This page is about the engine, which other programs can embed (`default-features = false` leaves the HTTP service and the
//! command line out). It lives in memory. Healing someone who is online takes only a shared guard of the user's shard and
//! one compare-and-swap; opening and closing a session takes that shard's lock. With a [`Disk`] it keeps a journal and
//! snapshots: what was acknowledged survives the process, and [`Builder::open`] brings it back.
//!
//! ```
//! use std::sync::Arc;
//! use heartbeat::{Engine, Heal, ManualClock, Status, UnixSeconds, UserId};
//!
//! let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
//! let engine = Engine::builder().clock(clock.clone()).build();
//! let ana = UserId::new(12_345);
//!
//! assert_eq!(engine.heal(ana)?, Heal::Opened);
//! clock.advance(5);
//! assert_eq!(engine.heal(ana)?, Heal::Extended);
//! assert_eq!(engine.status(ana), Status::Online);
//!
//! clock.advance(60);
//! assert_eq!(engine.status(ana), Status::Offline);
//! let [session] = engine.timeline(ana)[..] else { panic!("one session") };
//! assert_eq!((session.online_at.as_u32(), session.offline_at.as_u32()), (1_638_360_000, 1_638_360_012));
//! # Ok::<(), heartbeat::WriteError>(())
//! ```
//!
//! With the real clock, leave `clock` out; for counts that follow by themselves, start a [`Sweeper`].
//!
//! # Modules
//!
//! | module | what it is |
//! |---|---|
//! | `engine` | [`Engine`]: the rules, the roster, the timelines, the sweep |
//! | `time`, `clock` | [`UnixSeconds`], [`Ttl`], [`Clock`]; the real clock |
//! | `durability` | [`Durability`]: what an acknowledged write survives |
//! | `session`, `user_id` | [`Session`], [`Status`], [`UserId`] |
//! | `directory`, `damage` | the data directory and its lock; what is wrong with a file in it |
//! | `journal` | every write since, in mapped segments of 24-byte slots |
//! | `snapshot` | everyone known, in one file |
//! | `calls`, `planted` | the calls that change the directory, where a test can let the disk fail; the promises that one can break |
//! | `inspect`, `restore` | [`inspect()`]: a file piece by piece; [`restore()`]: a data directory from one snapshot. Beside them [`verify()`] |
//! | `repair` | [`repair()`]: what a start refuses, made so that it takes it |
#![cfg_attr(feature = "service", doc = "| [`http`] | the service: accept loop, routes |")]
#![cfg_attr(feature = "service", doc = "| [`metrics`] | every metric |")]
#![cfg_attr(feature = "service", doc = "| [`config`] | every setting |")]
#![cfg_attr(feature = "service", doc = "| [`cli`] | the command line |")]

#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod http;

mod calls;
mod clock;
mod damage;
mod directory;
mod durability;
mod engine;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod inspect;
mod journal;
#[cfg(feature = "service")]
pub mod metrics;
mod planted;
#[cfg(feature = "service")]
mod process;
mod repair;
mod restore;
mod session;
mod snapshot;
mod sync;
mod time;
mod user_id;

pub use clock::SystemClock;
pub use damage::{Damage, Flaw, Part, ReadError};
pub use directory::{DirectoryError, DirectoryId, FileError, FileSystem, Holder};
pub use durability::Durability;
pub use engine::{
    Beginning, Builder, ChainError, Change, Concurrency, Curve, Disk, DiskState, Engine, Event, Events,
    Extract, Figures, Heal, History, Imported, JournalState, Leave, Mark, OpenError, Order, Overrun, Peak,
    Point, Profile, Progress, Recovery, Rejection, SegmentFacts, SegmentFound, SnapshotError, SnapshotFacts,
    SnapshotFound, SnapshotPlan, SnapshotTaken, Snapshotter, SnapshotterReport, SweepFault, Sweeper,
    SweeperReport, Swept, UserStats, Verification, WriteError, verify,
};
pub use inspect::{
    Piece, Place, SegmentHead, SegmentTotals, SnapshotFooter, SnapshotHead, SnapshotTotals, inspect,
};
pub use journal::{JournalReport, Kind, Refusal, Verdicts};
pub use repair::{
    HeaderFrom, Loss, Mend, Patch, Repair, RepairError, Rewrite, Why, Work, repair, repair_applied,
};
pub use restore::{RestoreError, Restored, restore};
pub use session::{End, Session, Status};
pub use time::{Clock, ClockStep, InvalidTtl, ManualClock, Ttl, UnixSeconds};
pub use user_id::{InvalidUserId, UserId};
