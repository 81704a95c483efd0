//! A file that nobody must find before it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::name::{Name, TEMPORARY};
use super::{Directory, FileError};
use crate::calls;
use crate::planted::{Planted, planted};

/// A new file under a temporary name. [`publish`](Self::publish) gives it its own once it is on disk; dropped before that,
/// the file is removed. After a crash it stays, and [`Directory::list`] finds it.
pub(crate) struct Unpublished<'a> {
    directory: &'a Directory,
    name: Name,
    file: File,
    temporary: Temporary,
}

/// Where the file of this path is before it has its name.
pub(crate) fn unpublished_at(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    temporary.into()
}

impl<'a> Unpublished<'a> {
    /// An empty file, for reading and writing. One that a crash left under this temporary name is overwritten.
    pub fn create(directory: &'a Directory, name: Name) -> Result<Self, FileError> {
        directory.check_place()?;
        let path = unpublished_at(&directory.path_of(name));
        let file = calls::create(&path).map_err(FileError::while_doing("create", &path))?;
        Ok(Self { directory, name, file, temporary: Temporary(path) })
    }

    pub const fn file(&self) -> &File {
        &self.file
    }

    /// As if the file were this one.
    #[cfg(test)]
    pub fn replace(&mut self, file: File) {
        self.file = file;
    }

    /// An error of writing to the file, with its name.
    pub fn cannot_write(&self, source: std::io::Error) -> FileError {
        FileError::while_doing("write", &self.temporary.0)(source)
    }

    /// Syncs the file, renames it and syncs the directory. Gives the file, still open, and where it is now.
    ///
    /// # Errors
    /// A file of that name is there already, or the operating system refused. No file is left behind then, unless it cannot be
    /// removed either.
    pub fn publish(self) -> Result<(File, PathBuf), FileError> {
        let Self { directory, name, file, temporary } = self;
        if !planted(Planted::PublishedBeforeSynced) {
            calls::sync_file(&file).map_err(FileError::while_doing("sync", &temporary.0))?;
        }
        let path = directory.path_of(name);
        directory.check_place()?;
        directory.rename_new(&temporary.0, &path)?;
        if let Err(error) = directory.sync() {
            // Whoever asked for it tries again, under another number: it would stay for ever, and one more each time.
            let _ = calls::remove(&path);
            return Err(error);
        }
        Ok((file, path))
    }
}

/// The name to remove. Once the file has been renamed, there is nothing under it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If this fails, the next recovery removes it.
        let _ = calls::remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn names(directory: &Directory) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_published_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();

        let new = Unpublished::create(&directory, Name::Segment(1)).unwrap();
        new.file().write_all(b"slots").unwrap();
        assert_eq!(names(&directory), ["journal-0000000001.seg.tmp"]);

        let (file, path) = new.publish().unwrap();
        assert_eq!(names(&directory), ["journal-0000000001.seg"]);
        assert_eq!(path, folder.path().join("journal-0000000001.seg"));
        assert_eq!((fs::read(path).unwrap(), file.metadata().unwrap().len()), (b"slots".to_vec(), 5));
    }

    #[test]
    fn a_file_that_is_never_published_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();

        drop(Unpublished::create(&directory, Name::Snapshot(1)).unwrap());
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn what_a_crash_left_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        fs::write(folder.path().join("snapshot-0000000001.snap.tmp"), "half of it").unwrap();

        let (_, path) = Unpublished::create(&directory, Name::Snapshot(1)).unwrap().publish().unwrap();
        assert_eq!(fs::read(path).unwrap(), b"");
    }

    #[test]
    fn a_published_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        fs::write(folder.path().join("snapshot-0000000001.snap"), "the first").unwrap();

        let error = Unpublished::create(&directory, Name::Snapshot(1)).unwrap().publish().unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(names(&directory), ["snapshot-0000000001.snap"]);
        assert_eq!(fs::read(folder.path().join("snapshot-0000000001.snap")).unwrap(), b"the first");
    }
}
