//! A shard's users, copied flat, so that its guard can be released before anything is encoded.
//!
//! ```text
//!   │ user │ live │ n │ closed₁ … closedₙ │ user │ live │ n │ …        one word each
//! ```
//!
//! Clear and reuse it for shard after shard: it grows to the largest one and then allocates no more.

use super::{SECTION_BYTES_MAX, UserRecord};
use crate::user_id::UserId;

const HEAD: usize = 3;
const WORD_BYTES: usize = size_of::<u64>();

/// The buffer.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    words: Vec<u64>,
    users: usize,
}

impl Copied {
    /// Makes it empty and keeps its memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.users = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.users == 0
    }

    /// Adds a user with the word of the live session, or 0, and those of the closed ones. Runs under the shard's guard: it
    /// copies, and does nothing else.
    #[inline]
    pub fn push(&mut self, user: UserId, live: u64, closed: impl Iterator<Item = u64>) {
        let head = self.words.len();
        self.words.extend_from_slice(&[user.as_i64().cast_unsigned(), live, 0]);
        self.words.extend(closed);
        self.words[head + 2] = (self.words.len() - head - HEAD) as u64;
        self.users += 1;
    }

    /// How many users it holds.
    #[cfg(test)]
    pub const fn users(&self) -> usize {
        self.users
    }

    /// How many closed sessions they have.
    #[cfg(test)]
    pub const fn sessions(&self) -> usize {
        self.words.len() - HEAD * self.users
    }

    /// The users in portions of which each fits in a section.
    pub(super) fn portions(&self) -> impl Iterator<Item = Portion<'_>> {
        let mut rest = self.words.as_slice();
        std::iter::from_fn(move || {
            let portion = Portion::of(rest)?;
            rest = &rest[portion.words.len()..];
            Some(portion)
        })
    }
}

/// Consecutive users.
pub(super) struct Portion<'a> {
    words: &'a [u64],
    pub users: u32,
}

impl<'a> Portion<'a> {
    /// As many of the first users as a section may hold, and one at least; `None` of none.
    fn of(words: &'a [u64]) -> Option<Self> {
        let (mut end, mut users) = (0, 0);
        while let Some((_, rest)) = first(&words[end..]) {
            let next = words.len() - rest.len();
            if users > 0 && next * WORD_BYTES > SECTION_BYTES_MAX {
                break;
            }
            end = next;
            users += 1;
        }
        (users > 0).then_some(Self { words: &words[..end], users })
    }

    pub const fn bytes(&self) -> u64 {
        (self.words.len() * WORD_BYTES) as u64
    }

    pub const fn sessions(&self) -> u64 {
        (self.words.len() - HEAD * self.users as usize) as u64
    }

    pub fn users(&self) -> impl Iterator<Item = UserRecord<'a>> + use<'a> {
        let mut rest = self.words;
        std::iter::from_fn(move || {
            let (user, after) = first(rest)?;
            rest = after;
            Some(user)
        })
    }
}

/// The first user, and the words after.
#[inline]
fn first(words: &[u64]) -> Option<(UserRecord<'_>, &[u64])> {
    let [user, live, count, rest @ ..] = words else { return None };
    let count = usize::try_from(*count).expect("it was a length when the user was pushed");
    let (closed, rest) = rest.split_at(count);
    Some((UserRecord { user: user.cast_signed(), live: *live, closed }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION_WORDS: usize = SECTION_BYTES_MAX / WORD_BYTES;

    fn portions(sessions_of_each: &[usize]) -> Vec<(u32, u64, u64)> {
        let mut copied = Copied::default();
        for &sessions in sessions_of_each {
            copied.push(UserId::new(1), 0, std::iter::repeat_n(0, sessions));
        }
        copied.portions().map(|portion| (portion.users, portion.sessions(), portion.bytes())).collect()
    }

    #[test]
    fn what_was_pushed_is_there_until_it_is_cleared() {
        let mut copied = Copied::default();
        copied.push(UserId::new(-1), 7, [8, 9].into_iter());
        copied.push(UserId::new(2), 0, std::iter::empty());
        assert_eq!((copied.users(), copied.sessions()), (2, 2));

        let [portion] = &copied.portions().collect::<Vec<_>>()[..] else { panic!("one portion") };
        let users: Vec<_> =
            portion.users().map(|user| (user.user, user.live, user.closed.to_vec())).collect();
        assert_eq!(users, [(-1, 7, vec![8, 9]), (2, 0, vec![])]);

        copied.clear();
        assert_eq!((copied.users(), copied.sessions(), copied.portions().count()), (0, 0, 0));
    }

    #[test]
    fn a_portion_is_as_large_as_a_section_may_be_and_no_larger() {
        assert_eq!(portions(&[SECTION_WORDS - 3]), [(1, 2_097_149, 16_777_216)]);
        assert_eq!(portions(&[SECTION_WORDS - 6, 0]), [(2, 2_097_146, 16_777_216)]);
        assert_eq!(portions(&[SECTION_WORDS - 5, 0]), [(1, 2_097_147, 16_777_200), (1, 0, 24)]);
    }

    #[test]
    fn a_user_too_large_for_a_section_has_one_alone() {
        assert_eq!(portions(&[1, SECTION_WORDS, 2, 3]), [(1, 1, 32), (1, 2_097_152, 16_777_240), (2, 5, 88)]);
    }
}
