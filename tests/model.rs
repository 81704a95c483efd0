//! Any history of heals, leaves, forgets, passing time and sweeps gives what the plain rules give.
//!
//! Each history is lived through by three engines at once: one that sweeps where the history says so, one that never does,
//! and one that does after every step. After every step all of them are compared with the reference, for every user. What
//! may differ is only how many sessions have been noticed to be over.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads

mod common;

use std::sync::Arc;

use common::call::Call;
use common::reference::Reference;
use common::{NOON, engine_with, ttl};
use heartbeat::{Engine, Figures, ManualClock, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

const USERS: [UserId; 3] = [UserId::new(1), UserId::new(-2), UserId::new(i64::MAX)];

#[derive(Debug, Clone)]
struct History {
    ttl: u32,
    grace: u32,
    users_max: u64,
    steps: Vec<Call>,
}

fn steps() -> impl Strategy<Value = Call> {
    let user = prop::sample::select(&USERS[..]);
    prop_oneof![
        8 => user.clone().prop_map(Call::Heal),
        3 => user.clone().prop_map(Call::Leave),
        1 => user.prop_map(Call::Forget),
        7 => (0_u32..20).prop_map(Call::Pass),
        1 => (20_u32..10_000).prop_map(Call::Pass),
        4 => Just(Call::Sweep),
    ]
}

fn histories() -> impl Strategy<Value = History> {
    (1_u32..=10, 0_u32..=5, prop_oneof![3 => Just(u64::MAX), 1 => 0_u64..3], vec(steps(), 1..80))
        .prop_map(|(ttl, grace, users_max, steps)| History { ttl, grace, users_max, steps })
}

/// When an engine sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweeps {
    AsWritten,
    Never,
    Always,
}

struct Candidate {
    sweeps: Sweeps,
    engine: Engine,
    clock: Arc<ManualClock>,
}

impl Candidate {
    fn new(history: &History, sweeps: Sweeps) -> Self {
        let (engine, clock) = engine_with(NOON, |builder| {
            builder.ttl(ttl(history.ttl)).grace_seconds(history.grace).users_max(history.users_max)
        });
        Self { sweeps, engine, clock }
    }

    fn take(&self, step: Call, reference: &mut Reference) -> Result<(), TestCaseError> {
        if step != Call::Sweep {
            prop_assert_eq!(step.on_engine(&self.engine, &self.clock), step.on_reference(reference));
        } else if self.sweeps == Sweeps::AsWritten {
            self.sweep(reference)?;
        }
        if self.sweeps == Sweeps::Always { self.sweep(reference) } else { Ok(()) }
    }

    fn sweep(&self, reference: &Reference) -> Result<(), TestCaseError> {
        let before = self.engine.figures();
        let swept = self.engine.sweep();
        let after = self.engine.figures();
        prop_assert_eq!(after, reference.figures(), "a sweep leaves no session that is over");
        prop_assert_eq!(swept.lapsed, after.lapsed - before.lapsed);
        Ok(())
    }

    fn agrees_with(&self, reference: &Reference) -> Result<(), TestCaseError> {
        for user in USERS {
            prop_assert_eq!(self.engine.status(user), reference.status(user));
            prop_assert_eq!(self.engine.timeline(user), reference.timeline(user));
            prop_assert_eq!(self.engine.profile(user), reference.profile(user));
        }
        let (mine, theirs) = (self.engine.figures(), reference.figures());
        prop_assert!(mine.lapsed <= theirs.lapsed, "{:?} for {:?}", mine, theirs);
        let unnoticed = theirs.lapsed - mine.lapsed;
        let lapsed =
            Figures { online: mine.online - unnoticed, lapsed: theirs.lapsed, at: theirs.at, ..mine };
        prop_assert_eq!(
            lapsed,
            theirs,
            "an unswept session counts as online, and in nothing else does a sweep show"
        );
        Ok(())
    }
}

fn live_through(history: &History) -> Result<(), TestCaseError> {
    for sweeps in [Sweeps::AsWritten, Sweeps::Never, Sweeps::Always] {
        let candidate = Candidate::new(history, sweeps);
        let mut reference = Reference::new(NOON, history.ttl, history.grace, history.users_max);
        for &step in &history.steps {
            candidate.take(step, &mut reference)?;
            candidate.agrees_with(&reference)?;
        }
        candidate.sweep(&reference)?;
        candidate.agrees_with(&reference)?;
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    // What it finds becomes a written-out test in `rules.rs`, not a file of seeds.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_history_gives_what_the_rules_give(history in histories()) {
        live_through(&history)?;
    }
}

proptest! {
    #![proptest_config(cases(50_000))]

    #[test]
    #[ignore = "long: a hundred times as many histories"]
    fn very_many_histories_give_what_the_rules_give(history in histories()) {
        live_through(&history)?;
    }
}
