//! What has happened, for whoever follows it: a ring of the latest transitions.
//!
//! A transition is a user who comes online, or whose session is over. It is published under the user's exclusive guard, after
//! what it tells has been done, so the order of one user's transitions is exact. Publishing waits for nobody: not for readers,
//! of whom the ring knows nothing, and not for another publisher.
//!
//! ```text
//!   sequence     41   42   43   44   45              tail = 45: so many have been reserved
//!                ├────┼────┼────┼────┼────┤
//!   slot          1    2    3    0    1              of a ring of 4: 45 has taken the slot of 41
//!   stamp        gone  84   86   87   90             2 × sequence when written, odd while it is being written
//!                                ▲
//!                     44 is not there yet: a reader stops before it, and publishers go on
//! ```
//!
//! A reader keeps its own place, and is told ([`Overrun`]) when the ring has gone past it. A publisher that finds its slot still
//! being written by one of a lap before gives its event up, and readers before it are overrun: nobody misses an event without
//! being told.
//!
//! The stamp is looked at before and after the words beside it. Each word is stored with release and loaded with acquire order,
//! so whoever reads a word of a later event finds a later stamp behind it.

use std::hash::{BuildHasher, RandomState};

use crossbeam::utils::CachePadded;

use super::Engine;
use super::figures::Counts;
use crate::session::Status;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{UnixSeconds, pack, unpack};
use crate::user_id::UserId;

/// What has become of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A session has opened, or one that was left has been reopened in the same second.
    Online,
    /// The session is over because nobody healed.
    Lapsed,
    /// It is over because the user left.
    Left,
    /// It is over because the user was forgotten.
    Forgotten,
}

impl Change {
    /// What the user is from then on.
    pub const fn status(self) -> Status {
        match self {
            Self::Online => Status::Online,
            Self::Lapsed | Self::Left | Self::Forgotten => Status::Offline,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Online => 0,
            Self::Lapsed => 1,
            Self::Left => 2,
            Self::Forgotten => 3,
        }
    }

    const fn numbered(number: u32) -> Self {
        match number {
            0 => Self::Online,
            1 => Self::Lapsed,
            2 => Self::Left,
            _ => Self::Forgotten,
        }
    }
}

/// One transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its place among all, from 1.
    pub sequence: u64,
    /// Whose.
    pub user: UserId,
    /// The second in which the session began, or the one in which it ended: for a lapsed one its deadline, which has passed
    /// when it is told.
    pub at: UnixSeconds,
    /// What it is.
    pub change: Change,
}

/// What comes next is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("older events than those that are held")]
pub struct Overrun;

/// The latest transitions; see [`Builder::events_held`](super::Builder::events_held).
pub struct Events {
    slots: Box<[Slot]>,
    /// Sequences up to this one have been reserved.
    tail: CachePadded<AtomicU64>,
    /// So many have been written, or given up.
    done: CachePadded<AtomicU64>,
    /// The latest sequence that was given up: whoever is before it may miss it.
    given_up: AtomicU64,
    generation: u64,
}

#[derive(Default)]
struct Slot {
    stamp: AtomicU64,
    user: AtomicU64,
    /// The second, and the number of the change.
    what: AtomicU64,
}

/// What stands in a slot for a sequence.
enum Seen {
    Event(Event),
    NotYet,
    Gone,
}

impl Events {
    /// `None` for none.
    pub(super) fn held(count: usize) -> Option<Self> {
        (count > 0).then(|| Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            tail: CachePadded::default(),
            done: CachePadded::default(),
            given_up: AtomicU64::new(0),
            // Different in each engine, also in one process.
            generation: RandomState::new().hash_one(count),
        })
    }

    /// A number of this engine's own, at random: sequences of another engine mean nothing here.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The sequence of the latest transition; 0 if there was none. It may be under way still.
    pub fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Appends what came after the sequence `after`, in order, at most `most`. Stops before one that is still being written.
    ///
    /// # Errors
    /// [`Overrun`] if some of it is not held any more.
    pub fn read(&self, after: u64, most: usize, into: &mut Vec<Event>) -> Result<(), Overrun> {
        let last = self.tail().min(after.saturating_add(most as u64));
        for sequence in after.saturating_add(1)..=last {
            match self.see(sequence) {
                Seen::Event(event) => into.push(event),
                Seen::NotYet => break,
                Seen::Gone => return Err(Overrun),
            }
        }
        Ok(())
    }

    fn see(&self, sequence: u64) -> Seen {
        let slot = self.slot(sequence);
        let stamp = slot.stamp.load(Ordering::Acquire);
        if stamp < 2 * sequence {
            // Who gives up says so last, so it is looked at last.
            let is_given_up = self.given_up.load(Ordering::Acquire) >= sequence;
            return if is_given_up { Seen::Gone } else { Seen::NotYet };
        }
        let (user, what) = (slot.user.load(Ordering::Acquire), slot.what.load(Ordering::Acquire));
        if stamp > 2 * sequence || slot.stamp.load(Ordering::Acquire) != stamp {
            return Seen::Gone;
        }
        let (at, change) = unpack(what);
        Seen::Event(Event {
            sequence,
            user: UserId::new(user.cast_signed()),
            at,
            change: Change::numbered(change.as_u32()),
        })
    }

    fn slot(&self, sequence: u64) -> &Slot {
        let slots = self.slots.len() as u64;
        &self.slots[usize::try_from((sequence - 1) % slots).expect("it is less than a length")]
    }

    fn reserve(&self) -> u64 {
        self.tail.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn write(&self, event: Event) {
        let slot = self.slot(event.sequence);
        if slot.claim(event.sequence) {
            slot.user.store(event.user.as_i64().cast_unsigned(), Ordering::Release);
            slot.what.store(pack(event.at, UnixSeconds::new(event.change.number())), Ordering::Release);
            slot.stamp.store(2 * event.sequence, Ordering::Release);
        } else {
            self.given_up.fetch_max(event.sequence, Ordering::AcqRel);
        }
        self.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl Slot {
    /// False if another publisher is writing here, or one of a later lap has been here.
    fn claim(&self, sequence: u64) -> bool {
        let mut stamp = self.stamp.load(Ordering::Acquire);
        while stamp.is_multiple_of(2) && stamp < 2 * sequence {
            match self.stamp.compare_exchange(stamp, 2 * sequence - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(found) => stamp = found,
            }
        }
        false
    }
}

impl Engine {
    /// The latest transitions; `None` if the engine was told to hold none.
    ///
    /// A heal that extends a session is none. That a session has lapsed is told when it is swept, in second deadline + grace + 1,
    /// or before the next session of its user.
    pub fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    /// What the latest transition of `user` says: online from then on until the session is told to be over. In the seconds between
    /// a deadline and the sweep this differs from [`Engine::status`]: a heal may extend the session still, and then nothing is
    /// told.
    pub fn announced(&self, user: UserId) -> Status {
        let is_live = self.roster.view(user, |known| known.live.load().is_some());
        if is_live.unwrap_or(false) { Status::Online } else { Status::Offline }
    }

    /// How many the transitions up to a sequence say to be online, and that sequence. `None` while transitions are under way: to be
    /// asked again.
    pub fn announced_online(&self) -> Option<(u64, u64)> {
        let events = self.events()?;
        // A transition is reserved, counted, and done. If as many had been done before the count was read as are reserved
        // afterwards, none was under way meanwhile.
        let done = events.done.load(Ordering::Acquire);
        let online = self.counts.online();
        (events.tail() == done).then_some((online, done))
    }

    /// Counts a transition, and publishes it. Under the user's exclusive guard, after what it tells has been done.
    pub(super) fn announce(
        &self,
        user: UserId,
        change: Change,
        at: UnixSeconds,
        count: impl FnOnce(&Counts),
    ) {
        let Some(events) = &self.events else { return count(&self.counts) };
        let sequence = events.reserve();
        count(&self.counts);
        events.write(Event { sequence, user, at, change });
    }
}

#[cfg(all(test, not(shuttle)))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::time::{ManualClock, UnixSeconds};

    const ROUNDS: u64 = if cfg!(miri) { 30 } else { 100_000 };

    fn publish(events: &Events, user: i64) -> u64 {
        let sequence = events.reserve();
        let at = UnixSeconds::new(u32::try_from(user.unsigned_abs() % 1_000).unwrap());
        events.write(Event { sequence, user: UserId::new(user), at, change: Change::Left });
        sequence
    }

    fn read(events: &Events, after: u64, most: usize) -> Result<Vec<i64>, Overrun> {
        let mut into = Vec::new();
        events.read(after, most, &mut into)?;
        Ok(into.into_iter().map(|event| event.user.as_i64()).collect())
    }

    #[test]
    fn what_was_published_is_read_until_the_ring_has_gone_past_it() {
        let events = Events::held(3).unwrap();
        assert_eq!(read(&events, 0, 9), Ok(vec![]));
        for user in [i64::MIN, -1, 7] {
            publish(&events, user);
        }
        assert_eq!(read(&events, 0, 9), Ok(vec![i64::MIN, -1, 7]));
        assert_eq!(read(&events, 1, 1), Ok(vec![-1]));
        publish(&events, 8);
        assert_eq!(read(&events, 0, 9), Err(Overrun));
        assert_eq!(read(&events, 1, 9), Ok(vec![-1, 7, 8]));
        assert_eq!(read(&events, 4, 9), Ok(vec![]));
        assert_eq!(read(&events, u64::MAX, 9), Ok(vec![]));
    }

    #[test]
    fn what_is_still_being_written_holds_readers_and_no_publisher() {
        let events = Events::held(3).unwrap();
        publish(&events, 1);
        let sequence = events.reserve();
        publish(&events, 3);
        assert_eq!((events.tail(), read(&events, 0, 9)), (3, Ok(vec![1])));

        let event = Event { sequence, user: UserId::new(2), at: UnixSeconds::new(0), change: Change::Online };
        events.write(event);
        assert_eq!(read(&events, 0, 9), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn one_whose_slot_is_being_written_since_a_lap_is_given_up_and_readers_are_told() {
        let events = Events::held(2).unwrap();
        let stalled = events.reserve();
        assert!(events.slot(stalled).claim(stalled));
        publish(&events, 2);
        publish(&events, 3);
        publish(&events, 4);
        assert_eq!(read(&events, 2, 9), Err(Overrun), "the third was given up");
        assert_eq!(read(&events, 3, 9), Ok(vec![4]));
    }

    /// Counted, and not yet to be read; or reserved, and not yet counted.
    #[test]
    fn how_many_are_online_is_not_said_while_a_transition_is_under_way() {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_638_360_000)));
        let engine = Engine::builder().clock(clock).events_held(10).build();
        let events = engine.events().unwrap();
        assert_eq!(engine.announced_online(), Some((0, 0)));
        let sequence = events.reserve();
        assert_eq!(engine.announced_online(), None);
        engine.counts.opened(false);
        assert_eq!(engine.announced_online(), None);
        events.write(Event { sequence, user: UserId::new(1), at: engine.now(), change: Change::Online });
        assert_eq!(engine.announced_online(), Some((1, 1)));
    }

    #[test]
    fn two_engines_have_two_generations() {
        let generation = || Events::held(1).unwrap().generation();
        assert_ne!(generation(), generation());
    }

    /// What Miri watches, too.
    #[test]
    fn readers_beside_publishers_read_each_event_whole_once_and_in_order_or_are_told() {
        let events = Events::held(16).unwrap();
        let is_over = AtomicBool::new(false);
        let read = || {
            let (mut at, mut latest, mut into) = (0, [0; 3], Vec::new());
            let mut is_last = false;
            while !is_last {
                is_last = is_over.load(Ordering::SeqCst);
                into.clear();
                let tail = events.tail();
                match events.read(at, 8, &mut into) {
                    Ok(()) => at += into.len() as u64,
                    Err(Overrun) => at = tail,
                }
                for event in &into {
                    let user = event.user.as_i64();
                    assert_eq!(i64::from(event.at.as_u32()), user % 1_000, "torn");
                    let of = usize::try_from(user % 3).unwrap();
                    assert!(user > latest[of], "{user} after {}", latest[of]);
                    latest[of] = user;
                }
            }
        };
        std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..3_u64)
                .map(|of| {
                    let events = &events;
                    scope.spawn(move || {
                        for round in 1..ROUNDS {
                            publish(events, i64::try_from(3 * round + of).unwrap());
                        }
                    })
                })
                .collect();
            scope.spawn(read);
            scope.spawn(read);
            for publisher in publishers {
                assert!(publisher.join().is_ok());
            }
            is_over.store(true, Ordering::SeqCst);
        });
        assert_eq!(events.tail(), 3 * (ROUNDS - 1));
    }
}

/// Under the checker that tries interleavings.
#[cfg(all(test, shuttle))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
mod interleavings {
    use std::sync::Arc;

    use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
    use shuttle::{Config, Runner, thread};

    use super::*;

    const ITERATIONS: usize = 20_000;
    const EACH: u32 = 3;

    fn publish(events: &Events, user: i64, at: u32) {
        let sequence = events.reserve();
        let change = Change::numbered(at % 4);
        events.write(Event { sequence, user: UserId::new(user), at: UnixSeconds::new(at), change });
    }

    /// Reads on from `at`; who is overrun goes on behind what had been reserved before.
    fn read(events: &Events, at: &mut u64, seen: &mut Vec<Event>) {
        let (tail, before) = (events.tail(), seen.len());
        match events.read(*at, 4, seen) {
            Ok(()) => *at += (seen.len() - before) as u64,
            Err(Overrun) => *at = (*at + (seen.len() - before) as u64 + 1).max(tail),
        }
    }

    fn run() {
        let events = Arc::new(Events::held(2).unwrap());
        let publishers = [1, 2].map(|user| {
            let events = Arc::clone(&events);
            thread::spawn(move || (1..=EACH).for_each(|at| publish(&events, user, at)))
        });
        let reader = thread::spawn({
            let events = Arc::clone(&events);
            move || {
                let (mut at, mut seen) = (0, Vec::new());
                (0..5).for_each(|_| read(&events, &mut at, &mut seen));
                (at, seen)
            }
        });
        for publisher in publishers {
            publisher.join().unwrap();
        }
        let (mut at, mut seen) = reader.join().unwrap();
        // Nobody writes any more: whoever is not overrun reads to the end.
        let total = 2 * u64::from(EACH);
        for _ in 0..=total {
            read(&events, &mut at, &mut seen);
        }
        assert_eq!((at, events.tail(), events.done.load(Ordering::SeqCst)), (total, total, total));
        assert!(seen.windows(2).all(|two| two[0].sequence < two[1].sequence), "{seen:?}");
        for user in [1, 2] {
            let of_user: Vec<_> = seen.iter().filter(|event| event.user.as_i64() == user).collect();
            assert!(of_user.windows(2).all(|two| two[0].at < two[1].at), "{seen:?}");
        }
        for event in &seen {
            assert_eq!(event.change.number(), event.at.as_u32() % 4, "torn: {event:?}");
            assert!((1..=EACH).contains(&event.at.as_u32()) && (1..=2).contains(&event.user.as_i64()));
        }
    }

    /// Torn ones show, because publishers differ in both words; lost ones, because the reader comes to the end or is told.
    #[test]
    fn two_publishers_and_a_reader_on_a_ring_of_two() {
        for scheduler in [
            Box::new(RandomScheduler::new(ITERATIONS)) as Box<dyn Scheduler + Send>,
            Box::new(PctScheduler::new(3, ITERATIONS)),
        ] {
            Runner::new(scheduler, Config::new()).run(run);
        }
    }
}
