//! A directory from one snapshot.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use heartbeat::{Beginning, Disk, Engine, ManualClock, Session, UnixSeconds, UserId, restore, verify};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{self, Service};
use super::{
    NOON, USERS, agreed, contents, directory, files, flip, large_snapshot, open, run, stderr, stdout,
};

fn call(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub(super) fn service(path: &Path) -> (Service, SocketAddr) {
    let path = path.to_str().unwrap();
    let mut service =
        Service::start(&["--data-dir", path, "--segment-bytes", "16KiB", "--ttl", "1h"], |_| {});
    let address = service.listening();
    (service, address)
}

/// The whole way of a backup: copy the file of a running service, restore it, start on it.
#[test]
fn a_snapshot_of_a_running_service_is_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup, new) =
        (folder.path().join("data"), folder.path().join("backup"), folder.path().join("new"));
    let (mut running, address) = service(&data);
    call(address, "PUT", "/heal/1");
    call(address, "PUT", "/heal/2");
    call(address, "DELETE", "/heal/2");
    call(address, "POST", "/v1/admin/snapshot");
    let [before_1, before_2] = [1, 2].map(|user| call(address, "GET", &format!("/heart_rhythm/{user}")));
    call(address, "DELETE", "/heal/1");
    call(address, "PUT", "/heal/3");

    let text = stdout(&run(&["verify", data.to_str().unwrap()]));
    assert!(text.contains(&format!("is in use by process {}", running.id())), "{text}");
    assert!(text.contains("\nsound: a start would begin from snapshot 1 "), "{text}");
    let output = run(&["verify", "--json", data.to_str().unwrap()]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&found["in_use"], &found["in_use_by"]), (&json!(true), &json!(running.id())));

    fs::copy(data.join("snapshot-0000000001.snap"), &backup).unwrap();
    let output = run(&["restore", backup.to_str().unwrap(), new.to_str().unwrap()]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert!(stdout(&output).contains("2 users and 1 closed session, as of"), "{}", stdout(&output));
    assert!(stdout(&output).ends_with(&format!("with: heartbeat --data-dir {}\n", new.display())));
    // It is still what it was for the service that runs.
    call(address, "PUT", "/heal/4");
    running.signal(Signal::TERM);
    assert!(running.wait().success());

    let (mut restored, address) = service(&new);
    for (user, history) in [(1, before_1), (2, before_2)] {
        assert_eq!(call(address, "GET", &format!("/heart_rhythm/{user}")), history);
    }
    assert_eq!(call(address, "GET", "/heart_rhythm/3"), r#"{"id":3,"history":[]}"#);
    call(address, "PUT", "/heal/3");
    restored.kill();
    assert_eq!(run(&["verify", new.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(files(folder.path(), "").len(), 3, "nothing beside: {:?}", files(folder.path(), ""));
}

fn timelines(engine: &Engine) -> Vec<Vec<Session>> {
    (-2..=USERS).map(|user| engine.timeline(UserId::new(user))).collect()
}

/// Sessions that lapsed, were left or live on when the second snapshot was taken; the journal went on after it.
#[test]
fn a_restored_directory_has_the_snapshots_state_and_an_id_of_its_own() {
    let (base, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let heal = |engine: &Engine, user| engine.heal(UserId::new(user)).unwrap();
    let clock = Arc::new(ManualClock::at(NOON));
    let disk = Disk { segment_bytes: 1 << 20, ..Disk::at(base.path()) };
    let (engine, _) = Engine::builder().clock(clock.clone()).open(disk).unwrap();
    (0..100).for_each(|user| _ = heal(&engine, user));
    engine.snapshot().unwrap();
    clock.advance(20);
    (0..100).for_each(|user| _ = heal(&engine, user * 2));
    clock.advance(2);
    engine.leave(UserId::new(6)).unwrap();
    let taken = engine.snapshot().unwrap();
    let then = timelines(&engine);
    assert!(then.iter().any(|sessions| sessions.len() == 2) && then.iter().any(Vec::is_empty));
    let kept = folder.path().join("kept");
    fs::copy(files(base.path(), ".snap").pop().unwrap(), &kept).unwrap();
    (0..100).for_each(|user| _ = heal(&engine, user));
    engine.forget(UserId::new(3)).unwrap();
    drop(engine);
    let now = NOON.plus(22);

    let (to, again) = (folder.path().join("deep/down/data"), folder.path().join("again"));
    let restored = restore(&kept, &to).unwrap();
    assert_eq!((restored.engine_time, restored.number), (now, taken.number));
    assert_ne!(restored.from, restored.directory);
    assert_ne!(restore(&kept, &again).unwrap().directory, restored.directory);
    let beginning = Beginning { snapshot: Some(restored.number), segments: 1, slots: 0 };
    assert_eq!(verify(&to, now).unwrap().verdict.unwrap(), beginning);
    let (engine, recovery) = open(&to, now).unwrap();
    assert_eq!((recovery.users, restored.users), (150, 150));
    assert!(timelines(&engine) == then);

    // It is a data directory like any other.
    heal(&engine, 9_999);
    engine.snapshot().unwrap();
    drop(engine);
    let (engine, _) = open(&to, now).unwrap();
    assert_eq!(engine.timeline(UserId::new(9_999)).len(), 1);
    assert!(timelines(&engine) == then);
    drop(engine);

    // A segment of the old directory is not taken for one of this.
    let segment = files(base.path(), ".seg").pop().unwrap();
    fs::copy(&segment, again.join(segment.file_name().unwrap())).unwrap();
    let refusal = agreed(&again, "with a segment of the old directory").verdict.unwrap_err().to_string();
    assert!(refusal.contains("is of another data directory"), "{refusal}");
}

/// Its journal begins with an empty segment, which alone would be a whole journal of nobody.
#[test]
fn a_restored_directory_whose_snapshot_is_damaged_or_gone_does_not_start_with_nobody() {
    let base = directory();
    for damage in [|path: &Path| flip(path, 90), |path: &Path| fs::remove_file(path).unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        restore(&files(base.path(), ".snap")[0], folder.path()).unwrap();
        damage(&files(folder.path(), ".snap")[0]);
        assert!(!agreed(folder.path(), "a restored directory without its snapshot").is_sound());
    }
}

#[test]
fn restore_takes_an_empty_folder_and_no_other() {
    let (base, folder) = (directory(), tempfile::tempdir().unwrap());
    let snapshot = files(base.path(), ".snap")[0].to_str().unwrap().to_owned();
    let to = folder.path().to_str().unwrap();
    fs::write(folder.path().join("README.md"), "whose").unwrap();
    fs::write(folder.path().join(".gitignore"), "*").unwrap();
    // What a restore that was killed has left.
    fs::create_dir(folder.path().join(".restoring")).unwrap();
    fs::write(folder.path().join(".restoring/snapshot-0000000001.snap.tmp"), "half").unwrap();

    assert_eq!(run(&["restore", &snapshot, to]).status.code(), Some(0));
    let names: Vec<_> =
        files(folder.path(), "").iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, [".gitignore", "README.md", "journal-0000000002.seg", "snapshot-0000000001.snap"]);

    let before = contents(folder.path());
    let output = run(&["restore", &snapshot, to]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not empty: it has "), "{}", stderr(&output));
    assert!(contents(folder.path()) == before);
}

/// The folder beside the target used to be emptied, whatever it was and wherever a link of that name led.
#[test]
fn restore_empties_only_what_a_restore_has_left() {
    let base = directory();
    let snapshot = files(base.path(), ".snap")[0].clone();
    let theirs: [&[&str]; 4] = [
        &["notes.txt"],
        &[".hidden"],
        &["journal-0000000001.seg", "journal-0000000002.seg"],
        &["journal-0000000002.seg", "snapshot-0000000001.snap", "snapshot-0000000002.snap.tmp"],
    ];
    for names in theirs {
        for is_link in [false, true] {
            let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (to, stage) = (folder.path().join("new"), folder.path().join(".new.restoring"));
            for name in names {
                fs::write(elsewhere.path().join(name), "theirs").unwrap();
            }
            let before = contents(elsewhere.path());
            if is_link {
                std::os::unix::fs::symlink(elsewhere.path(), &stage).unwrap();
            } else {
                fs::create_dir(&stage).unwrap();
                for path in files(elsewhere.path(), "") {
                    fs::copy(&path, stage.join(path.file_name().unwrap())).unwrap();
                }
            }
            let error = restore(&snapshot, &to).unwrap_err().to_string();
            assert!(error.contains(stage.to_str().unwrap()), "{error}");
            let left = contents(&stage).into_iter().map(|(_, bytes)| bytes);
            assert!(left.eq(before.iter().map(|(_, bytes)| bytes.clone())), "{names:?}");
            assert!(!to.exists());

            let inside = folder.path().join("inside");
            fs::create_dir(&inside).unwrap();
            fs::rename(&stage, inside.join(".restoring")).unwrap();
            restore(&snapshot, &inside).unwrap_err();
            assert!(contents(elsewhere.path()) == before);
        }
    }
    // A link to what a restore may have left is a link all the same.
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(elsewhere.path().join("journal-0000000002.seg"), "theirs").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(".new.restoring")).unwrap();
    restore(&snapshot, &folder.path().join("new")).unwrap_err();
    assert_eq!(contents(elsewhere.path()).len(), 1);
}

/// As it stands in the README, word for word: a copy that is not whole must not cost the one that was.
#[test]
fn the_line_for_cron_keeps_the_last_good_backup() {
    let readme = include_str!("../../README.md").replace('\n', " ");
    let line = readme.split('`').find(|code| code.starts_with("cp \"$(ls snapshots/")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("snapshots");
    let base = directory();
    fs::create_dir(&data).unwrap();
    let programs = Path::new(process::BINARY).parent().unwrap().to_str().unwrap();
    let run_line = || {
        let mut shell = Command::new("sh");
        let path = format!("{programs}:/usr/bin:/bin");
        shell.args(["-c", line]).current_dir(folder.path()).env("PATH", path).output().unwrap().status.code()
    };
    let (snapshot, backup) = (data.join("snapshot-0000000001.snap"), folder.path().join("backup.snap"));
    fs::copy(&files(base.path(), ".snap")[0], &snapshot).unwrap();
    assert_eq!(run_line(), Some(0), "{line}");
    let good = fs::read(&backup).unwrap();
    assert!(good == fs::read(&snapshot).unwrap());

    fs::copy(&snapshot, data.join("snapshot-0000000002.snap")).unwrap();
    flip(&data.join("snapshot-0000000002.snap"), 90);
    assert_eq!(run_line(), Some(65), "{line}");
    assert!(fs::read(&backup).unwrap() == good);

    fs::copy(&files(base.path(), ".snap")[1], data.join("snapshot-0000000003.snap")).unwrap();
    assert_eq!(run_line(), Some(0), "{line}");
    assert!(fs::read(&backup).unwrap() == fs::read(&files(base.path(), ".snap")[1]).unwrap());
}

#[test]
fn restore_leaves_nothing_if_it_fails() {
    let (base, folder) = (directory(), tempfile::tempdir().unwrap());
    let to = folder.path().join("new");
    let snapshot = files(base.path(), ".snap")[0].clone();
    flip(&snapshot, 90);
    let output = run(&["restore", snapshot.to_str().unwrap(), to.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("offset 60: the checksum of section 0 does not match"),
        "{}",
        stderr(&output)
    );
    let output = run(&["restore", "/nonexistent", to.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(contents(folder.path()), []);
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_could_be_taken_for_a_whole() {
    let (_folder, snapshot) = large_snapshot();
    let (folder, whole) = (tempfile::tempdir().unwrap(), fs::metadata(&snapshot).unwrap().len());
    let now = UnixSeconds::new(u32::MAX);
    let mut killed = 0;
    for round in 0..40_u64 {
        let (missing, empty) =
            (folder.path().join(format!("missing {round}")), folder.path().join(format!("empty {round}")));
        fs::create_dir(&empty).unwrap();
        for to in [&missing, &empty] {
            let mut restore = Command::new(process::BINARY);
            let restore =
                restore.arg("restore").arg(&snapshot).arg(to).stdout(Stdio::null()).stderr(Stdio::null());
            let mut restore = restore.spawn().unwrap();
            std::thread::park_timeout(Duration::from_micros(2_000 + round * 1_000));
            restore.kill().unwrap();
            killed += u32::from(!restore.wait().unwrap().success());
            let Ok(found) = verify(to, now) else {
                assert!(!missing.exists());
                continue;
            };
            let snapshots: Vec<_> = found.snapshots.iter().map(|found| found.facts.unwrap().bytes).collect();
            match (&snapshots[..], found.segments.len()) {
                ([], 0) => assert_eq!(to, &empty),
                ([], 1) => assert!(to == &empty && !found.is_sound()),
                ([bytes], 1) => assert!(*bytes == whole && found.is_sound()),
                other => panic!("{other:?}"),
            }
            if snapshots.is_empty() && found.segments.is_empty() {
                heartbeat::restore(&snapshot, to).unwrap();
                assert!(!to.join(".restoring").exists());
            }
        }
    }
    assert!(killed > 0);
}

#[test]
fn restore_does_not_touch_a_directory_in_use() {
    let (base, folder) = (directory(), tempfile::tempdir().unwrap());
    let (running, _) = service(folder.path());
    let snapshot = files(base.path(), ".snap")[0].clone();
    let output = run(&["restore", snapshot.to_str().unwrap(), folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(75));
    assert!(
        stderr(&output).contains(&format!("is in use by process {}", running.id())),
        "{}",
        stderr(&output)
    );
}
