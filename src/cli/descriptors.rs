//! How many files this process may have open, and so how many connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// Kept back from connections: standard streams, the signal pipe, settings files, and room for what libraries open.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Kept back for each worker thread beside its listeners: its poll and its waker.
const DESCRIPTORS_PER_THREAD: u64 = 4;

/// `max-connections` does not fit into the limit on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lowered {
    pub from: usize,
    pub to: usize,
    pub open_files_max: u64,
}

/// Raises the soft limit on open files to the hard one, lowers `max-connections` if it does not fit, and says so.
pub(super) fn fit(settings: &mut Settings) -> Option<Lowered> {
    let open_files_max = raise_limit();
    let fitting = connections_within(open_files_max, reserve(settings));
    let from = settings.max_connections;
    if from <= fitting {
        return None;
    }
    settings.max_connections = fitting;
    Some(Lowered { from, to: fitting, open_files_max })
}

/// Raises the soft limit on open files to the hard one; gives what it is then.
pub(super) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A refusal leaves what was there, and that is then the limit to fit into.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

fn reserve(settings: &Settings) -> u64 {
    let (threads, listeners) = (settings.threads as u64, settings.listen.len() as u64);
    DESCRIPTORS_RESERVED + threads * (DESCRIPTORS_PER_THREAD + listeners)
}

/// At least one, however few there are: a service that takes no connection at all says nothing about why.
fn connections_within(open_files_max: u64, reserve: u64) -> usize {
    usize::try_from(open_files_max.saturating_sub(reserve)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_what_is_reserved() {
        let settings = Settings { threads: 2, ..Settings::default() };
        assert_eq!(reserve(&settings), 74);
        assert_eq!(connections_within(1_024, 74), 950);
        assert_eq!(connections_within(10, 74), 1);
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one_and_a_setting_above_it_is_lowered() {
        let mut settings = Settings { max_connections: usize::MAX, threads: 1, ..Settings::default() };
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let lowered = fit(&mut settings).unwrap();
        assert_eq!(lowered.open_files_max, hard);
        assert_eq!(lowered.to, settings.max_connections);
        assert!(lowered.to < lowered.from);
        assert_eq!(fit(&mut settings), None);
    }
}
