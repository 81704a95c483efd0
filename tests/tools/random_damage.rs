//! After any damage and a repair the service starts, and whoever was not in the damaged places is as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use heartbeat::{Disk, Engine, ManualClock, UnixSeconds, UserId, verify};
use tempfile::TempDir;

use super::repair::{NOTHING, Timelines, changed, length, open, repair_applied, timelines, user, word};
use super::{NOON, SEGMENT_BYTES, SLOTS_AT, change, copy_of, files};

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
