//! The calls to the operating system by which the data directory changes, or on which a promise rests: one function each.
//!
//! A disk can fail in any of them. With the feature `faults`, which no release is built with, a test sees each call before and
//! after it is made, and can let it fail (`faults`); without it these are the calls themselves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

/// What is asked of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "nobody looks"))]
pub enum Call {
    /// Make a folder.
    CreateFolder,
    /// Open a file or a folder.
    Open,
    /// Make a file, and open it for writing.
    Create,
    /// Reserve a file's blocks.
    Reserve,
    /// Write to a file.
    Write,
    /// Map a file.
    Map,
    /// Sync what a file holds, and no more of its description than that needs.
    SyncData,
    /// Sync a file.
    SyncFile,
    /// Sync the names in a folder.
    SyncFolder,
    /// Rename a file; the path is the new one.
    Rename,
    /// Remove a file.
    Remove,
}

/// To what.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "nobody looks"))]
enum Subject<'a> {
    Path(&'a Path),
    File(&'a File),
}

#[cfg(not(feature = "faults"))]
#[inline]
fn checked<T>(_: Call, _: Subject<'_>, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    run()
}

#[cfg(feature = "faults")]
fn checked<T>(call: Call, subject: Subject<'_>, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let path = match subject {
        Subject::Path(path) => path.into(),
        Subject::File(file) => crate::faults::path_of(file)?,
    };
    crate::faults::before(call, &path)?;
    let done = run()?;
    crate::faults::after(call, &path);
    Ok(done)
}

pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    checked(Call::CreateFolder, Subject::Path(path), || fs::create_dir(path))
}

/// A file, for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    checked(Call::Open, Subject::Path(path), || regular(File::options().read(true), path, OFlags::empty()))
}

/// The same, and no link to one.
pub(crate) fn open_no_link(path: &Path) -> io::Result<File> {
    checked(Call::Open, Subject::Path(path), || regular(File::options().read(true), path, OFlags::NOFOLLOW))
}

/// A file, and no link to one, for reading and writing.
pub(crate) fn open_to_change(path: &Path) -> io::Result<File> {
    let open = || regular(File::options().read(true).write(true), path, OFlags::NOFOLLOW);
    checked(Call::Open, Subject::Path(path), open)
}

/// A folder, and no link to one.
pub(crate) fn open_folder_no_link(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    checked(Call::Open, Subject::Path(path), || flagged(File::options().read(true), flags).open(path))
}

pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    checked(Call::Open, Subject::Path(path), || {
        flagged(File::options().read(true), OFlags::DIRECTORY).open(path)
    })
}

/// For reading and writing; what is there is overwritten, unless it is a link, which may lead anywhere.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    checked(Call::Create, Subject::Path(path), || regular(&mut options, path, OFlags::NOFOLLOW))
}

/// Whatever has the name: nothing waits for somebody at the other end of a pipe, and what is no file is told as that.
fn regular(options: &mut OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    let file = flagged(options, flags | OFlags::NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

fn flagged(options: &mut OpenOptions, flags: OFlags) -> &mut OpenOptions {
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
}

/// The file's blocks, so that a later write needs no room.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    checked(Call::Reserve, Subject::File(file), || Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?))
}

pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    checked(Call::Write, Subject::File(file), || file.write_all_at(bytes, at))
}

/// Shared, and as a whole.
pub(crate) fn map(file: &File, bytes: usize) -> io::Result<MmapRaw> {
    checked(Call::Map, Subject::File(file), || MmapOptions::new().len(bytes).map_raw(file))
}

pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    checked(Call::SyncData, Subject::File(file), || file.sync_data())
}

pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    checked(Call::SyncFile, Subject::File(file), || file.sync_all())
}

/// So that the names in it survive a power loss.
pub(crate) fn sync_folder(folder: &File) -> io::Result<()> {
    checked(Call::SyncFolder, Subject::File(folder), || folder.sync_all())
}

/// Replaces what has that name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    checked(Call::Rename, Subject::Path(to), || fs::rename(from, to))
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    checked(Call::Remove, Subject::Path(path), || fs::remove_file(path))
}
