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
pub(super) struct RuleChange {
    pub before: Rules,
    pub outages: Outages,
    pub at: UnixSeconds,
}

impl RuleChange {
    pub fn apply(&self, known: &mut User) {
        if let Some(live) = known.live.load().filter(|&live| self.before.is_over(live, self.outages, self.at))
        {
            known.closed.push(super::rules::lapse(live));
            known.live.replace(None);
        }
    }
}

/// Before which of the segments there was such a start. `rules` are those of the snapshot, if there is one.
pub(super) fn rule_changes(
    segments: &[SegmentFile],
    rules: Rules,
    outages: &[Outage],
    disk: &Disk,
) -> Result<Vec<Option<RuleChange>>, ReadError> {
    let (mut rules, mut outages) = (segments.first().map_or(rules, rules_of), outages.to_vec());
    let mut alive = UnixSeconds::new(0);
    let mut changes = Vec::new();
    for segment in segments {
        // The first slot after a start. There is none after one within the second.
        let outage = segment.slot(0)?.filter(|slot| slot.kind == Kind::Outage);
        if let Some(slot) = outage {
            outages.push(Outage { from: slot.online_at, to: slot.until });
        }
        let before = std::mem::replace(&mut rules, rules_of(segment));
        changes.push((before != rules).then(|| RuleChange {
            before,
            outages: if disk.restart_grace {
                Outages::of(&outages, before.reach())
            } else {
                Outages::default()
            },
            at: outage.map_or(alive, |slot| slot.until),
        }));
        alive = UnixSeconds::new(segment.alive.value());
    }
    Ok(changes)
}

pub(super) fn rules_of(segment: &SegmentFile) -> Rules {
    Rules { ttl: segment.header.ttl, grace: segment.header.grace }
}
