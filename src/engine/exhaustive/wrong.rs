//! Designs that are wrong, each of which the checker must notice.

use crate::engine::fold::{extends, fold};
use crate::engine::live::Live;
use crate::engine::roster::User;
use crate::engine::timeline::Closed;
use crate::journal::{Kind, Slot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A writer reads the clock, and then takes the guard.
    ClockBeforeGuard,
    /// A writer looks up the segment, and then takes the guard; and a segment that is not in service any more is not sealed.
    SegmentBeforeGuard,
    /// The same, and segments are sealed, as ours are. This one is not wrong: who comes late is sent on, under the guard.
    SealedSegmentBeforeGuard,
    /// A writer reserves its place in the segment, and then takes the guard.
    PlaceBeforeGuard,
    /// A heal that gives up the shared guard for the exclusive one goes by the second that it had read before.
    DecisionKept,
    /// A snapshot copies while heals are at work.
    SharedCopy,
    /// A snapshot is published although the journal from its first segment on is not yet synced.
    PublishedBeforeSync,
    /// A snapshot's predecessors are removed before its own name is on disk.
    PrunedBeforeDurable,
    /// What is replayed is not synced.
    ReplayedNotSynced,
    /// Folding `live` over the same session takes the slot's end.
    NoMaximum,
    /// The same only of a session that is closed.
    ReopenedWithoutMaximum,
    /// A `forgotten` earlier than the latest session is ignored.
    ForgottenIgnored,
    /// The synced mark is as many slots as have been reserved.
    MarkFromTail,
}

/// `apply` of `engine/replayed.rs`, of one user.
pub(super) fn apply(known: &mut User, slot: Slot, wrong: Option<Wrong>) {
    let latest = known.live.load().map(|live| live.online_at).or(known.closed.last().map(Closed::online_at));
    if slot.kind == Kind::Forgotten {
        if wrong != Some(Wrong::ForgottenIgnored) || latest.is_none_or(|latest| latest <= slot.until) {
            *known = User::default();
        }
        return;
    }
    if slot.kind == Kind::Live && latest == Some(slot.online_at) {
        let is_live = known.live.load().is_some();
        match wrong {
            Some(Wrong::NoMaximum) => return replace(known, slot),
            Some(Wrong::ReopenedWithoutMaximum) if !is_live => return replace(known, slot),
            _ => {}
        }
    }
    if slot.kind != Kind::Live || extends(known, slot).is_none() {
        fold(known, slot);
    }
}

fn replace(known: &mut User, slot: Slot) {
    if known.live.load().is_none() {
        known.closed.pop();
    }
    known.live.replace(Some(Live { online_at: slot.online_at, deadline: slot.until }));
}

mod tests {
    use super::Wrong;
    use crate::engine::exhaustive::machine::Operation::{Forget, Heal, Leave};
    use crate::engine::exhaustive::machine::{Machine, Start, rules};
    use crate::engine::exhaustive::search::Searched;

    /// The checker must find something, and must find nothing once the design is put right.
    fn is_found(wrong: Wrong, machine: &Machine) {
        let right = machine.search();
        let found = Machine { wrong: Some(wrong), ..machine.clone() }.search();
        let trace = found.expect_err("a design that is wrong was not noticed");
        println!("{wrong:?}: {} steps\n{trace}\n", trace.lines().count() / 2 - 1);
        let Searched { states, transitions, crashes } = right.unwrap_or_else(|trace| panic!("{trace}"));
        println!("put right: {states} states, {transitions} transitions, {crashes} crashes\n");
    }

    /// One user, who is online at first, and nothing but what a test asks for.
    fn quiet() -> Machine {
        Machine { begins_live: true, snapshots: 0, has_sweeper: false, ..Machine::default() }
    }

    #[test]
    fn the_clock_read_before_the_guard() {
        let scripts = [vec![(Heal, 0), (Leave, 0)], vec![(Heal, 0)]];
        is_found(Wrong::ClockBeforeGuard, &Machine { scripts, begins_live: false, ..quiet() });
    }

    #[test]
    fn what_was_decided_under_the_shared_guard_kept_under_the_exclusive_one() {
        let scripts = [vec![(Heal, 0), (Leave, 0)], vec![(Heal, 0)]];
        is_found(Wrong::DecisionKept, &Machine { scripts, begins_live: false, ..quiet() });
    }

    #[test]
    fn the_segment_looked_up_before_the_guard() {
        let machine = Machine { scripts: [vec![(Heal, 0)], vec![]], snapshots: 1, ..quiet() };
        is_found(Wrong::SegmentBeforeGuard, &machine);
        is_found(Wrong::PlaceBeforeGuard, &machine);
    }

    /// Why the order of guard and lookup alone cannot be seen from outside: with both, either would do.
    #[test]
    fn the_segment_looked_up_before_the_guard_does_no_harm_where_segments_are_sealed() {
        let scripts = [vec![(Heal, 0), (Leave, 0)], vec![(Heal, 0)]];
        let wrong = Some(Wrong::SealedSegmentBeforeGuard);
        let searched = Machine { scripts, snapshots: 1, wrong, ..quiet() }.search();
        searched.unwrap_or_else(|trace| panic!("{trace}"));
    }

    #[test]
    fn copying_under_a_shared_guard() {
        let scripts = [vec![(Heal, 0)], vec![]];
        is_found(Wrong::SharedCopy, &Machine { scripts, snapshots: 1, ..quiet() });
    }

    #[test]
    fn a_snapshot_published_before_the_journal_is_synced() {
        let scripts = [vec![(Heal, 0), (Leave, 0)], vec![]];
        is_found(Wrong::PublishedBeforeSync, &Machine { scripts, snapshots: 1, has_syncer: true, ..quiet() });
    }

    #[test]
    fn older_files_removed_before_the_new_snapshot_is_durable() {
        let scripts = [vec![(Heal, 0)], vec![]];
        is_found(Wrong::PrunedBeforeDurable, &Machine { scripts, snapshots: 1, has_syncer: true, ..quiet() });
    }

    #[test]
    fn what_is_replayed_not_synced() {
        let scripts = [vec![(Heal, 0), (Leave, 0)], vec![]];
        let machine = Machine { scripts, restarts: 1, is_always: true, has_syncer: true, ..quiet() };
        is_found(Wrong::ReplayedNotSynced, &machine);
    }

    #[test]
    fn no_maximum_of_two_heals_at_once() {
        let scripts = [vec![(Heal, 0)], vec![(Heal, 0)]];
        is_found(Wrong::NoMaximum, &Machine { scripts, rules: vec![rules(2, 0)], ..quiet() });
    }

    /// Two heals at once, the segment changes between their slots, the session lapses, and then it is copied: the slot that is
    /// replayed is the one with the earlier end.
    #[test]
    fn no_maximum_when_a_session_is_reopened() {
        let scripts = [vec![(Heal, 0)], vec![(Heal, 0)]];
        let rules = vec![rules(2, 0)];
        let machine = Machine { scripts, rules, ticks: 5, snapshots: 1, has_sweeper: true, ..quiet() };
        is_found(Wrong::ReopenedWithoutMaximum, &machine);
    }

    /// No clock of ours gives a `forgotten` that is earlier than a session of before. One that was handed in can, when it is
    /// behind after a restart.
    #[test]
    fn a_forgotten_that_is_earlier_than_a_session_ignored() {
        let starts = vec![Start { is_handed_in: true, ..Start::at(-1) }];
        let scripts = [vec![(Heal, 0), (Forget, 0)], vec![]];
        let machine = Machine { scripts, starts, restarts: 1, begins_live: false, ..quiet() };
        is_found(Wrong::ForgottenIgnored, &machine);
    }

    #[test]
    fn the_mark_taken_from_the_tail() {
        let scripts = [vec![(Heal, 0)], vec![]];
        is_found(Wrong::MarkFromTail, &Machine { scripts, has_syncer: true, ..quiet() });
    }
}
