//! What a start makes of the files: `engine/loaded.rs`, `replayed.rs` and `recover.rs`, in their order.
//!
//! A slot that is torn and one that is empty are the same here, since the code treats them alike: both are skipped above the
//! mark and refused below it.

use crate::engine::outages::Outages as Recent;
use crate::engine::replayed::says;
use crate::engine::roster::User;
use crate::engine::rules::Outage;
use crate::engine::rules_then::{self, RuleChange, changes};
use crate::journal::Kind;

use super::machine::{Machine, Start, real};
use super::state::{
    At, Disk, Few, Known, Outages, Segment, Snapshot, Snapshotter, State, Syncer, USERS, Writer, Written,
    second, short,
};
use super::wrong::{Wrong, apply};

/// What of the files is there to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub slots: u16,
    /// After a power loss the newest snapshot's name and the alive seconds may be as they last were on disk.
    pub has_unpublished: bool,
    pub has_alive: bool,
    /// So many of the newest snapshots turn out to be damaged.
    pub damaged: usize,
}

impl Image {
    /// The process is dead, and the kernel lives.
    pub const fn of_kill(disk: &Disk) -> Self {
        Self { slots: disk.committed, has_unpublished: true, has_alive: true, damaged: 0 }
    }

    pub fn snapshot(self, disk: &Disk) -> Option<&Snapshot> {
        let is_there = |snapshot: &&Snapshot| self.has_unpublished || snapshot.is_durable;
        disk.snapshots.as_slice().iter().rev().filter(is_there).nth(self.damaged)
    }
}

pub(super) struct Recovered {
    pub now: u8,
    pub known: [Known; USERS],
    pub outages: Outages,
    /// When the service was not there.
    pub outage: Option<(u8, u8)>,
    /// The segments that were replayed.
    pub first: u8,
    pub last: u8,
    pub forgotten: u8,
}

impl Machine {
    /// # Errors
    /// The files are refused.
    pub fn recover(&self, state: &State, image: Image, start: Start) -> Result<Recovered, String> {
        let disk = &state.disk;
        let snapshot = image.snapshot(disk);
        let first = snapshot.map_or(0, |snapshot| snapshot.first_segment);
        let segments = first..=disk.current;
        if let Some(missing) = segments.clone().find(|&number| !disk.segments[usize::from(number)].exists) {
            return Err(format!("refused: segment {missing} is missing"));
        }
        let mut outages = snapshot.map_or(Few::of((0, 0)), |snapshot| snapshot.outages);
        let alive = |number: u8| {
            let segment = disk.segments[usize::from(number)];
            if image.has_alive { segment.alive } else { segment.alive_durable }
        };
        let written: Vec<_> = segments.clone().map(|number| self.written(disk, number, image)).collect();
        let rules = self.rules[usize::from(snapshot.map_or(start.rules, |snapshot| snapshot.rules))];
        let changes = changes(&written, rules, &real(&outages), self.restart_grace);

        let mut users =
            snapshot.map_or([Known::default(); USERS], |snapshot| snapshot.known).map(Known::to_user);
        let mut latest = second(snapshot.map_or(0, |snapshot| snapshot.engine_time));
        let (mut forgotten, mut last) = (0, first);
        for (number, change) in segments.clone().zip(&changes) {
            if let Some(change) = change {
                let change = change.no_earlier_than(latest);
                for known in &mut users {
                    change.apply(known);
                }
            }
            let segment = disk.segments[usize::from(number)];
            for (index, (bit, slot)) in disk.slots_of(number).enumerate() {
                if image.slots & bit == 0 {
                    if index < usize::from(segment.mark) {
                        return Err(format!("refused: slot {index} of segment {number} is below the mark"));
                    }
                    continue;
                }
                last = number;
                latest = latest.max(says(slot.slot(), self.rules[usize::from(segment.rules)].ttl));
                forgotten += u8::from(slot.kind == Kind::Forgotten);
                match slot.kind {
                    Kind::Outage => outages.push((slot.online_at, slot.until)),
                    Kind::Void => {}
                    _ => apply(&mut users[usize::from(slot.user)], slot.slot(), self.wrong),
                }
            }
            latest = latest.max(second(alive(number)));
        }
        let before = written.last().map_or(rules, |last| last.rules);
        let latest = short(latest);
        // `Builder::start_clock`
        let wall = state.now.saturating_add_signed(start.wall);
        let now = if start.is_handed_in { wall } else { wall.max(latest) };
        // `Engine::note_absence`
        let outage = (latest > 0 && latest < now).then_some((latest, now));
        if let Some(outage) = outage {
            outages.push(outage);
        }
        let known = users.map(|user| self.settle(user, before, &outages, start, now));
        Ok(Recovered { now, known, outages, outage, first, last, forgotten })
    }

    /// As `rule_changes` reads it from the file.
    fn written(&self, disk: &Disk, number: u8, image: Image) -> rules_then::Written {
        let first = disk.slots_of(number).next();
        let outage = first.filter(|(bit, slot)| image.slots & bit != 0 && slot.kind == Kind::Outage);
        let rules = self.rules[usize::from(disk.segments[usize::from(number)].rules)];
        let outage = outage.map(|(_, slot)| Outage { from: second(slot.online_at), to: second(slot.until) });
        rules_then::Written { rules, outage }
    }

    /// `Engine::settle`, of one user
    fn settle(
        &self,
        mut user: User,
        before: crate::engine::rules::Rules,
        outages: &Outages,
        start: Start,
        now: u8,
    ) -> Known {
        let ours = self.rules[usize::from(start.rules)];
        let recent =
            if self.restart_grace { Recent::of(&real(outages), ours.reach()) } else { Recent::default() };
        for rules in [before, ours] {
            RuleChange { before: rules, outages: recent, at: second(now) }.apply(&mut user);
        }
        self.retention.apply(&mut user, second(now));
        Known::of_user(&user)
    }

    /// The process is killed and started again. Operations under way are over; the next ones of each script are still to come.
    pub fn restart(&self, state: &mut State, start: Start) -> Result<(), String> {
        let image = Image::of_kill(&state.disk);
        let recovered = self.recover(state, image, start)?;
        let disk = &mut state.disk;
        if !self.is(Wrong::ReplayedNotSynced) {
            // `Loaded::replay`: every segment that was replayed is synced.
            for number in recovered.first..=disk.current {
                for (bit, _) in disk.slots_of(number).collect::<Vec<_>>() {
                    disk.durable |= bit & disk.committed;
                }
                let segment = &mut disk.segments[usize::from(number)];
                segment.alive_durable = segment.alive;
            }
        }
        // `Journal::start` syncs the directory when it makes its first segment.
        disk.snapshots.as_mut_slice().iter_mut().for_each(|snapshot| snapshot.is_durable = true);
        // `Chain::trim`
        for number in recovered.last + 1..=disk.current {
            disk.segments[usize::from(number)] = Segment::default();
        }
        // A slot that was reserved in a segment that is gone now is in none.
        let committed = disk.committed;
        let mut bit = 1_u16;
        for slot in disk.slots.as_mut_slice() {
            if slot.segment > recovered.last && committed & bit == 0 {
                slot.segment = u8::MAX;
            }
            bit <<= 1;
        }
        disk.begin_segment(recovered.last + 1, start.rules);
        state.first_slot = u8::try_from(disk.slots.as_slice().len()).expect("there are few slots");
        // `Engine::note_absence`, `note_rules`
        let nobody = Written { user: u8::MAX, segment: disk.current, ..Written::NOTHING };
        let outage = recovered.outage.map(|(from, to)| Written {
            kind: Kind::Outage,
            online_at: from,
            until: to,
            ..nobody
        });
        let rules = (start.rules != state.rules).then_some(nobody);
        if let Some(slot) = outage.or(rules) {
            disk.committed |= disk.reserve(slot);
        }
        (state.applied, state.acknowledged) = (disk.committed, committed);
        state.held_from = disk.current;
        state.syncer = Syncer::default();
        state.snapshotter = Snapshotter::resting(state.snapshotter.left);
        (state.forgotten, state.forgotten_before) = (recovered.forgotten, 0);
        (state.now, state.rules) = (recovered.now, start.rules);
        (state.known, state.base, state.outages) = (recovered.known, recovered.known, recovered.outages);
        state.restarts_left -= 1;
        for writer in &mut state.writers {
            let is_under_way = writer.at != At::Idle;
            *writer = Writer { done: writer.done + u8::from(is_under_way), ..Writer::default() };
        }
        Ok(())
    }
}
