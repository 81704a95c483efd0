//! Several threads on segments in ordinary memory, where Miri can watch: it tries orders in which the threads may run, and
//! values that an atomic may still have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use arc_swap::ArcSwap;

use super::Kind;
use super::mark::{Mark, MarkFound};
use super::segment::Segment;
use super::slot::{Found, Slot};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// Its fields all tell whose it is, so that a part of another one shows.
fn slot_of(user: u32) -> Slot {
    let seconds = |more| UnixSeconds::new(1_638_360_000 + user + more);
    Slot { kind: Kind::Live, user: UserId::new(user.into()), online_at: seconds(0), until: seconds(7) }
}

/// Whose slot stands there, once one does.
fn user_at(segment: &Segment, index: u32) -> Option<u32> {
    match segment.found(index) {
        Found::Empty => None,
        Found::Bad => panic!("half a slot at {index}"),
        Found::Slot(slot) => {
            let user = u32::try_from(slot.user.as_i64()).expect("slots here are of small numbers");
            assert_eq!(slot, slot_of(user));
            Some(user)
        }
    }
}

#[test]
fn whoever_sees_the_last_word_sees_the_others() {
    const EACH: u32 = 3;
    let segment = Segment::in_memory(1, 42, 2 * EACH);
    thread::scope(|scope| {
        for writer in 0..2 {
            let segment = &segment;
            scope.spawn(move || {
                assert!((0..EACH).all(|n| segment.append(slot_of(writer * EACH + n))));
            });
        }
        scope.spawn(|| {
            for index in 0..2 * EACH {
                while user_at(&segment, index).is_none() {
                    thread::yield_now();
                }
            }
        });
    });
    let mut users: Vec<_> = (0..2 * EACH).filter_map(|index| user_at(&segment, index)).collect();
    users.sort_unstable();
    assert!(users.into_iter().eq(0..2 * EACH), "each is there once");
}

/// The mark may be seen by nobody before the slots that it speaks of.
#[test]
fn below_the_synced_mark_every_slot_is_whole() {
    const SLOTS: u32 = 4;
    let segment = Segment::in_memory(1, 42, SLOTS);
    thread::scope(|scope| {
        for writer in 0..2 {
            let segment = &segment;
            scope.spawn(move || assert!((0..SLOTS / 2).all(|n| segment.append(slot_of(2 * n + writer)))));
        }
        // As the syncer does, with a disk that takes no time.
        scope.spawn(|| {
            let mut synced = 0;
            while synced < SLOTS {
                let committed = segment.committed_from(synced);
                assert!(committed >= synced);
                synced = committed;
                segment.set(Mark::Synced, synced);
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            let mut seen = 0;
            while seen < SLOTS {
                let mark = match segment.mark(Mark::Synced) {
                    MarkFound::Unset => 0,
                    MarkFound::Value(mark) => mark,
                    MarkFound::Unreadable => panic!("half a mark"),
                };
                assert!(mark >= seen);
                seen = mark;
                assert!((0..seen).all(|index| user_at(&segment, index).is_some()));
                thread::yield_now();
            }
        });
    });
}

#[test]
fn a_seal_counts_all_that_were_taken_before_it() {
    const CAPACITY: u32 = 6;
    let segment = Segment::in_memory(1, 42, CAPACITY);
    let taken = AtomicU32::new(0);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (segment, taken) = (&segment, &taken);
            scope.spawn(move || {
                for n in 0..CAPACITY {
                    if segment.append(slot_of(2 * n + writer)) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| segment.seal());
        }
    });
    let taken = taken.into_inner();
    assert!(segment.is_full());
    assert_eq!((segment.reserved(), segment.committed_from(0)), (taken, taken));
    assert!((0..CAPACITY).all(|index| user_at(&segment, index).is_some() == (index < taken)));
}

/// Writers go from segment to segment, as they are prepared, while somebody seals one early for a snapshot.
#[test]
fn while_segments_are_changed_every_slot_is_written_once() {
    const SLOTS: u32 = 6;
    let first = Arc::new(Segment::in_memory(1, 1, 2));
    let current = ArcSwap::new(Arc::clone(&first));
    let move_on = |full: &Arc<Segment>| match full.next() {
        Some(next) => drop(current.compare_and_swap(full, Arc::clone(next))),
        None => thread::yield_now(),
    };
    thread::scope(|scope| {
        for writer in 0..2 {
            let (current, move_on) = (&current, &move_on);
            scope.spawn(move || {
                for user in (0..SLOTS).filter(|user| user % 2 == writer) {
                    while !current.load().append(slot_of(user)) {
                        move_on(&current.load_full());
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut last = Arc::clone(&first);
            for number in 2..=5 {
                let next = Arc::new(Segment::in_memory(number, number, 2));
                last.set_next(Arc::clone(&next));
                last = next;
            }
        });
        scope.spawn(|| {
            let sealed = current.load_full();
            while sealed.next().is_none() {
                thread::yield_now();
            }
            sealed.seal();
            move_on(&sealed);
            assert!(current.load().number > sealed.number);
        });
    });
    let mut users = Vec::new();
    let mut segment = Some(&first);
    while let Some(looked_at) = segment {
        let reserved = looked_at.reserved();
        assert_eq!(looked_at.committed_from(0), reserved);
        users.extend((0..reserved).map(|index| user_at(looked_at, index).expect("committed")));
        segment = looked_at.next();
    }
    users.sort_unstable();
    assert!(users.into_iter().eq(0..SLOTS), "each is there once");
}
