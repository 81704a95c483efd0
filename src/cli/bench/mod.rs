//! Drives a service and reports.

use clap::Args;

/// Arguments of `heartbeat bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {}

/// Whether every threshold held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All did.
    Passed,
    /// One did not.
    Failed,
}

/// Runs it.
pub fn run(_args: &BenchArgs) -> anyhow::Result<Verdict> {
    anyhow::bail!("the load generator is not part of this build")
}
