//! One call, of the engine or of the reference, and what it answered.

use std::collections::HashSet;

use heartbeat::{Engine, Heal, Leave, ManualClock, UserId, WriteError};

use super::reference::Reference;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Heal(UserId),
    Leave(UserId),
    Forget(UserId),
    /// Seconds pass.
    Pass(u32),
    Sweep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Heal(Result<Heal, WriteError>),
    Leave(Result<Leave, WriteError>),
    Forget(Result<u64, WriteError>),
    /// Of what has none to compare.
    None,
}

impl Call {
    pub fn on_engine(self, engine: &Engine, clock: &ManualClock) -> Answer {
        match self {
            Self::Heal(user) => Answer::Heal(engine.heal(user)),
            Self::Leave(user) => Answer::Leave(engine.leave(user)),
            Self::Forget(user) => Answer::Forget(engine.forget(user)),
            Self::Pass(seconds) => {
                clock.advance(seconds);
                Answer::None
            }
            Self::Sweep => {
                engine.sweep();
                Answer::None
            }
        }
    }

    /// The reference knows no sweep: to it nothing happens.
    pub fn on_reference(self, reference: &mut Reference) -> Answer {
        match self {
            Self::Heal(user) => Answer::Heal(reference.heal(user)),
            Self::Leave(user) => Answer::Leave(Ok(reference.leave(user))),
            Self::Forget(user) => Answer::Forget(Ok(reference.forget(user))),
            Self::Pass(seconds) => {
                reference.pass(seconds);
                Answer::None
            }
            Self::Sweep => Answer::None,
        }
    }
}

/// A call that was made while others were under way: between two ticks of a count that all threads share.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub call: Call,
    pub answer: Answer,
    pub began: usize,
    pub ended: usize,
}

/// Whether the calls can be put into one order in which no call comes before one that had ended when it began, and in
/// which the reference gives the same answers and then is as `is_end` wants it.
pub fn is_explained(made: &[Made], start: &Reference, is_end: impl Fn(&Reference) -> bool) -> bool {
    // Different orders of the same calls often lead to the same place, and it needs to be left only once.
    let mut been = HashSet::new();
    explain(made.to_vec(), start, &is_end, &mut been)
}

#[allow(clippy::needless_pass_by_value)] // each call has a list of its own, which the next ones start from
fn explain(
    rest: Vec<Made>,
    at: &Reference,
    is_end: &impl Fn(&Reference) -> bool,
    been: &mut HashSet<String>,
) -> bool {
    let Some(first_end) = rest.iter().map(|made| made.ended).min() else { return is_end(at) };
    let begun: Vec<usize> = rest.iter().map(|made| made.began).collect();
    if !been.insert(format!("{begun:?} {at:?}")) {
        return false;
    }
    (0..rest.len()).filter(|&next| rest[next].began < first_end).any(|next| {
        let mut rest = rest.clone();
        let made = rest.swap_remove(next);
        let mut after = at.clone();
        made.call.on_reference(&mut after) == made.answer && explain(rest, &after, is_end, been)
    })
}
