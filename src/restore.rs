//! A data directory from one snapshot: what a backup is for.
//!
//! ```text
//!   there is no DIR      .DIR.restoring/ beside it ── both files, synced ── rename the folder
//!   DIR is empty         DIR/.restoring/ ── both files, synced ── rename the segment, then the snapshot
//! ```
//!
//! The files of the new directory are written where nobody looks for them, and get their place when all of it is on disk.
//! A folder that is there already may be a mount point, which cannot be replaced by renaming; there the last step is the
//! snapshot's name. A start refuses what is there between the two renames, for the segment names one before it that does not
//! exist. That predecessor has a second use: should the snapshot be damaged later, the journal does not pass for a whole one
//! that knows nobody.
//!
//! Both files carry a new directory id, so files of the directory that the snapshot comes from are never taken for its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::damage::ReadError;
use crate::directory::{Directory, DirectoryError, DirectoryId, FileError, Name};
use crate::journal::{self, write_segment};
use crate::snapshot::{Copied, Header, Snapshot, Writer};
use crate::time::UnixSeconds;

/// Length of the segment from which replay begins. It is empty and stays so: a segment that is there at the start is never
/// appended to.
const SEGMENT_BYTES: u64 = 16 << 10;
/// Of it, at least: there is a number before it.
const FIRST_SEGMENT_MIN: u64 = 2;
/// Where files are written before they have their place; a dot begins what is not a data directory's.
const STAGE: &str = ".restoring";

/// What has been restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot's number, here as there.
    pub number: u64,
    /// Users.
    pub users: u64,
    /// Closed sessions.
    pub closed_sessions: u64,
    /// The engine's time when it was taken: what came after is not in it.
    pub engine_time: UnixSeconds,
    /// The id of the directory that it was taken of.
    pub from: DirectoryId,
    /// The id of the new one.
    pub directory: DirectoryId,
}

/// Why nothing was restored. There is then nothing of it under the directory's name.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot cannot be read, or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is something in the directory.
    #[error("{} is not empty: it has {}", path.display(), entry.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        entry: PathBuf,
    },
    /// The directory cannot be used, or another process does.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file cannot be written or moved.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system gave no random number.
    #[error("cannot draw an id")]
    System(#[from] io::Error),
}

/// Makes `to`, which must not exist or be empty (a README.md and names that begin with a dot do not count), a data directory
/// with what is in the snapshot at `snapshot`.
///
/// Reads the snapshot twice: all of it is verified before anything is written. Takes memory for a section.
///
/// # Errors
/// [`RestoreError`]
pub fn restore(snapshot: &Path, to: &Path) -> Result<Restored, RestoreError> {
    let snapshot = Snapshot::open(snapshot)?;
    let place = Destination::of(to)?;
    snapshot.verify()?;
    let directory = DirectoryId::random()?;
    let stage = Stage::create(place)?;
    fill(&stage.directory, &snapshot, directory)?;
    stage.publish(Header { directory, ..new_header(&snapshot) })?;
    Ok(Restored {
        number: new_header(&snapshot).number,
        users: snapshot.users(),
        closed_sessions: snapshot.sessions(),
        engine_time: snapshot.engine_time(),
        from: snapshot.header().directory,
        directory,
    })
}

/// What the new snapshot says of itself, but for the directory.
fn new_header(snapshot: &Snapshot) -> Header {
    let header = *snapshot.header();
    Header {
        number: header.number.max(1),
        first_segment: header.first_segment.max(FIRST_SEGMENT_MIN),
        ..header
    }
}

/// Writes the segment and the snapshot.
fn fill(stage: &Directory, snapshot: &Snapshot, directory: DirectoryId) -> Result<(), RestoreError> {
    let header = Header { directory, ..new_header(snapshot) };
    let segment = journal::Header {
        directory,
        number: header.first_segment,
        previous: header.first_segment - 1,
        salt: journal::random_salt()?,
        length: SEGMENT_BYTES,
        ttl: header.ttl,
        grace: header.grace_seconds,
    };
    let path = stage.path_of(Name::Segment(segment.number));
    write_segment(stage, &segment).map_err(FileError::while_doing("write", &path))?;
    let mut writer = Writer::create(stage, header)?;
    let mut copied = Copied::default();
    for (index, section) in snapshot.sections().iter().enumerate() {
        copied.clear();
        snapshot.read_section(index, |user, live, closed| copied.push(user, live, closed.iter().copied()))?;
        writer.write_shard(section.shard, &copied)?;
    }
    writer.finish(snapshot.engine_time(), snapshot.outages())?;
    Ok(())
}

/// Where the directory is to be.
enum Destination {
    /// There is nothing.
    Missing(PathBuf),
    /// There is an empty folder; nobody else uses it while this lives.
    Empty(Directory),
}

impl Destination {
    fn of(path: &Path) -> Result<Self, RestoreError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing(path.into())),
            found => found.map_err(FileError::while_doing("look at", path))?,
        };
        let directory = Directory::open(path)?;
        match directory.first_entry()? {
            Some(entry) => Err(RestoreError::NotEmpty { path: path.into(), entry }),
            None => Ok(Self::Empty(directory)),
        }
    }

    fn stage(&self) -> Result<PathBuf, FileError> {
        match self {
            Self::Empty(directory) => Ok(directory.path().join(STAGE)),
            Self::Missing(path) => {
                let name = path.file_name().ok_or_else(|| {
                    FileError::while_doing::<io::Error>("create", path)(io::ErrorKind::InvalidInput.into())
                })?;
                let mut hidden = std::ffi::OsString::from(".");
                hidden.push(name);
                hidden.push(STAGE);
                Ok(path.with_file_name(hidden))
            }
        }
    }
}

/// The folder in which everything is written first. Dropped before it is published, it leaves nothing.
struct Stage {
    destination: Destination,
    directory: Directory,
}

impl Stage {
    /// What a killed restore left there is removed. What may be somebody else's is not: then there is no stage.
    fn create(destination: Destination) -> Result<Self, RestoreError> {
        let path = destination.stage()?;
        let directory = Directory::open_no_link(&path)?;
        match directory.clear_one_of_each()? {
            Some(entry) => Err(RestoreError::NotEmpty { path, entry }),
            None => Ok(Self { destination, directory }),
        }
    }

    fn publish(self, header: Header) -> Result<(), FileError> {
        let Self { destination, directory: stage } = &self;
        stage.sync()?;
        match destination {
            Destination::Missing(path) => {
                // Replaces a folder that somebody has made meanwhile only if it is empty.
                fs::rename(stage.path(), path).map_err(FileError::while_doing("create", path))?;
                Directory::sync_parent(path)
            }
            Destination::Empty(directory) => {
                let [segment, snapshot] =
                    [Name::Segment(header.first_segment), Name::Snapshot(header.number)];
                directory.rename_new(&stage.path_of(segment), &directory.path_of(segment))?;
                if let Err(error) =
                    directory.rename_new(&stage.path_of(snapshot), &directory.path_of(snapshot))
                {
                    // What cannot be removed, a start refuses.
                    let _ = fs::remove_file(directory.path_of(segment));
                    return Err(error);
                }
                directory.sync()
            }
        }
    }
}

/// Once it has been renamed, the folder is not in its place, and there is nothing under this name.
impl Drop for Stage {
    fn drop(&mut self) {
        // If this fails, the next restore to the same place removes it.
        let _ = self.directory.clear_one_of_each();
        let _ = fs::remove_dir(self.directory.path());
    }
}
