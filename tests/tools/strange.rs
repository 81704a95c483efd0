//! What is no file: pipes, links and folders under the names of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use heartbeat::{Mend, RepairError, Work};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::repair::{directory, repair, repair_applied, segment, snapshot};
use super::{NOON, contents, copy_of, files, process, stderr};

type Make = fn(&Path);

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Whoever opens a pipe to read from it waits for somebody to write.
fn run_without_waiting(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["10", process::BINARY]).args(args).stdin(Stdio::null()).env_remove("HEARTBEAT_LOG");
    let output = command.output().unwrap();
    assert_ne!(output.status.code(), Some(124), "{args:?} waits");
    output
}

#[test]
fn a_pipe_in_the_place_of_a_file_or_a_directory_is_told_and_not_waited_for() {
    let (base, folder) = (directory(), tempfile::tempdir().unwrap());
    let [plain, named, saved, new] = ["pipe", "journal-0000000001.seg", "snapshot-0000000001.snap", "new"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    for path in [&plain, &named, &saved] {
        pipe(Path::new(path));
    }
    let whole = snapshot(base.path(), 0).to_str().unwrap().to_owned();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &plain];
    for args in [
        &["inspect", &plain][..],
        &["inspect", &named],
        &["inspect", &saved],
        &["verify", &plain],
        &["repair", &plain],
        &["repair", "--apply", &plain],
        &["restore", &saved, &new],
        &["restore", &whole, &plain],
        &serve,
    ] {
        let output = run_without_waiting(args);
        assert_eq!(output.status.code(), Some(74), "{args:?}: {}", stderr(&output));
        let told = args.iter().any(|path| path.starts_with('/') && stderr(&output).contains(path));
        assert!(told, "{args:?}: {}", stderr(&output));
    }
}

/// A dry run used to promise an empty segment where something stood that `--apply` could not replace.
#[test]
fn what_is_in_the_way_of_a_mend_stops_a_dry_run_as_well() {
    let make: [(&str, Make); 4] = [
        ("a pipe", pipe),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a link", |path| symlink("/dev/null", path).unwrap()),
        ("a link to nothing", |path| symlink("/nonexistent", path).unwrap()),
    ];
    let base = directory();
    for (what, make) in make {
        for is_unpublished in [false, true] {
            let copy = copy_of(base.path());
            let missing = segment(copy.path(), 1);
            fs::remove_file(&missing).unwrap();
            let in_the_way = if is_unpublished { missing.with_extension("seg.tmp") } else { missing.clone() };
            make(&in_the_way);
            let before = files(copy.path(), "");
            for repair in [repair, repair_applied] {
                let error = repair(copy.path(), None, NOON).unwrap_err();
                assert!(
                    matches!(&error, RepairError::InTheWay(path) if *path == in_the_way),
                    "{what}: {error}"
                );
                assert!(error.to_string().contains(in_the_way.to_str().unwrap()), "{error}");
            }
            assert_eq!(files(copy.path(), ""), before);

            if in_the_way.is_dir() {
                fs::remove_dir(&in_the_way).unwrap();
            } else {
                fs::remove_file(&in_the_way).unwrap();
            }
            let mend = repair_applied(copy.path(), None, NOON).unwrap();
            assert!(mend.is_sound());
            let is_stand_in = |mend: &Mend| matches!(mend.work, Work::StandIn { .. }) && mend.path == missing;
            assert!(mend.mends.iter().any(is_stand_in), "{:?}", mend.mends);
        }
    }
}

/// A file under its temporary name is overwritten; a link of that name is not, for nobody knows where it leads.
#[test]
fn a_link_with_the_name_of_an_unpublished_file_is_not_written_through() {
    let (base, elsewhere) = (directory(), tempfile::tempdir().unwrap());
    let theirs = elsewhere.path().join("theirs");
    fs::write(&theirs, "theirs").unwrap();
    let copy = copy_of(base.path());
    symlink(&theirs, copy.path().join("snapshot-0000000003.snap.tmp")).unwrap();
    let (engine, _) = super::repair::open(copy.path(), NOON).unwrap();
    assert!(engine.snapshot().is_err());
    engine.snapshot().unwrap();
    drop(engine);
    assert!(contents(elsewhere.path()) == [(theirs, Some(b"theirs".to_vec()))]);
}
