//! A folder for the files of one thread, which is gone with the thread.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::directory::Directory;

/// The folder. Made once, since a fuzzer asks for it some thousand times a second.
pub(crate) struct Scratch {
    _folder: TempDir,
    pub directory: Directory,
    input: PathBuf,
}

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(&folder.path().join("written")).unwrap();
        let input = folder.path().join("input");
        Self { _folder: folder, directory, input }
    }

    /// Gives `read` a file that holds `bytes`, and this folder.
    pub fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path, &Directory) -> T) -> T {
        SCRATCH.with(|scratch| {
            fs::write(&scratch.input, bytes).unwrap();
            read(&scratch.input, &scratch.directory)
        })
    }
}
