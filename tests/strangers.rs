//! Files in the data directory that somebody else has put there, and a directory that somebody has moved: nothing of ours is lost
//! over it, and nothing of theirs.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::folder::{Site, files, heal};
use common::{ANA, BO, NOON, ttl};
use heartbeat::{
    ChainError, Engine, OpenError, Refusal, SnapshotError, SnapshotPlan, Snapshotter, UnixSeconds, UserId,
    WriteError, verify,
};

fn user(id: i64) -> UserId {
    UserId::new(id)
}

/// Users 1 to `users`, in snapshots 1 and 2 and the journal.
fn two_generations(site: &Site, users: i64) {
    let (engine, _) = site.open();
    for id in 1..=users {
        heal(&engine, user(id));
    }
    engine.snapshot().unwrap();
    heal(&engine, ANA);
    engine.snapshot().unwrap();
    heal(&engine, BO);
}

fn copy(from: &Path, to: &Path) {
    assert!(!to.exists());
    fs::copy(from, to).unwrap();
}

/// What a start refuses, `verify` names: the same file for the same reason.
fn refused(site: &Site) -> OpenError {
    let error = site.refused();
    let verified = verify(site.path(), UnixSeconds::new(NOON)).unwrap();
    let said: Vec<_> = verified.complaints().map(ToString::to_string).collect();
    assert!(!verified.is_sound() && said.contains(&error.to_string()), "{error}: {said:?}");
    error
}

/// Pruning used to keep the highest numbers, whatever they were, and to remove the snapshot that had just been taken.
#[test]
fn a_file_with_a_higher_number_does_not_cost_us_the_snapshot_just_taken() {
    for forgets in [false, true] {
        let site = Site::new(NOON);
        let (engine, _) = site.open();
        for id in 1..=400 {
            heal(&engine, user(id));
        }
        engine.snapshot().unwrap();
        let stranger = site.snapshot(9);
        fs::write(&stranger, "").unwrap();
        if forgets {
            engine.forget(user(5)).unwrap();
        }
        for number in 2..=4 {
            engine.snapshot().unwrap();
            assert!(stranger.exists());
            let (_, recovery) = site.killed().open();
            let users = if forgets { 399 } else { 400 };
            assert_eq!((recovery.snapshot, recovery.users), (Some(number), users));
        }
    }
}

#[test]
fn generations_of_another_directory_are_refused_and_nothing_is_removed() {
    for (number, of) in [(1, "both"), (2, "the newest"), (9, "a newer one")] {
        let (site, other) = (Site::new(NOON), Site::new(NOON));
        two_generations(&site, 10);
        two_generations(&other, 20);
        let place = site.snapshot(number);
        let aside = fs::read(&place).ok();
        let _ = fs::remove_file(&place);
        if number == 9 {
            copy(&other.snapshot(2), &place);
        } else {
            copy(&other.snapshot(number), &place);
        }
        let before = files(site.path());
        let error = refused(&site);
        match number {
            9 => assert!(matches!(error, OpenError::Chain(_)), "{of}: {error}"),
            _ => assert!(matches!(error, OpenError::Chain(ChainError::Foreign { .. })), "{of}: {error}"),
        }
        assert_eq!(files(site.path()), before);

        // Put right, it starts.
        fs::remove_file(&place).unwrap();
        if let Some(bytes) = aside {
            fs::write(&place, bytes).unwrap();
        }
        assert_eq!(site.open().1.users, 12);
    }
}

/// It is not needed, and it was removed without a word.
#[test]
fn a_segment_of_another_directory_is_refused_also_where_none_is_needed() {
    let (site, other) = (Site::new(NOON), Site::new(NOON));
    two_generations(&site, 1_000);
    let (engine, _) = other.open();
    heal(&engine, ANA);
    drop(engine);
    let place = site.segment(1);
    copy(&other.segment(1), &place);

    let error = refused(&site);
    assert!(
        matches!(&error, OpenError::Chain(ChainError::Foreign { file, .. }) if *file == place),
        "{error}"
    );
    assert!(place.exists());
}

#[test]
fn a_snapshot_under_another_number_is_refused() {
    let site = Site::new(NOON);
    two_generations(&site, 10);
    copy(&site.snapshot(1), &site.snapshot(5));
    let error = refused(&site);
    assert!(
        matches!(&error, OpenError::Chain(ChainError::Misnamed { file, number: 1 }) if *file == site.snapshot(5)),
        "{error}"
    );
}

/// The lock is on the folder: in its old place another service may be at work.
#[test]
fn a_directory_that_is_moved_while_in_use_takes_no_writes_and_touches_no_other() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let site = Site::new(NOON);
    let open = || {
        let disk = heartbeat::Disk { path: path.clone(), ..site.disk() };
        Engine::builder().clock(site.clock.clone()).open(disk).unwrap()
    };
    let (first, _) = open();
    for id in 1..=1_000 {
        heal(&first, user(id));
    }
    first.snapshot().unwrap();
    first.snapshot().unwrap();
    let moved = parent.path().join("moved");
    fs::rename(&path, &moved).unwrap();

    let (second, _) = open();
    for id in 1..=1_000 {
        heal(&second, user(-id));
    }
    while first.refusal() != Some(Refusal::Displaced) {
        std::thread::yield_now();
    }
    assert_eq!(first.heal(ANA), Err(WriteError::Journal(Refusal::Displaced)));
    drop(second); // its preparer renames the next segment whenever it is ready
    let theirs = files(&path);
    let refused = first.snapshot();
    assert!(matches!(refused, Err(SnapshotError::Journal(Refusal::Displaced))), "{refused:?}");
    assert_eq!(files(&path), theirs);
    drop(first);

    for (folder, id) in [(&path, -1_000), (&moved, 1_000)] {
        let disk = heartbeat::Disk { path: folder.clone(), ..site.disk() };
        let (engine, recovery) = Engine::builder().clock(site.clock.clone()).open(disk).unwrap();
        assert_eq!(recovery.users, 1_000, "{}", folder.display());
        assert!(engine.profile(user(id)).is_some());
    }
}

#[test]
fn a_directory_that_comes_back_takes_writes_again() {
    let parent = tempfile::tempdir().unwrap();
    let (path, aside) = (parent.path().join("data"), parent.path().join("aside"));
    let site = Site::new(NOON);
    let disk = heartbeat::Disk { path: path.clone(), ..site.disk() };
    let (engine, _) = Engine::builder().clock(site.clock.clone()).open(disk).unwrap();
    fs::rename(&path, &aside).unwrap();
    while engine.refusal() != Some(Refusal::Displaced) {
        std::thread::yield_now();
    }
    fs::rename(&aside, &path).unwrap();
    while engine.refusal().is_some() {
        std::thread::yield_now();
    }
    heal(&engine, ANA);
    engine.snapshot().unwrap();
}

/// Whoever has been dropped by retention is known to the disk all the same.
#[test]
fn a_user_whom_retention_has_dropped_can_be_forgotten() {
    let id = ANA.as_i64().to_le_bytes();
    let knows = |folder: &Path| {
        // A segment that is being prepared has another name a moment later, and nobody in it.
        let read = |path| fs::read(path).unwrap_or_default();
        files(folder).iter().any(|path| read(path).windows(8).any(|window| window == id))
    };
    for takes_snapshot in [false, true] {
        let mut site = Site::new(NOON);
        site.builder = Engine::builder().ttl(ttl(1)).retain_seconds(1);
        let (engine, _) = site.open();
        heal(&engine, ANA);
        if takes_snapshot {
            engine.snapshot().unwrap();
        }
        site.clock.advance(10);
        engine.sweep();
        assert_eq!(engine.profile(ANA), None, "retention has dropped her");
        assert!(knows(site.path()));

        assert_eq!(engine.forget(ANA), Ok(0));
        assert_eq!(engine.figures().users, 0);
        if takes_snapshot {
            heal(&engine, BO);
            engine.snapshot().unwrap();
            assert!(!knows(site.path()));
        }
        drop(engine);
        site.builder = Engine::builder().ttl(ttl(1));
        assert_eq!(site.open().0.profile(ANA), None, "she has come back");
    }
}

/// Takes a file out of the directory that is in use, in one of the ways in which people do.
type Taking = fn(&Path);

/// Slots went on into a file that no start would find, and each of them was acknowledged.
#[test]
fn a_segment_that_is_removed_while_in_use_takes_no_writes_and_a_snapshot_replaces_it() {
    let remove: Taking = |path| fs::remove_file(path).unwrap();
    let move_away: Taking = |path| fs::rename(path, path.with_extension("old")).unwrap();
    let replace: Taking = |path| {
        let copied = path.with_extension("copy");
        fs::copy(path, &copied).unwrap();
        fs::rename(copied, path).unwrap();
    };
    for (taking, taken) in
        [(remove, &[1][..]), (remove, &[2]), (remove, &[1, 2, 3]), (move_away, &[1]), (replace, &[1])]
    {
        let site = Site::synced(NOON);
        let (engine, _) = site.open();
        heal(&engine, ANA);
        site.wait_for_segment(3);
        for &number in taken {
            taking(&site.segment(number));
        }
        while engine.refusal() != Some(Refusal::Removed) {
            std::thread::yield_now();
        }
        assert_eq!(engine.heal(BO), Err(WriteError::Journal(Refusal::Removed)));

        engine.snapshot().unwrap();
        heal(&engine, BO);
        let (after, _) = site.killed().open();
        assert!(after.profile(ANA).is_some() && after.profile(BO).is_some(), "{taken:?}");
    }
}

#[test]
fn a_removed_segment_is_replaced_without_being_asked() {
    let site = Site::new(NOON);
    let engine = Arc::new(site.open().0);
    let plan = SnapshotPlan { interval: Duration::from_secs(24 * 60 * 60), journal_bytes: 1 << 30 };
    let _snapshotter = Snapshotter::start(Arc::clone(&engine), plan, |_| {}).unwrap();
    heal(&engine, ANA);
    site.wait_for_segment(3);
    fs::remove_file(site.segment(1)).unwrap();
    while engine.last_snapshot().is_none() {
        std::thread::yield_now();
    }
    heal(&engine, BO);
    assert_eq!(site.killed().open().1.users, 2);
}
