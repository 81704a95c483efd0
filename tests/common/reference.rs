//! The rules once more, as plainly as they can be written: a list of sessions for each user, gone through from end to end.
//!
//! It is the yardstick of `model.rs` and was written from the rules' text, not from the engine. It knows no sweep: a
//! session that nobody extends is over as soon as the time has come, which is what the engine must look like from outside.

use std::collections::BTreeMap;

use heartbeat::{End, Figures, Heal, Leave, Profile, Session, Status, UnixSeconds, UserId, WriteError};

/// A session, live or over. Of a live one, `offline_at` is the deadline.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    online_at: u32,
    offline_at: u32,
    end: End,
}

#[derive(Debug, Clone)]
pub struct Reference {
    pub now: u32,
    ttl: u32,
    grace: u32,
    users_max: u64,
    users: BTreeMap<UserId, Vec<Stretch>>,
    opened: u64,
    lapsed: u64,
    left: u64,
    forgotten: u64,
    flaps: u64,
    users_refused: u64,
}

impl Reference {
    pub fn new(now: u32, ttl: u32, grace: u32, users_max: u64) -> Self {
        let users = BTreeMap::new();
        Self {
            now,
            ttl,
            grace,
            users_max,
            users,
            opened: 0,
            lapsed: 0,
            left: 0,
            forgotten: 0,
            flaps: 0,
            users_refused: 0,
        }
    }

    /// Lets the time pass. Whoever can no longer extend a session has lost it, and it ended at its deadline.
    pub fn pass(&mut self, seconds: u32) {
        self.now += seconds;
        for stretch in self.users.values_mut().flatten() {
            if stretch.end == End::Live && self.now > stretch.offline_at + self.grace {
                stretch.end = End::Lapsed;
                self.lapsed += 1;
            }
        }
    }

    pub fn heal(&mut self, user: UserId) -> Result<Heal, WriteError> {
        let (now, deadline) = (self.now, self.now + self.ttl);
        if !self.users.contains_key(&user) && self.users.len() as u64 >= self.users_max {
            self.users_refused += 1;
            return Err(WriteError::UsersFull);
        }
        let timeline = self.users.entry(user).or_default();
        match timeline.last_mut() {
            Some(live) if live.end == End::Live && live.offline_at >= deadline => return Ok(Heal::Unchanged),
            Some(live) if live.end == End::Live => {
                live.offline_at = deadline;
                return Ok(Heal::Extended);
            }
            Some(left) if left.end == End::Left && left.offline_at == now => {
                (left.offline_at, left.end) = (deadline, End::Live);
            }
            last => {
                self.flaps += u64::from(last.is_some_and(|last| now <= last.offline_at + self.ttl));
                timeline.push(Stretch { online_at: now, offline_at: deadline, end: End::Live });
            }
        }
        self.opened += 1;
        Ok(Heal::Opened)
    }

    pub fn leave(&mut self, user: UserId) -> Leave {
        let live = self.users.get_mut(&user).and_then(|timeline| timeline.last_mut());
        match live {
            Some(live) if live.end == End::Live => {
                (live.offline_at, live.end) = (live.offline_at.min(self.now), End::Left);
                self.left += 1;
                Leave::Left
            }
            _ => Leave::NotLive,
        }
    }

    pub fn forget(&mut self, user: UserId) -> u64 {
        let shown = self.timeline(user).len() as u64;
        let timeline = self.users.remove(&user).unwrap_or_default();
        self.forgotten += timeline.iter().filter(|stretch| stretch.end == End::Live).count() as u64;
        shown
    }

    /// Online is who has a session of which this second is a part.
    pub fn status(&self, user: UserId) -> Status {
        let mut timeline = self.users.get(&user).into_iter().flatten();
        if timeline.any(|stretch| (stretch.online_at..stretch.offline_at).contains(&self.now)) {
            Status::Online
        } else {
            Status::Offline
        }
    }

    pub fn timeline(&self, user: UserId) -> Vec<Session> {
        let timeline = self.users.get(&user).into_iter().flatten();
        timeline
            .filter(|stretch| stretch.online_at < stretch.offline_at)
            .map(|stretch| Session {
                online_at: UnixSeconds::new(stretch.online_at),
                offline_at: UnixSeconds::new(stretch.offline_at),
                end: stretch.end,
            })
            .collect()
    }

    /// The seconds in which the user was online are gone through one by one; an empty session was seen in its second.
    pub fn profile(&self, user: UserId) -> Option<Profile> {
        let timeline = self.users.get(&user)?;
        let online = |stretch: &Stretch| stretch.online_at..stretch.offline_at.min(self.now + 1);
        let seen = timeline.iter().flat_map(|stretch| online(stretch).chain([stretch.online_at]));
        let past = timeline.iter().flat_map(online).filter(|&second| second < self.now);
        let shown = self.timeline(user);
        Some(Profile {
            status: self.status(user),
            latest: shown.last().copied(),
            last_seen: UnixSeconds::new(seen.max()?),
            sessions: shown.len() as u64,
            online_seconds: past.count() as u64,
        })
    }

    /// The counts as of a sweep in this second.
    pub fn figures(&self) -> Figures {
        let all = || self.users.values().flatten();
        Figures {
            users: self.users.len() as u64,
            online: all().filter(|stretch| stretch.end == End::Live).count() as u64,
            at: UnixSeconds::new(self.now),
            sessions: all().count() as u64,
            opened: self.opened,
            lapsed: self.lapsed,
            left: self.left,
            forgotten: self.forgotten,
            flaps: self.flaps,
            users_refused: self.users_refused,
        }
    }
}
