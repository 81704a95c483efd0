//! The data directory: whose it is, what lies in it, and how a file comes into it and goes.
//!
//! ```text
//!   journal-0000000007.seg          a segment; the number counts from 1 and may grow beyond ten digits
//!   snapshot-0000000003.snap        a snapshot
//!   snapshot-0000000004.snap.tmp    one being written, or left by a crash
//!   quarantine/                     what recovery and repair have put aside
//!   README.md · .* · lost+found     not ours to judge
//! ```
//!
//! A [`Directory`] holds the lock of its folder, so whatever it finds there is its own until it is dropped. Here names are
//! known, and nothing of what the files hold. No file is ever replaced; each change of a name is synced before the call
//! returns.

mod file_system;
mod id;
mod lock;
mod name;
mod quarantine;
mod unpublished;
mod visited;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use file_system::FileSystem;
pub use id::DirectoryId;
pub(crate) use name::Name;
pub(crate) use quarantine::Quarantine;
pub(crate) use unpublished::{Unpublished, unpublished_at};
pub(crate) use visited::Visited;

use name::TEMPORARY;

use crate::calls;
use crate::planted::{Planted, planted};

const QUARANTINE: &str = "quarantine";

/// Neither ours nor worth a warning: a folder's description, and what a file system of its own comes with.
const NOT_OURS: [&str; 2] = ["README.md", "lost+found"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process uses it, or this one already does.
    #[error("{} is in use by {}", path.display(), Holder(*holder))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process's number, if it can be seen from here.
        holder: Option<u32>,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The operating system refused something about a file or a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", path.display())]
pub struct FileError {
    /// What was to be done.
    pub verb: &'static str,
    /// To which file or folder.
    pub path: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(crate) fn while_doing<E: Into<io::Error>>(verb: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self { verb, path: path.into(), source: source.into() }
    }
}

/// The data directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Holds the lock, and syncs names.
    folder: File,
    /// Device and number of the folder: what its path must lead to.
    identity: (u64, u64),
}

/// What lies in the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// By number.
    pub segments: Vec<Numbered>,
    /// By number.
    pub snapshots: Vec<Numbered>,
    /// Our own files that were never published.
    pub temporaries: Vec<PathBuf>,
    /// Everything else that somebody may have put there by mistake.
    pub unknown: Vec<PathBuf>,
}

/// A segment or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Numbered {
    pub number: u64,
    pub path: PathBuf,
}

impl Directory {
    /// Opens the folder, made first if it is missing, and locks it.
    ///
    /// # Errors
    /// [`DirectoryError::Locked`] at once if it is in use; nothing waits.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        create_folder(path)?;
        Self::open_existing(path)
    }

    /// The same of a folder that must be there.
    ///
    /// # Errors
    /// [`DirectoryError`]
    pub fn open_existing(path: &Path) -> Result<Self, DirectoryError> {
        Self::locked(path, calls::open_folder(path))
    }

    /// Opens the folder, made first if it is missing, and locks it; not through a link.
    ///
    /// # Errors
    /// [`DirectoryError`]
    pub fn open_no_link(path: &Path) -> Result<Self, DirectoryError> {
        create_folder(path)?;
        Self::locked(path, calls::open_folder_no_link(path))
    }

    fn locked(path: &Path, folder: io::Result<File>) -> Result<Self, DirectoryError> {
        let folder = folder.map_err(FileError::while_doing("open", path))?;
        lock::lock(&folder, path)?;
        let metadata = folder.metadata().map_err(FileError::while_doing("look at", path))?;
        Ok(Self { path: path.into(), folder, identity: identity(&metadata) })
    }

    /// Whether the path still leads to the folder that is locked. Somebody may have moved it away and put another in its place,
    /// which another process then holds: nothing there is ours to change.
    pub fn check_place(&self) -> Result<(), FileError> {
        let metadata = fs::metadata(&self.path).map_err(FileError::while_doing("find", &self.path))?;
        if identity(&metadata) == self.identity {
            return Ok(());
        }
        let moved = io::Error::new(io::ErrorKind::NotFound, "it was moved, and another is in its place");
        Err(FileError::while_doing("find", &self.path)(moved))
    }

    /// Whether the file of this name is the one that is open here, and no link to it. What the operating system will not tell counts
    /// as yes.
    pub fn has(&self, name: Name, open: &File) -> bool {
        match (fs::symlink_metadata(self.path_of(name)), open.metadata()) {
            (Ok(found), Ok(open)) => identity(&found) == identity(&open),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where this file is, or would be.
    pub fn path_of(&self, name: Name) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// What lies here now.
    pub fn list(&self) -> Result<Contents, FileError> {
        self.check_place()?;
        Contents::of(&self.path)
    }

    /// Bytes that the file system has left for us, and bytes that it holds.
    pub fn room(&self) -> Result<(u64, u64), FileError> {
        let room =
            rustix::fs::fstatvfs(&self.folder).map_err(FileError::while_doing("look at", &self.path))?;
        Ok((room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize))
    }

    /// Which file system the directory is on.
    pub fn file_system(&self) -> Result<FileSystem, FileError> {
        file_system_of(&self.folder, &self.path)
    }

    /// Something in it that was put there on purpose; what is not ours and not worth a warning does not count.
    pub fn first_entry(&self) -> Result<Option<PathBuf>, FileError> {
        let cannot_list = |source| FileError::while_doing::<io::Error>("list", &self.path)(source);
        for entry in fs::read_dir(&self.path).map_err(cannot_list)? {
            let name = entry.map_err(cannot_list)?.file_name();
            if !name.to_str().is_some_and(is_not_ours) {
                return Ok(Some(name.into()));
            }
        }
        Ok(None)
    }

    /// Removes everything in it if that is no more than a segment and a snapshot, each published or not. Gives what else there is;
    /// then nothing is removed.
    pub fn clear_one_of_each(&self) -> Result<Option<PathBuf>, FileError> {
        let cannot_list = |source| FileError::while_doing::<io::Error>("list", &self.path)(source);
        let (mut ours, mut segments, mut snapshots) = (Vec::new(), 0, 0);
        for entry in fs::read_dir(&self.path).map_err(cannot_list)? {
            let entry = entry.map_err(cannot_list)?;
            let (name, is_file) = (entry.file_name(), entry.file_type().map_err(cannot_list)?.is_file());
            let named = name.to_str().filter(|_| is_file);
            match named.and_then(|name| Name::parse(name.strip_suffix(TEMPORARY).unwrap_or(name))) {
                Some(Name::Segment(_)) if segments == 0 => segments += 1,
                Some(Name::Snapshot(_)) if snapshots == 0 => snapshots += 1,
                _ => return Ok(Some(name.into())),
            }
            ours.push(entry.path());
        }
        self.remove(ours.iter().map(PathBuf::as_path))?;
        Ok(None)
    }

    /// Makes the name of the folder at `path` survive a power loss.
    pub fn sync_parent(path: &Path) -> Result<(), FileError> {
        sync_folder(parent_of(path).unwrap_or(Path::new(".")))
    }

    /// Makes all changes of names so far survive a power loss.
    pub fn sync(&self) -> Result<(), FileError> {
        if planted(Planted::FolderNotSynced) {
            return Ok(());
        }
        calls::sync_folder(&self.folder).map_err(FileError::while_doing("sync", &self.path))
    }

    /// Removes files, in this order and up to the first that cannot be, then syncs once. One that is gone already is passed
    /// over.
    pub fn remove<'p>(&self, paths: impl IntoIterator<Item = &'p Path>) -> Result<(), FileError> {
        self.check_place()?;
        let removed = paths.into_iter().try_for_each(remove_file);
        self.sync()?;
        removed
    }

    /// Removes as many of these files as can be, then syncs once. The error is the first.
    pub fn remove_each<'p>(&self, paths: impl IntoIterator<Item = &'p Path>) -> Result<(), FileError> {
        self.check_place()?;
        let removed = paths.into_iter().map(remove_file).fold(Ok(()), Result::and);
        self.sync()?;
        removed
    }

    /// Puts a file of this directory aside, under its name or, if that is taken there, the name with `.2`, `.3` … after it.
    /// Gives where it is now.
    fn move_to_quarantine(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.check_place()?;
        let quarantine = self.path.join(QUARANTINE);
        create_folder(&quarantine)?;
        let name = path.file_name().ok_or_else(|| {
            FileError::while_doing::<io::Error>("move", path)(io::ErrorKind::InvalidInput.into())
        })?;
        let aside = unused(&quarantine, name)?;
        self.rename_new(path, &aside)?;
        sync_folder(&quarantine)?;
        self.sync()?;
        Ok(aside)
    }

    /// Renames, and never replaces: the lock is ours, so nobody makes a file of that name between looking and renaming.
    pub fn rename_new(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        debug_assert!(to.starts_with(&self.path));
        if is_taken(to)? {
            return Err(FileError::while_doing::<io::Error>("create", to)(
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        calls::rename(from, to).map_err(FileError::while_doing("rename", from))
    }
}

fn identity(folder: &fs::Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

fn remove_file(path: &Path) -> Result<(), FileError> {
    match calls::remove(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::while_doing("remove", path)(source))
        }
        _ => Ok(()),
    }
}

fn file_system_of(folder: &File, path: &Path) -> Result<FileSystem, FileError> {
    let found = rustix::fs::fstatfs(folder).map_err(FileError::while_doing("look at", path))?;
    // The numbers are of 32 bits; the field is a machine word, and signed on some machines.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let magic = found.f_type as u32;
    Ok(FileSystem::from_magic(magic))
}

impl Contents {
    fn of(path: &Path) -> Result<Self, FileError> {
        let cannot_list = |source| FileError::while_doing::<io::Error>("list", path)(source);
        let mut contents = Self::default();
        for entry in fs::read_dir(path).map_err(cannot_list)? {
            let entry = entry.map_err(cannot_list)?;
            // Only a regular file is ours: nothing here makes links.
            contents.add(&entry.file_name(), entry.path(), entry.file_type().map_err(cannot_list)?.is_file());
        }
        contents.sort();
        Ok(contents)
    }

    fn add(&mut self, name: &std::ffi::OsStr, path: PathBuf, is_file: bool) {
        let Some(name) = name.to_str() else { return self.unknown.push(path) };
        if name == QUARANTINE || is_not_ours(name) {
            return;
        }
        match Name::parse(name) {
            Some(Name::Segment(number)) if is_file => self.segments.push(Numbered { number, path }),
            Some(Name::Snapshot(number)) if is_file => self.snapshots.push(Numbered { number, path }),
            None if is_file && name.strip_suffix(TEMPORARY).and_then(Name::parse).is_some() => {
                self.temporaries.push(path);
            }
            _ => self.unknown.push(path),
        }
    }

    fn sort(&mut self) {
        self.segments.sort_unstable();
        self.snapshots.sort_unstable();
        self.temporaries.sort_unstable();
        self.unknown.sort_unstable();
    }
}

/// Makes a folder and those above it, each synced into its parent, so that a power loss does not take the whole directory.
fn create_folder(path: &Path) -> Result<(), FileError> {
    let parent = parent_of(path);
    let created = match (calls::create_folder(path), parent) {
        (Err(missing), Some(parent)) if missing.kind() == io::ErrorKind::NotFound => {
            create_folder(parent)?;
            calls::create_folder(path)
        }
        (created, _) => created,
    };
    match created {
        Ok(()) => sync_folder(parent.unwrap_or(Path::new("."))),
        // Whether it is a folder is seen when it is used.
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems refuse before they look whether it is there.
        Err(_) if path.is_dir() => Ok(()),
        Err(source) => Err(FileError::while_doing("create", path)(source)),
    }
}

fn is_not_ours(name: &str) -> bool {
    name.starts_with('.') || NOT_OURS.contains(&name)
}

fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

fn sync_folder(path: &Path) -> Result<(), FileError> {
    calls::open_folder(path)
        .and_then(|folder| calls::sync_folder(&folder))
        .map_err(FileError::while_doing("sync", path))
}

/// `name` in `folder`, and then with a number after it: `.2`, `.3` …
fn numbered(folder: &Path, name: &std::ffi::OsStr) -> impl Iterator<Item = PathBuf> {
    let with = move |number: u64| {
        let mut numbered = OsString::from(name);
        numbered.push(format!(".{number}"));
        folder.join(numbered)
    };
    std::iter::once(folder.join(name)).chain((2..).map(with))
}

/// The first of these names that is free.
fn unused(folder: &Path, name: &std::ffi::OsStr) -> Result<PathBuf, FileError> {
    let mut path = folder.join(name);
    for there in numbered(folder, name) {
        path = there;
        if !is_taken(&path)? {
            break;
        }
    }
    Ok(path)
}

fn is_taken(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::while_doing("look at", path)(source)),
    }
}

/// Who holds a lock: the process's number, if it can be seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

#[cfg(test)]
mod tests;
