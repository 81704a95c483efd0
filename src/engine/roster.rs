//! Everyone known: a sharded map from user to sessions. The only place that knows which map.
//!
//! A call takes its shard's guard, shared or exclusive, for as long as the closure runs. Inside a closure there must be no
//! other call in here (the guards are not reentrant), no waiting and no system call.
//!
//! Under the interleaving checker the map is two ordinary ones behind the checker's locks: dashmap's own guards cannot be
//! seen by it, and it would take a thread that waits for one for a deadlock.

use super::live::LiveWord;
use super::timeline::Timeline;
use crate::user_id::UserId;

/// What is known of one user: 24 bytes, and with the id a map entry of 32.
#[derive(Debug)]
pub(crate) struct User {
    pub live: LiveWord,
    pub closed: Timeline,
    /// The second under which the sweeper has its one valid entry for this user; 0 when it has none.
    pub armed: u32,
}

pub(crate) use map::Roster;

#[cfg(not(shuttle))]
mod map {
    use super::{Place, User, UserId};
    use dashmap::DashMap;
    use dashmap::mapref::entry::Entry;
    use foldhash::fast::RandomState;

    /// Enough that walking or copying one shard stalls nobody for long: at 10 million users a shard holds 10 thousand.
    const SHARDS: usize = 1_024;

    pub(crate) struct Roster(DashMap<UserId, User, RandomState>);

    impl Roster {
        pub fn new() -> Self {
            // The hasher's seed is random, so nobody outside can choose ids that meet in one shard.
            Self(DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS))
        }

        /// Under the shared guard; `None` if the user is unknown.
        #[inline]
        pub fn view<R>(&self, user: UserId, f: impl FnOnce(&User) -> R) -> Option<R> {
            self.0.get(&user).map(|known| f(&known))
        }

        /// Under the exclusive guard; `None` if the user is unknown.
        pub fn change<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> R) -> Option<R> {
            self.0.get_mut(&user).map(|mut known| f(&mut known))
        }

        /// Under the exclusive guard, known or not: whom `new` makes for an unknown id is added.
        pub fn change_or_add<R, E>(
            &self,
            user: UserId,
            f: impl FnOnce(Place<'_>) -> Result<R, E>,
        ) -> Result<R, E> {
            match self.0.entry(user) {
                Entry::Occupied(mut known) => f(Place::Known(known.get_mut())),
                Entry::Vacant(vacant) => {
                    let mut added = None;
                    let result = f(Place::New(&mut added))?;
                    if let Some(added) = added {
                        vacant.insert(added);
                    }
                    Ok(result)
                }
            }
        }

        /// Under the exclusive guard; the user is gone afterwards. `None` if there was none.
        pub fn remove<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> R) -> Option<R> {
            let mut result = None;
            self.0.remove_if_mut(&user, |_, known| {
                result = Some(f(known));
                true
            });
            result
        }
    }
}

#[cfg(shuttle)]
mod map {
    use super::{Place, User, UserId};
    use std::collections::HashMap;

    use shuttle::sync::RwLock;

    type Shard = RwLock<HashMap<UserId, User>>;

    /// Two shards, for users of even and of odd ids: what happens in one must not rely on the other's lock.
    pub(crate) struct Roster([Shard; 2]);

    impl Roster {
        pub fn new() -> Self {
            Self([RwLock::new(HashMap::new()), RwLock::new(HashMap::new())])
        }

        fn shard(&self, user: UserId) -> &Shard {
            &self.0[usize::from(user.as_i64() % 2 != 0)]
        }

        pub fn view<R>(&self, user: UserId, f: impl FnOnce(&User) -> R) -> Option<R> {
            self.shard(user).read().expect("no thread panics under the checker").get(&user).map(f)
        }

        pub fn change<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> R) -> Option<R> {
            self.shard(user).write().expect("no thread panics under the checker").get_mut(&user).map(f)
        }

        pub fn change_or_add<R, E>(
            &self,
            user: UserId,
            f: impl FnOnce(Place<'_>) -> Result<R, E>,
        ) -> Result<R, E> {
            let mut map = self.shard(user).write().expect("no thread panics under the checker");
            if let Some(known) = map.get_mut(&user) {
                return f(Place::Known(known));
            }
            let mut added = None;
            let result = f(Place::New(&mut added))?;
            if let Some(added) = added {
                map.insert(user, added);
            }
            Ok(result)
        }

        pub fn remove<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> R) -> Option<R> {
            self.shard(user)
                .write()
                .expect("no thread panics under the checker")
                .remove(&user)
                .as_mut()
                .map(f)
        }
    }
}

/// Where a user stands, or could.
pub(crate) enum Place<'a> {
    Known(&'a mut User),
    /// Put somebody in to add them. Left empty, nothing is added.
    New(&'a mut Option<User>),
}
