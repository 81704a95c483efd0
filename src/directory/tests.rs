use std::os::unix::fs::PermissionsExt;

use super::*;

fn directory() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    (folder, directory)
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn a_missing_folder_is_made_with_those_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("var/lib/heartbeat");

    let directory = Directory::open(&path).unwrap();
    assert!(path.is_dir());
    assert_eq!(directory.path(), path);
    assert_eq!(directory.list().unwrap(), Contents::default());
}

#[test]
fn a_file_is_no_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let DirectoryError::File(error) = Directory::open(&file.path().join("below")).unwrap_err() else {
        panic!("not a lock");
    };
    assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_directory_is_open_once_at_a_time_and_its_holder_is_named() {
    let (folder, directory) = directory();

    let error = Directory::open(folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is in use by process {}", folder.path().display(), std::process::id())
    );
    let DirectoryError::Locked { holder, .. } = error else { panic!("locked") };
    assert_eq!(holder, Some(std::process::id()));

    drop(directory);
    Directory::open(folder.path()).unwrap();
}

#[test]
fn files_are_listed_by_kind_and_number() {
    let (folder, directory) = directory();
    for name in [
        "journal-10000000000.seg",
        "journal-0000000002.seg",
        "journal-9999999999.seg",
        "snapshot-0000000010.snap",
        "snapshot-0000000009.snap",
        "snapshot-0000000011.snap.tmp",
        "journal-0000000003.seg.tmp",
        "other.tmp",
        "journal-3.seg",
        "notes.txt",
        "README.md",
        ".gitignore",
    ] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    for name in ["quarantine", "lost+found", "journal-0000000004.seg", "elsewhere"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/null", folder.path().join("snapshot-0000000001.snap")).unwrap();

    let contents = directory.list().unwrap();
    assert_eq!(
        contents.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(),
        [2, 9_999_999_999, 10_000_000_000]
    );
    assert_eq!(contents.segments[0].path, folder.path().join("journal-0000000002.seg"));
    assert_eq!(contents.snapshots.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [9, 10]);
    assert_eq!(names(&contents.temporaries), ["journal-0000000003.seg.tmp", "snapshot-0000000011.snap.tmp"]);
    assert_eq!(
        names(&contents.unknown),
        [
            "elsewhere",
            "journal-0000000004.seg",
            "journal-3.seg",
            "notes.txt",
            "other.tmp",
            "snapshot-0000000001.snap"
        ]
    );
}

#[test]
fn a_name_that_is_no_text_is_unknown() {
    use std::os::unix::ffi::OsStrExt;
    let (folder, directory) = directory();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"journal-\xff.seg"));
    fs::write(&path, "").unwrap();

    assert_eq!(directory.list().unwrap().unknown, [path]);
}

#[test]
fn what_is_put_aside_never_replaces_what_was() {
    let (folder, directory) = directory();
    let path = directory.path_of(Name::Snapshot(3));

    for (content, aside) in [
        ("first", "quarantine/snapshot-0000000003.snap"),
        ("second", "quarantine/snapshot-0000000003.snap.2"),
        ("third", "quarantine/snapshot-0000000003.snap.3"),
    ] {
        fs::write(&path, content).unwrap();
        assert_eq!(directory.move_to_quarantine(&path).unwrap(), folder.path().join(aside));
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(folder.path().join(aside)).unwrap(), content);
    }
    assert_eq!(
        fs::read_to_string(folder.path().join("quarantine/snapshot-0000000003.snap")).unwrap(),
        "first"
    );
    assert_eq!(directory.list().unwrap(), Contents::default());
}

#[test]
fn a_copy_is_as_private_as_the_file() {
    let (folder, directory) = directory();
    let place = folder.path().join("place");
    let path = folder.path().join("snapshot-0000000003.snap");
    fs::write(&path, "of one user").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let quarantine = Quarantine::of(&directory, Some(&place)).unwrap();
    let aside = quarantine.put_aside::<FileError>(&path, || Ok(())).unwrap();
    assert_eq!(fs::metadata(&aside).unwrap().mode() & 0o777, 0o600);
    assert!(!path.exists());
}

#[test]
fn of_a_copy_that_could_not_be_made_nothing_is_left() {
    let (folder, directory) = directory();
    let place = folder.path().join("place");
    // Which can be opened, and not read.
    let path = folder.path().join("snapshot-0000000003.snap");
    fs::create_dir(&path).unwrap();

    let quarantine = Quarantine::of(&directory, Some(&place)).unwrap();
    quarantine.put_aside::<FileError>(&path, || Ok(())).unwrap_err();
    assert!(path.exists());
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

/// A repair that was stopped, perhaps.
#[test]
fn nobody_waits_for_ever_for_another_who_puts_files_aside() {
    let (folder, directory) = directory();
    let place = folder.path().join("place");
    let path = folder.path().join("snapshot-0000000003.snap");
    fs::write(&path, "of one user").unwrap();
    fs::create_dir(&place).unwrap();
    let other = File::open(&place).unwrap();
    other.lock().unwrap();

    let quarantine = Quarantine::of(&directory, Some(&place)).unwrap();
    let error = quarantine.put_aside::<FileError>(&path, || Ok(())).unwrap_err();
    assert!(error.source.to_string().contains("another process"), "{}", error.source);
    other.unlock().unwrap();
    assert!(quarantine.put_aside::<FileError>(&path, || Ok(())).is_ok());
}

#[test]
fn removal_passes_over_what_is_gone_and_stops_at_what_cannot_be_removed() {
    let (folder, directory) = directory();
    let paths = [1, 2, 3, 4].map(|number| directory.path_of(Name::Segment(number)));
    fs::write(&paths[0], "").unwrap();
    fs::create_dir(&paths[2]).unwrap();
    fs::write(&paths[3], "").unwrap();

    let error = directory.remove(paths.iter().map(PathBuf::as_path)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot remove {}", folder.path().join("journal-0000000003.seg").display())
    );
    assert_eq!(paths.map(|path| path.exists()), [false, false, true, true]);
}

#[test]
fn of_each_everything_that_can_be_is_removed() {
    let (_folder, directory) = directory();
    let paths = [1, 2, 3].map(|number| directory.path_of(Name::Segment(number)));
    fs::write(&paths[0], "").unwrap();
    fs::create_dir(&paths[1]).unwrap();
    fs::write(&paths[2], "").unwrap();

    let error = directory.remove_each(paths.iter().map(PathBuf::as_path)).unwrap_err();
    assert_eq!(error.path, paths[1]);
    assert_eq!(paths.map(|path| path.exists()), [false, true, false]);
}

/// The lock is on the folder, and not on its path.
#[test]
fn nothing_is_changed_in_another_folder_that_was_put_in_its_place() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let directory = Directory::open(&path).unwrap();
    let new = Unpublished::create(&directory, Name::Segment(1)).unwrap();

    fs::rename(&path, parent.path().join("moved")).unwrap();
    assert!(directory.check_place().is_err(), "nothing is there");
    fs::create_dir(&path).unwrap();
    let theirs = path.join("snapshot-0000000001.snap");
    fs::write(&theirs, "theirs").unwrap();

    let error = directory.check_place().unwrap_err();
    assert!(error.source.to_string().contains("moved"), "{}", error.source);
    assert!(new.publish().is_err());
    assert!(Unpublished::create(&directory, Name::Segment(2)).is_err());
    assert!(directory.list().is_err());
    assert!(directory.remove([theirs.as_path()]).is_err());
    assert!(directory.remove_each([theirs.as_path()]).is_err());
    assert!(directory.move_to_quarantine(&theirs).is_err());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);

    fs::rename(&path, parent.path().join("other")).unwrap();
    fs::rename(parent.path().join("moved"), &path).unwrap();
    assert!(directory.check_place().is_ok());
}

/// Whoever asked tries again, each second: what is left behind would fill the disk.
#[test]
fn a_file_whose_name_cannot_be_synced_is_not_left_behind() {
    let (folder, directory) = directory();
    // Which cannot be synced.
    let directory = Directory { folder: File::open("/proc").unwrap(), ..directory };
    let error = Unpublished::create(&directory, Name::Segment(1)).unwrap().publish().unwrap_err();
    assert_eq!(error.verb, "sync");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_file_system_is_told() {
    let (_folder, directory) = directory();
    let file_system = directory.file_system().unwrap();
    let memory = Directory { folder: File::open("/proc").unwrap(), ..directory };

    assert_ne!(file_system, memory.file_system().unwrap());
    assert_eq!(memory.file_system().unwrap(), FileSystem::Other(0x9fa0));
}
