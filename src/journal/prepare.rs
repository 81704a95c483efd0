//! The preparer: keeps segments ready before they are needed.
//!
//! A segment's blocks are all there and hold zeros before it is in service: a store into the mapping then needs no room and
//! converts no extent, and a full disk shows here, early, as an error that can be told, and not there, as a dead process.
//!
//! ```text
//!   journal-….seg.tmp: reserve ─ zeros ─ header ─ sync ─ rename ─ sync the directory ─ map ─ put behind the last
//! ```

#![allow(clippy::disallowed_methods, reason = "when it looks is no matter of the time of day")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

use super::header::{Header, PAGE};
use super::segment::Segment;
#[cfg(shuttle)]
use super::segment::capacity_of;
use super::{JournalReport, Plan, State};
use crate::calls;
use crate::directory::{Directory, Name, Unpublished};
use crate::sync::{Instant, Ordering, look_again};

/// So many segments are ready behind the one in service: one is about to be needed, and the next takes a while to write.
const AHEAD: u64 = 2;
/// How often the preparer looks whether one has been put into service. At a million heals a second a segment of 64 MiB lasts 3 s.
const LOOK: Duration = Duration::from_millis(20);
/// How often it looks whether the data directory is still where it was, and the segments in it.
const CHECK: Duration = Duration::from_secs(1);
/// How soon it tries again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Zeros are written in pieces of this size.
const PIECE: usize = 1 << 20;

/// Makes the segment of the first free number from `number` on, to follow `previous` (0 for none), and maps it.
///
/// # Errors
/// The operating system's. A file may be left behind that was complete and could not be mapped.
pub(super) fn prepare(plan: &Plan, number: u64, previous: u64) -> io::Result<Segment> {
    // It may be taken: by such a file, or by something that is not ours.
    let is_free =
        |number: &u64| std::fs::symlink_metadata(plan.directory.path_of(Name::Segment(*number))).is_err();
    let number = (number..u64::MAX).find(is_free).unwrap_or(number);
    let header = Header { number, previous, salt: random_salt()?, ..plan.header.clone() };
    mapped(&plan.directory, &header)
}

#[cfg(not(shuttle))]
fn mapped(directory: &Directory, header: &Header) -> io::Result<Segment> {
    let file = write_segment(directory, header)?;
    Segment::map(header, file)
}

/// Under the checker memory and disk are stand-ins.
#[cfg(shuttle)]
fn mapped(_: &Directory, header: &Header) -> io::Result<Segment> {
    Ok(Segment::in_memory(header.number, header.salt, capacity_of(header.length)))
}

/// Writes an empty segment.
///
/// # Errors
/// The operating system's; no file is left behind then.
pub(crate) fn write_segment(directory: &Directory, header: &Header) -> io::Result<File> {
    let unpublished =
        Unpublished::create(directory, Name::Segment(header.number)).map_err(|error| error.source)?;
    fill(unpublished.file(), header)?;
    unpublished.publish().map(|(file, _)| file).map_err(|error| error.source)
}

fn fill(file: &File, header: &Header) -> io::Result<()> {
    // A file system that cannot reserve says so; then the zeros, which are written in any case, must do.
    match calls::reserve(file, header.length) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        _ => {}
    }
    let zeros = vec![0; PIECE];
    let mut at = PAGE as u64;
    while at < header.length {
        let piece = usize::try_from(header.length - at).unwrap_or(PIECE).min(PIECE);
        calls::write_at(file, &zeros[..piece], at)?;
        at += piece as u64;
    }
    calls::write_at(file, &*header.encode(), 0)
}

pub(crate) fn random_salt() -> io::Result<u64> {
    let mut salt = [0; 8];
    getrandom(&mut salt, GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(salt))
}

/// The preparer's own part.
pub(super) struct Preparer {
    state: Arc<State>,
    last: Arc<Segment>,
    /// What the next segment's header names as the one before: `last`, unless that is no file.
    previous: u64,
    is_failing: bool,
}

impl Preparer {
    /// `before` is the segment that `last` follows.
    pub fn new(state: Arc<State>, last: Arc<Segment>, before: u64) -> Self {
        let previous = if last.is_file() { last.number } else { before };
        Self { state, last, previous, is_failing: false }
    }

    /// Until the journal is dropped.
    pub fn run(&mut self) {
        let mut next_check = Instant::now();
        while !self.state.stop.load(Ordering::Acquire) {
            if Instant::now() >= next_check {
                self.check_place();
                next_check = Instant::now() + CHECK;
            }
            let pause = if self.keep_ahead() { LOOK } else { RETRY };
            look_again(pause);
        }
    }

    /// Whether a start would find what is written. While the directory is away nothing is known of the segments in it.
    fn check_place(&self) {
        let removed = self.removed();
        let is_displaced = self.state.plan.directory.check_place().is_err();
        self.state.is_displaced.store(is_displaced, Ordering::Release);
        let Some(removed) = removed.filter(|_| !is_displaced) else { return };
        if !self.state.is_removed.swap(true, Ordering::AcqRel) {
            let path = self.state.plan.directory.path_of(Name::Segment(removed));
            (self.state.plan.report)(JournalReport::Removed(path));
        }
    }

    /// The number of the first segment from the one in service on that is not in its place.
    fn removed(&self) -> Option<u64> {
        let in_service = self.state.current.load_full();
        let mut segments = std::iter::successors(Some(&in_service), |segment| segment.next());
        let number = segments.find(|segment| !segment.is_in_place(&self.state.plan.directory))?.number;
        // Once another is in service a snapshot may have made it needless, and it was we who removed it.
        (self.state.current.load().number <= number).then_some(number)
    }

    fn keep_ahead(&mut self) -> bool {
        while self.last.number < self.state.current.load().number + AHEAD {
            let number = self.last.number + 1;
            match self.check_room().and_then(|()| prepare(&self.state.plan, number, self.previous)) {
                Ok(segment) => {
                    let segment = Arc::new(segment);
                    self.last.set_next(Arc::clone(&segment));
                    self.last = segment;
                    self.previous = self.last.number;
                    self.state.is_short_of_room.store(false, Ordering::Release);
                    self.state.is_disk_full.store(false, Ordering::Release);
                    if std::mem::take(&mut self.is_failing) {
                        (self.state.plan.report)(JournalReport::PreparedAgain);
                    }
                }
                Err(error) => {
                    self.state.is_short_of_room.store(true, Ordering::Release);
                    let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                    self.state.is_disk_full.store(is_full, Ordering::Release);
                    if !std::mem::replace(&mut self.is_failing, true) {
                        (self.state.plan.report)(JournalReport::NotPrepared(error));
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Whether another segment leaves room for a snapshot. The first one ahead need not: a snapshot cannot begin without it. Once
    /// one has begun, it must: else it would take the room in which the snapshot is being written.
    fn check_room(&self) -> io::Result<()> {
        let is_first = self.last.number <= self.state.current.load().number;
        if is_first && !self.state.is_snapshot_under_way.load(Ordering::Acquire) {
            return Ok(());
        }
        let plan = &self.state.plan;
        let needed = plan.header.length + self.state.left_for_snapshot.load(Ordering::Relaxed);
        let (free, _) = plan.directory.room().map_err(|error| error.source)?;
        if free >= needed { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}
