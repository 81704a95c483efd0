//! Files that somebody or something has changed: an engine does not start, or it starts with all that was synced and with
//! nothing that nobody had.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::NOON;
use common::folder::{SEGMENT_BYTES, Site, cut, flip, heal, set_synced_mark, slot_at};
use heartbeat::{Engine, OpenError, ReadError, Session, UserId};

/// So many of the slots are below the synced mark.
const SYNCED: u32 = 40;
const USERS: u32 = 60;
/// No start of so small a service takes so long: a loop would.
const PATIENCE: Duration = Duration::from_secs(10);

fn user(id: u32) -> UserId {
    UserId::new(i64::from(id) + 1)
}

/// Everybody's timelines.
fn timelines(engine: &Engine) -> BTreeMap<UserId, Vec<Session>> {
    let mut all = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut all));
    let mut timelines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (user, session) in all {
        timelines.entry(user).or_default().push(session);
    }
    timelines
}

/// A directory with one segment that has slots, and what the users have.
struct Scene {
    site: Site,
    file: PathBuf,
    before: BTreeMap<UserId, Vec<Session>>,
    /// What must be there in any case.
    synced: Vec<UserId>,
    /// Sessions that a user may have if later slots are lost.
    earlier: BTreeMap<UserId, Vec<Session>>,
}

impl Scene {
    /// Everybody heals once, and the first `SYNCED` are synced.
    fn journal() -> Self {
        let site = Site::new(NOON);
        let (engine, _) = site.open();
        for id in 0..USERS {
            heal(&engine, user(id));
        }
        let image = site.killed();
        for path in image.segments().iter().skip(1) {
            fs::remove_file(path).unwrap();
        }
        set_synced_mark(&image.segment(1), SYNCED);
        let before = timelines(&engine);
        let synced = (0..SYNCED).map(user).collect();
        Self { file: image.segment(1), site: image, earlier: before.clone(), before, synced }
    }

    /// Everybody is in a snapshot, the only one, and so is what happened before.
    fn snapshot() -> Self {
        let site = Site::new(NOON);
        let (engine, _) = site.open();
        for turn in 0..3 {
            for id in 0..12 {
                heal(&engine, user(id));
            }
            site.clock.advance(20 + turn);
        }
        engine.sweep();
        engine.snapshot().unwrap();
        let before = timelines(&engine);
        drop(engine);
        let synced = before.keys().copied().collect();
        Self { file: site.snapshot(1), site, earlier: before.clone(), before, synced }
    }

    /// Damages a copy, and opens it. Gives whether it started.
    fn try_with(&self, what: &str, damage: impl FnOnce(&Path)) -> bool {
        let image = self.site.killed();
        let file = image.path().join(self.file.file_name().unwrap());
        damage(&file);
        #[allow(clippy::disallowed_methods, reason = "how long it took")]
        let start = Instant::now();
        let opened = image.try_open();
        assert!(start.elapsed() < PATIENCE, "{what}");
        match opened {
            Ok((engine, _)) => {
                self.check(&timelines(&engine), what);
                true
            }
            Err(error) => {
                Self::check_error(&error, &file, what);
                false
            }
        }
    }

    fn check(&self, after: &BTreeMap<UserId, Vec<Session>>, what: &str) {
        for user in &self.synced {
            assert_eq!(after.get(user), self.before.get(user), "{what}: what was synced is lost");
        }
        for (user, sessions) in after {
            assert_eq!(Some(sessions), self.earlier.get(user), "{what}: nobody had that");
        }
    }

    /// It names the file and a place in it.
    fn check_error(error: &OpenError, file: &Path, what: &str) {
        match error {
            OpenError::Read(ReadError::Damaged(damage)) => {
                assert_eq!(damage.file, file, "{what}");
                assert!(damage.offset <= SEGMENT_BYTES, "{what}: {error}");
            }
            other => panic!("{what}: {other}"),
        }
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.file).unwrap().len()
    }
}

/// The first and the last 200, those around each place, and every `step`th.
fn places(length: u64, around: &[u64], step: u64) -> Vec<u64> {
    let is_near = |at: u64| around.iter().any(|&place| at.abs_diff(place) <= 30);
    (0..length).filter(|&at| at < 200 || at + 200 >= length || at % step == 0 || is_near(at)).collect()
}

fn boundaries() -> [u64; 5] {
    [4_096, 8_192, slot_at(SYNCED), slot_at(USERS), 4_104]
}

fn every_byte_of_the_journal(step: u64) {
    let scene = Scene::journal();
    for at in places(scene.length(), &boundaries(), step) {
        let starts = scene.try_with(&format!("byte {at}"), |file| flip(file, at));
        let is_synced = (slot_at(0)..slot_at(SYNCED)).contains(&at);
        let is_header = at < 4_096;
        assert_eq!(starts, !is_synced && !is_header, "byte {at}");
    }
}

fn every_length_of_the_journal(step: u64) {
    let scene = Scene::journal();
    for length in places(scene.length(), &boundaries(), step) {
        assert!(!scene.try_with(&format!("{length} bytes"), |file| cut(file, length)), "{length} bytes");
    }
}

fn every_byte_of_the_snapshot(step: u64) {
    let scene = Scene::snapshot();
    for at in places(scene.length(), &[60], step) {
        assert!(!scene.try_with(&format!("byte {at}"), |file| flip(file, at)), "byte {at}");
    }
}

fn every_length_of_the_snapshot(step: u64) {
    let scene = Scene::snapshot();
    for length in places(scene.length(), &[60], step) {
        assert!(!scene.try_with(&format!("{length} bytes"), |file| cut(file, length)), "{length} bytes");
    }
}

#[test]
fn undamaged_both_start() {
    assert!(Scene::journal().try_with("undamaged", |_| {}));
    assert!(Scene::snapshot().try_with("undamaged", |_| {}));
}

#[test]
fn no_changed_byte_of_a_segment_goes_unnoticed_where_it_matters() {
    every_byte_of_the_journal(37);
}

#[test]
fn no_cut_of_a_segment_goes_unnoticed() {
    every_length_of_the_journal(61);
}

#[test]
fn no_changed_byte_of_a_snapshot_goes_unnoticed() {
    every_byte_of_the_snapshot(7);
}

#[test]
fn no_cut_of_a_snapshot_goes_unnoticed() {
    every_length_of_the_snapshot(11);
}

#[test]
#[ignore = "long: every byte and every length"]
fn no_changed_byte_and_no_cut_goes_unnoticed() {
    every_byte_of_the_journal(1);
    every_length_of_the_journal(1);
    every_byte_of_the_snapshot(1);
    every_length_of_the_snapshot(1);
}
