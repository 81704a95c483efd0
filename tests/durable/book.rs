//! What has been written, in order, and what of it must be known again.
//!
//! Every write is put down here as the state after it, by rules written from the design's text. What is known after a loss of
//! power must come from all the writes that are promised to survive, and any of the later ones: each of those may be lost while
//! one after it is not.

use std::collections::{BTreeMap, BTreeSet};

use heartbeat::{End, Session, UserId};

/// A session: opened, ends, how.
pub type Stretch = (u32, u32, End);
/// A user's sessions, oldest first.
pub type Timeline = Vec<Stretch>;

/// The state after one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Live { online_at: u32, until: u32 },
    Left { online_at: u32, until: u32 },
    Forgotten,
}

#[derive(Debug, Clone)]
pub struct Book {
    pub ttl: u32,
    pub grace: u32,
    /// What was known before the first write.
    base: BTreeMap<UserId, Timeline>,
    writes: Vec<(UserId, Written)>,
    /// So many of them have been acknowledged.
    pub acknowledged: usize,
    /// So many must survive a loss of power.
    pub promised: usize,
}

impl Book {
    pub fn new(ttl: u32, grace: u32) -> Self {
        Self { ttl, grace, base: BTreeMap::new(), writes: Vec::new(), acknowledged: 0, promised: 0 }
    }

    /// The same rules, and nothing but what is known now.
    pub fn after_power_loss(&self, base: BTreeMap<UserId, Timeline>) -> Self {
        Self { base, ..Self::new(self.ttl, self.grace) }
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn users(&self) -> BTreeSet<UserId> {
        self.base.keys().copied().chain(self.writes.iter().map(|&(user, _)| user)).collect()
    }

    /// With every write.
    pub fn timeline(&self, user: UserId) -> Timeline {
        let mut timeline = self.base.get(&user).cloned().unwrap_or_default();
        self.writes
            .iter()
            .filter(|(of, _)| *of == user)
            .for_each(|&(_, written)| fold(&mut timeline, written));
        timeline
    }

    /// Notes what a heal writes.
    pub fn heal(&mut self, user: UserId, now: u32) {
        let until = now + self.ttl;
        let written = match self.timeline(user).last() {
            Some(&(_, deadline, End::Live)) if now <= deadline + self.grace && deadline >= until => return,
            Some(&(online_at, deadline, End::Live)) if now <= deadline + self.grace => {
                Written::Live { online_at, until }
            }
            Some(&(online_at, left, End::Left)) if left == now => Written::Live { online_at, until },
            _ => Written::Live { online_at: now, until },
        };
        self.writes.push((user, written));
    }

    pub fn leave(&mut self, user: UserId, now: u32) {
        if let Some(&(online_at, deadline, End::Live)) = self.timeline(user).last()
            && now <= deadline + self.grace
        {
            self.writes.push((user, Written::Left { online_at, until: deadline.min(now) }));
        }
    }

    pub fn forget(&mut self, user: UserId) {
        self.writes.push((user, Written::Forgotten));
    }

    /// Every timeline that may be found after a loss of power, when the first `promised` writes must be there and those from
    /// `begun` on had not begun.
    pub fn possible(&self, user: UserId, promised: usize, begun: usize) -> Vec<Timeline> {
        let mut sure = self.base.get(&user).cloned().unwrap_or_default();
        let of_user = |part: &[(UserId, Written)]| {
            part.iter().filter(|(of, _)| *of == user).map(|&(_, written)| written).collect::<Vec<_>>()
        };
        for written in of_user(&self.writes[..promised]) {
            fold(&mut sure, written);
        }
        let mut possible = vec![sure];
        for written in of_user(&self.writes[promised..begun]) {
            for mut with in possible.clone() {
                fold(&mut with, written);
                if !possible.contains(&with) {
                    possible.push(with);
                }
            }
        }
        possible.into_iter().map(shown).collect()
    }
}

/// The rules of design section 4.
fn fold(timeline: &mut Timeline, written: Written) {
    let (online_at, until, end) = match written {
        Written::Forgotten => return timeline.clear(),
        Written::Live { online_at, until } => (online_at, until, End::Live),
        Written::Left { online_at, until } => (online_at, until, End::Left),
    };
    match timeline.last_mut() {
        Some(last) if online_at < last.0 => {}
        Some(last) if online_at == last.0 => {
            last.1 = if end == End::Live { last.1.max(until) } else { until };
            last.2 = end;
        }
        last => {
            if let Some(last) = last {
                last.1 = last.1.min(online_at);
                last.2 = if last.2 == End::Live { End::Lapsed } else { last.2 };
            }
            timeline.push((online_at, until, end));
        }
    }
}

/// As it is told long after: nothing is live any more, and what has no length is not shown.
fn shown(mut timeline: Timeline) -> Timeline {
    timeline.iter_mut().filter(|session| session.2 == End::Live).for_each(|session| session.2 = End::Lapsed);
    timeline.retain(|session| session.0 < session.1);
    timeline
}

/// What an engine tells.
pub fn told(sessions: &[Session]) -> Timeline {
    sessions
        .iter()
        .map(|session| (session.online_at.as_u32(), session.offline_at.as_u32(), session.end))
        .collect()
}
