//! Applying the journal to a roster.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fold::{extends, fold};
use super::recover::{Disk, OpenError};
use super::roster::{Place, Roster, SHARDS, User};
use super::rules::Outage;
use super::rules_then::RuleChange;
use super::threads::{for_each_shard, on_threads};
use crate::damage::ReadError;
use crate::journal::{ALIVE_AT, Kind, Row, SLOT_BYTES, SLOTS_AT, SegmentFile, Slot, Verdicts};
use crate::sync::Ordering;
use crate::time::{Ttl, UnixSeconds};

/// What was found in the segments.
#[derive(Default)]
pub(super) struct Replayed {
    pub verdicts: Verdicts,
    pub latest: Latest,
    pub outages: Vec<Outage>,
    /// Users who were forgotten.
    pub forgotten: u64,
    /// Slots about users that changed nothing: what was known contained them.
    pub stale: u64,
    /// Whole slots in each segment.
    pub slots: Vec<u64>,
}

/// One segment after the other. First the threads read a part of it each and sort its slots by shard; then they take the shards
/// in turn, and apply to each the slots of all parts in order. So no user's slots change places, and while a shard's slots are
/// applied its users stay in the processor's cache: taken as they come, each slot would wait for memory.
///
/// `latest` is what the snapshot tells of.
pub(super) fn replay_segments(
    roster: &Roster,
    segments: &[SegmentFile],
    changes: &[Option<RuleChange>],
    latest: Latest,
    disk: &Disk,
) -> Result<Replayed, ReadError> {
    disk.progress.expect(segments.iter().map(|segment| segment.header.length).sum());
    let mut replayed = Replayed { latest, ..Replayed::default() };
    let mut parts: Vec<Mutex<Part>> = (0..disk.threads).map(|_| Mutex::new(Part::new())).collect();
    for (segment, change) in segments.iter().zip(changes) {
        if let Some(change) = change {
            let change = change.no_earlier_than(replayed.latest.second());
            for_each_shard(parts.len(), |shard| roster.walk(shard, |_, known| change.apply(known)));
        }
        let share = segment.capacity().div_ceil(u32::try_from(parts.len()).unwrap_or(1));
        let read = on_threads(parts.len(), |thread| {
            let first =
                share.saturating_mul(u32::try_from(thread).unwrap_or(u32::MAX)).min(segment.capacity());
            let last = first.saturating_add(share).min(segment.capacity());
            lock(&parts[thread]).read(roster, segment, first..last)
        });
        let mut row = Row::default();
        for (read, part) in read.into_iter().zip(&mut parts) {
            row += read?;
            let part = part.get_mut().unwrap_or_else(PoisonError::into_inner);
            replayed.outages.append(&mut part.outages);
            replayed.forgotten += std::mem::take(&mut part.forgotten);
            let (second, index) = std::mem::take(&mut part.latest);
            let offset = SLOTS_AT + u64::from(index) * SLOT_BYTES;
            replayed.latest.see(UnixSeconds::new(second), &segment.path, offset);
        }
        replayed.latest.see(UnixSeconds::new(segment.alive.value()), &segment.path, ALIVE_AT);
        let parts: Vec<&Part> =
            parts.iter_mut().map(|part| &*part.get_mut().unwrap_or_else(PoisonError::into_inner)).collect();
        let stale = AtomicU64::new(0);
        for_each_shard(parts.len(), |shard| {
            let slots = parts.iter().flat_map(|part| &part.by_shard[shard]);
            let stale_here = slots.filter(|&&slot| !apply(roster, slot)).count();
            stale.fetch_add(stale_here as u64, Ordering::Relaxed);
        });
        replayed.stale += stale.into_inner();
        replayed.slots.push(row.verdicts.good);
        replayed.verdicts += row.verdicts;
        disk.progress.did(segment.header.length);
    }
    Ok(replayed)
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's part of a segment.
struct Part {
    by_shard: Vec<Vec<Slot>>,
    outages: Vec<Outage>,
    /// The latest second, and the slot that says so.
    latest: (u32, u32),
    forgotten: u64,
}

impl Part {
    fn new() -> Self {
        Self { by_shard: vec![Vec::new(); SHARDS], outages: Vec::new(), latest: (0, 0), forgotten: 0 }
    }

    fn read(&mut self, roster: &Roster, segment: &SegmentFile, slots: Range<u32>) -> Result<Row, ReadError> {
        self.by_shard.iter_mut().for_each(Vec::clear);
        segment.read(slots, |index, slot| {
            let second = says(slot, segment.header.ttl).as_u32();
            if second > self.latest.0 {
                self.latest = (second, index);
            }
            match slot.kind {
                Kind::Live | Kind::Left | Kind::Closed | Kind::Forgotten => {
                    self.forgotten += u64::from(slot.kind == Kind::Forgotten);
                    self.by_shard[roster.shard_of(slot.user)].push(slot);
                }
                Kind::Outage => self.outages.push(Outage { from: slot.online_at, to: slot.until }),
                Kind::Void => {}
            }
        })
    }
}

/// A second no later than the one in which the slot was written.
pub(super) fn says(slot: Slot, ttl: Ttl) -> UnixSeconds {
    match slot.kind {
        Kind::Live => slot.online_at.max(slot.until.minus(ttl.as_seconds())),
        Kind::Left | Kind::Forgotten | Kind::Outage => slot.online_at.max(slot.until),
        Kind::Closed => slot.online_at,
        Kind::Void => UnixSeconds::new(0),
    }
}

/// False if it changed nothing.
pub(super) fn apply(roster: &Roster, slot: Slot) -> bool {
    if slot.kind == Kind::Forgotten {
        return roster.remove_if(slot.user, |_| (true, ())).is_some();
    }
    // Nearly every slot extends the session that is live already, and that is one word.
    if slot.kind == Kind::Live
        && let Some(is_later) = roster.view(slot.user, |known| extends(known, slot)).flatten()
    {
        return is_later;
    }
    let applied: Result<bool, std::convert::Infallible> = roster.change_or_add(slot.user, |place| {
        Ok(match place {
            Place::Known(known) => fold(known, slot),
            Place::New(added) => fold(added.insert(User::default()), slot),
        })
    });
    match applied {
        Ok(applied) => applied,
        Err(never) => match never {},
    }
}

/// A journal further ahead of the wall clock than this was written under a clock that was wrong, or the clock is wrong now.
const FUTURE_MAX_SECONDS: u32 = 24 * 60 * 60;

/// The latest second that the files speak of, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest(Option<(UnixSeconds, PathBuf, u64)>);

impl Latest {
    pub fn see(&mut self, second: UnixSeconds, file: &Path, offset: u64) {
        if self.0.as_ref().is_none_or(|(latest, ..)| second > *latest) {
            self.0 = Some((second, file.into(), offset));
        }
    }

    pub fn join(&mut self, other: Self) {
        if let Some((second, file, offset)) = other.0 {
            self.see(second, &file, offset);
        }
    }

    /// # Errors
    /// [`OpenError::Future`]
    pub fn check(&self, now: UnixSeconds) -> Result<(), OpenError> {
        match &self.0 {
            Some((second, file, offset)) if second.since(now) > FUTURE_MAX_SECONDS => {
                Err(OpenError::Future { file: file.clone(), offset: *offset, second: *second, now })
            }
            _ => Ok(()),
        }
    }

    pub fn second(&self) -> UnixSeconds {
        self.0.as_ref().map_or(UnixSeconds::new(0), |(second, ..)| *second)
    }
}
