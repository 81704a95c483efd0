//! Where files are put that a repair drops or changes: the directory's own `quarantine/`, or another place.
//!
//! Nothing leaves its old place before it is whole and synced in the new one. A copy gets its name last, so what has a name
//! there is complete; one that is there already with the same bytes will do, so a repair that was killed and is run again
//! does not fill the disk with copies.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::TEMPORARY;
use super::{
    Directory, FileError, QUARANTINE, create_folder, identity, is_taken, numbered, sync_folder, unused,
};
use crate::calls;

/// Bytes copied and compared at a time.
const PIECE_BYTES: usize = 1 << 20;

/// How long whoever puts something aside waits for another process that does, and for how long between two looks.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });
const ONCE_MORE: Duration = Duration::from_millis(10);

/// The folder; made when the first file comes into it.
#[derive(Debug)]
pub(crate) struct Quarantine<'a> {
    directory: &'a Directory,
    folder: PathBuf,
    is_elsewhere: bool,
}

impl<'a> Quarantine<'a> {
    /// `place` instead of the directory's own, if given.
    ///
    /// # Errors
    /// What is there is no folder, or it is the data directory itself.
    pub fn of(directory: &'a Directory, place: Option<&Path>) -> Result<Self, FileError> {
        let folder = place.map_or_else(|| directory.path.join(QUARANTINE), Path::to_path_buf);
        let refused = |why| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, why);
            Err(FileError::while_doing("put anything into", &folder)(source))
        };
        // A link in the data directory may lead anywhere; the one who names another place knows where it leads.
        let found = if place.is_some() { fs::metadata(&folder) } else { fs::symlink_metadata(&folder) };
        match found {
            Ok(found) if found.is_symlink() => return refused("it is a link, and those are not followed"),
            Ok(found) if !found.is_dir() => return refused("it is no folder"),
            Ok(found) if identity(&found) == directory.identity => {
                return refused("it is the data directory");
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::while_doing("look at", &folder)(error));
            }
            _ => {}
        }
        Ok(Self { directory, folder, is_elsewhere: place.is_some() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A copy of a file, synced and read back; where it is. `before_name` is asked when only the name is missing.
    pub fn keep_copy<E: From<FileError>>(
        &self,
        path: &Path,
        before_name: impl FnOnce() -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        self.directory.check_place()?;
        create_folder(&self.folder)?;
        // Others may put their files into the same place, under the same names.
        let _turn = self.turn()?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        if let Some(there) = self.same(path, name)? {
            // Whoever made it may have been killed before it was on disk.
            calls::sync_file(&open(&there)?).map_err(FileError::while_doing("sync", &there))?;
            sync_folder(&self.folder)?;
            return Ok(there);
        }
        let mut temporary = name.to_owned();
        temporary.push(TEMPORARY);
        let temporary = self.folder.join(temporary);
        // Removing what is not there fails, too, on a disk that is read-only, and would tell of a file that nobody knows.
        if is_taken(&temporary)? {
            super::remove_file(&temporary)?;
        }
        if let Err(error) = copy(path, &temporary) {
            // On a full disk half a copy only takes the room. If this fails, the next repair overwrites it.
            let _ = calls::remove(&temporary);
            return Err(error.into());
        }
        before_name()?;
        let aside = unused(&self.folder, name)?;
        calls::rename(&temporary, &aside).map_err(FileError::while_doing("rename", &temporary))?;
        sync_folder(&self.folder)?;
        Ok(aside)
    }

    /// Puts a file of the directory aside: moved, or copied and removed if the place is elsewhere. Where it is now.
    pub fn put_aside<E: From<FileError>>(
        &self,
        path: &Path,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        if !self.is_elsewhere {
            match self.directory.move_to_quarantine(path) {
                // A disk of its own is mounted there.
                Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {}
                moved => return Ok(moved?),
            }
        }
        let aside = self.keep_copy(path, &mut between)?;
        between()?;
        self.directory.remove([path])?;
        Ok(aside)
    }

    /// Nobody else puts anything there until this is dropped.
    ///
    /// # Errors
    /// Somebody else has been at it for [`PATIENCE`]: a start must not wait for ever for a repair that was stopped.
    fn turn(&self) -> Result<File, FileError> {
        let folder =
            calls::open_folder(&self.folder).map_err(FileError::while_doing("open", &self.folder))?;
        for _ in 0..PATIENCE.as_millis() / ONCE_MORE.as_millis() {
            match folder.try_lock() {
                Ok(()) => return Ok(folder),
                Err(TryLockError::Error(error)) => {
                    return Err(FileError::while_doing("lock", &self.folder)(error));
                }
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(ONCE_MORE),
            }
        }
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "another process puts files there");
        Err(FileError::while_doing("put anything into", &self.folder)(busy))
    }

    /// A file of that name, or with a number after it, that has the same bytes and is another one: with a second name of the file
    /// itself nothing would be kept.
    fn same(&self, path: &Path, name: &std::ffi::OsStr) -> Result<Option<PathBuf>, FileError> {
        let own = fs::symlink_metadata(path).map_err(FileError::while_doing("look at", path))?;
        for there in numbered(&self.folder, name) {
            if !is_taken(&there)? {
                break;
            }
            let is_another = |there: fs::Metadata| there.is_file() && identity(&there) != identity(&own);
            if fs::symlink_metadata(&there).is_ok_and(is_another) && is_same(path, &there)? {
                return Ok(Some(there));
            }
        }
        Ok(None)
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    calls::open_no_link(path).map_err(FileError::while_doing("open", path))
}

/// Synced, and read back.
fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = open(from)?;
    let found = source.metadata().map_err(FileError::while_doing("look at", from))?;
    let copy = File::options().write(true).create_new(true).open(to);
    let mut copy = copy.map_err(FileError::while_doing("create", to))?;
    // Nobody is to read there who could not read it here.
    copy.set_permissions(found.permissions()).map_err(FileError::while_doing("protect", to))?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match source.read(&mut piece).map_err(FileError::while_doing("read", from))? {
            0 => break,
            bytes => copy.write_all(&piece[..bytes]).map_err(FileError::while_doing("write", to))?,
        }
    }
    calls::sync_file(&copy).map_err(FileError::while_doing("sync", to))?;
    if is_same(from, to)? {
        return Ok(());
    }
    let differs = io::Error::new(io::ErrorKind::InvalidData, "it reads back differently");
    Err(FileError::while_doing("copy", from)(differs))
}

fn is_same(one: &Path, other: &Path) -> Result<bool, FileError> {
    let (mut left, mut right) = (open(one)?, open(other)?);
    let length = |file: &File, path| {
        file.metadata().map(|metadata| metadata.len()).map_err(FileError::while_doing("look at", path))
    };
    let mut rest = length(&left, one)?;
    if rest != length(&right, other)? {
        return Ok(false);
    }
    let mut pieces = [vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]];
    while rest > 0 {
        let bytes = usize::try_from(rest).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let [a, b] = &mut pieces;
        left.read_exact(&mut a[..bytes]).map_err(FileError::while_doing("read", one))?;
        right.read_exact(&mut b[..bytes]).map_err(FileError::while_doing("read", other))?;
        if a[..bytes] != b[..bytes] {
            return Ok(false);
        }
        rest -= bytes as u64;
    }
    Ok(true)
}
