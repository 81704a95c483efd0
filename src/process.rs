//! What this process takes of the machine, as Linux tells it under `/proc`.

use std::fs;

use serde::Serialize;
use utoipa::ToSchema;

/// Processor time, memory and descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Usage {
    /// Processor time of all threads since the start, in user and kernel mode.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
}

/// The figures of now; `None` where `/proc` is not to be had.
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in parentheses and may hold anything; fields are counted from behind it, where field 3 is.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    #[allow(clippy::cast_precision_loss)] // exact up to 2^53 ticks
    let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(Usage {
        cpu_seconds,
        resident_bytes: pages * rustix::param::page_size() as u64,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 1_000_000 && usage.resident_bytes < 100_000_000_000, "{usage:?}");
        assert!(usage.cpu_seconds < 10_000.0 && usage.open_files >= 3, "{usage:?}");
    }
}
