//! `repair`: what a start refuses, it takes after a repair, and what is lost is what repair said would be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use heartbeat::{
    ChainError, DirectoryError, Engine, Loss, Mend, OpenError, ReadError, Recovery, Repair, RepairError,
    Session, UnixSeconds, UserId, Why, Work,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{NOON, SLOTS_AT, SYNCED_AT, USERS, change, contents, copy_of, files, flip, run, stderr, stdout};

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

pub fn open(path: &Path, now: UnixSeconds) -> Result<(Engine, Recovery), OpenError> {
    let is_locked = |error: &OpenError| matches!(error, OpenError::Directory(DirectoryError::Locked { .. }));
    unlocked(|| super::open(path, now), is_locked)
}

pub fn repair(path: &Path, place: Option<&Path>, now: UnixSeconds) -> Result<Repair, RepairError> {
    unlocked(|| heartbeat::repair(path, place, now), is_locked)
}

pub fn repair_applied(path: &Path, place: Option<&Path>, now: UnixSeconds) -> Result<Repair, RepairError> {
    unlocked(|| heartbeat::repair_applied(path, place, now), is_locked)
}

fn is_locked(error: &RepairError) -> bool {
    matches!(error, RepairError::Directory(DirectoryError::Locked { .. }))
}

/// When each user's sessions began and ended. Whether the last one is closed yet depends on how long the service was away.
pub type Timelines = BTreeMap<UserId, Vec<(UnixSeconds, UnixSeconds)>>;

/// As [`super::directory`], with every segment that is ever prepared: snapshots 1 and 2, and the segments 2 (between the two), 3
/// (users 2 to 342, one slot each), 4 (users 343 to 500), and 5 and 6, without slots. All slots are below the mark.
pub fn directory() -> TempDir {
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

pub fn timelines(engine: &Engine) -> Timelines {
    let mut all = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut all));
    let mut timelines = Timelines::new();
    for (user, session) in all {
        let Session { online_at, offline_at, .. } = session;
        timelines.entry(user).or_default().push((online_at, offline_at));
    }
    timelines
}

pub fn started(path: &Path, case: &str) -> Timelines {
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
pub fn mended(path: &Path, case: &str) -> Repair {
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

pub fn user(id: i64) -> UserId {
    UserId::new(id)
}

/// Users whose timelines are not what they were.
pub fn changed(before: &Timelines, after: &Timelines) -> BTreeSet<UserId> {
    let all = before.keys().chain(after.keys()).copied();
    all.filter(|user| before.get(user) != after.get(user)).collect()
}

pub fn segment(path: &Path, at: usize) -> PathBuf {
    files(path, ".seg")[at].clone()
}

pub fn snapshot(path: &Path, at: usize) -> PathBuf {
    files(path, ".snap")[at].clone()
}

pub const NOTHING: Loss =
    Loss { writes: 0, users: 0, outdated: 0, foreign: 0, unknown_users: false, unknown_writes: false };

pub const fn writes(writes: u64) -> Loss {
    Loss { writes, ..NOTHING }
}

pub fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn length(bytes: &[u8], at: usize) -> usize {
    usize::try_from(word(bytes, at)).unwrap()
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

/// `verify` went by the snapshot that a start would begin from, and `repair` by most of the files: one named ours, the other theirs,
/// and what was put aside was called no loss.
#[test]
fn verify_and_repair_say_the_same_of_files_of_two_directories() {
    let (one, other) = (directory(), directory());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let kept = ["snapshot-0000000002.snap", "journal-0000000003.seg", "journal-0000000004.seg"];
    for path in files(one.path(), "").iter().filter(|path| !kept.contains(&&*name(path))) {
        fs::remove_file(path).unwrap();
    }
    for path in files(other.path(), "").iter().filter(|path| !kept.contains(&&*name(path))) {
        fs::copy(path, one.path().join(name(path))).unwrap();
    }
    let foreign_by_verify: BTreeSet<_> = heartbeat::verify(one.path(), NOON)
        .unwrap()
        .complaints()
        .filter_map(|complaint| match complaint {
            OpenError::Chain(ChainError::Foreign { file, .. }) => Some(name(file)),
            _ => None,
        })
        .collect();
    let dry = repair(one.path(), None, NOON).unwrap();
    let is_foreign = |mend: &&Mend| matches!(mend.work, Work::PutAside(Why::Foreign(_)));
    let foreign_by_repair: BTreeSet<_> =
        dry.mends.iter().filter(is_foreign).map(|mend| name(&mend.path)).collect();
    assert_eq!(foreign_by_verify, kept.map(str::to_owned).into());
    assert_eq!(foreign_by_repair, foreign_by_verify);
    assert_eq!(dry.loss().foreign, 3);
    assert!(dry.mends.iter().filter(is_foreign).all(|mend| !mend.loss.is_nothing()));
    assert!(dry.loss().to_string().contains("all in 3 files of another directory"), "{}", dry.loss());
    let refusal = open(one.path(), NOON).err().unwrap().to_string();
    assert!(kept.iter().any(|kept| refusal.contains(kept)), "{refusal}");
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

/// A second name of the file itself keeps nothing: it changes with it.
#[test]
fn a_hard_link_in_the_quarantine_is_no_copy() {
    let copy = directory();
    flip(&segment(copy.path(), 1), SLOTS_AT);
    let place = tempfile::tempdir().unwrap();
    let path = segment(copy.path(), 1);
    let link = place.path().join(path.file_name().unwrap());
    fs::hard_link(&path, &link).unwrap();
    let damaged = fs::read(&path).unwrap();

    let mend = repair_applied(copy.path(), Some(place.path()), NOON).unwrap();
    assert!(mend.is_sound());
    let kept = contents(place.path());
    assert!(kept.iter().any(|(there, bytes)| *there != link && bytes.as_ref() == Some(&damaged)));
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
#[test]
fn a_mark_that_is_damaged_stops_nothing() {
    let copy = directory();
    flip(&segment(copy.path(), 1), SYNCED_AT);
    let before = contents(copy.path());
    assert_eq!(repair_applied(copy.path(), None, NOON).unwrap().mends, []);
    assert!(contents(copy.path()) == before);
}
