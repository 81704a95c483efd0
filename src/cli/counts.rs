//! What the sweeper thread reports, logged and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

use crate::engine::{Engine, Sweeper, SweeperReport};
use crate::time::ClockStep;

/// Faults and clock steps since the start.
#[derive(Debug, Default)]
pub(super) struct SweeperCounts {
    thread_restarts: AtomicU64,
    clock_steps_forward: AtomicU64,
    clock_steps_backward: AtomicU64,
}

impl SweeperCounts {
    /// How often the sweeper thread panicked and went on.
    pub fn thread_restarts(&self) -> u64 {
        self.thread_restarts.load(Ordering::Relaxed)
    }

    /// How often the wall clock was set, either way. A step forwards counts when it is noticed, not again when it is adopted.
    pub fn clock_steps(&self) -> u64 {
        self.clock_steps_forward.load(Ordering::Relaxed) + self.clock_steps_backward.load(Ordering::Relaxed)
    }

    fn take(&self, report: SweeperReport) {
        match report {
            SweeperReport::Swept(_) => {}
            SweeperReport::ClockStep(step) => self.step(step),
            SweeperReport::Fault(fault) => {
                self.thread_restarts.fetch_add(1, Ordering::Relaxed);
                let pause_ms = u64::try_from(fault.pause.as_millis()).unwrap_or(u64::MAX);
                error!(
                    pause_ms,
                    "the sweeper panicked and goes on after a pause; answers about users are not affected"
                );
            }
        }
    }

    fn step(&self, step: ClockStep) {
        match step {
            ClockStep::Ahead { seconds } => {
                self.clock_steps_forward.fetch_add(1, Ordering::Relaxed);
                error!(seconds, "the wall clock was set forwards; we follow if it stays so for a minute");
            }
            ClockStep::Adopted { from, to } => error!(
                from = from.as_u32(),
                to = to.as_u32(),
                "the wall clock stayed ahead and we follow; the seconds between end no session"
            ),
            ClockStep::Behind { seconds } => {
                self.clock_steps_backward.fetch_add(1, Ordering::Relaxed);
                error!(seconds, "the wall clock was set back; our seconds are longer until it has caught up");
            }
        }
    }
}

/// Starts sweeping `engine`, with every report logged and counted.
pub(super) fn sweep(engine: Arc<Engine>) -> io::Result<(Sweeper, Arc<SweeperCounts>)> {
    let counts = Arc::new(SweeperCounts::default());
    let reports = counts.clone();
    Ok((Sweeper::start(engine, move |report| reports.take(report))?, counts))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{SweepFault, Swept};
    use crate::time::UnixSeconds;

    #[test]
    fn faults_and_steps_are_counted_once_each() {
        let counts = SweeperCounts::default();
        let (from, to) = (UnixSeconds::new(1_000), UnixSeconds::new(2_000));
        for report in [
            SweeperReport::Swept(Swept::default()),
            SweeperReport::Fault(SweepFault { pause: Duration::from_secs(1) }),
            SweeperReport::ClockStep(ClockStep::Ahead { seconds: 1_000 }),
            SweeperReport::ClockStep(ClockStep::Adopted { from, to }),
            SweeperReport::ClockStep(ClockStep::Behind { seconds: 90 }),
        ] {
            counts.take(report);
        }
        assert_eq!((counts.thread_restarts(), counts.clock_steps()), (1, 2));
    }
}
