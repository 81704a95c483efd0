//! Sessions from elsewhere, and ours for elsewhere.
//!
//! [`Engine::import`] puts one session into a user's timeline, wherever it belongs; [`Engine::export`] gives everybody's, one
//! shard at a time. What was exported can be imported any number of times: a session that is there already changes nothing.
//!
//! | the session | there is none in its time | the same is there | another one is there |
//! |---|---|---|---|
//! | has ended | closed, in its place | unchanged | rejected |
//! | has begun and not ended | live, if it opens after everything known | unchanged | rejected |
//!
//! A live one lasts one ttl from now at most: elsewhere the deadline may have been set by another ttl, and from here on this
//! engine's rules hold. An `online_at` in the future is rejected: no session can have begun there, and the next start would
//! take it for the time it is. A session opened and left in one second is never shown, and occupies that second here.

use super::live::Live;
use super::roster::{Place, SHARDS, User};
use super::timeline::{Closed, ClosedEnd};
use super::{Change, Engine, WriteError};
use crate::journal::Kind;
use crate::session::Session;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// An end further ahead than this is a mistake, not a deadline: no ttl is longer.
const AHEAD_MAX_SECONDS: u32 = 24 * 60 * 60;

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// The session is in the timeline now.
    Added,
    /// It was there already.
    Unchanged,
    /// It cannot have been, or contradicts what is known. Nothing has changed.
    Rejected(Rejection),
}

/// Why a session was not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// `offline_at` is not after `online_at`.
    #[error("offline_at is not after online_at")]
    Empty,
    /// `online_at` is later than now.
    #[error("online_at is in the future")]
    NotBegun,
    /// `offline_at` is more than a day ahead.
    #[error("offline_at is more than a day ahead")]
    TooFarAhead,
    /// It lasted longer than a session is counted: 68 years.
    #[error("a session cannot last longer than 68 years")]
    TooLong,
    /// The user had, or has, another session in that time.
    #[error("it overlaps a different session of this user")]
    Overlap,
}

/// How a session that is to be imported stands to those that are known.
enum Standing {
    /// It is one of them.
    Known,
    Overlapping,
    /// It lies in a gap; `true` if the live session ended before it.
    Free(bool),
}

impl Engine {
    /// In so many shards users are kept.
    pub const SHARDS: usize = SHARDS;

    /// Puts a session that happened elsewhere into `user`'s timeline, as durable as a heal.
    ///
    /// One that has ended counts as lapsed. One that has not becomes the live session, until `offline_at` or one ttl from now,
    /// whichever is earlier.
    ///
    /// # Errors
    /// As [`Engine::heal`].
    pub fn import(
        &self,
        user: UserId,
        online_at: UnixSeconds,
        offline_at: UnixSeconds,
    ) -> Result<Imported, WriteError> {
        let imported = self.import_unconfirmed(user, online_at, offline_at)?;
        self.confirm()?;
        Ok(imported)
    }

    /// The same without waiting for the disk: see [`Engine::ticket`].
    pub(crate) fn import_unconfirmed(
        &self,
        user: UserId,
        online_at: UnixSeconds,
        offline_at: UnixSeconds,
    ) -> Result<Imported, WriteError> {
        self.roster.change_or_add(user, |place| {
            let now = self.clock.now();
            if let Err(rejection) = check(online_at, offline_at, now) {
                return Ok(Imported::Rejected(rejection));
            }
            match place {
                Place::Known(known) => self.import_exclusively(user, known, online_at, offline_at, now),
                Place::New(added) => {
                    if !self.counts.try_add_user(self.users_max) {
                        return Err(WriteError::UsersFull);
                    }
                    let mut known = User::default();
                    let imported = self.import_exclusively(user, &mut known, online_at, offline_at, now);
                    if imported.is_ok() {
                        *added = Some(known);
                    } else {
                        self.counts.remove_user();
                    }
                    imported
                }
            }
        })
    }

    fn import_exclusively(
        &self,
        user: UserId,
        known: &mut User,
        online_at: UnixSeconds,
        offline_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Imported, WriteError> {
        self.close_if_over(user, known, now);
        let live_is_over = match standing(known, online_at, offline_at, now) {
            Standing::Known => return Ok(Imported::Unchanged),
            Standing::Overlapping => return Ok(Imported::Rejected(Rejection::Overlap)),
            Standing::Free(live_is_over) => live_is_over,
        };
        let has_ended = offline_at <= now;
        let until =
            if has_ended { offline_at } else { offline_at.min(now.plus(self.rules.ttl.as_seconds())) };
        self.write(user, if has_ended { Kind::Closed } else { Kind::Live }, online_at, until)?;
        // A session that could still have been extended cannot reach across one that came after it.
        if let Some(live) = known.live.load().filter(|_| live_is_over) {
            self.close_lapsed(user, known, live);
        }
        if has_ended {
            self.resize(known, |known| known.closed.insert(Closed::new(online_at, until, ClosedEnd::Lapsed)));
            self.counts.imported();
        } else {
            let live = Live { online_at, deadline: until };
            known.live.replace(Some(live));
            self.announce(user, Change::Online, online_at, |counts| counts.opened(false));
            self.arm_no_later(user, known, live);
        }
        Ok(Imported::Added)
    }

    /// An entry of an earlier session serves only if it is found in time: unlike after a heal, this session may be due
    /// earlier. The entry that is too many then is dropped where it is found.
    fn arm_no_later(&self, user: UserId, known: &mut User, live: Live) {
        let due = self.due(live);
        if known.armed == 0 || known.armed > due.as_u32() {
            known.armed = self.buckets.arm(user, due);
        }
    }

    /// Appends the sessions of everybody in shard `shard` of [`Engine::SHARDS`], as timelines show them, user by user. The
    /// shard is copied under its guard, so what is given is of one moment; two shards are not.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn export(&self, shard: usize, into: &mut Vec<(UserId, Session)>) {
        let now = self.clock.now();
        self.roster.walk(shard, |user, known| {
            into.extend(self.shown(known, known.live.load(), now).map(|session| (user, session)));
        });
    }
}

fn check(online_at: UnixSeconds, offline_at: UnixSeconds, now: UnixSeconds) -> Result<(), Rejection> {
    if offline_at <= online_at {
        Err(Rejection::Empty)
    } else if online_at > now {
        Err(Rejection::NotBegun)
    } else if offline_at > now.plus(AHEAD_MAX_SECONDS) {
        Err(Rejection::TooFarAhead)
    } else if offline_at.since(online_at) > Closed::SECONDS_MAX {
        Err(Rejection::TooLong)
    } else {
        Ok(())
    }
}

/// A live session is not over here: it has been closed if it was.
fn standing(known: &User, online_at: UnixSeconds, offline_at: UnixSeconds, now: UnixSeconds) -> Standing {
    let mut live_is_over = false;
    if let Some(live) = known.live.load() {
        if live.online_at == online_at {
            // It may have been extended since it was exported.
            let is_the_same = offline_at > now || offline_at <= live.deadline;
            return if is_the_same { Standing::Known } else { Standing::Overlapping };
        }
        live_is_over = live.deadline <= online_at;
        if !live_is_over && live.online_at < offline_at {
            return Standing::Overlapping;
        }
    }
    let (before, after) = known.closed.around(online_at);
    match before {
        Some(before) if before.online_at() == online_at && before.offline_at() == offline_at => {
            return Standing::Known;
        }
        Some(before) if before.offline_at().max(before.online_at().plus(1)) > online_at => {
            return Standing::Overlapping;
        }
        _ => {}
    }
    if after.is_some_and(|after| after.online_at() < offline_at) {
        return Standing::Overlapping;
    }
    Standing::Free(live_is_over)
}
