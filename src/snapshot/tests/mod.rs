//! Files of version 1 as they are, as they are damaged, and as somebody could forge them with checksums that match.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::damage::{Damage, Flaw, Part, ReadError};
use crate::directory::Directory;
use crate::user_id::UserId;

mod damaged;
mod differential;
mod forged;
mod measured;
mod unfinished;
mod whole;

type User = (i64, u64, Vec<u64>);

const HEADER: Header = Header {
    directory: DirectoryId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    number: 3,
    first_segment: 12,
    ttl: Ttl::DEFAULT,
    grace_seconds: 2,
};

const fn second(seconds: u32) -> UnixSeconds {
    UnixSeconds::new(seconds)
}

const NOON: u64 = 1_638_360_000;

fn live(online_at: u64, deadline: u64) -> u64 {
    online_at << 32 | deadline
}

fn lapsed(online_at: u64, seconds: u64) -> u64 {
    online_at << 32 | seconds
}

fn left(online_at: u64, seconds: u64) -> u64 {
    online_at << 32 | 1 << 31 | seconds
}

fn open_directory() -> (TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    (folder, directory)
}

fn copied(users: &[User]) -> Copied {
    let mut copied = Copied::default();
    for (user, live, closed) in users {
        copied.push(UserId::new(*user), *live, closed.iter().copied());
    }
    copied
}

fn write(directory: &Directory, shards: &[(u32, Vec<User>)], outages: &[Outage]) -> Written {
    let mut writer = Writer::create(directory, HEADER).unwrap();
    for (shard, users) in shards {
        writer.write_shard(*shard, &copied(users)).unwrap();
    }
    writer.finish(second(1_638_360_003), outages).unwrap()
}

/// Every section's shard and users.
fn read(snapshot: &Snapshot) -> Vec<(u32, Vec<User>)> {
    let sections = snapshot.sections().iter().enumerate();
    let read = sections.map(|(index, section)| {
        let mut users = Vec::new();
        let visit = |user: UserId, live, closed: &[u64]| users.push((user.as_i64(), live, closed.to_vec()));
        snapshot.read_section(index, visit).unwrap();
        (section.shard, users)
    });
    read.collect()
}

fn ana_and_bo() -> Vec<User> {
    vec![
        (12_345, live(NOON, NOON + 10), vec![lapsed(1_638_350_000, 60), left(1_638_355_000, 5)]),
        (-1, 0, vec![left(NOON, 0)]),
    ]
}

/// What the golden file holds: two users in shard 0, one in the last.
fn golden_shards() -> Vec<(u32, Vec<User>)> {
    vec![(0, ana_and_bo()), (1, vec![]), (1_023, vec![(i64::MIN, 0, vec![])])]
}

const GOLDEN_OUTAGE: Outage = (second(1_638_351_000), second(1_638_351_030));
const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/snapshot-v1.snap");

/// A file to be changed in place.
struct Changed {
    _folder: TempDir,
    path: PathBuf,
}

impl Changed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.snap");
        Self { _folder: folder, path }
    }

    fn verify(&self, bytes: &[u8]) -> Result<(), ReadError> {
        fs::write(&self.path, bytes).unwrap();
        Snapshot::open(&self.path)?.verify()
    }

    /// Where it is damaged; a file that is not, or of which something else is said, fails the test.
    fn damage(&self, bytes: &[u8]) -> Damage {
        match self.verify(bytes) {
            Err(ReadError::Damaged(damage)) => {
                assert_eq!(damage.file, self.path);
                damage
            }
            other => panic!("{other:?}"),
        }
    }

    fn flaw(&self, bytes: &[u8]) -> (u64, Flaw) {
        let damage = self.damage(bytes);
        (damage.offset, damage.flaw)
    }
}
