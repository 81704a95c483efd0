//! `repair`: what a start refuses, it takes after a repair, and what is lost is what repair said would be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heartbeat::{
    DirectoryError, Disk, Engine, Loss, ManualClock, Mend, OpenError, ReadError, Recovery, Repair,
    RepairError, Session, UnixSeconds, UserId, Why, Work, verify,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    NOON, SEGMENT_BYTES, SLOTS_AT, SYNCED_AT, USERS, change, contents, copy_of, files, flip, run, stderr,
    stdout,
};

/// Other tests start processes, and each has our files open until it has become another program: a lock that we have given
/// back may be held for that long.
fn unlocked<R, E>(run: impl Fn() -> Result<R, E>, is_locked: impl Fn(&E) -> bool) -> Result<R, E> {
    loop {
        match run() {
            Err(error) if is_locked(&error) => std::thread::yield_now(),
            done => return done,
        }
    }
}

fn open(path: &Path, now: UnixSeconds) -> Result<(Engine, Recovery), OpenError> {
    let is_locked = |error: &OpenError| matches!(error, OpenError::Directory(DirectoryError::Locked { .. }));
    unlocked(|| super::open(path, now), is_locked)
}

fn repair(path: &Path, place: Option<&Path>, now: UnixSeconds) -> Result<Repair, RepairError> {
    unlocked(|| heartbeat::repair(path, place, now), is_locked)
}

fn repair_applied(path: &Path, place: Option<&Path>, now: UnixSeconds) -> Result<Repair, RepairError> {
    unlocked(|| heartbeat::repair_applied(path, place, now), is_locked)
}

fn is_locked(error: &RepairError) -> bool {
    matches!(error, RepairError::Directory(DirectoryError::Locked { .. }))
}

/// When each user's sessions began and ended. Whether the last one is closed yet depends on how long the service was away.
type Timelines = BTreeMap<UserId, Vec<(UnixSeconds, UnixSeconds)>>;

/// As [`super::directory`], with every segment that is ever prepared: snapshots 1 and 2, and the segments 2 (between the two), 3
/// (users 2 to 342, one slot each), 4 (users 343 to 500), and 5 and 6, without slots. All slots are below the mark.
fn directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), NOON).unwrap();
    engine.heal(user(-1)).unwrap();
    engine.snapshot().unwrap();
    engine.leave(user(-1)).unwrap();
    engine.heal(user(1)).unwrap();
    engine.snapshot().unwrap();
    for id in 1..=USERS {
        while engine.heal(user(id)).is_err() {
            std::thread::yield_now();
        }
    }
    while !folder.path().join("journal-0000000006.seg").exists() {
        std::thread::yield_now();
    }
    drop(engine);
    folder
}

fn timelines(engine: &Engine) -> Timelines {
    let mut all = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut all));
    let mut timelines = Timelines::new();
    for (user, session) in all {
        let Session { online_at, offline_at, .. } = session;
        timelines.entry(user).or_default().push((online_at, offline_at));
    }
    timelines
}

fn started(path: &Path, case: &str) -> Timelines {
    let (engine, _) = open(path, NOON).unwrap_or_else(|error| panic!("{case}: {error}"));
    timelines(&engine)
}

/// Everything about a file that somebody else could see.
type Seen = (PathBuf, Option<Vec<u8>>, i64, i64, u64);

fn seen(path: &Path) -> Vec<Seen> {
    let look = |path: PathBuf, bytes| {
        let found = fs::symlink_metadata(&path).unwrap();
        (path, bytes, found.mtime(), found.mtime_nsec(), found.ino())
    };
    let all = contents(path).into_iter().map(|(path, bytes)| look(path, bytes));
    std::iter::once(look(path.to_path_buf(), None)).chain(all).collect()
}

/// A dry run, which changes nothing, then the same with `--apply`, and then there is nothing to do.
fn mended(path: &Path, case: &str) -> Repair {
    let before = seen(path);
    let dry = repair(path, None, NOON).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(seen(path) == before, "{case}: a dry run changed something");
    assert!(dry.after.is_none());

    let mend = repair_applied(path, None, NOON).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(mend.mends, dry.mends, "{case}");
    let after = mend.after.as_ref().unwrap();
    assert!(mend.is_sound(), "{case}: {:?}, {:#?}", after.verdict, mend.mends);
    let complaints: Vec<_> = after.complaints().map(ToString::to_string).collect();
    assert!(complaints.is_empty(), "{case}: {complaints:?}, {:#?}", mend.mends);

    let again = repair_applied(path, None, NOON).unwrap();
    assert_eq!(again.mends, [], "{case}: it is not mended");
    mend
}

fn user(id: i64) -> UserId {
    UserId::new(id)
}

/// Users whose timelines are not what they were.
fn changed(before: &Timelines, after: &Timelines) -> BTreeSet<UserId> {
    let all = before.keys().chain(after.keys()).copied();
    all.filter(|user| before.get(user) != after.get(user)).collect()
}

struct Row {
    what: &'static str,
    damage: fn(&Path),
    is_refused: bool,
    loss: Loss,
    /// Whoever is not what they were.
    lost: std::ops::Range<i64>,
}

fn segment(path: &Path, at: usize) -> PathBuf {
    files(path, ".seg")[at].clone()
}

fn snapshot(path: &Path, at: usize) -> PathBuf {
    files(path, ".snap")[at].clone()
}

fn zero(path: &Path, places: std::ops::Range<usize>) {
    change(path, |bytes| bytes[places].fill(0));
}

const NOTHING: Loss = Loss { writes: 0, users: 0, outdated: 0, unknown_users: false, unknown_writes: false };
const NOBODY: std::ops::Range<i64> = 0..0;

const fn writes(writes: u64) -> Loss {
    Loss { writes, ..NOTHING }
}

const ROWS: &[Row] = &[
    Row {
        what: "a bad slot",
        damage: |path| flip(&segment(path, 1), SLOTS_AT),
        is_refused: true,
        loss: writes(1),
        lost: 2..3,
    },
    Row {
        what: "three empty slots below the mark",
        damage: |path| zero(&segment(path, 1), SLOTS_AT + 5 * 24..SLOTS_AT + 8 * 24),
        is_refused: true,
        loss: writes(3),
        lost: 7..10,
    },
    Row {
        what: "a header with a damaged number",
        damage: |path| flip(&segment(path, 1), 40),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a header with a damaged salt",
        damage: |path| flip(&segment(path, 1), 56),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a header's checksum",
        damage: |path| flip(&segment(path, 1), 4_094),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment without a header",
        damage: |path| zero(&segment(path, 2), 0..4_096),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment without a header, and a bad slot",
        damage: |path| {
            zero(&segment(path, 1), 0..4_096);
            flip(&segment(path, 1), SLOTS_AT + 24);
        },
        is_refused: true,
        loss: writes(1),
        lost: 3..4,
    },
    Row {
        what: "the header of a prepared segment",
        damage: |path| zero(&segment(path, 4), 0..4_096),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the header of the first prepared segment",
        damage: |path| zero(&segment(path, 3), 0..4_096),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment that is cut",
        damage: |path| change(&segment(path, 1), |bytes| bytes.truncate(SLOTS_AT + 24 * 100 + 5)),
        is_refused: true,
        loss: writes(241),
        lost: 102..343,
    },
    Row {
        what: "a segment that is cut within its header",
        damage: |path| change(&segment(path, 1), |bytes| bytes.truncate(5_000)),
        is_refused: true,
        loss: writes(341),
        lost: 2..343,
    },
    Row {
        what: "a segment that is too long",
        damage: |path| change(&segment(path, 1), |bytes| bytes.push(1)),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment that is missing",
        damage: |path| fs::remove_file(segment(path, 1)).unwrap(),
        is_refused: true,
        loss: writes(341),
        lost: 2..343,
    },
    Row {
        what: "the next one that is missing",
        damage: |path| fs::remove_file(segment(path, 2)).unwrap(),
        is_refused: true,
        loss: writes(341),
        lost: 343..USERS + 1,
    },
    Row {
        what: "all segments of the snapshot that are missing",
        damage: |path| files(path, ".seg").iter().for_each(|path| fs::remove_file(path).unwrap()),
        is_refused: true,
        loss: Loss { unknown_writes: true, ..NOTHING },
        lost: 2..USERS + 1,
    },
    Row {
        what: "a segment under another name",
        damage: |path| fs::rename(segment(path, 1), path.join("journal-0000000077.seg")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a second copy of a segment",
        damage: |path| _ = fs::copy(segment(path, 1), path.join("journal-0000000077.seg")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot under another name",
        damage: |path| fs::rename(snapshot(path, 1), path.join("snapshot-0000000077.snap")).unwrap(),
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment of another directory",
        damage: |path| _ = fs::copy(segment(directory().path(), 1), segment(path, 1)).unwrap(),
        is_refused: true,
        loss: writes(341),
        lost: 2..343,
    },
    Row {
        what: "a snapshot of another directory",
        damage: |path| {
            _ = fs::copy(snapshot(directory().path(), 1), path.join("snapshot-0000000009.snap")).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the newest snapshot, the one before being whole",
        damage: |path| flip(&snapshot(path, 1), 90),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the older snapshot",
        damage: |path| flip(&snapshot(path, 0), 90),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a segment that only the older snapshot needs",
        damage: |path| flip(&segment(path, 0), SLOTS_AT),
        is_refused: false,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the newest snapshot's header, and the journal before it is missing",
        damage: |path| {
            flip(&snapshot(path, 1), 20);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "the newest snapshot's header and its first segment's number in it",
        damage: |path| {
            zero(&snapshot(path, 1), 20..56);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot that is too long, and the journal before it is missing",
        damage: |path| {
            change(&snapshot(path, 1), |bytes| bytes.push(0));
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: NOTHING,
        lost: NOBODY,
    },
    Row {
        what: "a snapshot's footer, and the journal before it is missing",
        damage: |path| {
            change(&snapshot(path, 1), |bytes| *bytes.iter_mut().nth_back(30).unwrap() ^= 1);
            fs::remove_file(segment(path, 0)).unwrap();
        },
        is_refused: true,
        loss: Loss { unknown_users: true, ..NOTHING },
        lost: NOBODY,
    },
    Row {
        what: "both snapshots, beyond recognition",
        damage: |path| files(path, ".snap").iter().for_each(|path| zero(path, 0..70)),
        is_refused: true,
        loss: Loss { unknown_users: true, writes: 341, ..NOTHING },
        lost: NOBODY,
    },
    Row {
        what: "both snapshots, which are missing",
        damage: |path| files(path, ".snap").iter().for_each(|path| fs::remove_file(path).unwrap()),
        is_refused: true,
        loss: Loss { unknown_users: true, writes: 341, ..NOTHING },
        lost: NOBODY,
    },
];

#[test]
fn what_a_start_refuses_is_mended_and_the_loss_is_what_was_said() {
    let base = directory();
    let whole = started(copy_of(base.path()).path(), "whole");
    for Row { what, damage, is_refused, loss, lost } in ROWS {
        let copy = copy_of(base.path());
        damage(copy.path());
        let found = verify(copy.path(), NOON).unwrap();
        assert!(found.complaints().next().is_some(), "{what}: verify says nothing");
        assert_eq!(!found.is_sound(), *is_refused, "{what}");
        if *is_refused {
            assert!(open(copy.path(), NOON).is_err(), "{what}");
        }

        let mend = mended(copy.path(), what);
        assert_eq!(mend.loss(), *loss, "{what}: {:#?}", mend.mends);
        let lost: BTreeSet<_> = lost.clone().map(user).collect();
        let after = started(copy.path(), what);
        assert_eq!(changed(&whole, &after), lost, "{what}");
        assert!(lost.iter().all(|user| !after.contains_key(user)), "{what}");
        assert!(loss.unknown_writes || lost.len() as u64 <= loss.writes, "{what}");
    }
}

/// What was dropped or changed is there as it was.
#[test]
fn every_byte_that_repair_drops_is_in_the_quarantine() {
    let base = directory();
    for elsewhere in [false, true] {
        for Row { what, damage, .. } in ROWS {
            let copy = copy_of(base.path());
            damage(copy.path());
            let before = contents(copy.path());
            let place = tempfile::tempdir().unwrap();
            let place = if elsewhere { place.path().join("a/b") } else { copy.path().join("quarantine") };
            let mend = repair_applied(copy.path(), elsewhere.then_some(&place), NOON).unwrap();
            assert!(mend.is_sound(), "{what}: {:?}", mend.after.unwrap().verdict);
            assert_eq!(copy.path().join("quarantine").exists(), !elsewhere && place.exists(), "{what}");
            assert_none_is_lost(&before, &[copy.path(), &place], what);
        }
    }
}

fn assert_none_is_lost(before: &[(PathBuf, Option<Vec<u8>>)], folders: &[&Path], what: &str) {
    let there = folders.iter().filter(|folder| folder.exists());
    let now: Vec<_> = there.flat_map(|folder| contents(folder)).filter_map(|(_, bytes)| bytes).collect();
    for (path, bytes) in before {
        let bytes = bytes.as_ref().unwrap();
        assert!(now.contains(bytes), "{what}: {} is nowhere", path.display());
    }
}

/// One user after the other of a snapshot of which the older one's journal is missing.
#[test]
fn a_damaged_section_costs_its_users_what_the_older_snapshot_does_not_know() {
    let base = directory();
    let whole = started(copy_of(base.path()).path(), "whole");
    let bytes = fs::read(snapshot(base.path(), 1)).unwrap();
    let footer_at = length(&bytes, bytes.len() - 28);
    let (mut lost, mut outdated) = (0, 0);
    for at in (60..footer_at).step_by(7) {
        let copy = copy_of(base.path());
        flip(&snapshot(copy.path(), 1), at);
        fs::remove_file(segment(copy.path(), 0)).unwrap();
        let case = format!("byte {at}");
        let mend = mended(copy.path(), &case);
        let after = started(copy.path(), &case);
        let changed = changed(&whole, &after);
        let gone = changed.iter().filter(|user| !after.contains_key(user)).count() as u64;
        let said = mend.loss();
        assert_eq!(
            (said.users, said.outdated),
            (gone, changed.len() as u64 - gone),
            "{case}: {:#?}",
            mend.mends
        );
        assert!(!said.unknown_users && said.writes == 0, "{case}");
        assert!(changed.len() == 1, "{case}: {changed:?}");
        assert!(changed.is_subset(&BTreeSet::from([user(-1), user(1)])), "{case}: {changed:?}");
        lost += said.users;
        outdated += said.outdated;
    }
    assert!(lost > 0 && outdated > 0, "{lost} users lost, {outdated} outdated");
}

#[test]
fn a_segment_that_no_other_names_is_put_aside_with_its_slots() {
    let (one, other) = (directory(), tempfile::tempdir().unwrap());
    for path in files(one.path(), "") {
        fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
    }
    let heal = |path: &Path, id| open(path, NOON).unwrap().0.heal(user(id)).unwrap();
    heal(one.path(), 9_998);
    drop(open(other.path(), NOON).unwrap());
    heal(other.path(), 9_999);
    let has_slots = |path: &PathBuf| fs::read(path).unwrap()[SLOTS_AT..SLOTS_AT + 24] != [0; 24];
    let last = |path: &Path| files(path, ".seg").into_iter().rfind(has_slots).unwrap();
    let (unlinked, last) = (last(one.path()), last(other.path()));
    fs::copy(&last, one.path().join(last.file_name().unwrap())).unwrap();
    let before = started(copy_of(other.path()).path(), "other");

    let mend = mended(one.path(), "unlinked");
    let aside = Mend { path: unlinked, work: Work::PutAside(Why::Unlinked), loss: writes(1) };
    assert!(mend.mends.contains(&aside), "{:#?}", mend.mends);
    assert_eq!(mend.loss(), writes(1));
    assert_eq!(changed(&before, &started(one.path(), "unlinked")), BTreeSet::new());
}

#[test]
fn a_newer_version_and_a_journal_from_the_future_are_left_alone() {
    let copy = directory();
    change(&segment(copy.path(), 1), |bytes| {
        bytes[8] = 2;
        let sum = crc32fast::hash(&bytes[..4_092]);
        bytes[4_092..4_096].copy_from_slice(&sum.to_le_bytes());
    });
    let before = contents(copy.path());
    let error = repair_applied(copy.path(), None, NOON).unwrap_err();
    let RepairError::Beyond(why) = &error else { panic!("{error}") };
    assert!(matches!(**why, OpenError::Read(ReadError::NewerVersion { version: 2, .. })), "{error}");
    assert!(contents(copy.path()) == before);
    let output = run(&["repair", "--apply", copy.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("format version 2"), "{}", stderr(&output));

    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), UnixSeconds::new(u32::MAX - 100)).unwrap();
    engine.heal(user(1)).unwrap();
    drop(engine);
    let before = contents(folder.path());
    let output = run(&["repair", "--apply", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stdout(&output).contains("not to be mended: "), "{}", stdout(&output));
    assert!(stdout(&output).contains("--allow-future-journal"), "{}", stdout(&output));
    assert!(contents(folder.path()) == before);
}

#[test]
fn files_of_two_directories_in_equal_parts_are_nobodys() {
    let (one, other) = (directory(), directory());
    for path in files(one.path(), ".seg").iter().skip(2).chain(&files(one.path(), ".snap")[..1]) {
        fs::remove_file(path).unwrap();
    }
    for path in &files(other.path(), ".seg")[2..] {
        fs::copy(path, one.path().join(path.file_name().unwrap())).unwrap();
    }
    let before = contents(one.path());
    let error = repair_applied(one.path(), None, NOON).unwrap_err();
    assert!(matches!(error, RepairError::Mixed { .. }), "{error}");
    assert!(contents(one.path()) == before);
}

#[test]
fn links_are_not_followed() {
    let (copy, elsewhere) = (directory(), tempfile::tempdir().unwrap());
    flip(&segment(copy.path(), 1), SLOTS_AT);
    std::os::unix::fs::symlink(elsewhere.path(), copy.path().join("quarantine")).unwrap();
    let error = repair_applied(copy.path(), None, NOON).unwrap_err();
    assert!(matches!(error, RepairError::File(_)), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    let error = repair_applied(copy.path(), Some(copy.path()), NOON).unwrap_err();
    assert!(matches!(error, RepairError::File(_)), "{error}");
}

#[test]
fn repair_says_it_as_text_and_as_json() {
    let copy = directory();
    let path = copy.path().to_str().unwrap();
    let output = run(&["repair", path]);
    let nothing = "nothing to do: a start takes it as it is\n";
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), nothing));
    for at in [17, 18] {
        flip(&segment(copy.path(), 1), SLOTS_AT + at * 24);
    }

    let refused = run(&["serve", "--data-dir", path, "--listen", "127.0.0.1:0", "--segment-bytes", "16KiB"]);
    assert_eq!(refused.status.code(), Some(65));
    for command in ["verify", "repair"] {
        let command = format!("`heartbeat {command} {path}`");
        assert!(stderr(&refused).contains(&command), "{}", stderr(&refused));
    }

    let output = run(&["repair", path, "--json"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(65), String::new()));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&found["applied"], &found["sound"]), (&Value::Bool(false), &Value::Bool(false)));
    assert_eq!(found["mends"][0]["file"], "journal-0000000003.seg");
    assert_eq!(found["loss"]["writes"], 2);
    assert!(found["refusal"].as_str().unwrap().ends_with("the checksum of slot 17 does not match"));

    let told =
        "journal-0000000003.seg: slots 17 to 18 are unreadable and become void; lost: at most 2 writes\n";
    let output = run(&["repair", path]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stdout(&output).contains(&format!("to mend {told}")), "{}", stdout(&output));
    assert!(stdout(&output).contains("\nnothing was changed; --apply would do this"), "{}", stdout(&output));
    let output = run(&["repair", path, "--apply"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains(&format!("mended  {told}")), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("\nmended: a start takes it now; lost: at most 2 writes"),
        "{}",
        stdout(&output)
    );
    assert_eq!(run(&["repair", path]).status.code(), Some(0));
    assert_eq!(run(&["repair", path, "--apply", "--dry-run"]).status.code(), Some(2));
}

#[test]
fn repair_touches_nothing_that_is_in_use_and_makes_nothing_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let output = run(&["repair", "--apply", missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(74));
    assert!(!missing.exists());

    let (running, _) = super::restore::service(folder.path());
    for flags in [&["repair"][..], &["repair", "--apply"]] {
        let output = run(&[flags, &[folder.path().to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(75));
        let holder = format!("is in use by process {}", running.id());
        assert!(stderr(&output).contains(&holder), "{}", stderr(&output));
    }
}

/// A directory in which users come back and leave, and every state in which anybody has been.
struct Lives {
    folder: TempDir,
    now: UnixSeconds,
    whole: Timelines,
    /// User and beginning of every session that there ever was, and the latest end that it ever had.
    seen: BTreeMap<(UserId, UnixSeconds), UnixSeconds>,
}

const LIVES: i64 = 40;

impl Lives {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOON));
        let disk = Disk { segment_bytes: SEGMENT_BYTES, threads: 1, ..Disk::at(folder.path()) };
        let (engine, _) = Engine::builder().clock(clock.clone()).open(disk).unwrap();
        let mut seen = BTreeMap::new();
        let mut now = NOON;
        for turn in 0..36_u32 {
            for id in 0..LIVES {
                let lot = (id.unsigned_abs() * 7 + u64::from(turn) * 5) % 11;
                while lot < 7 && engine.heal(user(id)).is_err() || lot == 7 && engine.leave(user(id)).is_err()
                {
                    std::thread::yield_now();
                }
                for session in engine.timeline(user(id)) {
                    let end = seen.entry((user(id), session.online_at)).or_insert(session.offline_at);
                    *end = session.offline_at.max(*end);
                }
            }
            if turn == 12 || turn == 24 {
                engine.snapshot().unwrap();
            }
            clock.advance(3);
            now = now.plus(3);
        }
        drop(engine);
        let mut lives = Self { folder, now, whole: Timelines::new(), seen };
        lives.whole = lives.start(copy_of(lives.folder.path()).path(), "whole");
        lives
    }

    fn start(&self, path: &Path, case: &str) -> Timelines {
        let (engine, _) = open(path, self.now).unwrap_or_else(|error| panic!("{case}: {error}"));
        timelines(&engine)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn length(bytes: &[u8], at: usize) -> usize {
    usize::try_from(word(bytes, at)).unwrap()
}

/// The users in this part of a file, by the format's drawing; a cut is a part up to the end.
fn users_in(path: &Path, bytes: &[u8], part: std::ops::Range<usize>) -> BTreeSet<UserId> {
    let mut users = BTreeSet::new();
    if path.extension().unwrap() == "seg" {
        for at in (SLOTS_AT..bytes.len() - 23).step_by(24) {
            if at < part.end && at + 24 > part.start && bytes[at..at + 24] != [0; 24] {
                users.insert(UserId::new(word(bytes, at).cast_signed()));
            }
        }
        return users;
    }
    let sections = length(bytes, bytes.len() - 28);
    let mut at = 60;
    while at < sections {
        let end = at + 24 + length(bytes, at) + 4;
        let mut user = at + 24;
        while user < end - 4 {
            if at < part.end && end > part.start {
                users.insert(UserId::new(word(bytes, user).cast_signed()));
            }
            user += 24 + 8 * length(bytes, user + 16);
        }
        at = end;
    }
    users
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Damage in up to four files of a directory, of each a byte or the end.
fn random_damage(rounds: u32, seed: u64) {
    let lives = Lives::new();
    assert_eq!(lives.whole.len(), usize::try_from(LIVES).unwrap());
    let mut random = Random(seed);
    let (mut refused, mut lossless, mut hits) = (0, 0, 0);
    for round in 0..rounds {
        let copy = copy_of(lives.folder.path());
        let mut files = files(copy.path(), "");
        let (mut hit, mut case) = (BTreeSet::new(), format!("round {round}"));
        for _ in 0..=random.below(4) {
            let path = files.remove(random.below(files.len()));
            let bytes = fs::read(&path).unwrap();
            // Most of a segment is zeros: look where there is something.
            let length = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(10_000) };
            let at = random.below(length);
            let part = if random.below(6) == 0 {
                change(&path, |bytes| bytes.truncate(at));
                at..bytes.len()
            } else {
                change(&path, |bytes| bytes[at] ^= 1 << (at % 8));
                at..at + 1
            };
            case = format!("{case}, {} {part:?}", path.file_name().unwrap().display());
            // Without its first two pages a segment has nothing that could be told, and a snapshot without its header.
            let is_segment = path.extension().unwrap() == "seg";
            let part = if part.len() > 1 && part.start < if is_segment { SLOTS_AT } else { 60 } {
                0..bytes.len()
            } else {
                part
            };
            hit.extend(users_in(&path, &bytes, part));
        }
        refused += u32::from(!verify(copy.path(), lives.now).unwrap().is_sound());
        let mend =
            repair_applied(copy.path(), None, lives.now).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(mend.is_sound(), "{case}: {:?} {:#?}", mend.after.unwrap().verdict, mend.mends);
        let after = lives.start(copy.path(), &case);
        let changed = changed(&lives.whole, &after);
        assert!(changed.is_subset(&hit), "{case}: {changed:?} of {hit:?}, {:#?}", mend.mends);
        assert!(
            mend.loss() != NOTHING || changed.is_empty() || mend.mends.is_empty(),
            "{case}: {changed:?} {:#?}",
            mend.mends
        );
        for (user, sessions) in &after {
            for &(online_at, offline_at) in sessions {
                let end = lives.seen.get(&(*user, online_at));
                assert!(
                    end.is_some_and(|&end| offline_at <= end),
                    "{case}: nobody had {user:?} {online_at}: {:#?}",
                    mend.mends
                );
            }
        }
        lossless += u32::from(changed.is_empty());
        hits += u32::from(!changed.is_empty());
    }
    assert!(
        refused > rounds / 4 && lossless > rounds / 4 && hits > rounds / 20,
        "{refused} {lossless} {hits}"
    );
}

#[test]
fn after_any_damage_and_a_repair_it_starts_and_who_was_not_hit_is_unchanged() {
    random_damage(150, 0x5eed);
}

#[test]
#[ignore = "long: five thousand damaged directories"]
fn after_much_damage_and_a_repair_it_starts_and_who_was_not_hit_is_unchanged() {
    random_damage(5_000, 0xfeed);
}

#[test]
fn a_mark_that_is_damaged_stops_nothing() {
    let copy = directory();
    flip(&segment(copy.path(), 1), SYNCED_AT);
    let before = contents(copy.path());
    assert_eq!(repair_applied(copy.path(), None, NOON).unwrap().mends, []);
    assert!(contents(copy.path()) == before);
}
