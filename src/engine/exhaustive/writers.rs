//! What a thread does that heals, lets leave and forgets: `engine/mod.rs`, step by step.
//!
//! ```text
//!   heal      shared guard, clock │ live word, decide │ reserve │ store │ compare-and-swap, release
//!             exclusive guard, clock, decide          │ reserve │ store │ change, release          │ wait for the disk
//! ```
//!
//! Looking up the segment is one step with reserving in it: one that is no longer in service is sealed, nothing can be reserved
//! there, and the writer looks it up again.

use crate::engine::live::{Live, LiveWord};
use crate::engine::outages::Outages;
use crate::engine::roster::User;
use crate::engine::rules::{Healed, Rules, lapse, leave};
use crate::journal::Kind;
use crate::time::UnixSeconds;

use super::expected;
use super::machine::{Machine, Operation};
use super::state::{At, Known, State, Wait, Writer, Written, second, short};
use super::wrong::Wrong;

impl State {
    pub fn is_held_exclusively(&self) -> bool {
        self.writers.iter().any(|writer| writer.is_exclusive)
    }

    pub fn is_held(&self) -> bool {
        let holds = |writer: &Writer| !matches!(writer.at, At::Idle | At::Opening | At::Confirming);
        self.writers.iter().any(holds)
    }
}

impl Machine {
    pub fn write(&self, state: &mut State, index: usize) -> Result<bool, String> {
        let (operation, user) = self.scripts[index][usize::from(state.writers[index].done)];
        let at = state.writers[index].at;
        match at {
            At::Idle if self.too_early(state, index) => {}
            At::Idle if operation == Operation::Heal => {
                if state.is_held_exclusively() {
                    return Ok(false);
                }
                // `Engine::heal_unconfirmed`: `roster.view`
                let now = state.now;
                let writer = &mut state.writers[index];
                if state.known[usize::from(user)].live().is_none() {
                    // It had the guard, and has given it up: only an exclusive guard opens or closes.
                    writer.at = At::Opening;
                    if self.is(Wrong::DecisionKept) {
                        writer.now = now;
                    }
                } else {
                    (writer.at, writer.now) = (At::Shared, if writer.now == 0 { now } else { writer.now });
                }
            }
            At::Shared => self.decide_shared(state, index, user)?,
            At::Idle | At::Opening => {
                if state.is_held() {
                    return Ok(false);
                }
                self.decide_exclusively(state, index, operation, user)?;
            }
            At::Decided => self.reserve(state, index),
            At::Reserved => {
                // `Segment::append`: the last word
                let writer = &mut state.writers[index];
                let segment = state.disk.at(writer.slot).segment;
                *state.disk.at(writer.slot) = Written { user, segment, ..writer.written };
                state.disk.committed |= writer.slot;
                writer.at = At::Committed;
            }
            At::Committed => self.apply(state, index, user),
            At::Confirming => {
                // `Journal::wait`
                if state.writers[index].wait != Wait::Over {
                    return Ok(false);
                }
                self.acknowledge(state, index);
            }
        }
        Ok(true)
    }

    /// What is read before the guard by designs that are wrong.
    fn too_early(&self, state: &mut State, index: usize) -> bool {
        let writer = &mut state.writers[index];
        if self.is(Wrong::ClockBeforeGuard) && writer.now == 0 {
            writer.now = state.now;
        } else if self.looks_up_early() && writer.segment == 0 {
            writer.segment = state.disk.current + 1;
        } else if self.is(Wrong::PlaceBeforeGuard) && writer.slot == 0 {
            let segment = state.disk.current;
            writer.slot = state.disk.reserve(Written { segment, ..Written::NOTHING });
        } else {
            return false;
        }
        true
    }

    fn looks_up_early(&self) -> bool {
        self.is(Wrong::SegmentBeforeGuard) || self.is(Wrong::SealedSegmentBeforeGuard)
    }

    /// `Engine::heal_unconfirmed`: what it does in `roster.view`
    fn decide_shared(&self, state: &mut State, index: usize, user: u8) -> Result<(), String> {
        let rules = self.rules_of(state);
        let known = state.known[usize::from(user)];
        let live = live_of(&known).expect("under a guard that it has held since it looked");
        let writer = &mut state.writers[index];
        let now = second(writer.now);
        match rules.heal(live, || self.recent(&state.outages, rules), now) {
            Healed::Extended(extended) => {
                let mut after = known;
                after.set_live(Some((short(extended.online_at), short(extended.deadline))));
                writer.after = after;
                writer.written = written(Kind::Live, extended.online_at, extended.deadline);
                writer.loaded = short(live.deadline);
                writer.at = At::Decided;
                let (before, now) = (known, writer.now);
                self.judge(state, Operation::Heal, &before, &after, now)?;
            }
            Healed::Unchanged => {
                let now = writer.now;
                self.judge(state, Operation::Heal, &known, &known, now)?;
                self.answer(state, index, user);
            }
            Healed::Over => {
                let keeps = self.is(Wrong::DecisionKept) || self.is(Wrong::ClockBeforeGuard);
                (writer.at, writer.now) = (At::Opening, if keeps { writer.now } else { 0 });
            }
        }
        Ok(())
    }

    /// `Engine::open`, `leave_unconfirmed`, `forget_known` and `forget_unknown`, up to the slot. A forget that finds nobody takes
    /// the guard twice; the first time it changes nothing.
    fn decide_exclusively(
        &self,
        state: &mut State,
        index: usize,
        operation: Operation,
        user: u8,
    ) -> Result<(), String> {
        let rules = self.rules_of(state);
        let outages = self.recent(&state.outages, rules);
        let before = state.known[usize::from(user)];
        let read = state.writers[index].now;
        let now = if read == 0 { state.now } else { read };
        let mut known = before.to_user();
        let slot = match operation {
            Operation::Heal => heal_exclusively(&mut known, rules, outages, second(now)),
            Operation::Leave => leave_exclusively(&mut known, rules, outages, second(now)),
            Operation::Forget => {
                // `Engine::note_forgotten`. One step with taking the guard: a snapshot that reads the count in between could
                // as well have read it before.
                state.forgotten += 1;
                known = User::default();
                Some(written(Kind::Forgotten, second(now), second(now)))
            }
        };
        let after = Known::of_user(&known);
        self.judge(state, operation, &before, &after, now)?;
        let writer = &mut state.writers[index];
        if let Some(slot) = slot {
            (writer.at, writer.is_exclusive) = (At::Decided, true);
            (writer.now, writer.written, writer.after) = (now, slot, after);
        } else {
            state.known[usize::from(user)] = after;
            self.answer(state, index, user);
        }
        Ok(())
    }

    /// `Journal::append`, up to reserving
    fn reserve(&self, state: &mut State, index: usize) {
        let writer = &mut state.writers[index];
        if writer.slot != 0 {
            // Only of a design that is wrong.
            writer.at = At::Reserved;
            return;
        }
        let segment = if writer.segment == 0 { state.disk.current } else { writer.segment - 1 };
        if segment != state.disk.current && !self.is(Wrong::SegmentBeforeGuard) {
            // It is sealed.
            writer.segment = 0;
            return;
        }
        if state.disk.reserved(segment) >= self.capacity {
            state.disk.begin_segment(segment + 1, state.rules);
            return;
        }
        writer.slot = state.disk.reserve(Written { segment, ..Written::NOTHING });
        writer.at = At::Reserved;
    }

    fn apply(&self, state: &mut State, index: usize, user: u8) {
        let writer = state.writers[index];
        let known = &mut state.known[usize::from(user)];
        if writer.is_exclusive {
            *known = writer.after;
        } else {
            extend(known, &writer);
        }
        state.applied |= writer.slot;
        self.answer(state, index, user);
    }

    /// `Engine::confirm`. The ticket is taken as early as can be: a later one promises more.
    fn answer(&self, state: &mut State, index: usize, user: u8) {
        let relies_on = state.applied_of(user);
        if self.is(Wrong::PlaceBeforeGuard) {
            // Nothing was to be said: the place becomes a void.
            state.disk.committed |= state.writers[index].slot;
        }
        let writer = &mut state.writers[index];
        *writer = Writer {
            done: writer.done,
            relies_on,
            at: At::Confirming,
            wait: Wait::ForNext,
            ..Writer::default()
        };
        if !self.is_always {
            self.acknowledge(state, index);
        }
    }

    #[allow(clippy::unused_self, reason = "it reads like the others")]
    fn acknowledge(&self, state: &mut State, index: usize) {
        let writer = &mut state.writers[index];
        state.acknowledged |= writer.relies_on;
        *writer = Writer { done: writer.done + 1, ..Writer::default() };
    }

    /// Whether the operation did what the rules say.
    fn judge(
        &self,
        state: &State,
        operation: Operation,
        before: &Known,
        after: &Known,
        now: u8,
    ) -> Result<(), String> {
        let rules = self.rules_of(state);
        let outages = if self.restart_grace { state.outages.as_slice() } else { &[] };
        expected::judge(operation, before, after, now, rules, outages)
    }
}

pub(super) fn live_of(known: &Known) -> Option<Live> {
    known
        .live()
        .map(|(online_at, deadline)| Live { online_at: second(online_at), deadline: second(deadline) })
}

/// `LiveWord::extend`, the engine's own.
pub(super) fn extend(known: &mut Known, writer: &Writer) {
    let Some(live) = live_of(known) else { return };
    let word = LiveWord::of(live);
    let loaded = Live { deadline: second(writer.loaded), ..live };
    word.extend(loaded, Live { deadline: second(writer.written.until), ..live });
    known.set_live(word.load().map(|live| (short(live.online_at), short(live.deadline))));
}

fn written(kind: Kind, online_at: UnixSeconds, until: UnixSeconds) -> Written {
    Written { kind, user: 0, online_at: short(online_at), until: short(until), segment: 0 }
}

/// `Engine::heal_exclusively`; gives the slot.
fn heal_exclusively(known: &mut User, rules: Rules, outages: Outages, now: UnixSeconds) -> Option<Written> {
    let over = known.live.load();
    if let Some(live) = over {
        match rules.heal(live, || outages, now) {
            Healed::Unchanged => return None,
            Healed::Extended(extended) => {
                known.live.extend(live, extended);
                return Some(written(Kind::Live, extended.online_at, extended.deadline));
            }
            Healed::Over => {}
        }
    }
    let left_now = known.closed.last().filter(|last| over.is_none() && last.is_left_in(now));
    let opened = rules.open(now);
    let live = left_now.map_or(opened, |last| Live { online_at: last.online_at(), ..opened });
    if let Some(over) = over {
        known.closed.push(lapse(over));
    }
    if left_now.is_some() {
        known.closed.pop();
    }
    known.live.replace(Some(live));
    Some(written(Kind::Live, live.online_at, live.deadline))
}

/// `Engine::leave_unconfirmed`; gives the slot.
fn leave_exclusively(known: &mut User, rules: Rules, outages: Outages, now: UnixSeconds) -> Option<Written> {
    let live = known.live.load()?;
    known.live.replace(None);
    if rules.is_over(live, outages, now) {
        known.closed.push(lapse(live));
        return None;
    }
    let left = leave(live, now);
    known.closed.push(left);
    Some(written(Kind::Left, left.online_at(), left.offline_at()))
}
