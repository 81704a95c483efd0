//! `quarantine/` may be a disk of its own: what is put aside is copied there then, since it cannot be renamed.
//!
//! Mounting takes root (or user namespaces), so this is only built with the feature `root-tests`; `tests/all` builds it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "another process works")]

mod common;
mod namespace;
mod process;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use common::folder::{files, flip};
use namespace::Namespace;
use process::Service;
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

/// A byte of a session; gives what the file is then.
fn damage(snapshot: &Path) -> Vec<u8> {
    flip(snapshot, 80);
    fs::read(snapshot).unwrap()
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// What is mounted, with a data directory in it.
struct Disks(Namespace);

impl Disks {
    /// Users 1 and 2, each with a snapshot, and user 3.
    fn with_three_users(mounts: &str) -> Self {
        let disks = Self(Namespace::new(mounts));
        let mut service = disks.start();
        let mut client = Client::connect(service.listening());
        for user in 1..=3 {
            assert_eq!(client.call("PUT", &format!("/heal/{user}")).status, 200);
            if user < 3 {
                assert_eq!(client.call("POST", "/v1/admin/snapshot").status, 200);
            }
        }
        service.kill();
        disks
    }

    /// The data directory, as those inside see it.
    fn data(&self) -> PathBuf {
        self.0.folder().join("data")
    }

    /// And as it is seen from outside.
    fn seen(&self, name: &str) -> PathBuf {
        self.0.seen_from_outside().join("data").join(name)
    }

    fn snapshot(&self, number: u64) -> PathBuf {
        self.seen(&format!("snapshot-{number:010}.snap"))
    }

    /// Where that one is put aside.
    fn aside(&self, number: u64) -> PathBuf {
        self.seen(&format!("quarantine/snapshot-{number:010}.snap"))
    }

    fn start(&self) -> Service {
        self.0.start(&self.data(), &SETTINGS)
    }

    /// Who is, after a start.
    fn online(&self) -> Vec<u64> {
        let mut service = self.start();
        let mut client = Client::connect(service.listening());
        let online = |user: &u64| client.call("GET", &format!("/checkup/{user}")).body.contains("online");
        (1..=3).filter(online).collect()
    }
}

#[rstest]
fn a_start_puts_a_damaged_snapshot_aside(#[values(TWO_DISKS, ONE_DISK)] mounts: &str) {
    let disks = Disks::with_three_users(mounts);
    let damaged = damage(&disks.snapshot(2));

    assert_eq!(disks.online(), [1, 2, 3]);
    // Its number is not given again.
    assert!(!disks.snapshot(2).exists());
    assert_eq!(contents(&disks.seen("quarantine")), [(disks.aside(2), damaged)]);
}

/// Two generations are kept all the same, beside the damaged one.
#[test]
fn where_it_takes_nothing_the_damaged_snapshot_stays_and_so_does_what_stands_in() {
    let disks = Disks::with_three_users(READ_ONLY);
    let damaged = damage(&disks.snapshot(2));

    let mut service = disks.start();
    let told = service.logged(
        "a damaged snapshot cannot be put aside and stays; the one before and the journal say the same",
    );
    assert!(told["fields"]["error"].as_str().unwrap().contains("Read-only file system"), "{told}");
    // The start takes one.
    while !disks.snapshot(3).exists() {
        std::thread::yield_now();
    }
    service.kill();
    assert_eq!(fs::read(disks.snapshot(2)).unwrap(), damaged);

    damage(&disks.snapshot(3));
    assert_eq!(disks.online(), [1, 2, 3]);
}

#[rstest]
fn repair_puts_both_damaged_snapshots_aside(#[values(TWO_DISKS, ONE_DISK)] mounts: &str) {
    let disks = Disks::with_three_users(mounts);
    let damaged = [1, 2].map(|number| (disks.aside(number), damage(&disks.snapshot(number))));

    let repaired = disks.0.inside(process::BINARY).args(["repair", "--apply"]).arg(disks.data()).output();
    let repaired = repaired.unwrap();
    let said = String::from_utf8_lossy(&repaired.stdout);
    assert_eq!(repaired.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&repaired.stderr));
    assert!([1, 2].iter().all(|&number| !disks.snapshot(number).exists()), "{said}");
    assert!(contents(&disks.seen("quarantine")) == damaged, "{said}");
    assert!(disks.online().contains(&3), "{said}");
}
