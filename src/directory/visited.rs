//! A data directory that is looked at from outside: nothing is made, nothing is locked, so a service may be using it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Contents, FileError, FileSystem, Holder, QUARANTINE, file_system_of, lock};
use crate::calls;

/// The folder. What lies in it may change at any time.
#[derive(Debug)]
pub(crate) struct Visited {
    path: PathBuf,
    folder: File,
}

impl Visited {
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let folder = calls::open_folder(path).map_err(FileError::while_doing("open", path))?;
        Ok(Self { path: path.into(), folder })
    }

    pub fn list(&self) -> Result<Contents, FileError> {
        Contents::of(&self.path)
    }

    pub fn file_system(&self) -> Result<FileSystem, FileError> {
        file_system_of(&self.folder, &self.path)
    }

    /// Who has locked the folder, if anybody has.
    ///
    /// The lock is asked for shared, and if it is given, given back at once: whoever holds it notices nothing, and only
    /// somebody who asks for it in that very moment would be refused. `/proc/locks` alone would do without, but shows nobody who
    /// runs in another container.
    pub fn holder(&self) -> Result<Option<Holder>, FileError> {
        lock::holder_if_locked(&self.folder, &self.path)
    }

    /// What recovery and repair have put aside, by name.
    pub fn quarantine(&self) -> Result<Vec<PathBuf>, FileError> {
        let quarantine = self.path.join(QUARANTINE);
        let cannot_list = |source| FileError::while_doing::<io::Error>("list", &quarantine)(source);
        let entries = match fs::read_dir(&quarantine) {
            Err(none) if matches!(none.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries.map_err(cannot_list)?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(cannot_list));
        let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
        paths.sort_unstable();
        Ok(paths)
    }
}
