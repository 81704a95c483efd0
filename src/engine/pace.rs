//! How fast a thread goes over everybody, from shard to shard.
//!
//! It would take a core of its own from the heals for as long as it takes. So while they arrive it works a tenth of the time, and
//! else all of it. It rests between two shards, where it holds nothing: a thread that was merely given less of the processor
//! would be put off in the middle of one, with the shard's guard.

use std::time::Duration;

/// A tenth of the time: nine times as long as it has worked.
const REST: u32 = 9;

/// By a sign of load that changes when something arrives.
#[derive(Debug)]
pub(crate) struct Pace<S> {
    sign: S,
}

impl<S: PartialEq> Pace<S> {
    /// With the sign as it is now.
    pub const fn new(sign: S) -> Self {
        Self { sign }
    }

    /// How long to rest after work of so long, when the sign is this.
    pub fn rest(&mut self, sign: S, worked: Duration) -> Duration {
        let has_changed = sign != self.sign;
        self.sign = sign;
        if has_changed { worked * REST } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_something_arrives_a_tenth_of_the_time_is_worked_and_else_all_of_it() {
        let milli = Duration::from_millis(1);
        let mut pace = Pace::new((1, 10));
        assert_eq!(pace.rest((1, 11), milli), 9 * milli);
        assert_eq!(pace.rest((1, 11), milli), Duration::ZERO);
        assert_eq!(pace.rest((2, 11), 2 * milli), 18 * milli);
        assert_eq!(pace.rest((2, 11), milli), Duration::ZERO);
    }
}
