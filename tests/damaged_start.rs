//! Damage, met by a real process: it refuses with a sentence and exit code 65, or serves nothing that nobody had.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod process;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use process::Service;
use wire::Client;

const USERS: u64 = 200;

/// What the service wrote before it was killed: a snapshot, and a journal behind it.
fn make_data(folder: &Path) -> Vec<String> {
    let mut service = Service::start(
        &["--data-dir", folder.to_str().unwrap(), "--segment-bytes", "16KiB", "--ttl", "1h"],
        |_| {},
    );
    let mut client = Client::connect(service.listening());
    for user in 1..=USERS {
        assert_eq!(client.call("PUT", &format!("/heal/{user}")).status, 200);
        if user == USERS / 2 {
            assert_eq!(client.call("POST", "/v1/admin/snapshot").status, 200);
        }
    }
    let histories =
        (1..=USERS).map(|user| client.call("GET", &format!("/heart_rhythm/{user}")).body).collect();
    service.kill();
    histories
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
#[ignore = "long: sixty starts on damaged directories"]
fn a_real_process_refuses_damage_or_serves_only_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let histories = make_data(folder.path());
    let (mut refused, mut served) = (0, 0);
    for round in 0..60_usize {
        let copy = tempfile::tempdir().unwrap();
        for file in files(folder.path()) {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        let files = files(copy.path());
        let file = &files[round % files.len()];
        let mut bytes = fs::read(file).unwrap();
        // Spread over the file's first kilobytes, where there is something; every fourth time the file is cut.
        let at = round * 7_919 % bytes.len().min(12 << 10);
        if round % 4 == 3 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 0x20;
        }
        fs::write(file, bytes).unwrap();
        if is_served(copy.path(), &histories) { served += 1 } else { refused += 1 }
    }
    assert!(refused > 10 && served > 5, "{refused} refused, {served} served");
}

/// Otherwise it was refused as it should be.
fn is_served(folder: &Path, histories: &[String]) -> bool {
    let folder = folder.to_str().unwrap();
    let mut service =
        Service::start(&["--data-dir", folder, "--segment-bytes", "16KiB", "--ttl", "1h"], |_| {});
    let address = match service.listening_or_refused() {
        Ok(address) => address,
        Err((code, sentence)) => {
            assert_eq!(code, Some(65), "{sentence}");
            assert!(sentence.contains("heartbeat verify"), "{sentence}");
            assert!(sentence.contains("offset") || sentence.contains("missing"), "{sentence}");
            return false;
        }
    };
    let mut client = Client::connect(address);
    for (user, history) in (1..).zip(histories) {
        let found = client.call("GET", &format!("/heart_rhythm/{user}")).body;
        let nothing = format!("{{\"id\":{user},\"history\":[]}}");
        assert!(found == *history || found == nothing, "{found} was {history}");
    }
    true
}
