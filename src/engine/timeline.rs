//! A user's closed sessions, 8 bytes each, behind one thin pointer.
//!
//! ```text
//!   63            32 31  30             0
//!   ├── online_at ──┼─┬┴──── seconds ───┤
//!                    └ left: ended by a leave, not for want of heals
//! ```
//!
//! Ordered by `online_at`; no two overlap. A user without any costs the pointer alone.

use thin_vec::ThinVec;

use crate::session::{End, Session};
use crate::time::{UnixSeconds, pack, unpack};

/// A closed session, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed(u64);

const LEFT: u64 = 1 << 31;

impl Closed {
    /// 31 bits: 68 years.
    pub const SECONDS_MAX: u32 = (1 << 31) - 1;

    pub fn new(online_at: UnixSeconds, offline_at: UnixSeconds, end: ClosedEnd) -> Self {
        let seconds = offline_at.since(online_at).min(Self::SECONDS_MAX);
        let left = if end == ClosedEnd::Left { LEFT } else { 0 };
        Self(pack(online_at, UnixSeconds::new(seconds)) | left)
    }

    /// The session of this word.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Its word.
    pub const fn word(self) -> u64 {
        self.0
    }

    pub const fn online_at(self) -> UnixSeconds {
        unpack(self.0).0
    }

    pub const fn offline_at(self) -> UnixSeconds {
        self.online_at().plus(unpack(self.0).1.as_u32() & Self::SECONDS_MAX)
    }

    pub const fn end(self) -> ClosedEnd {
        if self.0 & LEFT == 0 { ClosedEnd::Lapsed } else { ClosedEnd::Left }
    }

    /// The same, over by `second`.
    pub fn ended_by(self, second: UnixSeconds) -> Self {
        Self::new(self.online_at(), self.offline_at().min(second), self.end())
    }

    /// Whether its user left in this very second, so that a heal now reopens it.
    pub fn is_left_in(self, now: UnixSeconds) -> bool {
        self.end() == ClosedEnd::Left && self.offline_at() == now
    }

    pub fn session(self) -> Session {
        let end = match self.end() {
            ClosedEnd::Lapsed => End::Lapsed,
            ClosedEnd::Left => End::Left,
        };
        Session { online_at: self.online_at(), offline_at: self.offline_at(), end }
    }
}

/// How a closed session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedEnd {
    Lapsed,
    Left,
}

/// The closed sessions of one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline(ThinVec<Closed>);

impl Timeline {
    /// Of sessions that are in order already, without room to spare.
    pub fn from_words(words: &[u64]) -> Self {
        let mut closed = ThinVec::with_capacity(words.len());
        closed.extend(words.iter().map(|&word| Closed::from_word(word)));
        Self(closed)
    }

    pub fn push(&mut self, session: Closed) {
        if self.0.len() == self.0.capacity() {
            // Most users have few sessions, and there are many users: grow by two at first and by an eighth later, not by
            // doubling. Two are 16 bytes, in steps of which the allocator gives out small blocks.
            self.0.reserve_exact(2 + self.0.len() / 8);
        }
        self.0.push(session);
    }

    pub fn last(&self) -> Option<Closed> {
        self.0.last().copied()
    }

    pub fn pop(&mut self) -> Option<Closed> {
        self.0.pop()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What it takes of the heap: 8 bytes a session there is room for, and a header of 16 before them.
    pub fn heap_bytes(&self) -> u64 {
        let capacity = self.0.capacity() as u64;
        if capacity == 0 { 0 } else { 16 + 8 * capacity }
    }

    /// Puts `session` where it belongs, unless there is one that opened in that second; says whether it did. Of two that would
    /// overlap, the earlier one ends when the later one opens.
    pub fn insert(&mut self, session: Closed) -> bool {
        let Err(at) = self.0.binary_search_by_key(&session.online_at(), |known| known.online_at()) else {
            return false;
        };
        if let Some(before) = at.checked_sub(1) {
            self.0[before] = self.0[before].ended_by(session.online_at());
        }
        let session = self.0.get(at).map_or(session, |after| session.ended_by(after.online_at()));
        self.0.insert(at, session);
        true
    }

    /// The last session that opened in `second` or before it, and the first that opened after it.
    pub fn around(&self, second: UnixSeconds) -> (Option<Closed>, Option<Closed>) {
        let after = self.0.partition_point(|known| known.online_at() <= second);
        (after.checked_sub(1).map(|before| self.0[before]), self.0.get(after).copied())
    }

    /// Drops the `count` oldest.
    pub fn drop_oldest(&mut self, count: usize) {
        self.0.drain(..count);
        self.0.shrink_to_fit();
    }

    /// As they stand in a snapshot.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.0.iter().map(|closed| closed.word())
    }

    pub fn sessions(&self) -> &[Closed] {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = Closed> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_packing() {
        for (online_at, offline_at) in
            [(0, 0), (1_638_360_000, 1_638_360_007), (1, Closed::SECONDS_MAX + 1), (u32::MAX, u32::MAX)]
        {
            for end in [ClosedEnd::Lapsed, ClosedEnd::Left] {
                let closed = Closed::new(UnixSeconds::new(online_at), UnixSeconds::new(offline_at), end);
                assert_eq!(
                    (closed.online_at().as_u32(), closed.offline_at().as_u32(), closed.end()),
                    (online_at, offline_at, end)
                );
                assert_eq!(Closed::from_word(closed.word()), closed);
            }
        }
    }

    #[test]
    fn a_timeline_is_one_pointer() {
        assert_eq!(size_of::<Option<Timeline>>(), 8);
        assert_eq!(size_of::<Closed>(), 8);
    }
}
