//! File descriptors enough for the connections.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A connection costs its own descriptor and its timer's.
const PER_CONNECTION: u64 = 2;
/// For everything else: standard streams, runtimes, the service's pipes, status requests.
const OTHERS: u64 = 64;

/// Raises the soft limit if so many connections need it.
///
/// # Errors
/// One sentence, if the hard limit is below that.
pub fn make_room(connections: u64) -> anyhow::Result<()> {
    let needed = connections * PER_CONNECTION + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{connections} connections need {needed} open files, which is above the limit (ulimit -Hn)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?;
    Ok(())
}
