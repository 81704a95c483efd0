//! When to look at whom.
//!
//! [`Buckets`] answers one question: whose session may be over by now? It may name someone too early and never too late.
//! The answer is a hint; the truth is in the user's `live` word, and the sweep looks there.
//!
//! ```text
//!   second   41    42    43    44
//!             │     │     │     │
//!             7     9    ···    3        one entry per user with a live session
//!            12
//!             ▲ now: 41 is due, 42 is not
//! ```
//!
//! A heal does not come here. User 7 may have healed a hundred times since it was filed under 41: its entry stays, and the
//! sweep files it again when 41 comes. So each online user is touched once per ttl, however often it heals.
//!
//! Invariants: every user with a live session has exactly one valid entry, in the bucket of the second that the user's
//! `armed` names, and that second is no later than the one in which the session is due. Entries elsewhere are leftovers of
//! users who were forgotten and came back; the sweep drops them.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU32, Ordering, SegQueue};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// The ring reaches at most this far ahead (68 minutes, 1 MiB of empty buckets). Who is due later is looked at once in this
/// time and filed again.
const RING_MAX: u32 = 4_096;

pub(crate) struct Buckets {
    /// One per second, used again after `ring.len()` seconds; a power of two.
    ring: Box<[SegQueue<UserId>]>,
    /// The second that is being emptied or was last.
    position: CachePadded<AtomicU32>,
}

impl Buckets {
    /// Buckets that reach `reach` seconds ahead, emptied up to `start`.
    pub fn new(start: UnixSeconds, reach: u32) -> Self {
        // One for the second being emptied, one so that `reach` itself fits.
        let length = reach.saturating_add(2).min(RING_MAX).next_power_of_two();
        Self {
            ring: (0..length).map(|_| SegQueue::new()).collect(),
            position: CachePadded::new(AtomicU32::new(start.as_u32())),
        }
    }

    /// Files `user` under second `due`, or earlier if that is beyond the ring, and gives the second. The caller holds the
    /// user's exclusive guard and stores the second as `armed` before releasing it.
    pub fn arm(&self, user: UserId, due: UnixSeconds) -> u32 {
        loop {
            let position = self.position.load(Ordering::SeqCst);
            let earliest = position.saturating_add(1);
            let latest = position.saturating_add(self.reach());
            let armed = due.as_u32().clamp(earliest, latest);
            self.ring[self.index(armed)].push(user);
            // If the sweep has come to that second meanwhile, it may have emptied the bucket before the entry was in it.
            // Then file again; the entry that is too many is dropped wherever it is found. If it has not, its store of the
            // position comes after this load, and so its emptying after the push. The last second there is has none after
            // it, and each sweep in it empties its bucket again.
            if self.position.load(Ordering::SeqCst) < armed || armed == u32::MAX {
                return armed;
            }
        }
    }

    /// Moves on to the seconds up to `now` and gives each with the entries in its bucket to `visit`.
    ///
    /// After a pause longer than the ring is, each bucket is emptied once: nothing can lie further ahead.
    pub fn empty_until(&self, now: UnixSeconds, mut visit: impl FnMut(UnixSeconds, UserId)) {
        let emptied = self.position.load(Ordering::SeqCst);
        let now = now.as_u32();
        let first = emptied.saturating_add(1).max(now.saturating_sub(self.reach()));
        for second in first..=now {
            self.position.store(second, Ordering::SeqCst);
            while let Some(user) = self.ring[self.index(second)].pop() {
                visit(UnixSeconds::new(second), user);
            }
        }
    }

    /// Whether an entry found in the bucket of `second` is the one that `armed` means. They need not be equal: after a long
    /// pause, the bucket is emptied for a later second than the one it was filled for.
    pub fn is_valid(&self, armed: u32, second: UnixSeconds) -> bool {
        armed != 0 && self.index(armed) == self.index(second.as_u32())
    }

    fn reach(&self) -> u32 {
        u32::try_from(self.ring.len()).unwrap_or(RING_MAX) - 1
    }

    fn index(&self, second: u32) -> usize {
        second as usize & (self.ring.len() - 1)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const ANA: UserId = UserId::new(1);

    fn second(second: u32) -> UnixSeconds {
        UnixSeconds::new(second)
    }

    /// Empties the buckets up to `now`, and gives where there was an entry.
    fn found(buckets: &Buckets, now: u32) -> Vec<u32> {
        let mut found = Vec::new();
        buckets.empty_until(second(now), |second, _| found.push(second.as_u32()));
        found
    }

    #[test]
    fn an_entry_is_found_in_its_second_and_once() {
        let buckets = Buckets::new(second(100), 8);
        assert_eq!(buckets.arm(ANA, second(108)), 108);

        assert_eq!(found(&buckets, 107), []);
        assert_eq!(found(&buckets, 108), [108]);
        assert_eq!(found(&buckets, 1_000), []);
    }

    #[test]
    fn nothing_is_filed_where_the_sweep_has_been() {
        let buckets = Buckets::new(second(100), 8);
        found(&buckets, 120);
        assert_eq!(buckets.arm(ANA, second(110)), 121);
        assert_eq!(found(&buckets, 121), [121]);
    }

    #[test]
    fn beyond_the_ring_an_entry_is_filed_earlier() {
        let buckets = Buckets::new(second(100), 86_400);
        assert_eq!(buckets.arm(ANA, second(86_500)), 100 + 4_095);
        assert_eq!(found(&buckets, 100 + 4_095), [100 + 4_095]);
    }

    #[test]
    fn after_a_pause_longer_than_the_ring_every_entry_is_found_once_and_valid() {
        let buckets = Buckets::new(second(100), 8);
        let armed: Vec<_> = (101..=108).map(|due| buckets.arm(ANA, second(due))).collect();

        let found = found(&buckets, 1_000_000);
        assert_eq!(found.len(), 8);
        assert!(armed.iter().all(|&armed| found.iter().any(|&at| buckets.is_valid(armed, second(at)))));
    }

    #[test]
    fn an_entry_is_valid_only_where_its_user_has_it() {
        let buckets = Buckets::new(second(100), 8);
        let armed = buckets.arm(ANA, second(105));
        assert!(buckets.is_valid(armed, second(105)));
        assert!(!buckets.is_valid(armed, second(106)));
        assert!(!buckets.is_valid(0, second(112)), "a user without an entry has none in bucket 0 either");
    }

    #[test]
    fn who_is_filed_again_during_a_sweep_is_found_by_the_same_sweep_if_due() {
        let buckets = Buckets::new(second(100), 8);
        buckets.arm(ANA, second(101));
        let mut found = Vec::new();
        buckets.empty_until(second(110), |at, user| {
            found.push(at.as_u32());
            if at == second(101) {
                buckets.arm(user, second(109));
            }
        });
        assert_eq!(found, [101, 109]);
    }

    #[test]
    fn in_the_last_second_there_is_an_entry_is_found_by_the_next_sweep() {
        let buckets = Buckets::new(second(u32::MAX - 2), 8);
        found(&buckets, u32::MAX);
        assert_eq!(buckets.arm(ANA, UnixSeconds::MAX), u32::MAX);
        assert_eq!(found(&buckets, u32::MAX), [u32::MAX]);
    }
}
