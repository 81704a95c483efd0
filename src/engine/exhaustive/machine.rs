//! What a run of the model is: who does what, under which rules, and what may happen meanwhile.
//!
//! A step is what one thread does between two moments at which another one could see a difference. Where the code does several
//! things that are one step here, it says why beside it: taking a guard is one with what follows, and giving it up one with what
//! came before, since in between a thread touches nothing that others look at.

use crate::engine::outages::Outages as Recent;
use crate::engine::retention::Retention;
use crate::engine::rules::{Outage, Rules};
use crate::time::Ttl;

use super::state::{Disk, Few, Known, Outages, START, Snapshot, Snapshotter, State, Syncer, Written, second};
use super::wrong::Wrong;
use crate::journal::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Heal,
    Leave,
    Forget,
}

/// What a writer does, one after the other, each to one user.
pub(super) type Script = Vec<(Operation, u8)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Writer(u8),
    Tick,
    Sweep(u8),
    Snapshot,
    Sync,
    Stamp,
    /// The process is killed, and started again in this way.
    Restart(u8),
}

/// How the service starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Which of the machine's rules are then in force.
    pub rules: u8,
    /// The wall clock, counted from the second of death.
    pub wall: i8,
    /// Whether the clock is handed in and taken as it is (`Builder::clock`); the real one starts no earlier than what is found.
    pub is_handed_in: bool,
}

impl Start {
    pub const fn at(wall: i8) -> Self {
        Self { rules: 0, wall, is_handed_in: false }
    }

    pub const fn under(self, rules: u8) -> Self {
        Self { rules, ..self }
    }
}

#[allow(clippy::struct_excessive_bools, reason = "each is a thing that is there or is not")]
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub scripts: [Script; 2],
    /// Those at first, and those after a change.
    pub rules: Vec<Rules>,
    pub retention: Retention,
    pub restart_grace: bool,
    /// Whether user 0 has a live session, on disk, at the beginning.
    pub begins_live: bool,
    /// Writers wait for the disk (`always`).
    pub is_always: bool,
    /// There is a syncer, and power may be lost; else a sync is thought to take no time.
    pub has_syncer: bool,
    pub has_sweeper: bool,
    /// The alive second is stamped, sooner or later.
    pub has_stamps: bool,
    pub ticks: u8,
    pub snapshots: u8,
    pub restarts: u8,
    /// Slots in a segment.
    pub capacity: u8,
    pub starts: Vec<Start>,
    pub wrong: Option<Wrong>,
}

pub(super) fn rules(ttl: u32, grace: u32) -> Rules {
    Rules { ttl: Ttl::from_seconds(ttl).expect("a ttl of the model's is valid"), grace }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            scripts: Default::default(),
            rules: vec![rules(1, 0)],
            retention: Retention::default(),
            restart_grace: true,
            begins_live: false,
            is_always: false,
            has_syncer: false,
            has_sweeper: true,
            has_stamps: false,
            ticks: 2,
            snapshots: 1,
            restarts: 0,
            capacity: u8::MAX,
            starts: vec![Start::at(0)],
            wrong: None,
        }
    }
}

impl Machine {
    pub fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    pub fn first(&self) -> State {
        let mut disk = Disk {
            slots: Few::of(Written::NOTHING),
            committed: 0,
            durable: 0,
            segments: Default::default(),
            current: 0,
            snapshots: Few::of(Snapshot::NOTHING),
        };
        disk.begin_segment(0, 0);
        let mut known = [Known::default(); 2];
        if self.begins_live {
            let until = START + u8::try_from(self.rules[0].ttl.as_seconds()).expect("it is short");
            known[0].set_live(Some((START, until)));
            let bit =
                disk.reserve(Written { kind: Kind::Live, user: 0, online_at: START, until, segment: 0 });
            (disk.committed, disk.durable) = (bit, bit);
            (disk.segment().mark, disk.segment().alive, disk.segment().alive_durable) = (1, START, START);
        }
        State {
            now: START,
            ticks_left: self.ticks,
            restarts_left: self.restarts,
            rules: 0,
            known,
            outages: Few::of((0, 0)),
            forgotten: 0,
            forgotten_before: 0,
            writers: Default::default(),
            snapshotter: Snapshotter::resting(self.snapshots),
            syncer: Syncer::default(),
            held_from: 0,
            applied: disk.committed,
            acknowledged: disk.committed,
            base: [Known::default(); 2],
            first_slot: 0,
            disk,
        }
    }

    /// All that could happen next.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let fixed = [Step::Writer(0), Step::Writer(1), Step::Snapshot, Step::Tick];
        let fixed = fixed
            .into_iter()
            .chain([Step::Sweep(0), Step::Sweep(1)].into_iter().filter(|_| self.has_sweeper));
        let fixed = fixed.chain([Step::Sync].into_iter().filter(|_| self.has_syncer));
        let fixed = fixed.chain([Step::Stamp].into_iter().filter(|_| self.has_stamps));
        let starts = if self.restarts == 0 { 0 } else { self.starts.len() };
        fixed.chain((0..starts).map(|start| Step::Restart(u8::try_from(start).expect("there are few"))))
    }

    /// What becomes of `state`; `None` if that cannot happen now.
    ///
    /// # Errors
    /// What the step did is not what the rules say.
    pub fn step(&self, state: &State, step: Step) -> Result<Option<State>, String> {
        if !self.may(state, step) {
            return Ok(None);
        }
        let mut next = *state;
        let happened = match step {
            Step::Writer(writer) => self.write(&mut next, usize::from(writer))?,
            Step::Tick => {
                (next.now, next.ticks_left) = (next.now + 1, next.ticks_left - 1);
                true
            }
            Step::Sweep(user) => self.sweep(&mut next, usize::from(user))?,
            Step::Snapshot => self.snapshot(&mut next)?,
            Step::Sync => self.sync(&mut next),
            Step::Stamp => {
                // `Syncer::stamp`. Another segment may come into service before the clock is read: as if it had been stamped
                // before, since the latest of all alive seconds counts.
                let now = next.now;
                std::mem::replace(&mut next.disk.segment().alive, now) != now
            }
            Step::Restart(start) => {
                self.restart(&mut next, self.starts[usize::from(start)])?;
                true
            }
        };
        Ok(happened.then_some(next))
    }

    /// What can be seen to be impossible without a copy of the state.
    fn may(&self, state: &State, step: Step) -> bool {
        match step {
            Step::Writer(writer) => {
                let found = &state.writers[usize::from(writer)];
                usize::from(found.done) < self.scripts[usize::from(writer)].len()
            }
            Step::Tick => state.ticks_left > 0,
            Step::Sweep(user) => state.known[usize::from(user)].live().is_some(),
            Step::Snapshot => state.snapshotter.at > 0 || state.snapshotter.left > 0,
            Step::Sync | Step::Stamp => true,
            Step::Restart(_) => state.restarts_left > 0,
        }
    }

    pub fn rules_of(&self, state: &State) -> Rules {
        self.rules[usize::from(state.rules)]
    }

    /// `Engine::recent_outages`
    pub fn recent(&self, outages: &Outages, rules: Rules) -> Recent {
        if self.restart_grace { Recent::of(&real(outages), rules.reach()) } else { Recent::default() }
    }
}

/// As the engine has them.
pub(super) fn real(outages: &Outages) -> Vec<Outage> {
    let outages = outages.as_slice().iter();
    outages.map(|&(from, to)| Outage { from: second(from), to: second(to) }).collect()
}

impl Snapshotter {
    pub fn resting(left: u8) -> Self {
        Self { left, at: 0, forgotten: 0, draft: Snapshot::NOTHING, wait: super::state::Wait::No }
    }
}
