//! What the files of a data directory hold, before an engine is made of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::chain::{Chain, strangers_among, told_by_most};
use super::live::{Live, LiveWord};
use super::persist::Snapshots;
use super::recover::{Disk, OpenError, Recovery};
use super::replayed::{Latest, replay_segments};
use super::roster::{Roster, SHARDS, User};
use super::rules::{Outage, Rules};
use super::rules_then::{rule_changes, rules_of};
use super::threads::on_threads;
use super::timeline::Timeline;
use crate::damage::ReadError;
use crate::directory::{Contents, Directory, DirectoryId, FileError, Quarantine};
use crate::journal::SegmentFile;
use crate::snapshot::Snapshot;
use crate::sync::Ordering;
use crate::time::UnixSeconds;

/// What the files hold, before an engine is made of it.
pub(super) struct Loaded {
    pub roster: Roster,
    pub id: DirectoryId,
    pub rules: Rules,
    pub outages: Vec<Outage>,
    pub latest: Latest,
    /// The last second of which it is known that the service was up.
    pub alive: UnixSeconds,
    pub chain: Chain,
    pub recovery: Recovery,
    pub last_snapshot: Snapshots,
    /// How many users were forgotten since the snapshot: the one before may still know them.
    pub forgotten: u64,
    /// Segments that no snapshot needs: a crash came between a snapshot and their removal.
    pub leftovers: Vec<PathBuf>,
}

impl Loaded {
    pub fn load(contents: &Contents, rules: Rules, disk: &Disk) -> Result<Self, OpenError> {
        let mut recovery = Recovery { unknown: contents.unknown.clone(), ..Recovery::default() };
        let mut damaged = None;
        for snapshot in contents.snapshots.iter().rev() {
            match Snapshot::open(&snapshot.path)
                .and_then(|found| load_snapshot(&found, disk).map(|roster| (found, roster)))
            {
                Ok((found, roster)) => {
                    recovery.snapshot = Some(snapshot.number);
                    return Self::replay(contents, rules, Some((&found, roster)), recovery, disk)
                        .map_err(|error| damaged.take().map_or(error, OpenError::Read));
                }
                // Damaged: the one before and more of the journal say the same.
                Err(ReadError::Damaged(found)) => {
                    recovery.quarantined.push((snapshot.path.clone(), found.to_string()));
                    damaged.get_or_insert(ReadError::Damaged(found));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Without a snapshot the journal must be there from its beginning. If it is not, what is wrong with the snapshot is
        // what whoever reads the message has to know.
        if let Some(damaged) = damaged.take_if(|_| contents.segments.is_empty()) {
            return Err(damaged.into());
        }
        Self::replay(contents, rules, None, recovery, disk)
            .map_err(|error| damaged.map_or(error, OpenError::Read))
    }

    fn replay(
        contents: &Contents,
        rules: Rules,
        snapshot: Option<(&Snapshot, Roster)>,
        mut recovery: Recovery,
        disk: &Disk,
    ) -> Result<Self, OpenError> {
        let first = snapshot.as_ref().map_or(0, |(snapshot, _)| snapshot.header().first_segment);
        let segments = contents.segments.iter().filter(|segment| segment.number >= first);
        let segments = segments.map(|segment| SegmentFile::open(&segment.path)).collect::<Result<_, _>>()?;
        let own = told_by_most(contents);
        let mut chain =
            Chain::of(segments, snapshot.as_ref().map(|(snapshot, _)| *snapshot), own, &disk.path)?;
        let id = chain.directory().or(snapshot.as_ref().map(|(snapshot, _)| snapshot.header().directory));
        let id = id.map_or_else(DirectoryId::random, Ok)?;
        // Also those that are not needed: sooner or later they would be removed, or stand in for ours.
        strangers_among(&contents.snapshots, &contents.segments, own.unwrap_or(id))
            .next()
            .map_or(Ok(()), Err)?;
        let (mut latest, mut outages, mut rules) = (Latest::default(), Vec::new(), rules);
        let leftovers =
            snapshot.as_ref().map_or_else(Vec::new, |(snapshot, _)| leftovers(contents, snapshot));
        let roster = match snapshot {
            Some((snapshot, roster)) => {
                latest.see(snapshot.engine_time(), snapshot.path(), 0);
                outages.extend(snapshot.outages().iter().map(|&(from, to)| Outage { from, to }));
                rules = Rules { ttl: snapshot.header().ttl, grace: snapshot.header().grace_seconds };
                roster
            }
            None => Roster::new(seed_of(id)),
        };
        let segments = &chain.segments;
        let changes = rule_changes(segments, rules, &outages, disk)?;
        let replayed = replay_segments(&roster, segments, &changes, latest, disk)?;
        let latest = replayed.latest;
        outages.extend(replayed.outages);
        outages.sort_by_key(|outage| (outage.from, outage.to));
        outages.dedup();
        for segment in segments {
            rules = rules_of(segment);
            if segment.has_unreadable_mark() {
                recovery.unreadable_marks.push(segment.path.clone());
            }
            recovery.sync_failed |= segment.sync().is_err();
        }
        chain.trim(&replayed.slots)?;
        recovery.segments = chain.segments.len();
        recovery.slots = replayed.verdicts;
        recovery.stale_slots = replayed.stale;
        // The latest alive second, or a slot that was written after it.
        let alive = latest.second();
        // Those after the one that could be read.
        let numbers = contents.snapshots.iter().map(|snapshot| snapshot.number);
        let damaged = numbers.filter(|&number| Some(number) > recovery.snapshot).collect();
        let last_snapshot = Snapshots {
            last: contents.snapshots.last().map_or(0, |snapshot| snapshot.number),
            forgotten: 0,
            first_segment: first,
            damaged,
        };
        let forgotten = replayed.forgotten;
        Ok(Self {
            roster,
            id,
            rules,
            outages,
            latest,
            alive,
            chain,
            recovery,
            last_snapshot,
            forgotten,
            leftovers,
        })
    }

    /// Reading has finished: now files may be moved and removed.
    pub fn settle_files(&mut self, directory: &Directory, contents: &Contents) -> Result<(), FileError> {
        for (path, _) in &mut self.recovery.quarantined {
            let quarantine = Quarantine::of(directory, None);
            match quarantine.and_then(|quarantine| quarantine.put_aside(path, || Ok(()))) {
                Ok(aside) => *path = aside,
                // Where it lies changes nothing of what is known without it.
                Err(error) => self.recovery.not_put_aside.push((path.clone(), Arc::new(error))),
            }
        }
        let leftovers: Vec<_> = self.leftovers.iter().chain(&contents.temporaries).collect();
        if !leftovers.is_empty() {
            directory.remove(leftovers.into_iter().map(PathBuf::as_path))?;
        }
        Ok(())
    }
}

/// Segments below the oldest snapshot that is kept.
fn leftovers(contents: &Contents, snapshot: &Snapshot) -> Vec<PathBuf> {
    // If the oldest cannot be read, nothing says which segments it needs.
    let oldest = contents.snapshots.first().and_then(|oldest| Snapshot::open(&oldest.path).ok());
    let Some(oldest) = oldest else { return Vec::new() };
    let first = oldest.header().first_segment.min(snapshot.header().first_segment);
    let leftovers = contents.segments.iter().filter(|segment| segment.number < first);
    leftovers.map(|segment| segment.path.clone()).collect()
}

/// The roster's seed: nobody outside knows the directory's id, and it stays the same, so a user stands in the same shard again.
pub(super) fn seed_of(id: DirectoryId) -> u64 {
    let (low, high) = id.as_bytes().split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(std::array::from_fn(|byte| bytes[byte]));
    half(low) ^ half(high)
}

fn load_snapshot(snapshot: &Snapshot, disk: &Disk) -> Result<Roster, ReadError> {
    disk.progress.expect(snapshot.bytes());
    let roster = Roster::new(seed_of(snapshot.header().directory));
    let mut users = vec![0; SHARDS];
    for section in snapshot.sections() {
        users[section.shard as usize % SHARDS] += section.users as usize;
    }
    let next = AtomicUsize::new(0);
    let results = on_threads(disk.threads, |_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(section) = snapshot.sections().get(index) else { return Ok::<_, ReadError>(()) };
            let shard = section.shard as usize % SHARDS;
            roster.reserve(shard, users[shard]);
            snapshot.read_section(index, |user, live, closed| {
                let live = Live::unpack(live).map_or_else(LiveWord::none, LiveWord::of);
                roster.insert(user, User { live, closed: Timeline::from_words(closed), armed: 0 });
            })?;
            disk.progress.did(section.bytes);
        }
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(roster)
}
