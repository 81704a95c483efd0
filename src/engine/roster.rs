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

impl Default for User {
    fn default() -> Self {
        Self { live: LiveWord::none(), closed: Timeline::default(), armed: 0 }
    }
}

impl User {
    /// There is nothing to know of this user.
    pub fn is_empty(&self) -> bool {
        self.closed.len() == 0 && self.live.load().is_none()
    }
}

pub(crate) use map::{Roster, SHARDS};

#[cfg(not(shuttle))]
mod map {
    use std::hash::BuildHasher;
    use std::hint::black_box;

    use super::{Place, User, UserId};
    use dashmap::DashMap;
    use dashmap::mapref::entry::Entry;
    use foldhash::SharedSeed;
    use foldhash::fast::SeedableRandomState;

    /// Enough that walking or copying one shard stalls nobody for long: at 10 million users a shard holds 10 thousand.
    pub(crate) const SHARDS: usize = 1_024;

    /// Timelines that come from memory at once: more than a core can wait for at a time, and few enough to stay in its cache.
    const AT_ONCE: usize = 32;

    pub(crate) struct Roster(DashMap<UserId, User, SeedableRandomState>);

    impl Roster {
        /// Nobody outside must know the seed, or they could choose ids that meet in one shard. With the same seed a user
        /// stands in the same shard again.
        pub fn new(seed: u64) -> Self {
            // The other half of foldhash's seed may be known: it only has to be well mixed.
            let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
            Self(DashMap::with_hasher_and_shard_amount(hasher, SHARDS))
        }

        /// The shard in which `user` stands or would.
        pub fn shard_of(&self, user: UserId) -> usize {
            self.0.determine_map(&user)
        }

        /// Makes room for so many more users in a shard.
        pub fn reserve(&self, shard: usize, users: usize) {
            let hash = |(user, _): &(UserId, _)| BuildHasher::hash_one(self.0.hasher(), user);
            self.0.shards()[shard].write().reserve(users, hash);
        }

        /// Puts a user in, in place of who was there.
        pub fn insert(&self, user: UserId, known: User) {
            self.0.insert(user, known);
        }

        /// Bytes of all tables: an entry and a byte of its hash for each place.
        pub fn table_bytes(&self) -> u64 {
            let entry = size_of::<(UserId, User)>() as u64 + 1;
            self.0.shards().iter().map(|shard| shard.read().buckets() as u64 * entry).sum()
        }

        /// Everybody in a shard, under its exclusive guard.
        #[allow(unsafe_code)]
        pub fn walk(&self, shard: usize, mut f: impl FnMut(UserId, &mut User)) {
            let users = self.0.shards()[shard].write();
            // SAFETY: the table lives, and is neither grown nor shrunk, while the exclusive guard is held, and the iterator is
            // gone before it is. No other reference to an entry exists meanwhile: every one is behind this shard's guard,
            // and the references given to `f` cannot outlive its call.
            unsafe {
                for entry in users.iter() {
                    let (user, known) = entry.as_mut();
                    f(*user, known.get_mut());
                }
            }
        }

        /// Everybody in a shard, under its shared guard: heals of who is online go on meanwhile.
        #[allow(unsafe_code)]
        pub fn look(&self, shard: usize, mut f: impl FnMut(UserId, &User)) {
            let users = self.0.shards()[shard].read();
            // SAFETY: the table lives, and is neither grown nor shrunk, while the shared guard is held, and the iterator is gone
            // before it is. Nobody has an exclusive reference to an entry meanwhile, since that takes the exclusive guard, and
            // the references given to `f` cannot outlive its call.
            unsafe {
                for entry in users.iter() {
                    let (user, known) = entry.as_ref();
                    f(*user, known.get());
                }
            }
        }

        /// The same, for who looks at timelines. They come from memory for some users at once: one by one each would be waited for,
        /// since what is done with one is more than a processor looks ahead.
        #[allow(unsafe_code)]
        pub fn look_at_timelines(&self, shard: usize, mut f: impl FnMut(UserId, &User)) {
            let users = self.0.shards()[shard].read();
            // SAFETY: as in `look`.
            unsafe {
                let (mut ahead, mut entries) = (users.iter(), users.iter());
                for _ in (0..users.len()).step_by(AT_ONCE) {
                    let sessions =
                        ahead.by_ref().take(AT_ONCE).map(|entry| entry.as_ref().1.get().closed.len());
                    black_box(sessions.sum::<usize>());
                    for entry in entries.by_ref().take(AT_ONCE) {
                        let (user, known) = entry.as_ref();
                        f(*user, known.get());
                    }
                }
            }
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

        /// Under the exclusive guard; the user is gone afterwards if `f` says so. `None` if there was none.
        pub fn remove_if<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> (bool, R)) -> Option<R> {
            let mut result = None;
            self.0.remove_if_mut(&user, |_, known| {
                let (is_gone, given) = f(known);
                result = Some(given);
                is_gone
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

    pub(crate) const SHARDS: usize = 2;

    /// Two shards, for users of even and of odd ids: what happens in one must not rely on the other's lock.
    pub(crate) struct Roster([Shard; 2]);

    impl Roster {
        pub fn new(_seed: u64) -> Self {
            Self([RwLock::new(HashMap::new()), RwLock::new(HashMap::new())])
        }

        pub fn shard_of(&self, user: UserId) -> usize {
            usize::from(user.as_i64() % 2 != 0)
        }

        pub fn reserve(&self, _shard: usize, _users: usize) {}

        pub fn table_bytes(&self) -> u64 {
            0
        }

        pub fn insert(&self, user: UserId, known: User) {
            self.shard(user).write().expect("no thread panics under the checker").insert(user, known);
        }

        pub fn walk(&self, shard: usize, mut f: impl FnMut(UserId, &mut User)) {
            let mut users = self.0[shard].write().expect("no thread panics under the checker");
            users.iter_mut().for_each(|(user, known)| f(*user, known));
        }

        pub fn look(&self, shard: usize, mut f: impl FnMut(UserId, &User)) {
            let users = self.0[shard].read().expect("no thread panics under the checker");
            users.iter().for_each(|(user, known)| f(*user, known));
        }

        pub fn look_at_timelines(&self, shard: usize, f: impl FnMut(UserId, &User)) {
            self.look(shard, f);
        }

        fn shard(&self, user: UserId) -> &Shard {
            &self.0[self.shard_of(user)]
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

        pub fn remove_if<R>(&self, user: UserId, f: impl FnOnce(&mut User) -> (bool, R)) -> Option<R> {
            let mut users = self.shard(user).write().expect("no thread panics under the checker");
            let (is_gone, given) = users.get_mut(&user).map(f)?;
            if is_gone {
                users.remove(&user);
            }
            Some(given)
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::engine::live::Live;
    use crate::time::UnixSeconds;

    /// Miri takes its time.
    const USERS: i64 = if cfg!(miri) { 4 } else { 20 };

    fn live(online_at: u32, deadline: u32) -> Live {
        Live { online_at: UnixSeconds::new(online_at), deadline: UnixSeconds::new(deadline) }
    }

    fn roster() -> Roster {
        let roster = Roster::new(42);
        for user in 0..USERS {
            roster.insert(UserId::new(user), User { live: LiveWord::of(live(1, 8)), ..User::default() });
        }
        roster
    }

    fn walked(roster: &Roster, mut visit: impl FnMut(&mut User)) -> Vec<i64> {
        let mut users = Vec::new();
        let is_empty = |shard| (0..USERS).all(|user| roster.shard_of(UserId::new(user)) != shard);
        for shard in (0..SHARDS).filter(|&shard| !cfg!(miri) || !is_empty(shard)) {
            roster.walk(shard, |user, known| {
                assert_eq!(roster.shard_of(user), shard);
                users.push(user.as_i64());
                visit(known);
            });
        }
        users
    }

    #[test]
    fn everybody_is_walked_once_and_can_be_changed_there() {
        let roster = roster();
        let mut walked = walked(&roster, |known| known.armed = 9);
        walked.sort_unstable();
        assert!(walked.into_iter().eq(0..USERS));
        for user in (0..USERS).map(UserId::new) {
            assert_eq!(roster.remove_if(user, |known| (true, known.armed)), Some(9));
        }
    }

    /// What Miri watches: the references given out on a walk are the only ones meanwhile, and nobody changes what is looked at.
    #[test]
    fn a_walk_a_look_and_heals_of_the_same_users_do_not_meet() {
        let roster = roster();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                (0..SHARDS)
                    .filter(|shard| !cfg!(miri) || shard % 64 == roster.shard_of(UserId::new(1)) % 64)
                    .for_each(|shard| {
                        let look = |_: UserId, known: &User| {
                            let live = known.live.load().map(|live| live.online_at);
                            assert_eq!(live, Some(UnixSeconds::new(1)));
                            seen += 1;
                        };
                        if shard % 128 < 64 {
                            roster.look(shard, look);
                        } else {
                            roster.look_at_timelines(shard, look);
                        }
                    });
                assert!(seen >= 1);
            });
            scope.spawn(|| walked(&roster, |known| known.armed += 1));
            scope.spawn(|| {
                for user in (0..USERS).map(UserId::new) {
                    assert_eq!(
                        roster.view(user, |known| known.live.extend(live(1, 8), live(1, 9))),
                        Some(true)
                    );
                }
            });
            scope.spawn(|| {
                for user in (0..USERS).map(UserId::new) {
                    roster.change(user, |known| known.armed += 1);
                }
            });
        });
        for user in (0..USERS).map(UserId::new) {
            let seen = roster.view(user, |known| (known.armed, known.live.load()));
            assert_eq!(seen, Some((2, Some(live(1, 9)))));
        }
    }
}

/// Where a user stands, or could.
pub(crate) enum Place<'a> {
    Known(&'a mut User),
    /// Put somebody in to add them. Left empty, nothing is added.
    New(&'a mut Option<User>),
}
