//! Letting the disk fail, and looking on: only for tests, and only with the feature `faults`.
//!
//! A test watches a folder. It is asked before each call that concerns a file in it, and told afterwards; what it answers with
//! an error fails so. The watch runs on the thread that makes the call: while it does not return, the call hangs.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub use crate::calls::Call;

/// Looks on.
pub trait Watch: Send + Sync {
    /// Before a call is made. An error is what it gives; it is not made then.
    ///
    /// # Errors
    /// As the watch likes.
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// After a call that has succeeded.
    fn after(&self, _call: Call, _path: &Path) {}

    /// A thread has come to this place.
    fn at(&self, _place: Place) {}
}

/// Places between two steps of a write, where a thread can be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is decided what to write, and no slot has been reserved.
    Decided,
    /// A slot is reserved, and nothing is in it.
    Reserved,
}

/// Ends the watch when it is dropped.
#[must_use]
pub struct Watching(PathBuf);

static WATCHES: RwLock<Vec<(PathBuf, Arc<dyn Watch>)>> = RwLock::new(Vec::new());

/// Everything in `folder`, and the folder itself, from now on. One watch a folder.
pub fn watch(folder: &Path, watch: Arc<dyn Watch>) -> Watching {
    let mut watches = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
    watches.push((folder.into(), watch));
    Watching(folder.into())
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHES.write().unwrap_or_else(PoisonError::into_inner).retain(|(folder, _)| *folder != self.0);
    }
}

fn watch_of(path: &Path) -> Option<Arc<dyn Watch>> {
    let watches = WATCHES.read().unwrap_or_else(PoisonError::into_inner);
    watches.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, watch)| Arc::clone(watch))
}

pub(crate) fn before(call: Call, path: &Path) -> io::Result<()> {
    watch_of(path).map_or(Ok(()), |watch| watch.before(call, path))
}

pub(crate) fn after(call: Call, path: &Path) {
    if let Some(watch) = watch_of(path) {
        watch.after(call, path);
    }
}

pub(crate) fn at(place: Place, folder: &Path) {
    if let Some(watch) = watch_of(folder) {
        watch.at(place);
    }
}

/// Where an open file is now.
pub(crate) fn path_of(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
