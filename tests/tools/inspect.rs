//! One file as JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    SLOTS_AT, SYNCED_AT, change, directory, files, flip, large_snapshot, process, run, stderr, stdout,
};

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn inspect_prints_a_snapshot() {
    let base = directory();
    let snapshot = files(base.path(), ".snap")[1].clone();
    let output = run(&["inspect", snapshot.to_str().unwrap()]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let lines = lines(&output);
    let [head, users @ .., totals] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&head["type"], &head["number"], &head["users"]), (&json!("snapshot"), &json!(2), &json!(2)));
    let user = |id: i64| users.iter().find(|user| user["id"] == id).unwrap();
    assert_eq!(
        *user(-1),
        json!({"type": "user", "id": -1, "live": null,
            "closed": [{"online_at": 1_638_360_000, "offline_at": 1_638_360_000, "end": "left"}]})
    );
    assert_eq!(
        *user(1),
        json!({"type": "user", "id": 1, "live": {"online_at": 1_638_360_000, "deadline": 1_638_360_007}, "closed": []})
    );
    assert_eq!(
        *totals,
        json!({"type": "totals", "users": 2, "live": 1, "closed_sessions": 1, "damaged_sections": 0})
    );
}

#[test]
fn inspect_prints_a_segment_and_tells_torn_and_damaged_slots() {
    let base = directory();
    let segment = files(base.path(), ".seg")[1].clone();
    let path = segment.to_str().unwrap();
    let output = run(&["inspect", path]);
    assert_eq!(output.status.code(), Some(0));
    let whole = lines(&output);
    let (head, last) = (&whole[0], &whole[whole.len() - 1]);
    assert_eq!(
        (&head["type"], &head["capacity"], &head["synced"]),
        (&json!("segment"), &json!(341), &json!(341))
    );
    assert_eq!(whole.len(), 343);
    assert_eq!(
        whole[3],
        json!({"type": "slot", "index": 2, "kind": "live", "user": 4, "online_at": 1_638_360_000, "until": 1_638_360_007})
    );
    assert_eq!(*last, json!({"type": "totals", "slots": 341, "torn": 0, "empty": 0, "damaged": 0}));

    flip(&segment, SLOTS_AT + 24);
    let output = run(&["inspect", path]);
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(
        stderr(&output),
        format!("heartbeat: {path}, offset 8216: the checksum of slot 1 does not match\n")
    );
    let damaged = lines(&output);
    assert_eq!(damaged[2], json!({"type": "slot", "index": 1, "kind": "damaged"}));
    assert_eq!((damaged.len(), &damaged[3]), (343, &whole[3]));

    change(&segment, |bytes| {
        bytes[SYNCED_AT..SYNCED_AT + 8].fill(0);
        bytes[SLOTS_AT + 5 * 24..SLOTS_AT + 7 * 24].fill(0);
        bytes[SLOTS_AT + 300 * 24..].fill(0);
    });
    let output = run(&["inspect", path]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let torn = lines(&output);
    assert_eq!(torn[2], json!({"type": "slot", "index": 1, "kind": "torn"}));
    assert_eq!(torn[7], json!({"type": "slot", "index": 6, "kind": "empty"}));
    assert_eq!(
        torn.last().unwrap(),
        &json!({"type": "totals", "slots": 297, "torn": 1, "empty": 2, "damaged": 0})
    );

    change(&segment, |bytes| bytes.truncate(SLOTS_AT + 24 * 10));
    let output = run(&["inspect", path]);
    assert_eq!((output.status.code(), lines(&output).len()), (Some(65), 12));
    assert!(stderr(&output).contains("offset 8432: the header tells another length"), "{}", stderr(&output));
}

#[test]
fn inspect_prints_what_can_be_read_of_a_damaged_snapshot() {
    let (_folder, path) = large_snapshot();
    let arg = path.to_str().unwrap();
    flip(&path, 100);
    let output = run(&["inspect", arg]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("offset 60: the checksum of section 0 does not match"),
        "{}",
        stderr(&output)
    );
    let read = lines(&output);
    let totals = read.last().unwrap();
    assert_eq!(totals["damaged_sections"], 1);
    assert!(totals["users"].as_u64().unwrap() > 19_900 && read.len() > 19_900, "{totals}");

    // Cut off in the middle, with a first section that is whole again: there is no footer to say where sections are.
    flip(&path, 100);
    change(&path, |bytes| bytes.truncate(bytes.len() / 2));
    let output = run(&["inspect", arg]);
    assert_eq!(output.status.code(), Some(65));
    let read = lines(&output);
    assert_eq!(read[0]["users"], Value::Null);
    assert!(read.last().unwrap()["users"].as_u64().unwrap() > 9_000, "{:?}", read.last());
}

#[rstest]
#[case("", "this is not a snapshot or journal segment")]
#[case("HBSN", "this is not a snapshot or journal segment")]
#[case("HBSNAP\r\n", "the file ends in the header")]
#[case("HeartJnl", "the file ends in the header")]
fn inspect_of_anything_else_is_65(#[case] text: &str, #[case] sentence: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let output = run(&["inspect", file.path().to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(65), 0));
    assert!(stderr(&output).contains(sentence), "{}", stderr(&output));
}

#[test]
fn inspect_of_nothing_is_74() {
    let output = run(&["inspect", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(
        stderr(&output),
        "heartbeat: /nonexistent cannot be read: No such file or directory (os error 2)\n"
    );
}

/// `heartbeat inspect … | head -1`
#[test]
fn whoever_reads_only_the_first_line_is_no_error() {
    let (_folder, path) = large_snapshot();
    let mut command = Command::new(process::BINARY);
    command.env_clear().arg("inspect").arg(path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert!(line.contains("\"snapshot\""));
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
