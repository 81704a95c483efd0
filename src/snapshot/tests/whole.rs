//! What is written comes back, and is what it always was.

use super::*;

#[test]
fn what_is_written_is_what_is_read() {
    let (folder, directory) = open_directory();
    let written = write(&directory, &golden_shards(), &[GOLDEN_OUTAGE]);
    assert_eq!(
        written,
        Written {
            number: 3,
            path: folder.path().join("snapshot-0000000003.snap"),
            bytes: 348,
            users: 3,
            sessions: 3
        }
    );

    let snapshot = Snapshot::open(&written.path).unwrap();
    assert_eq!(snapshot.header(), &HEADER);
    assert_eq!(snapshot.engine_time(), second(1_638_360_003));
    assert_eq!((snapshot.users(), snapshot.sessions(), snapshot.bytes()), (3, 3, 348));
    assert_eq!(snapshot.outages(), [GOLDEN_OUTAGE]);
    assert_eq!(snapshot.path(), written.path);
    assert_eq!(
        snapshot.sections(),
        [
            Section { offset: 60, bytes: 72, shard: 0, users: 2, sessions: 3 },
            Section { offset: 160, bytes: 24, shard: 1_023, users: 1, sessions: 0 },
        ]
    );
    assert_eq!(read(&snapshot), [(0, ana_and_bo()), (1_023, vec![(i64::MIN, 0, vec![])])]);
    snapshot.verify().unwrap();
}

/// The golden file was not made by the code under test.
#[test]
fn version_1_is_what_it_always_was() {
    let (_folder, directory) = open_directory();
    let written = write(&directory, &golden_shards(), &[GOLDEN_OUTAGE]);
    assert_eq!(fs::read(written.path).unwrap(), GOLDEN);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/snapshot-v1.snap");
    let snapshot = Snapshot::open(&golden).unwrap();
    assert_eq!(read(&snapshot), [(0, ana_and_bo()), (1_023, vec![(i64::MIN, 0, vec![])])]);
}

#[test]
fn a_snapshot_of_nobody_is_one() {
    let (_folder, directory) = open_directory();
    let written = write(&directory, &[(0, vec![])], &[]);
    assert_eq!((written.bytes, written.users, written.sessions), (60 + 36 + 28, 0, 0));

    let snapshot = Snapshot::open(&written.path).unwrap();
    assert_eq!((snapshot.users(), snapshot.sections().len(), snapshot.outages().len()), (0, 0, 0));
    snapshot.verify().unwrap();
}

#[test]
fn a_shard_too_large_for_a_section_has_several() {
    let (_folder, directory) = open_directory();
    // 524,288 users of 32 bytes fill a section.
    let users: Vec<User> = (0..524_289).map(|user| (user, 0, vec![lapsed(NOON, 7)])).collect();
    let written = write(&directory, &[(5, users.clone()), (6, ana_and_bo())], &[]);

    let snapshot = Snapshot::open(&written.path).unwrap();
    let sections: Vec<_> =
        snapshot.sections().iter().map(|section| (section.shard, section.users, section.bytes)).collect();
    assert_eq!(sections, [(5, 524_288, 16_777_216), (5, 1, 32), (6, 2, 72)]);
    let read = read(&snapshot).into_iter().flat_map(|(_, users)| users);
    assert!(read.eq(users.into_iter().chain(ana_and_bo())), "other users came back");
}

#[test]
fn a_user_too_large_for_a_section_has_one_alone() {
    let (_folder, directory) = open_directory();
    let closed = (0..2_097_200).map(|session| lapsed(session * 10, 7)).collect();
    let users = vec![(1, 0, vec![]), (2, live(NOON, NOON + 7), closed), (3, 0, vec![])];
    let written = write(&directory, &[(0, users.clone())], &[]);

    let snapshot = Snapshot::open(&written.path).unwrap();
    let sections: Vec<_> = snapshot.sections().iter().map(|section| (section.users, section.bytes)).collect();
    assert_eq!(sections, [(1, 24), (1, 16_777_624), (1, 24)]);
    assert!(read(&snapshot).into_iter().flat_map(|(_, users)| users).eq(users), "other users came back");
}

#[test]
fn sections_are_read_by_several_threads_at_once() {
    let (_folder, directory) = open_directory();
    let shards: Vec<_> = (0..8).map(|shard| (shard, vec![(i64::from(shard), 0, vec![7])])).collect();
    let snapshot = Snapshot::open(&write(&directory, &shards, &[]).path).unwrap();

    std::thread::scope(|scope| {
        let all = [(); 4].map(|()| scope.spawn(|| read(&snapshot)));
        for each in all {
            assert_eq!(each.join().unwrap(), shards);
        }
    });
}

#[test]
fn sessions_may_touch_and_be_empty() {
    let (_folder, directory) = open_directory();
    let users = vec![
        (1, live(100, 107), vec![lapsed(80, 10), left(90, 10)]),
        (2, live(107, 107), vec![left(100, 0), lapsed(100, 7)]),
        (3, live(u64::from(u32::MAX), u64::from(u32::MAX)), vec![lapsed(0, 7)]),
    ];
    let written = write(&directory, &[(0, users.clone())], &[]);
    assert_eq!(read(&Snapshot::open(&written.path).unwrap()), [(0, users)]);
}

pub(super) fn any_user() -> impl Strategy<Value = User> {
    let sessions = proptest::collection::vec((0..100_000_u64, 0..10_000_u64, any::<bool>()), 0..12);
    let live_seconds = proptest::option::of((0..1_000_u64, 1..100_u64));
    (any::<i64>(), live_seconds, sessions).prop_map(|(user, live_seconds, sessions)| {
        let mut free_from = 1_600_000_000;
        let mut closed = Vec::new();
        for (gap, seconds, is_left) in sessions {
            let online_at = free_from + gap;
            closed.push(if is_left { left(online_at, seconds) } else { lapsed(online_at, seconds) });
            free_from = online_at + seconds;
        }
        let live = live_seconds.map_or(0, |(gap, seconds)| live(free_from + gap, free_from + gap + seconds));
        (user, live, closed)
    })
}

proptest! {
    #[test]
    fn any_users_come_back(
        shards in proptest::collection::vec(
            (any::<u32>(), proptest::collection::vec(any_user(), 1..20)), 0..6),
        outages in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..4),
    ) {
        let (_folder, directory) = open_directory();
        let outages: Vec<_> = outages.iter().map(|&(from, to)| (second(from), second(to))).collect();
        let written = write(&directory, &shards, &outages);
        let snapshot = Snapshot::open(&written.path).unwrap();

        prop_assert_eq!(snapshot.outages(), outages);
        prop_assert_eq!(read(&snapshot), shards);
        prop_assert_eq!(written.bytes, fs::metadata(written.path).unwrap().len());
    }
}
