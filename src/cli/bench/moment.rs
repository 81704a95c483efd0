//! The current moment, for measuring.

use std::time::Instant;

/// Now, by the machine's monotonic clock.
#[allow(clippy::disallowed_methods)] // latencies are what this tool measures; no rule of the engine's depends on them
pub fn now() -> Instant {
    Instant::now()
}
