//! Which closed sessions are kept.

use super::roster::User;
use crate::time::UnixSeconds;

/// Limits on timelines. Applied when a session has lapsed, in the walk of each snapshot, and at the end of recovery; never
/// when a user leaves, since a heal in the same second reopens that session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Retention {
    /// A session that ended longer ago goes.
    pub seconds: Option<u32>,
    /// Most sessions of one user, the live one included.
    pub sessions: Option<usize>,
}

impl Retention {
    /// Drops what is too old or too much, and gives how many sessions that were.
    pub fn apply(self, known: &mut User, now: UnixSeconds) -> u64 {
        let Some(too_many) = self.excess(known, now) else { return 0 };
        known.closed.drop_oldest(too_many);
        too_many as u64
    }

    fn excess(self, known: &User, now: UnixSeconds) -> Option<usize> {
        let mut excess = 0;
        if let Some(sessions) = self.sessions {
            let live = usize::from(known.live.load().is_some());
            excess = known.closed.len().saturating_sub(sessions.saturating_sub(live));
        }
        if let Some(seconds) = self.seconds {
            let too_old = known.closed.iter().take_while(|closed| now.since(closed.offline_at()) > seconds);
            excess = excess.max(too_old.count());
        }
        (excess > 0).then_some(excess)
    }

    /// Whether a session that ended in `end` is not kept any longer.
    pub fn is_too_old(self, end: UnixSeconds, now: UnixSeconds) -> bool {
        self.seconds.is_some_and(|seconds| now.since(end) > seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::live::{Live, LiveWord};
    use crate::engine::timeline::{Closed, ClosedEnd};

    fn second(second: u32) -> UnixSeconds {
        UnixSeconds::new(second)
    }

    /// Sessions that ended in seconds 10, 20, 30, 40.
    fn user(live: Option<Live>) -> User {
        let mut known = User::default();
        for end in [10, 20, 30, 40] {
            known.closed.push(Closed::new(second(end - 5), second(end), ClosedEnd::Lapsed));
        }
        known.live = live.map_or_else(LiveWord::none, LiveWord::of);
        known
    }

    #[test]
    fn age_counts_from_the_end_and_the_live_session_counts_among_the_sessions() {
        let live = Live { online_at: second(50), deadline: second(57) };
        for (seconds, sessions, live, kept) in [
            (None, None, None, 4),
            (Some(20), None, None, 2), // at 50, 30 is 20 ago
            (Some(19), None, None, 1),
            (Some(0), None, None, 0),
            (None, Some(2), None, 2),
            (None, Some(2), Some(live), 1),
            (None, Some(1), Some(live), 0),
            (Some(19), Some(3), None, 1),
        ] {
            let mut known = user(live);
            let dropped = Retention { seconds, sessions }.apply(&mut known, second(50));
            assert_eq!((known.closed.len(), dropped), (kept, 4 - kept as u64), "{seconds:?} {sessions:?}");
        }
    }
}
