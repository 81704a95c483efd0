//! File descriptors enough for the connections.

use anyhow::ensure;

use crate::cli::descriptors;

/// A connection costs its own descriptor and its timer's.
const PER_CONNECTION: u64 = 2;
/// For everything else: standard streams, runtimes, the service's pipes, status requests.
const OTHERS: u64 = 64;

/// Raises the soft limit as far as it goes.
///
/// # Errors
/// One sentence, if the hard limit is below what so many connections need.
pub fn make_room(connections: u64) -> anyhow::Result<()> {
    let needed = connections * PER_CONNECTION + OTHERS;
    ensure!(
        descriptors::raise_limit() >= needed,
        "{connections} connections need {needed} open files, which is above the limit (ulimit -Hn)"
    );
    Ok(())
}
