//! The last few times in which the service was not there to take heals.
//!
//! Several, because a service that is restarted twice in a row must not take back at the second start what it granted at the
//! first. There may be more of them than are kept, in a crash loop: then the two oldest become one, if what the first had
//! granted reached into the second. The moments between them, in which the service was up, count as outage too: a session is
//! rather continued that should not be than cut by our absence.

use super::rules::Outage;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{UnixSeconds, pack, unpack};

const KEPT: usize = 8;

/// Those that are kept; written by one thread at a time, read by all.
#[derive(Debug, Default)]
pub(super) struct RecentOutages([AtomicU64; KEPT]);

impl RecentOutages {
    /// Takes it in. An outage grants its sessions `reach` seconds after its end: if there are too many, the oldest is let go
    /// when it had nothing to grant any more as the next one began, and is joined to that one when it had.
    pub fn note(&self, outage: Outage, reach: u32) {
        // A word that is 0 is free and the least; of the others the oldest is.
        let mut words: Vec<&AtomicU64> = self.0.iter().collect();
        words.sort_by_key(|word| word.load(Ordering::Acquire));
        let [oldest, next, ..] = words[..] else { return };
        let (from, to) = unpack(oldest.load(Ordering::Acquire));
        let (next_from, next_to) = unpack(next.load(Ordering::Acquire));
        if to != UnixSeconds::new(0) && next_from <= to.plus(reach) {
            next.store(pack(from, next_to.max(to)), Ordering::Release);
        }
        oldest.store(pack(outage.from, outage.to), Ordering::Release);
    }

    pub fn read(&self) -> Outages {
        let mut outages = Outages::default();
        for (read, word) in outages.0.iter_mut().zip(&self.0) {
            *read = word.load(Ordering::Acquire);
            if *read == 0 {
                break;
            }
        }
        outages
    }
}

/// Outages, read at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outages([u64; KEPT]);

impl Outages {
    /// The last of these, which are in order. For `reach` see [`RecentOutages::note`].
    pub fn of(outages: &[Outage], reach: u32) -> Self {
        let recent = RecentOutages::default();
        for &outage in outages {
            recent.note(outage, reach);
        }
        recent.read()
    }

    /// The one that `second` fell into.
    pub fn around(&self, second: UnixSeconds) -> Option<Outage> {
        let outages = self.0.iter().take_while(|&&word| word != 0).map(|&word| unpack(word));
        outages
            .map(|(from, to)| Outage { from, to })
            .find(|outage| outage.from <= second && second < outage.to)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let outage = |n: u32| Outage { from: UnixSeconds::new(10 * n), to: UnixSeconds::new(10 * n + 5) };
        let outages = Outages::of(&(1..=10).map(outage).collect::<Vec<_>>(), 4);
        for n in 1..=10 {
            for (second, is_in) in
                [(10 * n - 1, false), (10 * n, n > 2), (10 * n + 4, n > 2), (10 * n + 5, false)]
            {
                let expected = is_in.then(|| outage(n));
                assert_eq!(outages.around(UnixSeconds::new(second)), expected, "{second}");
            }
        }
        assert_eq!(Outages::default().around(UnixSeconds::new(0)), None);
    }

    #[test]
    fn those_that_reach_into_one_another_become_one_when_there_are_too_many() {
        let outage = |from, to| Outage { from: UnixSeconds::new(from), to: UnixSeconds::new(to) };
        let outages: Vec<_> = (1..=10).map(|n| outage(10 * n, 10 * n + 5)).collect();
        let outages = Outages::of(&outages, 5);
        for (second, expected) in [
            (9, None),
            (10, Some(outage(10, 35))),
            (17, Some(outage(10, 35))),
            (34, Some(outage(10, 35))),
            (35, None),
            (40, Some(outage(40, 45))),
            (104, Some(outage(100, 105))),
        ] {
            assert_eq!(outages.around(UnixSeconds::new(second)), expected, "{second}");
        }
    }
}
