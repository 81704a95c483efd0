//! `quarantine/` may be a disk of its own: what is put aside is copied there then, since it cannot be renamed.
//!
//! Mounting takes root (or user namespaces), so this is only built with the feature `root-tests`; `tests/all` builds it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "another process works")]

mod namespace;
mod process;
mod wire;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use namespace::Namespace;
use rstest::rstest;
use wire::Client;

/// The data directory on one tmpfs and its quarantine on another; or on the same one, as a mount of another folder.
const TWO_DISKS: &str = r#"mount -t tmpfs none "$0" && mkdir -p "$0/data/quarantine" &&
    mount -t tmpfs none "$0/data/quarantine" && echo mounted && cat"#;
const ONE_DISK: &str = r#"mount -t tmpfs none "$0" && mkdir -p "$0/data/quarantine" "$0/elsewhere" &&
    mount --bind "$0/elsewhere" "$0/data/quarantine" && echo mounted && cat"#;

const READ_ONLY: &str = r#"mount -t tmpfs none "$0" && mkdir -p "$0/data/quarantine" &&
    mount -t tmpfs -o ro none "$0/data/quarantine" && echo mounted && cat"#;

const SETTINGS: [&str; 6] = ["--ttl", "1h", "--snapshot-interval", "1day", "--segment-bytes", "16KiB"];

/// A byte of a session.
fn damage(snapshot: &Path) -> Vec<u8> {
    let file = fs::OpenOptions::new().read(true).write(true).open(snapshot).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 80).unwrap();
    file.write_all_at(&[byte[0] ^ 0x41], 80).unwrap();
    fs::read(snapshot).unwrap()
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut contents: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect();
    contents.sort();
    contents
}

/// Users 1 and 2, each with a snapshot, and user 3.
fn heal_three(disk: &Namespace, data: &Path) {
    let mut service = disk.start(data, &SETTINGS);
    let mut client = Client::connect(service.listening());
    for user in 1..=3 {
        assert_eq!(client.call("PUT", &format!("/heal/{user}")).status, 200);
        if user < 3 {
            assert_eq!(client.call("POST", "/v1/admin/snapshot").status, 200);
        }
    }
    service.kill();
}

fn online(disk: &Namespace, data: &Path) -> Vec<u64> {
    let mut service = disk.start(data, &SETTINGS);
    let mut client = Client::connect(service.listening());
    let online = |user: &u64| client.call("GET", &format!("/checkup/{user}")).body.contains("online");
    (1..=3).filter(online).collect()
}

#[rstest]
fn a_start_puts_a_damaged_snapshot_aside(#[values(TWO_DISKS, ONE_DISK)] mounts: &str) {
    let disk = Namespace::new(mounts);
    let data = disk.folder().join("data");
    heal_three(&disk, &data);
    let seen = disk.seen_from_outside().join("data");
    let snapshot = seen.join("snapshot-0000000002.snap");
    let damaged = damage(&snapshot);

    assert_eq!(online(&disk, &data), [1, 2, 3]);
    // Its number is not given again.
    assert!(!snapshot.exists());
    assert_eq!(contents(&seen.join("quarantine")), [("snapshot-0000000002.snap".to_owned(), damaged)]);
}

/// Two generations are kept all the same, beside the damaged one.
#[test]
fn where_it_takes_nothing_the_damaged_snapshot_stays_and_so_does_what_stands_in() {
    let disk = Namespace::new(READ_ONLY);
    let data = disk.folder().join("data");
    heal_three(&disk, &data);
    let seen = disk.seen_from_outside().join("data");
    let snapshot = |number| seen.join(format!("snapshot-{number:010}.snap"));
    let damaged = damage(&snapshot(2));

    let mut service = disk.start(&data, &SETTINGS);
    let told = service.logged(
        "a damaged snapshot cannot be put aside and stays; the one before and the journal say the same",
    );
    assert!(told["fields"]["error"].as_str().unwrap().contains("Read-only file system"), "{told}");
    // The start takes one.
    while !snapshot(3).exists() {
        std::thread::yield_now();
    }
    service.kill();
    assert_eq!(fs::read(snapshot(2)).unwrap(), damaged);

    damage(&snapshot(3));
    assert_eq!(online(&disk, &data), [1, 2, 3]);
}

#[rstest]
fn repair_puts_both_damaged_snapshots_aside(#[values(TWO_DISKS, ONE_DISK)] mounts: &str) {
    let disk = Namespace::new(mounts);
    let data = disk.folder().join("data");
    heal_three(&disk, &data);
    let seen = disk.seen_from_outside().join("data");
    let names = ["snapshot-0000000001.snap", "snapshot-0000000002.snap"];
    let damaged = names.map(|name| damage(&seen.join(name)));

    let repaired = disk.inside(process::BINARY).args(["repair", "--apply"]).arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&repaired.stdout);
    assert_eq!(repaired.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&repaired.stderr));
    assert!(names.iter().all(|name| !seen.join(name).exists()), "{said}");
    let aside = contents(&seen.join("quarantine"));
    assert!(aside == [0, 1].map(|index| (names[index].to_owned(), damaged[index].clone())), "{said}");
    assert!(online(&disk, &data).contains(&3), "{said}");
}
