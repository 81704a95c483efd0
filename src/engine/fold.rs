//! Bringing a user to the state that a journal slot tells of.
//!
//! A slot says which session, until when; what is known of the user may already contain it, and what came after it. Folding
//! any suffix of the journal twice, or over a snapshot that has part of it, gives the same state:
//!
//! | the slot's session | `live` | `left` |
//! |---|---|---|
//! | opens later than all known | the one before ends no later than it opens; it is live | the same, and it is over |
//! | is the latest known | lasts until the later of both, and is live again if it was closed | ends there |
//! | opens earlier | nothing: what is known came after it | nothing |
//!
//! `closed` (an import) is put in its place in the timeline, unless there is one that opened in that second.
//!
//! A power loss may have taken some of the slots above the synced mark, such as the leave before an import. So wherever two
//! sessions would overlap, the earlier one ends when the later one opens.

use super::live::Live;
use super::roster::User;
use super::rules::lapse;
use super::timeline::{Closed, ClosedEnd};
use crate::journal::{Kind, Slot};
use crate::planted::{Planted, planted};
use crate::time::UnixSeconds;

/// Brings `known` to what `slot`, which is about a session, says. False if it was stale: what is known contains it already.
pub(super) fn fold(known: &mut User, slot: Slot) -> bool {
    let online_at = slot.online_at;
    // No slot of ours says otherwise; but if one did, the next start would refuse the snapshot that it is in.
    let until = slot.until.max(online_at);
    if slot.kind == Kind::Closed {
        if known.live.load().is_some_and(|live| live.online_at == online_at) {
            return false;
        }
        end_by(known, online_at);
        let until = known.live.load().map_or(until, |live| until.min(live.online_at));
        return known.closed.insert(Closed::new(online_at, until, ClosedEnd::Lapsed));
    }
    let live = known.live.load();
    let last = known.closed.last();
    let latest = live.map(|live| live.online_at).or(last.map(Closed::online_at));
    let until = match latest {
        Some(latest) if online_at < latest => return false,
        Some(latest) if online_at == latest => {
            let end = live.map(|live| live.deadline).or_else(|| known.closed.pop().map(Closed::offline_at));
            known.live.replace(None);
            if slot.kind == Kind::Live && !planted(Planted::DeadlineLowered) {
                end.map_or(until, |end| end.max(until))
            } else {
                until
            }
        }
        _ => {
            end_by(known, online_at);
            until
        }
    };
    if slot.kind == Kind::Live {
        let folded = Live { online_at, deadline: until };
        known.live.replace(Some(folded));
        live != Some(folded)
    } else {
        let folded = Closed::new(online_at, until, ClosedEnd::Left);
        known.closed.push(folded);
        live.is_some() || last != Some(folded)
    }
}

/// The commonest case of folding by itself, which needs no exclusive guard: `slot` is about the live session. `None` if it is
/// not, else as [`fold`].
pub(super) fn extends(known: &User, slot: Slot) -> Option<bool> {
    let live = known.live.load().filter(|live| live.online_at == slot.online_at)?;
    if planted(Planted::DeadlineLowered) {
        return None;
    }
    let is_later = slot.until > live.deadline;
    if is_later {
        known.live.extend(live, Live { deadline: slot.until, ..live });
    }
    Some(is_later)
}

/// Ends what opened before `second` no later than then.
fn end_by(known: &mut User, second: UnixSeconds) {
    match known.live.load() {
        Some(live) if live.online_at < second => {
            known.closed.push(lapse(Live { deadline: live.deadline.min(second), ..live }));
            known.live.replace(None);
        }
        Some(_) => {}
        None => {
            if let Some(last) = known.closed.last()
                && last.online_at() < second
                && last.offline_at() > second
            {
                known.closed.pop();
                known.closed.push(last.ended_by(second));
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::outages::Outages;
    use crate::engine::rules::{Healed, Rules, leave};
    use crate::session::Session;
    use crate::time::Ttl;
    use crate::user_id::UserId;

    const NOON: u32 = 1_638_360_000;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Heal,
        Leave,
        Forget,
        Pass(u32),
        Sweep,
        /// Two heals at once, a second apart: whichever writes its slot first, the later deadline counts.
        Race,
        /// Of a session that began and ended so many seconds ago.
        Import(u32, u32),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Heal),
            4 => Just(Step::Leave),
            1 => Just(Step::Forget),
            6 => (0_u32..12).prop_map(Step::Pass),
            3 => Just(Step::Sweep),
            2 => Just(Step::Race),
            1 => (2_u32..60, 1_u32..10).prop_map(|(ago, long)| Step::Import(ago, long)),
        ]
    }

    /// What is known of one user; empty if nothing is.
    fn copy(known: &User) -> User {
        User {
            live: known
                .live
                .load()
                .map_or_else(crate::engine::live::LiveWord::none, crate::engine::live::LiveWord::of),
            closed: known.closed.clone(),
            armed: 0,
        }
    }

    /// One user, as the engine treats them, and the slots that it writes.
    struct Life {
        rules: Rules,
        now: UnixSeconds,
        known: User,
        slots: Vec<Slot>,
        /// After each step: how many slots there were, and what was known.
        states: Vec<(usize, User)>,
    }

    impl Life {
        fn of(rules: Rules, steps: &[Step]) -> Self {
            let now = UnixSeconds::new(NOON);
            let mut life = Self {
                rules,
                now,
                known: User::default(),
                slots: Vec::new(),
                states: vec![(0, User::default())],
            };
            for &step in steps {
                life.take(step);
                life.states.push((life.slots.len(), copy(&life.known)));
            }
            life
        }

        fn write(&mut self, kind: Kind, online_at: UnixSeconds, until: UnixSeconds) {
            self.slots.push(Slot { kind, user: UserId::new(1), online_at, until });
        }

        fn close_if_over(&mut self) {
            let (rules, now) = (self.rules, self.now);
            if let Some(live) =
                self.known.live.load().filter(|&live| rules.is_over(live, Outages::default(), now))
            {
                self.known.closed.push(lapse(live));
                self.known.live.replace(None);
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Heal => self.heal(),
                Step::Leave => {
                    self.close_if_over();
                    if let Some(live) = self.known.live.load() {
                        let left = leave(live, self.now);
                        self.write(Kind::Left, left.online_at(), left.offline_at());
                        self.known.closed.push(left);
                        self.known.live.replace(None);
                    }
                }
                Step::Forget => {
                    if !self.known.is_empty() {
                        self.write(Kind::Forgotten, self.now, self.now);
                        self.known = User::default();
                    }
                }
                Step::Pass(seconds) => self.now = self.now.plus(seconds),
                Step::Sweep => self.close_if_over(),
                Step::Race => self.race(),
                Step::Import(ago, long) => self.import(self.now.minus(ago), long.min(ago)),
            }
        }

        fn heal(&mut self) {
            let now = self.now;
            if let Some(live) = self.known.live.load() {
                match self.rules.heal(live, Outages::default, now) {
                    Healed::Unchanged => return,
                    Healed::Extended(extended) => {
                        self.write(Kind::Live, extended.online_at, extended.deadline);
                        self.known.live.replace(Some(extended));
                        return;
                    }
                    Healed::Over => self.close_if_over(),
                }
            }
            let mut opened = self.rules.open(now);
            if let Some(left) = self.known.closed.last().filter(|last| last.is_left_in(now)) {
                opened.online_at = left.online_at();
                self.known.closed.pop();
            }
            self.write(Kind::Live, opened.online_at, opened.deadline);
            self.known.live.replace(Some(opened));
        }

        fn race(&mut self) {
            let early = self.now;
            self.now = early.plus(1);
            let Some(live) = self.known.live.load() else { return };
            let both = [self.now, early].map(|now| self.rules.heal(live, Outages::default, now));
            if let [Healed::Extended(late), Healed::Extended(early)] = both {
                self.write(Kind::Live, late.online_at, late.deadline);
                self.write(Kind::Live, early.online_at, early.deadline);
                self.known.live.replace(Some(late));
            }
        }

        /// Only where there is nothing: the import itself refuses all else.
        fn import(&mut self, online_at: UnixSeconds, long: u32) {
            self.close_if_over();
            let until = online_at.plus(long);
            let is_free = self.shown(&self.known).iter().all(|session| {
                session.offline_at.max(session.online_at.plus(1)) <= online_at || until <= session.online_at
            });
            if is_free {
                self.write(Kind::Closed, online_at, until);
                end_by(&mut self.known, online_at);
                self.known.closed.insert(Closed::new(online_at, until, ClosedEnd::Lapsed));
            }
        }

        /// Everything, and what is over as what it is.
        fn shown(&self, known: &User) -> Vec<Session> {
            let live = known.live.load().map(|live| self.rules.show(live, Outages::default(), self.now));
            known.closed.iter().map(Closed::session).chain(live).collect()
        }

        fn fold_over(&self, mut known: User, from: usize) -> User {
            for &slot in &self.slots[from..] {
                if slot.kind == Kind::Forgotten {
                    known = User::default();
                } else {
                    fold(&mut known, slot);
                }
            }
            known
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn folding_gives_what_was_known_and_folding_again_changes_nothing(
            ttl in 1_u32..8, grace in 0_u32..4, steps in vec(steps(), 1..30)
        ) {
            let rules = Rules { ttl: Ttl::from_seconds(ttl).unwrap(), grace };
            let life = Life::of(rules, &steps);
            let expected = life.shown(&life.known);
            let all = life.fold_over(User::default(), 0);
            prop_assert_eq!(life.shown(&all), expected.clone(), "all of it");
            for from in 0..=life.slots.len() {
                let again = life.fold_over(copy(&all), from);
                prop_assert_eq!(life.shown(&again), expected.clone(), "from {} again", from);
                for (slots, state) in life.states.iter().filter(|(slots, _)| *slots >= from) {
                    let folded = life.fold_over(copy(state), from);
                    prop_assert_eq!(life.shown(&folded), expected.clone(), "from {} over {}", from, slots);
                }
            }
        }
    }

    fn any_slot() -> impl Strategy<Value = Slot> {
        let kind = prop_oneof![Just(Kind::Live), Just(Kind::Left), Just(Kind::Closed), Just(Kind::Forgotten)];
        let second = || prop_oneof![9 => 1_u32..40, 1 => Just(u32::MAX)].prop_map(UnixSeconds::new);
        (kind, second(), second()).prop_map(|(kind, online_at, until)| Slot {
            kind,
            user: UserId::new(1),
            online_at,
            until,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// A power loss may take any of the slots above the synced mark. What the others give must still be a timeline: the
        /// next start would refuse a snapshot of anything else.
        #[test]
        fn whatever_slots_are_left_no_two_sessions_overlap(slots in vec(any_slot(), 1..12)) {
            let mut known = User::default();
            for &slot in &slots {
                if slot.kind == Kind::Forgotten {
                    known = User::default();
                    continue;
                }
                if slot.kind != Kind::Live || extends(&known, slot).is_none() {
                    fold(&mut known, slot);
                }
                let closed = known.closed.iter().map(|closed| (closed.online_at(), closed.offline_at()));
                let live = known.live.load().map(|live| (live.online_at, live.deadline));
                let sessions: Vec<_> = closed.chain(live).collect();
                prop_assert!(sessions.iter().all(|(from, to)| from <= to), "{sessions:?}");
                prop_assert!(sessions.is_sorted_by(|(_, end), (begin, _)| end <= begin), "{sessions:?}");
                prop_assert!(!fold(&mut copy(&known), slot), "{slot:?} a second time");
            }
        }
    }

    #[test]
    fn a_slot_that_changes_nothing_is_stale() {
        let second = |after: u32| UnixSeconds::new(NOON + after);
        let slot = |kind, online_at, until| Slot {
            kind,
            user: UserId::new(1),
            online_at: second(online_at),
            until: second(until),
        };
        let mut known = User::default();
        for (slot, applied) in [
            (slot(Kind::Live, 10, 17), true),
            (slot(Kind::Live, 10, 17), false),
            (slot(Kind::Live, 10, 16), false),
            (slot(Kind::Live, 10, 18), true),
            (slot(Kind::Left, 9, 12), false),
            (slot(Kind::Left, 10, 15), true),
            (slot(Kind::Left, 10, 15), false),
            (slot(Kind::Closed, 1, 5), true),
            (slot(Kind::Closed, 1, 5), false),
            (slot(Kind::Closed, 10, 15), false),
            (slot(Kind::Live, 20, 27), true),
            (slot(Kind::Closed, 20, 27), false),
            (slot(Kind::Live, 10, 99), false),
        ] {
            let extended = slot.kind == Kind::Live
                && known.live.load().is_some_and(|live| live.online_at == slot.online_at);
            assert_eq!(
                extends(&copy(&known), slot).filter(|_| slot.kind == Kind::Live),
                extended.then_some(applied)
            );
            assert_eq!(fold(&mut known, slot), applied, "{slot:?}");
            assert!(!fold(&mut known, slot), "{slot:?} a second time");
        }
    }
}
