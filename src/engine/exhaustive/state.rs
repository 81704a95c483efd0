//! All that the model knows at one moment, small enough to be hashed by the million.
//!
//! Seconds are bytes, a user is a number, and the journal is one list of slots in the order in which they were reserved, each
//! with the number of its segment. Sets of slots are bits: bit 0 is the first slot there ever was.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::engine::live::{Live, LiveWord};
use crate::engine::roster::User;
use crate::engine::timeline::{Closed, ClosedEnd};
use crate::journal::{Kind, Slot};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

pub(super) const USERS: usize = 2;
const SLOTS: usize = 12;
const SEGMENTS: usize = 8;
const SNAPSHOTS: usize = 3;
const PAST: usize = 6;
const OUTAGES: usize = 3;

/// The second in which every run of the model begins.
pub(super) const START: u8 = 100;

pub(super) fn second(second: u8) -> UnixSeconds {
    UnixSeconds::new(u32::from(second))
}

pub(super) fn short(second: UnixSeconds) -> u8 {
    u8::try_from(second.as_u32()).expect("a run of the model takes a few seconds")
}

/// A session that has ended.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub online_at: u8,
    pub until: u8,
    pub is_left: bool,
}

/// What is known of one user.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Opened, deadline; zeros if there is none.
    live: (u8, u8),
    closed: [Past; PAST],
    len: u8,
}

impl Known {
    pub fn live(&self) -> Option<(u8, u8)> {
        (self.live.1 != 0).then_some(self.live)
    }

    pub fn set_live(&mut self, live: Option<(u8, u8)>) {
        self.live = live.unwrap_or_default();
    }

    pub fn closed(&self) -> &[Past] {
        &self.closed[..usize::from(self.len)]
    }

    pub fn push(&mut self, past: Past) {
        self.closed[usize::from(self.len)] = past;
        self.len += 1;
    }

    pub fn pop(&mut self) {
        self.len -= 1;
        self.closed[usize::from(self.len)] = Past::default();
    }

    pub fn drop_oldest(&mut self, count: usize) {
        let kept = self.closed;
        let kept = &kept[count..usize::from(self.len)];
        (self.closed, self.len) = ([Past::default(); PAST], 0);
        for &past in kept {
            self.push(past);
        }
    }

    /// As the engine has it.
    pub fn to_user(self) -> User {
        let mut user = User::default();
        if let Some((online_at, deadline)) = self.live() {
            user.live = LiveWord::of(Live { online_at: second(online_at), deadline: second(deadline) });
        }
        for past in self.closed() {
            let end = if past.is_left { ClosedEnd::Left } else { ClosedEnd::Lapsed };
            user.closed.push(Closed::new(second(past.online_at), second(past.until), end));
        }
        user
    }

    pub fn of_user(user: &User) -> Self {
        let mut known = Self::default();
        known.set_live(user.live.load().map(|live| (short(live.online_at), short(live.deadline))));
        for closed in user.closed.iter() {
            known.push(Past {
                online_at: short(closed.online_at()),
                until: short(closed.offline_at()),
                is_left: closed.end() == ClosedEnd::Left,
            });
        }
        known
    }
}

/// By hand: derived, hashing would take most of the time.
impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(u32::from_le_bytes([self.live.0, self.live.1, self.len, 0]));
        for past in self.closed() {
            state.write_u32(u32::from_le_bytes([past.online_at, past.until, u8::from(past.is_left), 1]));
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for past in self.closed() {
            write!(f, "{}–{}{} ", past.online_at, past.until, if past.is_left { " left" } else { "" })?;
        }
        match self.live() {
            Some((online_at, deadline)) => write!(f, "{online_at}–{deadline} live"),
            None => write!(f, "."),
        }
    }
}

/// A slot, and the segment in which it was reserved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub kind: Kind,
    pub user: u8,
    pub online_at: u8,
    pub until: u8,
    pub segment: u8,
}

impl Default for Written {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl Written {
    /// Reserved, and not yet stored.
    pub const NOTHING: Self = Self { kind: Kind::Void, user: 0, online_at: 0, until: 0, segment: 0 };

    pub fn slot(self) -> Slot {
        let user = UserId::new(i64::from(self.user));
        Slot { kind: self.kind, user, online_at: second(self.online_at), until: second(self.until) }
    }
}

impl Hash for Written {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { kind, user, online_at, until, segment } = *self;
        let bytes = [user, online_at, until, segment].map(u64::from);
        state.write_u64(bytes.into_iter().fold(u64::from(kind as u32), |word, byte| word << 8 | byte));
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} u{} {}–{} @{}", self.kind, self.user, self.online_at, self.until, self.segment)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its file is there.
    pub exists: bool,
    /// Which of the machine's rules its header tells.
    pub rules: u8,
    /// The synced mark, in the page cache.
    pub mark: u8,
    /// The alive second, in the page cache and on disk.
    pub alive: u8,
    pub alive_durable: u8,
}

impl Hash for Segment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { exists, rules, mark, alive, alive_durable } = *self;
        let bytes = [u8::from(exists), rules, mark, alive, alive_durable, 0, 0, 0];
        state.write_u64(u64::from_le_bytes(bytes));
    }
}

/// A list of a few: `Vec` would be an allocation in every state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Few<T, const MOST: usize> {
    items: [T; MOST],
    len: u8,
}

impl<T: Copy, const MOST: usize> Few<T, MOST> {
    pub const fn of(nothing: T) -> Self {
        Self { items: [nothing; MOST], len: 0 }
    }

    pub fn push(&mut self, item: T) {
        self.items[usize::from(self.len)] = item;
        self.len += 1;
    }

    pub fn as_slice(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.len)]
    }

    /// What is beyond the end becomes `nothing`, so that equal lists are equal.
    pub fn keep(&mut self, nothing: T, mut keep: impl FnMut(&T) -> bool) {
        let before = *self;
        *self = Self::of(nothing);
        before.as_slice().iter().filter(|item| keep(item)).for_each(|&item| self.push(item));
    }
}

impl<T: Hash + Copy, const MOST: usize> Hash for Few<T, MOST> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.len);
        self.as_slice().iter().for_each(|item| item.hash(state));
    }
}

/// Times in which the service was down: from, to.
pub(super) type Outages = Few<(u8, u8), OUTAGES>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Snapshot {
    pub first_segment: u8,
    pub rules: u8,
    pub engine_time: u8,
    pub known: [Known; USERS],
    pub outages: Outages,
    /// The slots whose effects were in the memory that was copied.
    pub contains: u16,
    /// Its directory entry is on disk.
    pub is_durable: bool,
}

impl Snapshot {
    pub const NOTHING: Self = Self {
        first_segment: 0,
        rules: 0,
        engine_time: 0,
        known: [Known {
            live: (0, 0),
            closed: [Past { online_at: 0, until: 0, is_left: false }; PAST],
            len: 0,
        }; USERS],
        outages: Outages::of((0, 0)),
        contains: 0,
        is_durable: false,
    };
}

/// What is in the files, for whoever opens them after the process has died.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub slots: Few<Written, SLOTS>,
    /// Stored, last word and all.
    pub committed: u16,
    /// On disk, too.
    pub durable: u16,
    /// Of these `current` is in service, those behind it are not yet. A segment in front of it is sealed.
    pub segments: [Segment; SEGMENTS],
    pub current: u8,
    /// Oldest first.
    pub snapshots: Few<Snapshot, SNAPSHOTS>,
}

impl Disk {
    pub fn segment(&mut self) -> &mut Segment {
        &mut self.segments[usize::from(self.current)]
    }

    /// The slots of a segment, each with its bit, in order.
    pub fn slots_of(&self, segment: u8) -> impl Iterator<Item = (u16, Written)> {
        let slots = self.slots.as_slice().iter().enumerate();
        slots.filter(move |(_, slot)| slot.segment == segment).map(|(index, &slot)| (1 << index, slot))
    }

    /// `Segment::reserved`
    pub fn reserved(&self, segment: u8) -> u8 {
        u8::try_from(self.slots_of(segment).count()).expect("a segment has few slots")
    }

    /// `Segment::committed_from`; the run from the first slot on.
    pub fn committed_run(&self, segment: u8) -> u8 {
        let run = self.slots_of(segment).take_while(|(bit, _)| self.committed & bit != 0);
        u8::try_from(run.count()).expect("a segment has few slots")
    }

    /// `Segment::append`, up to reserving. Gives the slot's bit.
    pub fn reserve(&mut self, slot: Written) -> u16 {
        self.slots.push(slot);
        1 << (self.slots.as_slice().len() - 1)
    }

    pub fn at(&mut self, bit: u16) -> &mut Written {
        &mut self.slots.as_mut_slice()[bit.trailing_zeros() as usize]
    }

    /// A new segment comes into service. `State::move_on`
    pub fn begin_segment(&mut self, number: u8, rules: u8) {
        self.current = number;
        *self.segment() = Segment { exists: true, rules, ..Segment::default() };
    }
}

/// Whether whoever waits for a sync has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Wait {
    #[default]
    No,
    /// For one that has not begun.
    ForNext,
    /// The one under way is it.
    ForThis,
    Over,
}

/// Where a writer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum At {
    #[default]
    Idle,
    /// Holds the shared guard, has read the clock.
    Shared,
    /// A heal has given up the shared guard and wants the exclusive one.
    Opening,
    /// Holds a guard, has decided.
    Decided,
    Reserved,
    /// Its slot is stored; memory has not changed.
    Committed,
    /// Its guard is released; `always` waits for the disk.
    Confirming,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    /// How many operations of its script are behind it.
    pub done: u8,
    pub at: At,
    /// Read under the guard; 0 if it has not.
    pub now: u8,
    pub is_exclusive: bool,
    /// The deadline that a heal has read under the shared guard.
    pub loaded: u8,
    /// Only of designs that look up the segment too early: its number and 1.
    pub segment: u8,
    /// Reserved.
    pub slot: u16,
    /// What it will store.
    pub written: Written,
    /// What will be known of the user.
    pub after: Known,
    /// The slots that its answer tells of, its own included.
    pub relies_on: u16,
    pub wait: Wait,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Snapshotter {
    pub left: u8,
    pub at: u8,
    pub forgotten: u8,
    pub draft: Snapshot,
    pub wait: Wait,
}

/// The syncer: 0 when it rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Syncer {
    /// The segment that it is about to sync, and 1.
    pub segment: u8,
    /// The run of committed slots that it has seen there.
    pub run: u8,
    pub is_flushed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub now: u8,
    pub ticks_left: u8,
    pub restarts_left: u8,
    /// Which of the machine's rules are in force.
    pub rules: u8,
    pub known: [Known; USERS],
    pub outages: Outages,
    /// `Persistence::forgotten`, and what the last snapshot saw of it.
    pub forgotten: u8,
    pub forgotten_before: u8,
    pub writers: [Writer; 2],
    pub snapshotter: Snapshotter,
    pub syncer: Syncer,
    /// The first segment since the last start; the syncer holds no earlier one.
    pub held_from: u8,
    pub disk: Disk,
    /// What nobody in the engine knows: the state at the last start, the first slot since, which slots memory contains, and
    /// which have been acknowledged.
    pub base: [Known; USERS],
    pub first_slot: u8,
    pub applied: u16,
    pub acknowledged: u16,
}

impl State {
    /// The bits of the slots that memory contains of this user.
    pub fn applied_of(&self, user: u8) -> u16 {
        let slots = self.disk.slots.as_slice().iter().enumerate();
        let bits = slots.filter(|(_, slot)| slot.user == user).map(|(index, _)| 1 << index);
        self.applied & bits.fold(0, |bits, bit: u16| bits | bit)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "now {} known {:?}", self.now, self.known)?;
        for (index, slot) in self.disk.slots.as_slice().iter().enumerate() {
            let bit = 1 << index;
            let is = |bits: u16, yes| if bits & bit == 0 { "" } else { yes };
            let committed = if self.disk.committed & bit == 0 { "reserved " } else { "" };
            write!(
                f,
                " [{committed}{slot:?}{}{}{}]",
                is(self.disk.durable, " durable"),
                is(self.applied, " applied"),
                is(self.acknowledged, " acked")
            )?;
        }
        for snapshot in self.disk.snapshots.as_slice() {
            let durable = if snapshot.is_durable { " durable" } else { "" };
            write!(f, " snapshot from {}{durable}: {:?}", snapshot.first_segment, snapshot.known)?;
        }
        Ok(())
    }
}
