//! Mending a data directory that a start refuses: all that vouches for itself is kept, and what is lost is told before.
//!
//! ```text
//!   lock ─ verify ─ survey ─ plan ──▶ told                       (a dry run ends here: nothing has been written)
//!                                └──▶ each mend: copy into the quarantine, synced ─ change ─ sync ──▶ verify
//! ```
//!
//! | found | done | lost at most |
//! |---|---|---|
//! | bad or empty slots below the synced mark | each gets a void in its place | those writes |
//! | a segment's header | made again; slots verify by their own account | nothing, if the checksum proves it |
//! | a segment that is too short, too long | brought to its length | the writes that were cut off |
//! | a segment that is missing | an empty one stands in its place | its writes |
//! | a segment whose slots nobody can tell, one that no other names | put aside | its writes |
//! | a snapshot, and the one before with its journal is whole | put aside | nothing |
//! | a snapshot else | a new one of its good sections; everybody else from the older one | users known only to bad sections |
//! | a file of another directory, which is what fewer files tell | put aside | nothing, unless that is this directory after all |
//! | a file under another name | gets its name back, or is put aside if that is taken | nothing |
//! | a newer format version, a file that cannot be read | nothing: that is for another program, or for the disk | |
//! | a journal from the future | nothing: the clock may be what is wrong | |
//!
//! A kill at any moment leaves a directory on which repair can be run again: what is dropped or changed is whole in the
//! quarantine before, a new file gets its name last, and what is changed in place (a header, a void, a mark, a length) comes out
//! the same if it is done twice. Memory is needed for a piece of a file, and for a part of the users of a snapshot.

mod apply;
mod mend;
mod plan;
mod survey;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::damage::ReadError;
use crate::directory::{Directory, DirectoryError, DirectoryId, FileError, Quarantine};
use crate::engine::{MergeError, OpenError, Verification, verify_locked};
use crate::time::UnixSeconds;

pub use mend::{HeaderFrom, Loss, Mend, Patch, Rewrite, Why, Work};

use apply::Steps;
use plan::Plan;

/// What a repair has found and done, or would do.
#[derive(Debug)]
pub struct Repair {
    /// What was there.
    pub before: Verification,
    /// In the order in which they are done.
    pub mends: Vec<Mend>,
    /// Where files are put aside.
    pub quarantine: PathBuf,
    /// What is there now; `None` after a dry run.
    pub after: Option<Verification>,
}

impl Repair {
    /// Whether a start takes the directory as it is now.
    pub fn is_sound(&self) -> bool {
        self.after.as_ref().unwrap_or(&self.before).is_sound()
    }

    /// All losses together.
    pub fn loss(&self) -> Loss {
        self.mends.iter().map(|mend| mend.loss).fold(Loss::default(), Loss::and)
    }
}

/// Why nothing, or no more, was mended. What has been done until then is whole, and a repair can be run again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The directory cannot be used, or another process does.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file cannot be moved, copied or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read: what it holds is not known to be wrong.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Repair must not touch this.
    #[error("nothing can be mended here: {0}")]
    Beyond(Arc<OpenError>),
    /// As many files are of one directory as of another.
    #[error("{} holds as many files of {one} as of {other}: take those away that are not its own", path.display())]
    Mixed {
        /// The directory.
        path: PathBuf,
        /// An id.
        one: DirectoryId,
        /// The other.
        other: DirectoryId,
    },
    /// Something has a name that a new file would have, and it is nothing of what is put aside.
    #[error("{} is in the way of a file that would have to be made: take it away", .0.display())]
    InTheWay(PathBuf),
    /// The operating system gave no random number.
    #[error("cannot draw a salt")]
    System(#[from] io::Error),
    /// A test ends here.
    #[cfg(test)]
    #[error("stopped")]
    Stopped,
}

impl From<MergeError> for RepairError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Read(error) => error.into(),
            MergeError::File(error) => error.into(),
        }
    }
}

/// Says what would be done about the directory at `path`, and what would be lost. Writes nothing; holds the directory's lock.
///
/// # Errors
/// [`RepairError`]
pub fn repair(path: &Path, quarantine: Option<&Path>, now: UnixSeconds) -> Result<Repair, RepairError> {
    run(path, quarantine, now, None)
}

/// Does it. What is dropped or changed is copied into the directory's `quarantine/` first, or to the place `quarantine`, which may
/// be on another disk: then a full one does not stop it.
///
/// # Errors
/// [`RepairError`]
pub fn repair_applied(
    path: &Path,
    quarantine: Option<&Path>,
    now: UnixSeconds,
) -> Result<Repair, RepairError> {
    run(path, quarantine, now, Some(&Steps::all()))
}

fn run(
    path: &Path,
    quarantine: Option<&Path>,
    now: UnixSeconds,
    steps: Option<&Steps>,
) -> Result<Repair, RepairError> {
    let directory = Directory::open_existing(path)?;
    let quarantine = Quarantine::of(&directory, quarantine)?;
    let before = verify_locked(&directory, now)?;
    refuse_what_is_beyond(&before)?;
    let plan =
        if before.complaints().next().is_some() { Plan::of(&directory, &before)? } else { Plan::default() };
    plan.check_names()?;
    let after = match steps {
        Some(steps) => {
            plan.apply(&directory, &quarantine, steps)?;
            Some(verify_locked(&directory, now)?)
        }
        None => None,
    };
    Ok(Repair { before, mends: plan.mends(), quarantine: quarantine.folder().into(), after })
}

/// A later program knows what its files mean, and a disk may give tomorrow what it does not give today.
fn refuse_what_is_beyond(before: &Verification) -> Result<(), RepairError> {
    let all = before
        .snapshots
        .iter()
        .filter_map(|found| found.error.as_ref())
        .chain(before.segments.iter().filter_map(|found| found.error.as_ref()))
        .chain(&before.chain);
    let mut beyond = all.filter(|error| {
        matches!(***error, OpenError::Read(ReadError::NewerVersion { .. } | ReadError::Io { .. }))
    });
    match beyond.next() {
        Some(error) if !before.is_sound() => Err(RepairError::Beyond(Arc::clone(error))),
        _ => Ok(()),
    }
}
