//! Every state that can be reached, each once, nearest first: what is found wrong is found by the shortest way.
//!
//! Of a state that has been seen only its fingerprint is kept, of 64 bits: among the ten million states of one search, two that
//! are different have the same one with a probability of 3 in a million.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::machine::{Machine, Step};
use super::state::State;

/// A fingerprint is its own hash.
#[derive(Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

pub(super) type Seen = HashSet<u64, BuildHasherDefault<Same>>;

pub(super) fn fingerprints() -> SeedableRandomState {
    SeedableRandomState::with_seed(0x5eed, SharedSeed::global_fixed())
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Searched {
    pub states: usize,
    pub transitions: usize,
    /// Ends that were judged: images of the files, each with what memory was.
    pub crashes: usize,
}

impl std::ops::AddAssign for Searched {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.transitions += other.transitions;
        self.crashes += other.crashes;
    }
}

/// How to get to a state: from the one of this number, by this step.
type Way = (u32, Step);

impl Machine {
    /// # Errors
    /// The shortest trace to something that is wrong.
    pub fn search(&self) -> Result<Searched, String> {
        let hasher = fingerprints();
        let (mut seen, mut crashes) = (Seen::default(), Seen::default());
        let mut ways: Vec<Way> = vec![(0, Step::Tick)];
        let mut frontier = vec![(0, self.first())];
        let mut transitions = 0;
        seen.insert(hasher.hash_one(frontier[0].1));
        while !frontier.is_empty() {
            let mut next = Vec::new();
            for (number, state) in &frontier {
                for step in self.steps() {
                    let stepped = self.step(state, step).map_err(|found| {
                        let stepped = [(*number, step)];
                        self.trace(&ways, *number, &stepped, &found)
                    })?;
                    let Some(stepped) = stepped else { continue };
                    transitions += 1;
                    if !seen.insert(hasher.hash_one(stepped)) {
                        continue;
                    }
                    let reached = u32::try_from(ways.len()).expect("memory for so many states is not there");
                    ways.push((*number, step));
                    self.check(&stepped, &mut crashes)
                        .map_err(|found| self.trace(&ways, reached, &[], &found))?;
                    next.push((reached, stepped));
                }
            }
            frontier = next;
        }
        Ok(Searched { states: ways.len(), transitions, crashes: crashes.len() })
    }

    fn trace(&self, ways: &[Way], to: u32, last: &[Way], found: &str) -> String {
        let (mut steps, mut at) = (Vec::new(), to);
        while at != 0 {
            let (from, step) = ways[at as usize];
            steps.push(step);
            at = from;
        }
        let mut state = self.first();
        let mut trace = format!("{self:?}\n      {state:?}\n");
        for step in steps.into_iter().rev() {
            if let Ok(Some(next)) = self.step(&state, step) {
                state = next;
            }
            let _ = writeln!(trace, "{}\n      {state:?}", describe(&state, step));
        }
        for (_, step) in last {
            let _ = writeln!(trace, "{step:?}");
        }
        let _ = write!(trace, "=> {found}");
        trace
    }
}

fn describe(state: &State, step: Step) -> String {
    match step {
        Step::Writer(writer) => {
            let found = state.writers[usize::from(writer)];
            format!("writer {writer}: {:?}, done {}", found.at, found.done)
        }
        Step::Snapshot => format!("snapshot: {}", state.snapshotter.at),
        Step::Sync => format!("sync: {:?}", state.syncer),
        step => format!("{step:?}"),
    }
}
