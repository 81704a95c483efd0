//! From segment to segment, as a start goes, and over what is missing.

use std::collections::BTreeMap;

/// What a segment adds to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The number of the one before; 0 for none.
    pub previous: u64,
    pub has_slots: bool,
}

/// The way from the last segment back to the first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Those that are there.
    pub there: Vec<u64>,
    /// Those that are not, each with the number of the one before it.
    pub missing: Vec<(u64, u64)>,
    /// Those beside the way that have slots.
    pub beside: Vec<u64>,
}

impl Walk {
    /// Through the segments from `first` on, or through all.
    pub fn of(links: &BTreeMap<u64, Link>, first: Option<u64>) -> Self {
        let links: BTreeMap<_, _> = links.range(first.unwrap_or(0)..).map(|(&n, &link)| (n, link)).collect();
        let mut walk = Self::default();
        let mut wanted = links.last_key_value().map(|(&number, _)| number).or(first);
        while let Some(number) = wanted {
            let previous = if let Some(link) = links.get(&number) {
                walk.there.push(number);
                link.previous
            } else {
                let previous = before_missing(&links, number, first);
                walk.missing.push((number, previous));
                previous
            };
            let goes_on = previous != 0 && previous < number && Some(number) != first;
            wanted = (goes_on && first.is_none_or(|first| previous >= first)).then_some(previous);
        }
        let is_beside = |number: &u64| !walk.there.contains(number);
        walk.beside = links
            .iter()
            .filter(|(_, link)| link.has_slots)
            .map(|(&number, _)| number)
            .filter(is_beside)
            .collect();
        walk
    }

    /// Without a gap, as far as `end`.
    pub fn is_whole_to(&self, end: u64) -> bool {
        self.missing.iter().all(|&(number, _)| number >= end)
            && self.beside.iter().all(|&number| number >= end)
    }
}

/// A missing segment followed the last one that has slots.
fn before_missing(links: &BTreeMap<u64, Link>, missing: u64, first: Option<u64>) -> u64 {
    if first == Some(missing) {
        return missing - 1;
    }
    let before = || links.range(..missing).rev();
    let used = before().find(|(_, link)| link.has_slots).or_else(|| before().next());
    used.map_or(first.unwrap_or(0), |(&number, _)| number)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn walk(links: &[(u64, u64, bool)], first: Option<u64>) -> Walk {
        let link = |&(number, previous, has_slots): &_| (number, Link { previous, has_slots });
        Walk::of(&links.iter().map(link).collect(), first)
    }

    #[test]
    fn what_is_missing_follows_the_last_that_has_slots() {
        let whole = walk(&[(1, 0, true), (2, 1, true), (3, 2, false)], None);
        assert_eq!(whole, Walk { there: vec![3, 2, 1], ..Walk::default() });

        let gap = walk(&[(1, 0, true), (2, 1, false), (4, 3, true)], None);
        assert_eq!(gap, Walk { there: vec![4, 1], missing: vec![(3, 1)], beside: vec![] });

        let beginning = walk(&[(5, 4, true)], None);
        assert_eq!(beginning, Walk { there: vec![5], missing: vec![(4, 0)], beside: vec![] });

        let first = walk(&[(3, 2, true), (5, 4, true)], Some(4));
        assert_eq!(first, Walk { there: vec![5], missing: vec![(4, 3)], beside: vec![] });

        let all = walk(&[], Some(4));
        assert_eq!(all, Walk { there: vec![], missing: vec![(4, 3)], beside: vec![] });

        let two = walk(&[(7, 6, true)], Some(4));
        assert_eq!(two, Walk { there: vec![7], missing: vec![(6, 4), (4, 3)], beside: vec![] });
    }

    #[test]
    fn what_no_later_one_names_is_beside() {
        let fork = walk(&[(1, 0, true), (2, 1, true), (3, 1, true)], None);
        assert_eq!(fork, Walk { there: vec![3, 1], missing: vec![], beside: vec![2] });
    }
}
