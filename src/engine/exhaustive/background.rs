//! What goes on beside the writers: the sweep, the snapshot, the syncer.

use crate::engine::rules::lapse;

use super::expected;
use super::machine::Machine;
use super::state::{Known, Snapshot, State, Syncer, Wait, second};
use super::writers::live_of;
use super::wrong::Wrong;

/// Where a snapshot stands.
mod at {
    pub const RESTING: u8 = 0;
    pub const ROTATED: u8 = 1;
    pub const COUNTED: u8 = 2;
    pub const COPIED: u8 = 3;
    pub const WAITING: u8 = 4;
    pub const NAMED: u8 = 5;
    pub const PUBLISHED: u8 = 6;
    pub const SNAPSHOTS_PRUNED: u8 = 7;
}

impl Machine {
    /// `Engine::visit`, of an entry that is valid: one step, since it is all under one exclusive guard. Where the entries lie is
    /// not in the model: a sweep may look at anybody at any time, and no answer depends on whether it does.
    pub fn sweep(&self, state: &mut State, user: usize) -> Result<bool, String> {
        let rules = self.rules_of(state);
        let known = state.known[user];
        let Some(live) = live_of(&known).filter(|_| !state.is_held()) else { return Ok(false) };
        let now = second(state.now);
        if rules.due(live.deadline, self.recent(&state.outages, rules)) > now {
            return Ok(false);
        }
        let mut swept = known.to_user();
        swept.closed.push(lapse(live));
        swept.live.replace(None);
        self.retention.apply(&mut swept, now);
        state.known[user] = Known::of_user(&swept);
        let outages = if self.restart_grace { state.outages.as_slice() } else { &[] };
        let mut as_it_should = expected::closed(&known, state.now, rules, outages);
        expected::retain(&mut as_it_should, self.retention, state.now);
        expected::same("the sweep", &as_it_should, &state.known[user])?;
        Ok(true)
    }

    /// `Engine::snapshot`
    pub fn snapshot(&self, state: &mut State) -> Result<bool, String> {
        let draft = &mut state.snapshotter.draft;
        state.snapshotter.at = match state.snapshotter.at {
            at::RESTING => {
                // `Journal::rotate`. Sealing and moving on are one step: who finds a sealed segment in between moves on itself.
                state.disk.begin_segment(state.disk.current + 1, state.rules);
                let first_segment = state.disk.current;
                *draft = Snapshot { first_segment, rules: state.rules, ..Snapshot::NOTHING };
                at::ROTATED
            }
            at::ROTATED => {
                state.snapshotter.forgotten = state.forgotten;
                at::COUNTED
            }
            at::COUNTED => {
                // `Engine::copy_shard`: one step, being under one exclusive guard.
                let may =
                    if self.is(Wrong::SharedCopy) { !state.is_held_exclusively() } else { !state.is_held() };
                if !may {
                    return Ok(false);
                }
                self.copy(state)?;
                at::COPIED
            }
            at::COPIED => {
                // The time and the ticket are one step: the clock cannot see the ticket.
                draft.engine_time = state.now;
                let waits = self.has_syncer && !self.is(Wrong::PublishedBeforeSync);
                state.snapshotter.wait = if waits { Wait::ForNext } else { Wait::Over };
                at::WAITING
            }
            at::WAITING if state.snapshotter.wait != Wait::Over => return Ok(false),
            at::WAITING => {
                // `Unpublished::publish`: the file was synced before it got its name.
                let draft = std::mem::replace(draft, Snapshot::NOTHING);
                state.disk.snapshots.push(draft);
                state.snapshotter.wait = Wait::No;
                at::NAMED
            }
            at::NAMED if self.is(Wrong::PrunedBeforeDurable) => {
                self.prune_snapshots(state);
                prune_segments(state);
                at::SNAPSHOTS_PRUNED
            }
            at::NAMED => {
                publish(state);
                at::PUBLISHED
            }
            at::PUBLISHED => {
                self.prune_snapshots(state);
                at::SNAPSHOTS_PRUNED
            }
            _ => {
                publish(state);
                prune_segments(state);
                state.snapshotter = super::state::Snapshotter::resting(state.snapshotter.left - 1);
                at::RESTING
            }
        };
        Ok(true)
    }

    fn copy(&self, state: &mut State) -> Result<(), String> {
        for (known, copied) in state.known.iter_mut().zip(&mut state.snapshotter.draft.known) {
            let mut user = known.to_user();
            self.retention.apply(&mut user, second(state.now));
            let mut as_it_should = *known;
            expected::retain(&mut as_it_should, self.retention, state.now);
            *known = Known::of_user(&user);
            expected::same("the copy", &as_it_should, known)?;
            expected::well_formed(known)?;
            *copied = *known;
        }
        state.snapshotter.draft.contains = state.applied;
        state.snapshotter.draft.outages = state.outages;
        Ok(())
    }

    /// `prune`, the first half
    #[allow(clippy::unused_self, reason = "it reads like the others")]
    fn prune_snapshots(&self, state: &mut State) {
        let keeps_older = state.forgotten_before == state.snapshotter.forgotten;
        state.forgotten_before = state.snapshotter.forgotten;
        let kept = if keeps_older { 2 } else { 1 };
        let mut too_many = state.disk.snapshots.as_slice().len().saturating_sub(kept);
        state.disk.snapshots.keep(Snapshot::NOTHING, |_| {
            let goes = too_many > 0;
            too_many = too_many.saturating_sub(1);
            !goes
        });
    }

    /// `Syncer::sync`, and `sync_held` in it: for each segment with slots that no sync has seen committed, look how far they are
    /// committed │ `fdatasync` │ set the mark.
    pub fn sync(&self, state: &mut State) -> bool {
        let Syncer { segment, run, is_flushed } = state.syncer;
        if segment == 0 {
            let is_wanted = state.waits().any(|wait| *wait == Wait::ForNext);
            let next = self.to_sync(state, state.held_from);
            if next.is_none() && !is_wanted {
                return false;
            }
            // Begun: with its first look, which sees no less than one a moment later would have to.
            change(state, Wait::ForNext, Wait::ForThis);
            self.look(state, next);
            return true;
        }
        let number = segment - 1;
        if is_flushed {
            state.disk.segments[usize::from(number)].mark = run;
            let next = self.to_sync(state, number + 1);
            self.look(state, next);
        } else {
            for (bit, _) in state.disk.slots_of(number).collect::<Vec<_>>() {
                state.disk.durable |= bit & state.disk.committed;
            }
            let segment = &mut state.disk.segments[usize::from(number)];
            segment.alive_durable = segment.alive;
            state.syncer.is_flushed = true;
        }
        true
    }

    /// Ended, if there is no other segment to sync.
    fn look(&self, state: &mut State, segment: Option<u8>) {
        let Some(segment) = segment else {
            state.syncer = Syncer::default();
            change(state, Wait::ForThis, Wait::Over);
            return;
        };
        let from_tail = self.is(Wrong::MarkFromTail);
        let run = if from_tail { state.disk.reserved(segment) } else { state.disk.committed_run(segment) };
        state.syncer = Syncer { segment: segment + 1, run, is_flushed: false };
    }

    /// The first segment from `from` on in which not everything reserved had been seen committed before the last sync.
    #[allow(clippy::unused_self, reason = "it reads like the others")]
    fn to_sync(&self, state: &State, from: u8) -> Option<u8> {
        (from..=state.disk.current).find(|&number| {
            let segment = state.disk.segments[usize::from(number)];
            segment.exists && segment.mark != state.disk.reserved(number)
        })
    }
}

/// The directory is synced.
fn publish(state: &mut State) {
    if let Some(newest) = state.disk.snapshots.as_mut_slice().last_mut() {
        newest.is_durable = true;
    }
}

/// `prune`, the second half
fn prune_segments(state: &mut State) {
    let first = state.disk.snapshots.as_slice().iter().map(|kept| kept.first_segment).min();
    for segment in &mut state.disk.segments[..usize::from(first.unwrap_or(0))] {
        segment.exists = false;
    }
}

impl State {
    fn waits(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.writers.iter_mut().map(|writer| &mut writer.wait).chain([&mut self.snapshotter.wait])
    }
}

fn change(state: &mut State, from: Wait, to: Wait) {
    state.waits().filter(|wait| **wait == from).for_each(|wait| *wait = to);
}
