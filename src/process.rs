//! What this process takes of the machine, as Linux tells it under `/proc`, and what it may take.

use std::fs;
use std::path::Path;

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
    let process = metrics_process::collector::collect();
    Some(Usage {
        cpu_seconds: process.cpu_seconds_total?,
        resident_bytes: process.resident_memory_bytes?,
        open_files: process.open_fds?,
    })
}

/// Resident memory that no file stands behind: the heap, and stacks. The journal's mapped segments are not in it.
pub fn anonymous_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// The lesser of the machine's memory and the limits of the control groups that this process is in (version 2).
pub fn memory_limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .map(|group| group_limit(group, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group.flatten()).min()
}

/// A limit holds for all groups below it.
fn group_limit(group: &str, root: &Path) -> Option<u64> {
    let own = root.join(group);
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()).min()
}

/// `name:   1234 kB` in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something_and_less_than_it_may() {
        let usage = usage().unwrap();
        let limit = memory_limit().unwrap();
        assert!(usage.resident_bytes > 1_000_000 && usage.resident_bytes < limit, "{usage:?} of {limit}");
        assert!(usage.cpu_seconds < 10_000.0 && usage.open_files >= 3, "{usage:?}");
        let anonymous = anonymous_bytes().unwrap();
        assert!(anonymous > 100_000 && anonymous < limit, "{anonymous}");
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        assert_eq!(group_limit("a/b", root.path()), None);
        fs::write(root.path().join("a/memory.max"), "4096\n").unwrap();
        fs::write(root.path().join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(group_limit("a/b", root.path()), Some(4_096));
        fs::write(root.path().join("a/b/memory.max"), "1024\n").unwrap();
        assert_eq!(group_limit("a/b", root.path()), Some(1_024));
    }
}
