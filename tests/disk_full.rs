//! A full disk refuses writes, and nothing else: reads go on, `/readyz` says why, and writing resumes by itself.
//!
//! The data directory is on a small tmpfs of its own, in a mount namespace that nobody else sees. Making one takes root (or
//! user namespaces), so these tests are only built with the feature `root-tests`; `tests/all` builds them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "what is promised is a time that really passes")]

mod namespace;
mod process;
mod wire;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use namespace::Namespace;
use process::Service;
use wire::Client;

/// How soon a refusal must come, and how soon writing must resume once there is room.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);
const RESUMED_WITHIN: Duration = Duration::from_secs(5);

/// A tmpfs of so many bytes.
struct SmallDisk(Namespace);

impl SmallDisk {
    fn new(bytes: u32) -> Self {
        let mount = format!("mount -t tmpfs -o size={bytes} none \"$0\"");
        Self(Namespace::new(&format!("{mount} && mkdir \"$0/data\" && echo mounted && cat")))
    }

    fn start(&self) -> Service {
        self.start_with(&["--segment-bytes", "16KiB", "--ttl", "1h"])
    }

    fn start_with(&self, settings: &[&str]) -> Service {
        self.0.start(&self.0.folder().join("data"), settings)
    }

    /// The tmpfs, as it is seen from outside.
    fn filler(&self) -> PathBuf {
        self.0.seen_from_outside().join("filler")
    }

    fn fill(&self) {
        let mut filler = fs::OpenOptions::new().append(true).create(true).open(self.filler()).unwrap();
        while filler.write_all(&[1; 4_096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

/// Heals users from `first` on, each once, until one is refused; gives the one.
fn heal_until_refused(client: &mut Client, first: u64) -> u64 {
    for id in first..first + 100_000 {
        let start = Instant::now();
        let answer = client.call("PUT", &format!("/heal/{id}"));
        let took = start.elapsed();
        match answer.status {
            200 => {}
            503 => {
                assert!(took < REFUSED_WITHIN, "{took:?}");
                assert_eq!(answer.header("retry-after"), Some("1"));
                return id;
            }
            status => panic!("{status} {}", answer.body),
        }
    }
    panic!("the disk is full, and a hundred thousand heals were taken");
}

fn heal_when_there_is_room(client: &mut Client, id: u64) {
    let start = Instant::now();
    while client.call("PUT", &format!("/heal/{id}")).status != 200 {
        assert!(start.elapsed() < RESUMED_WITHIN);
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn assert_known(client: &mut Client, ids: std::ops::Range<u64>) {
    for id in ids {
        let answer = client.call("GET", &format!("/checkup/{id}"));
        assert_eq!(answer.brief(), (200, format!("{{\"id\":{id},\"status\":\"online\"}}").as_str()));
    }
}

#[test]
fn a_full_disk_refuses_writes_and_lets_them_in_again_when_there_is_room() {
    let disk = SmallDisk::new(512 << 10);
    let mut service = disk.start();
    let mut client = Client::connect(service.listening());
    assert_eq!(client.call("PUT", "/heal/1").status, 200);
    disk.fill();

    let refused = heal_until_refused(&mut client, 2);
    assert_known(&mut client, 1..refused);
    assert_eq!(
        client.call("GET", &format!("/v1/users/{refused}")).status,
        404,
        "a refused heal leaves no trace"
    );
    let readiness = client.call("GET", "/readyz");
    assert_eq!(readiness.status, 503);
    assert!(readiness.body.contains("room"), "{}", readiness.body);

    disk.make_room();
    heal_when_there_is_room(&mut client, refused);
    assert_eq!(client.call("GET", "/readyz").status, 200);
    for id in refused + 1..refused + 1_000 {
        heal_when_there_is_room(&mut client, id);
    }

    service.kill();
    let mut service = disk.start();
    let mut client = Client::connect(service.listening());
    assert_known(&mut client, 1..refused + 1_000);
}

#[test]
fn a_service_starts_on_a_full_disk_and_writes_when_there_is_room() {
    let disk = SmallDisk::new(512 << 10);
    let mut service = disk.start();
    let mut client = Client::connect(service.listening());
    disk.fill();
    let refused = heal_until_refused(&mut client, 1);
    service.kill();
    disk.fill();

    let mut service = disk.start();
    let mut client = Client::connect(service.listening());
    assert_known(&mut client, 1..refused);
    assert_eq!(client.call("GET", "/readyz").status, 503);
    heal_until_refused(&mut client, refused);

    disk.make_room();
    heal_when_there_is_room(&mut client, refused);
    service.kill();
    let mut service = disk.start();
    assert_known(&mut Client::connect(service.listening()), 1..refused + 1);
}

/// Its own journal fills the disk long before a snapshot is due: what a snapshot makes needless is the room.
#[test]
fn a_volume_that_the_journal_has_filled_makes_room_by_itself() {
    let disk = SmallDisk::new(4 << 20);
    let settings = ["--segment-bytes", "256KiB", "--ttl", "1h", "--snapshot-interval", "1day"];
    let mut service = disk.start_with(&settings);
    let mut client = Client::connect(service.listening());
    // 7 MiB of slots: twice what the disk holds. Each turn heals in another second, so that each heal writes a slot.
    let ids: Vec<u8> = (0..20_000_i64).flat_map(i64::to_le_bytes).collect();
    let (mut taken, mut refused_since) = (0, None);
    while taken < 16 {
        let answer = client.send("POST", "/v1/heal", "application/octet-stream", &ids);
        match answer.status {
            200 => (taken, refused_since) = (taken + 1, None),
            503 => {
                let since: Instant = *refused_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < RESUMED_WITHIN * 3, "after {taken}: {}", answer.body);
                thread::park_timeout(Duration::from_millis(50));
                continue;
            }
            status => panic!("{status} {}", answer.body),
        }
        // Until the next second: another heal in this one would change nothing and write nothing.
        thread::park_timeout(Duration::from_millis(1_001));
    }
    service.kill();
    let mut service = disk.start_with(&settings);
    assert_known(&mut Client::connect(service.listening()), 0..20_000);
}

/// So many users, healed in one call; again and again until there is room in the journal.
fn heal_many(client: &mut Client, users: i64) {
    let ids: Vec<u8> = (0..users).flat_map(i64::to_le_bytes).collect();
    let start = Instant::now();
    while client.send("POST", "/v1/heal", "application/octet-stream", &ids).status != 200 {
        assert!(start.elapsed() < RESUMED_WITHIN);
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn snapshots(disk: &SmallDisk) -> Vec<String> {
    let entries = fs::read_dir(disk.filler().with_file_name("data")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("snapshot-")).collect();
    names.sort();
    names
}

const BOTH: [&str; 2] = ["snapshot-0000000001.snap", "snapshot-0000000002.snap"];

/// Two generations of a few users, and then so many that their snapshot finds no room, whatever goes for it.
#[test]
fn the_older_generation_is_not_given_up_where_that_makes_too_little_room() {
    let disk = SmallDisk::new(4 << 20);
    let mut service =
        disk.start_with(&["--segment-bytes", "128KiB", "--ttl", "1h", "--snapshot-interval", "1day"]);
    let mut client = Client::connect(service.listening());
    for _ in 0..2 {
        heal_many(&mut client, 10);
        assert_eq!(client.call("POST", "/v1/admin/snapshot").status, 200);
    }
    heal_many(&mut client, 4_000);
    heal_many(&mut client, 20_000);
    disk.fill();
    assert_ne!(client.call("POST", "/v1/admin/snapshot").status, 200);
    assert_eq!(snapshots(&disk), BOTH);
}

#[test]
fn that_the_older_generation_is_given_up_is_told_and_why() {
    let disk = SmallDisk::new(8 << 20);
    let mut service =
        disk.start_with(&["--segment-bytes", "256KiB", "--ttl", "1h", "--snapshot-interval", "1day"]);
    let mut client = Client::connect(service.listening());
    heal_many(&mut client, 10_000);
    for _ in 0..2 {
        assert_eq!(client.call("POST", "/v1/admin/snapshot").status, 200);
    }
    assert_eq!(snapshots(&disk), BOTH);
    disk.fill();
    client.call("POST", "/v1/admin/snapshot");
    let told = service.logged("the disk is full: the generation before the newest snapshot was given up");
    let fields = &told["fields"];
    assert_eq!((told["level"].as_str(), fields["snapshot"].as_u64()), (Some("ERROR"), Some(1)));
    assert!(fields["free_bytes"].as_u64() < fields["wanted_bytes"].as_u64(), "{fields}");
    assert!(!snapshots(&disk).contains(&BOTH[0].to_owned()));
}

/// Slots 1 and 2 of the first segment are damaged, and there is no room for a copy of it: it goes to another disk.
#[test]
fn repair_mends_on_a_full_disk_with_another_place_for_what_it_changes() {
    let disk = SmallDisk::new(512 << 10);
    let mut service = disk.start_with(&["--segment-bytes", "16KiB", "--ttl", "1h", "--durability", "always"]);
    let mut client = Client::connect(service.listening());
    for id in 1..=20 {
        assert_eq!(client.call("PUT", &format!("/heal/{id}")).status, 200);
    }
    service.kill();
    let data = disk.filler().with_file_name("data");
    let segment = data.join("journal-0000000001.seg");
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[8_192 + 24..8_192 + 72].fill(0xaa);
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 0).unwrap();
    disk.fill();

    let place = tempfile::tempdir().unwrap();
    let repair = |flags: &[&str]| {
        let mut command = disk.0.inside(process::BINARY);
        command.args(["repair", "--apply"]);
        command.args(flags).arg(disk.0.folder().join("data")).output().unwrap()
    };
    let refused = repair(&[]);
    assert_eq!(refused.status.code(), Some(74), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(fs::read(&segment).unwrap(), damaged);

    let mended = repair(&["--quarantine", place.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&mended.stdout);
    assert_eq!(mended.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&mended.stderr));
    assert!(said.contains("slots 1 to 2 are unreadable and become void; lost: at most 2 writes"), "{said}");
    assert_eq!(fs::read(place.path().join("journal-0000000001.seg")).unwrap(), damaged);

    disk.make_room();
    let mut service = disk.start();
    let mut client = Client::connect(service.listening());
    assert_known(&mut client, 1..2);
    assert_known(&mut client, 4..21);
    for id in 2..4 {
        let answer = client.call("GET", &format!("/checkup/{id}"));
        assert_eq!(answer.brief(), (200, format!("{{\"id\":{id},\"status\":\"offline\"}}").as_str()));
    }
}
