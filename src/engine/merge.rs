//! What is left of a damaged snapshot, made whole as far as can be from an older one and the journal between the two.
//!
//! A user who stands in a section that verifies is taken as the later snapshot has them. Everybody else is taken from the earlier
//! one, with every slot applied that was written between: so the result stands at the later snapshot's first segment, as the
//! damaged one did, and nothing that it knew for certain is undone by a journal that has holes.
//!
//! A user whose shard lost nothing, and who does not stand in it, was forgotten or has been dropped: they do not come back.
//!
//! It takes memory for so many users at a time as [`PART_USERS`] says, and for each part reads the files again.

use super::live::{Live, LiveWord};
use super::loaded::seed_of;
use super::replayed::apply;
use super::roster::{Roster, SHARDS, User};
use super::timeline::{Closed, Timeline};
use crate::damage::ReadError;
use crate::directory::FileError;
use crate::journal::{Found, Kind, SegmentFile};
use crate::snapshot::{Copied, Salvage, Snapshot, Writer};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// Users put together at a time.
const PART_USERS: u64 = 1 << 22;

/// What goes into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merge<'a> {
    /// What is left of the snapshot.
    pub later: &'a Salvage,
    /// What is left of the one before, if there is one.
    pub earlier: Option<&'a Salvage>,
    /// The journal between them, by number, as far as it is there; of each so many places.
    pub between: &'a [(&'a SegmentFile, u32)],
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Users taken from the later one.
    pub kept: u64,
    /// Users taken from the earlier one and the journal after it.
    pub taken: u64,
    /// No later than the end of the later one.
    pub engine_time: UnixSeconds,
    pub outages: Vec<(UnixSeconds, UnixSeconds)>,
}

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Merge<'_> {
    /// Puts everybody together, and writes them if there is a writer.
    pub fn run(self, mut writer: Option<&mut Writer<'_>>) -> Result<Merged, MergeError> {
        let kept = self.later.snapshot.users();
        let mut merged = Merged { kept, taken: 0, engine_time: UnixSeconds::new(0), outages: Vec::new() };
        let mut latest = UnixSeconds::new(0);
        let roster = Roster::new(seed_of(self.later.snapshot.header().directory));
        let is_by_seed = self.keep(&roster, writer.as_deref_mut(), &mut latest)?;
        let shards = (is_by_seed && self.later.is_told && merged.kept > 0).then(|| self.lost_shards());
        let earlier = self.earlier.map_or(0, |earlier| earlier.snapshot.users());
        let parts = (merged.kept.max(earlier) / PART_USERS) + 1;
        for part in 0..parts {
            let is_lost = |user| shards.as_ref().is_none_or(|shards| shards[roster.shard_of(user)]);
            let roster = self.earlier_users(Part { part, parts }, is_lost, &mut merged)?;
            merged.taken += write(&roster, writer.as_deref_mut(), &mut latest)?;
        }
        if self.later.is_told {
            merged.engine_time = self.later.snapshot.engine_time();
            merged.outages = self.later.snapshot.outages().to_vec();
        } else {
            let earlier = self.earlier.filter(|earlier| earlier.is_told).map(|earlier| &earlier.snapshot);
            merged.engine_time = latest.max(earlier.map_or(latest, Snapshot::engine_time));
            merged.outages.extend(earlier.iter().flat_map(|earlier| earlier.outages()));
            merged.outages.sort_unstable();
            merged.outages.dedup();
        }
        Ok(merged)
    }

    /// Gives whether everybody stands in the shard that the directory's id says. That is not so in one that was restored.
    fn keep(
        self,
        roster: &Roster,
        mut writer: Option<&mut Writer<'_>>,
        latest: &mut UnixSeconds,
    ) -> Result<bool, MergeError> {
        let (mut copied, mut is_by_seed) = (Copied::default(), true);
        for (index, section) in self.later.snapshot.sections().iter().enumerate() {
            copied.clear();
            self.later.snapshot.read_section(index, |user, live, closed| {
                *latest = (*latest).max(last_opened(live, closed));
                is_by_seed &= roster.shard_of(user) == section.shard as usize;
                copied.push(user, live, closed.iter().copied());
            })?;
            if let Some(writer) = writer.as_deref_mut() {
                writer.write_shard(section.shard, &copied)?;
            }
        }
        Ok(is_by_seed)
    }

    fn lost_shards(self) -> Vec<bool> {
        let mut shards = vec![false; SHARDS];
        self.later.lost.iter().for_each(|section| shards[section.shard as usize % SHARDS] = true);
        shards
    }

    /// Those of a part whom the later one does not have, with what was written of them in between.
    fn earlier_users(
        self,
        part: Part,
        is_lost: impl Fn(UserId) -> bool,
        merged: &mut Merged,
    ) -> Result<Roster, ReadError> {
        let known = self.known(part)?;
        let is_wanted = |user| part.has(user) && is_lost(user) && known.binary_search(&user).is_err();
        let roster = Roster::new(seed_of(self.later.snapshot.header().directory));
        if let Some(earlier) = self.earlier {
            for index in 0..earlier.snapshot.sections().len() {
                earlier.snapshot.read_section(index, |user, live, closed| {
                    if is_wanted(user) {
                        let live = Live::unpack(live).map_or_else(LiveWord::none, LiveWord::of);
                        roster.insert(user, User { live, closed: Timeline::from_words(closed), armed: 0 });
                    }
                })?;
            }
        }
        for &(segment, places) in self.between {
            segment.scan(0..places, |_, found, _| {
                match found {
                    Found::Slot(slot) if slot.kind == Kind::Outage && part.part == 0 => {
                        merged.outages.push((slot.online_at, slot.until));
                    }
                    Found::Slot(slot) if is_about_a_user(slot.kind) && is_wanted(slot.user) => {
                        apply(&roster, slot);
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(roster)
    }

    /// The users of a part whom the later one has, in order.
    fn known(self, part: Part) -> Result<Vec<UserId>, ReadError> {
        let mut known = Vec::new();
        for index in 0..self.later.snapshot.sections().len() {
            self.later.snapshot.read_section(index, |user, _, _| {
                if part.has(user) {
                    known.push(user);
                }
            })?;
        }
        known.sort_unstable();
        Ok(known)
    }
}

/// One of so many parts of all users.
#[derive(Clone, Copy)]
struct Part {
    part: u64,
    parts: u64,
}

impl Part {
    fn has(self, user: UserId) -> bool {
        // Ids that count up must not all meet in one part; any odd number does, and this one spreads them best.
        let mixed = user.as_i64().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) % self.parts == self.part
    }
}

const fn is_about_a_user(kind: Kind) -> bool {
    matches!(kind, Kind::Live | Kind::Left | Kind::Forgotten | Kind::Closed)
}

fn last_opened(live: u64, closed: &[u64]) -> UnixSeconds {
    let last = closed.last().map(|&word| Closed::from_word(word).online_at());
    let last = last.unwrap_or(UnixSeconds::new(0));
    Live::unpack(live).map_or(last, |live| live.online_at)
}

/// Gives how many there are.
fn write(
    roster: &Roster,
    mut writer: Option<&mut Writer<'_>>,
    latest: &mut UnixSeconds,
) -> Result<u64, FileError> {
    let (mut copied, mut users) = (Copied::default(), 0);
    for shard in 0..SHARDS {
        copied.clear();
        roster.walk(shard, |user, known| {
            if known.is_empty() {
                return;
            }
            users += 1;
            let live = known.live.load().map_or(0, Live::pack);
            let closed: Vec<u64> = known.closed.words().collect();
            *latest = (*latest).max(last_opened(live, &closed));
            copied.push(user, live, closed.into_iter());
        });
        if let Some(writer) = writer.as_deref_mut()
            && !copied.is_empty()
        {
            writer.write_shard(u32::try_from(shard).unwrap_or(0), &copied)?;
        }
    }
    Ok(users)
}
