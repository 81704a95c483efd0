//! One process at a time in a data directory, and who it is.
//!
//! The lock is on the folder itself, so that it needs no file and can be taken on a full disk. The kernel releases it when
//! the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

use super::{DirectoryError, FileError, Holder};

/// Locks an open folder for as long as it stays open.
pub(super) fn lock(folder: &File, path: &Path) -> Result<(), DirectoryError> {
    match folder.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(DirectoryError::Locked { path: path.into(), holder: holder(folder) })
        }
        Err(TryLockError::Error(source)) => Err(FileError::while_doing("lock", path)(source).into()),
    }
}

/// Who has locked an open folder, if anybody has.
pub(super) fn holder_if_locked(folder: &File, path: &Path) -> Result<Option<Holder>, FileError> {
    match folder.try_lock_shared() {
        Ok(()) => folder.unlock().map(|()| None).map_err(FileError::while_doing("unlock", path)),
        Err(TryLockError::WouldBlock) => Ok(Some(Holder(holder(folder)))),
        Err(TryLockError::Error(source)) => Err(FileError::while_doing("lock", path)(source)),
    }
}

/// The process that holds the lock. Not to be had from inside a container if the holder is outside, or where the file
/// system tells the device differently.
fn holder(folder: &File) -> Option<u32> {
    let folder = folder.metadata().ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(folder.st_dev()), minor(folder.st_dev()), folder.st_ino());
    (0..LOOKS).find_map(|_| holder_in(&all_locks().ok()?, &place))
}

/// The kernel gives the list in pieces and finds its place again by counting lines, so when somebody releases a lock
/// between two pieces, a line is passed over. So look again before saying that nobody can be seen.
const LOOKS: usize = 8;

/// Asks for as much at once as the kernel gives: `fs::read_to_string` would begin with a few bytes, the file's length being 0.
fn all_locks() -> io::Result<String> {
    let mut locks = String::with_capacity(64 << 10);
    File::open("/proc/locks")?.read_to_string(&mut locks)?;
    Ok(locks)
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF`; whoever waits has `->` before `FLOCK`.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok().filter(|&pid| pid != 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_holder_is_whose_lock_is_on_this_very_place() {
        let locks = "\
            1: POSIX  ADVISORY  WRITE 11 fe:00:131074 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 22 fe:00:131075 0 EOF\n\
            3: FLOCK  ADVISORY  WRITE 33 fe:00:131074 0 EOF\n\
            3: -> FLOCK  ADVISORY  WRITE 44 fe:00:131074 0 EOF\n\
            4: FLOCK  ADVISORY  WRITE 0 00:1a:7 0 EOF\n";

        assert_eq!(holder_in(locks, "fe:00:131074"), Some(33));
        assert_eq!(holder_in(locks, "fe:00:131076"), None);
        assert_eq!(holder_in(locks, "00:1a:7"), None, "a process of another namespace has no number here");
    }

    #[test]
    fn the_holder_is_found_while_others_lock_and_release() {
        let folder = tempfile::tempdir().unwrap();
        let held = File::open(folder.path()).unwrap();
        held.try_lock().unwrap();

        for others in [1, 200] {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| lock_and_release(others, &stop));
                }
                let missed = (0..1_000).filter(|_| holder(&held) != Some(std::process::id())).count();
                stop.store(true, Ordering::Relaxed);
                assert_eq!(missed, 0, "{others} other locks");
            });
        }
    }

    fn lock_and_release(files: usize, stop: &AtomicBool) {
        let files: Vec<_> = (0..files).map(|_| tempfile::tempfile().unwrap()).collect();
        while !stop.load(Ordering::Relaxed) {
            for file in &files {
                file.try_lock().unwrap();
            }
            for file in &files {
                file.unlock().unwrap();
            }
        }
    }
}
