//! What must be true of every state, were it the last.
//!
//! - After a kill everything that was stored is there: what recovery makes of it is what memory was, with the change of each
//!   operation that had stored its slot and not yet changed memory. So what was acknowledged is there, and an operation under
//!   way is there whole or not at all.
//! - After a power loss any subset of the slots that no sync had covered may be there. Recovery makes of them what the slots that
//!   are there say, and those that the snapshot contains: it takes nothing back of these. In `always` what was acknowledged is
//!   among them.
//! - Neither is refused. Both hold as well when the newest snapshot turns out to be damaged and the one before is there.

use std::hash::BuildHasher;

use crate::engine::rules::Rules;
use crate::journal::Kind;

use super::expected;
use super::machine::{Machine, Start};
use super::recover::{Image, Recovered};
use super::search::{Seen, fingerprints};
use super::state::{At, Known, State, USERS};
use super::writers::extend;
use super::wrong::apply;

/// What a start has made of the files, and the rules from then on.
struct Ended {
    recovered: Recovered,
    ours: Rules,
}

impl Machine {
    /// # Errors
    /// What is wrong.
    pub fn check(&self, state: &State, seen: &mut Seen) -> Result<(), String> {
        let memory = self.memory(state);
        let judged =
            (&state.disk, memory, state.now, state.rules, state.outages, state.acknowledged, state.applied);
        if !seen.insert(fingerprints().hash_one((judged, state.base, state.first_slot))) {
            return Ok(());
        }
        for &start in &self.starts {
            self.check_kill(state, &memory, start).map_err(|found| format!("killed, {start:?}: {found}"))?;
        }
        if self.has_syncer { self.check_power_loss(state) } else { Ok(()) }
    }

    /// What is known, with what is stored and about to be known.
    fn memory(&self, state: &State) -> [Known; USERS] {
        let mut memory = state.known;
        for (writer, script) in state.writers.iter().zip(&self.scripts) {
            if writer.at == At::Committed {
                let known = &mut memory[usize::from(script[usize::from(writer.done)].1)];
                if writer.is_exclusive {
                    *known = writer.after;
                } else {
                    extend(known, writer);
                }
            }
        }
        memory
    }

    fn check_kill(&self, state: &State, memory: &[Known; USERS], start: Start) -> Result<(), String> {
        for damaged in 0..=state.disk.snapshots.as_slice().len() {
            let image = Image { damaged, ..Image::of_kill(&state.disk) };
            // Without any snapshot the journal must be there from its beginning, and mostly it is not.
            if damaged > 0 && image.snapshot(&state.disk).is_none() && !state.disk.segments[0].exists {
                break;
            }
            let recovered = self.recover(state, image, start)?;
            self.check_time(state, &recovered, start)?;
            let ended = Ended { recovered, ours: self.rules[usize::from(start.rules)] };
            for (user, known) in memory.iter().enumerate() {
                self.check_known(state, user, known, &ended)
                    .map_err(|wrong| format!("{wrong} (damaged snapshots: {damaged})"))?;
            }
        }
        Ok(())
    }

    /// The service was down from no later than its death until now, and remembers when it was down before.
    #[allow(clippy::unused_self, reason = "it reads like the others")]
    fn check_time(&self, state: &State, recovered: &Recovered, start: Start) -> Result<(), String> {
        let outage = recovered.outage.unwrap_or((state.now, recovered.now));
        if outage.0 > state.now || outage.1 != recovered.now {
            return Err(format!(
                "an outage of {outage:?}, died in {} and back in {}",
                state.now, recovered.now
            ));
        }
        if start.wall >= 0 && recovered.now < state.now {
            return Err(format!("time went back to {}", recovered.now));
        }
        let is_remembered = |outage| recovered.outages.as_slice().contains(outage);
        let forgotten = state.outages.as_slice().iter().find(|outage| !is_remembered(outage));
        forgotten.map_or(Ok(()), |forgotten| Err(format!("the outage {forgotten:?} is forgotten")))
    }

    fn check_known(&self, state: &State, user: usize, known: &Known, ended: &Ended) -> Result<(), String> {
        let Ended { recovered, ours } = ended;
        let mut found = recovered.known[user];
        expected::well_formed(&found)?;
        let (mut known, before) = (*known, self.rules_of(state));
        let outages = if self.restart_grace { recovered.outages.as_slice() } else { &[] };
        if self.may_live_again(state, user, &known, recovered)
            && let Some(last) = known.closed().last().copied()
        {
            known.pop();
            known.set_live(Some((last.online_at, last.until)));
        }
        for rules in [before, *ours] {
            known = expected::closed(&known, recovered.now, rules, outages);
        }
        // What had become too old need not be too old any more where the clock starts behind.
        let now = recovered.now.max(state.now);
        expected::retain(&mut known, self.retention, now);
        if recovered.now < now {
            expected::retain(&mut found, self.retention, now);
        }
        expected::same("recovered", &known, &found)
    }

    /// The alive second may be late. What has lapsed since it was stamped has lapsed in an outage then, as far as anybody can
    /// tell from the files, and may be live again; so it is where the clock starts behind.
    fn may_live_again(&self, state: &State, user: usize, known: &Known, recovered: &Recovered) -> bool {
        let Some(last) = known.closed().last().filter(|last| known.live().is_none() && !last.is_left) else {
            return false;
        };
        let outages = if self.restart_grace { state.outages.as_slice() } else { &[] };
        let until = expected::extendable_until(last.until, self.rules_of(state), outages);
        let is_behind = recovered.now <= until;
        let is_cut = self.restart_grace && recovered.outage.is_some_and(|(from, _)| from <= until);
        // What was closed at the start already stays so.
        !state.base[user].closed().contains(last) && (is_behind || is_cut)
    }

    fn check_power_loss(&self, state: &State) -> Result<(), String> {
        let disk = &state.disk;
        let unsynced = disk.committed & !disk.durable;
        let is_unpublished = disk.snapshots.as_slice().last().is_some_and(|newest| !newest.is_durable);
        let has_old_alive = disk.segments.iter().any(|segment| segment.alive != segment.alive_durable);
        let mut survivors = unsynced;
        loop {
            for has_unpublished in [true, false].into_iter().filter(|&has| has || is_unpublished) {
                for has_alive in [true, false].into_iter().filter(|&has| has || has_old_alive) {
                    let slots = disk.durable | survivors;
                    let image = Image { slots, has_unpublished, has_alive, damaged: 0 };
                    self.check_image(state, image)
                        .map_err(|found| format!("power lost, {image:?}: {found}"))?;
                }
            }
            if survivors == 0 {
                return Ok(());
            }
            survivors = (survivors - 1) & unsynced;
        }
    }

    fn check_image(&self, state: &State, image: Image) -> Result<(), String> {
        let start = self.starts[0];
        let contains = image.snapshot(&state.disk).map_or(0, |snapshot| snapshot.contains);
        let has = image.slots | contains;
        let lost = if self.is_always { state.acknowledged & !has } else { 0 };
        if lost != 0 {
            return Err(format!(
                "acknowledged and lost: {:?}",
                state.disk.slots.as_slice()[lost.trailing_zeros() as usize]
            ));
        }
        let recovered = self.recover(state, image, start)?;
        let mut users = state.base.map(Known::to_user);
        for number in 0..=state.disk.current {
            for (bit, slot) in state.disk.slots_of(number) {
                let is_of_this_run = bit >= 1 << state.first_slot;
                if has & bit != 0 && is_of_this_run && !matches!(slot.kind, Kind::Outage | Kind::Void) {
                    apply(&mut users[usize::from(slot.user)], slot.slot(), self.wrong);
                }
            }
        }
        let ended = Ended { recovered, ours: self.rules[usize::from(start.rules)] };
        for (user, known) in users.iter().enumerate() {
            self.check_known(state, user, &Known::of_user(known), &ended)?;
        }
        Ok(())
    }
}
