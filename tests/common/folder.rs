//! A data directory as a crash leaves it, and what can be done to its files.
//!
//! The journal's place for every number is written down here once more, from the format's drawing and not from its code.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heartbeat::{
    Builder, DirectoryError, Disk, Durability, Engine, Heal, ManualClock, OpenError, Recovery, Refusal,
    UnixSeconds, UserId, WriteError,
};
use tempfile::TempDir;

use super::{ANA, BO};

pub const CARL: UserId = UserId::new(7);

/// The shortest segments there are.
pub const SEGMENT_BYTES: u64 = 16 << 10;
/// Slots in one of them.
pub const SLOTS: u32 = 341;
pub const SYNCED_AT: u64 = 4_096;
pub const ALIVE_AT: u64 = 4_104;
pub const SLOTS_AT: u64 = 8_192;
pub const SLOT_BYTES: u64 = 24;

/// A data directory and the clock of those who work in it.
pub struct Site {
    pub folder: TempDir,
    pub clock: Arc<ManualClock>,
    pub builder: Builder,
    pub durability: Durability,
    pub restart_grace: bool,
}

impl Site {
    /// In `process`, so that the synced mark stays where it is while the engine lives.
    pub fn new(now: u32) -> Self {
        Self {
            folder: tempfile::tempdir().expect("there is room for a test's files"),
            clock: Arc::new(ManualClock::at(UnixSeconds::new(now))),
            builder: Engine::builder(),
            durability: Durability::Process,
            restart_grace: true,
        }
    }

    /// Everything that is acknowledged is below the synced mark.
    pub fn synced(now: u32) -> Self {
        Self { durability: Durability::Always, ..Self::new(now) }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn disk(&self) -> Disk {
        Disk {
            segment_bytes: SEGMENT_BYTES,
            durability: self.durability,
            restart_grace: self.restart_grace,
            threads: 1,
            ..Disk::at(self.path())
        }
    }

    pub fn try_open(&self) -> Result<(Engine, Recovery), OpenError> {
        self.builder.clone().clock(self.clock.clone()).open(self.disk())
    }

    pub fn open(&self) -> (Engine, Recovery) {
        unlocked(|| self.try_open()).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// Why it does not open.
    pub fn refused(&self) -> OpenError {
        self.try_open().err().expect("it must not open")
    }

    /// What a `kill -9` would leave now: the files as they are, whoever has them open.
    pub fn killed(&self) -> Self {
        use heartbeat::Clock;
        let image = Self {
            builder: self.builder.clone(),
            durability: self.durability,
            restart_grace: self.restart_grace,
            ..Self::new(self.clock.now().as_u32())
        };
        copy(self.path(), image.path());
        image
    }

    /// The segments, by number.
    pub fn segments(&self) -> Vec<PathBuf> {
        self.named("journal-", ".seg")
    }

    /// The snapshots, by number.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        self.named("snapshot-", ".snap")
    }

    pub fn segment(&self, number: u64) -> PathBuf {
        self.path().join(format!("journal-{number:010}.seg"))
    }

    pub fn snapshot(&self, number: u64) -> PathBuf {
        self.path().join(format!("snapshot-{number:010}.snap"))
    }

    /// Until the journal's thread has prepared it.
    pub fn wait_for_segment(&self, number: u64) {
        while !self.segment(number).exists() {
            std::thread::yield_now();
        }
    }

    /// The numbers of the segments.
    pub fn numbers(&self) -> Vec<u64> {
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.split_once('-')?.1.parse().ok();
        self.segments().iter().filter_map(number).collect()
    }

    fn named(&self, start: &str, end: &str) -> Vec<PathBuf> {
        let mut paths = files(self.path());
        paths.retain(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(start) && name.ends_with(end))
        });
        paths
    }
}

/// Where other tests start processes: each has our files open until it has become another program, and a lock that we have given
/// back may be held for that long.
pub fn unlocked(
    open: impl Fn() -> Result<(Engine, Recovery), OpenError>,
) -> Result<(Engine, Recovery), OpenError> {
    loop {
        match open() {
            Err(OpenError::Directory(DirectoryError::Locked { .. })) => std::thread::yield_now(),
            done => return done,
        }
    }
}

/// The regular files of a folder, by name.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Copies the files of one folder into another. Those that vanish meanwhile are left out.
pub fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        if let Some(name) = file.file_name() {
            match fs::copy(&file, to.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }
}

/// Ana, Bo and Carl are in slots 0, 1 and 2 of segment 1; 2 and 3 are ready.
pub fn three_heals(site: &Site) -> Engine {
    let (engine, _) = site.open();
    for user in [ANA, BO, CARL] {
        assert_eq!(engine.heal(user), Ok(Heal::Opened));
    }
    site.wait_for_segment(3);
    engine
}

/// Writes, and waits if the next segment is not ready yet.
pub fn patiently<R>(write: impl Fn() -> Result<R, WriteError>) -> R {
    loop {
        match write() {
            Ok(result) => return result,
            Err(WriteError::Journal(Refusal::NoRoom)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn heal(engine: &Engine, user: UserId) -> Heal {
    patiently(|| engine.heal(user))
}

pub fn slot_at(index: u32) -> u64 {
    SLOTS_AT + u64::from(index) * SLOT_BYTES
}

pub fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("the file is there");
    file.write_all_at(bytes, offset).expect("it can be written");
}

pub fn read(path: &Path, offset: u64, bytes: &mut [u8]) {
    let file = File::open(path).expect("the file is there");
    file.read_exact_at(bytes, offset).expect("it is long enough");
}

/// Changes some bits of one byte.
pub fn flip(path: &Path, offset: u64) {
    let mut byte = [0];
    read(path, offset, &mut byte);
    overwrite(path, offset, &[byte[0] ^ 0x41]);
}

pub fn cut(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).expect("the file is there");
    file.set_len(length).expect("it can be cut");
}

fn word(path: &Path, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    read(path, offset, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// How many slots are synced, by the segment's own account.
pub fn synced_mark(path: &Path) -> u64 {
    word(path, SYNCED_AT) >> 32
}

/// Makes the segment say that so many slots are synced.
pub fn set_synced_mark(path: &Path, slots: u32) {
    set_mark(path, SYNCED_AT, 1, slots);
}

/// Makes the segment say that the service was up in this second.
pub fn set_alive(path: &Path, second: u32) {
    set_mark(path, ALIVE_AT, 2, second);
}

fn set_mark(path: &Path, at: u64, which: u32, value: u32) {
    let (number, salt) = (word(path, 40), word(path, 56));
    let mut sum = crc32fast::Hasher::new();
    sum.update(&which.to_le_bytes());
    sum.update(&value.to_le_bytes());
    sum.update(&salt.to_le_bytes());
    sum.update(&number.to_le_bytes());
    overwrite(path, at, &(u64::from(value) << 32 | u64::from(sum.finalize())).to_le_bytes());
}

/// Changes a segment's header so that it still vouches for itself.
pub fn rewrite_header(path: &Path, change: impl FnOnce(&mut [u8])) {
    let mut page = [0; 4_096];
    read(path, 0, &mut page);
    change(&mut page[..4_092]);
    let sum = crc32fast::hash(&page[..4_092]);
    page[4_092..].copy_from_slice(&sum.to_le_bytes());
    overwrite(path, 0, &page);
}
