//! The rules that were in force when a segment was written.

use super::outages::Outages;
use super::recover::Disk;
use super::roster::User;
use super::rules::{Outage, Rules};
use crate::damage::ReadError;
use crate::journal::{Kind, SegmentFile};
use crate::time::UnixSeconds;

/// A start under other rules than those before: what was over then was closed under the old ones, and nothing in the journal
/// says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleChange {
    pub before: Rules,
    pub outages: Outages,
    /// When it was, as far as an outage tells.
    pub at: UnixSeconds,
}

impl RuleChange {
    /// The same, when everything before it tells of seconds up to `latest`: a start with no outage was in that second.
    pub fn no_earlier_than(self, latest: UnixSeconds) -> Self {
        Self { at: self.at.max(latest), ..self }
    }

    pub fn apply(&self, known: &mut User) {
        if let Some(live) = known.live.load().filter(|&live| self.before.is_over(live, self.outages, self.at))
        {
            known.closed.push(super::rules::lapse(live));
            known.live.replace(None);
        }
    }
}

/// A segment, as far as it tells under which rules its slots were written.
pub(super) struct Written {
    pub rules: Rules,
    /// Its first slot, if that is an outage: the first slot after a start. There is none after one within the second.
    pub outage: Option<Outage>,
}

/// Before which of the segments there was such a start. `rules` are those of the snapshot, if there is one.
pub(super) fn rule_changes(
    segments: &[SegmentFile],
    rules: Rules,
    outages: &[Outage],
    disk: &Disk,
) -> Result<Vec<Option<RuleChange>>, ReadError> {
    let written = segments.iter().map(|segment| {
        let outage = segment.slot(0)?.filter(|slot| slot.kind == Kind::Outage);
        Ok(Written {
            rules: rules_of(segment),
            outage: outage.map(|slot| Outage { from: slot.online_at, to: slot.until }),
        })
    });
    Ok(changes(&written.collect::<Result<Vec<_>, ReadError>>()?, rules, outages, disk.restart_grace))
}

/// The same of segments that have been looked at.
pub(super) fn changes(
    segments: &[Written],
    rules: Rules,
    outages: &[Outage],
    restart_grace: bool,
) -> Vec<Option<RuleChange>> {
    let (mut rules, mut outages) = (segments.first().map_or(rules, |first| first.rules), outages.to_vec());
    let mut changes = Vec::new();
    for segment in segments {
        outages.extend(segment.outage);
        let before = std::mem::replace(&mut rules, segment.rules);
        changes.push((before != rules).then(|| RuleChange {
            before,
            outages: if restart_grace { Outages::of(&outages, before.reach()) } else { Outages::default() },
            at: segment.outage.map_or(UnixSeconds::new(0), |outage| outage.to),
        }));
    }
    changes
}

pub(super) fn rules_of(segment: &SegmentFile) -> Rules {
    Rules { ttl: segment.header.ttl, grace: segment.header.grace }
}
