//! The last few times in which the service was not there to take heals.
//!
//! Several, because a service that is restarted twice in a row must not take back at the second start what it granted at the
//! first. Eight are more starts than a supervisor allows within one ttl.

use super::rules::Outage;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{UnixSeconds, pack, unpack};

const KEPT: usize = 8;

/// Those that are kept; written by one thread at a time, read by all.
#[derive(Debug, Default)]
pub(super) struct RecentOutages([AtomicU64; KEPT]);

impl RecentOutages {
    /// Takes it in, and lets go of the oldest if there are too many.
    pub fn note(&self, outage: Outage) {
        // A word that is 0 is free and the least; of the others the oldest is.
        let oldest = self.0.iter().min_by_key(|word| word.load(Ordering::Acquire));
        if let Some(oldest) = oldest {
            oldest.store(pack(outage.from, outage.to), Ordering::Release);
        }
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
    /// The last of these, which are in order.
    pub fn of(outages: &[Outage]) -> Self {
        let recent = RecentOutages::default();
        for &outage in outages {
            recent.note(outage);
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
        let outages = Outages::of(&(1..=10).map(outage).collect::<Vec<_>>());
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
}
