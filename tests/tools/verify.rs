//! A whole directory: verify and a start agree about whatever is in it.

use std::fs;
use std::path::{Path, PathBuf};

use heartbeat::{UserId, verify};
use serde_json::{Value, json};

use super::{
    NOON, SLOTS_AT, SYNCED_AT, agreed, change, contents, copy_of, directory, files, flip, open, run, stderr,
    stdout,
};

const HEADER_VERSION_AT: usize = 8;
const ALIVE_AT: usize = 4_104;

type Damage = (&'static str, fn(&Path));

const OF_ANY_FILE: [Damage; 6] = [
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("emptied", |path| change(path, Vec::clear)),
    ("cut", |path| change(path, |bytes| bytes.truncate(bytes.len() / 2))),
    ("longer", |path| change(path, |bytes| bytes.push(0))),
    ("of another kind", |path| flip(path, 0)),
    ("of a damaged version", |path| flip(path, HEADER_VERSION_AT)),
];

const OF_A_SEGMENT: [Damage; 10] = [
    ("header damaged", |path| flip(path, 40)),
    ("newer", |path| {
        change(path, |bytes| {
            bytes[HEADER_VERSION_AT] = 2;
            let sum = crc32fast::hash(&bytes[..4_092]);
            bytes[4_092..4_096].copy_from_slice(&sum.to_le_bytes());
        });
    }),
    ("slot damaged", |path| flip(path, SLOTS_AT)),
    ("slot zeroed", |path| change(path, |bytes| bytes[SLOTS_AT..SLOTS_AT + 24].fill(0))),
    ("last place damaged", |path| flip(path, SLOTS_AT + 340 * 24 + 16)),
    ("slot torn", |path| {
        change(path, |bytes| {
            bytes[SYNCED_AT..SYNCED_AT + 8].fill(0);
            bytes[SLOTS_AT] ^= 1;
        });
    }),
    ("no slots", |path| change(path, |bytes| bytes[SYNCED_AT..].fill(0))),
    ("synced mark damaged", |path| flip(path, SYNCED_AT)),
    ("alive second damaged", |path| flip(path, ALIVE_AT)),
    ("renamed", |path| fs::rename(path, path.with_file_name("journal-0000000077.seg")).unwrap()),
];

const OF_A_SNAPSHOT: [Damage; 5] = [
    ("header damaged", |path| flip(path, 20)),
    ("newer", |path| {
        change(path, |bytes| {
            bytes[HEADER_VERSION_AT] = 2;
            let sum = crc32fast::hash(&bytes[..12]);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        });
    }),
    ("section damaged", |path| flip(path, 90)),
    ("footer damaged", |path| change(path, |bytes| *bytes.iter_mut().nth_back(30).unwrap() ^= 1)),
    ("trailer damaged", |path| change(path, |bytes| *bytes.last_mut().unwrap() ^= 1)),
];

/// The rules are the same, and this is what tells if one of the two follows another one day.
#[test]
fn a_directory_is_unsound_exactly_when_a_start_refuses() {
    let base = directory();
    let (mut sound, mut unsound) = (0, 0);
    let mut judge = |case: &str, damage: &dyn Fn(&Path)| {
        let copy = copy_of(base.path());
        damage(copy.path());
        let found = agreed(copy.path(), case);
        *(if found.is_sound() { &mut sound } else { &mut unsound }) += 1;
    };
    judge("whole", &|_| ());
    for (ending, special) in [(".seg", &OF_A_SEGMENT[..]), (".snap", &OF_A_SNAPSHOT[..])] {
        for at in 0..files(base.path(), ending).len() {
            for (what, damage) in OF_ANY_FILE.iter().chain(special) {
                judge(&format!("{ending} {at} {what}"), &|copy| damage(&files(copy, ending)[at]));
            }
        }
        for (what, damage) in OF_ANY_FILE.iter().chain(special).filter(|(what, _)| *what != "renamed") {
            judge(&format!("every {ending} {what}"), &|copy| {
                for path in files(copy, ending) {
                    damage(&path);
                }
            });
        }
    }
    for (what, damage) in OF_ANY_FILE.iter().chain(&OF_A_SNAPSHOT) {
        judge(&format!("every snapshot {what}, no segments"), &|copy| {
            for path in files(copy, ".snap") {
                damage(&path);
            }
            for path in files(copy, ".seg") {
                fs::remove_file(path).unwrap();
            }
        });
    }
    assert!(sound > 20 && unsound > 40, "{sound} sound, {unsound} unsound");
}

#[test]
fn files_of_another_directory_are_noticed() {
    let (base, other) = (directory(), directory());
    let segments = files(base.path(), ".seg").len();
    for at in 0..segments {
        let copy = copy_of(base.path());
        let path = files(copy.path(), ".seg")[at].clone();
        fs::copy(files(other.path(), ".seg").get(at).unwrap_or(&path), &path).unwrap();
        agreed(copy.path(), &format!("segment {at} of another directory"));
    }
    for at in 0..2 {
        let copy = copy_of(base.path());
        let path = files(copy.path(), ".snap")[at].clone();
        fs::copy(&files(other.path(), ".snap")[at], path).unwrap();
        agreed(copy.path(), &format!("snapshot {at} of another directory"));
    }
}

/// Two services that went on from copies of one directory, and a segment of the one among the files of the other.
#[test]
fn a_segment_with_slots_that_no_other_names_is_never_removed() {
    let (one, other) = (directory(), tempfile::tempdir().unwrap());
    for path in files(one.path(), "") {
        fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
    }
    let heal = |path: &Path| open(path, NOON).unwrap().0.heal(UserId::new(9_999)).unwrap();
    heal(one.path());
    drop(open(other.path(), NOON).unwrap());
    heal(other.path());
    let has_slots = |path: &PathBuf| fs::read(path).unwrap()[SLOTS_AT..SLOTS_AT + 24] != [0; 24];
    let last = |path: &Path| files(path, ".seg").into_iter().rfind(has_slots).unwrap();
    let (unlinked, last) = (last(one.path()), last(other.path()));
    assert!(unlinked.file_name() < last.file_name());
    fs::copy(&last, one.path().join(last.file_name().unwrap())).unwrap();

    let found = agreed(one.path(), "unlinked");
    let refusal = found.verdict.unwrap_err().to_string();
    assert!(refusal.ends_with("has slots, and no later segment names it as the one before"), "{refusal}");

    flip(&unlinked, SLOTS_AT);
    let found = agreed(one.path(), "unlinked and damaged");
    let refusal = found.verdict.unwrap_err().to_string();
    assert!(refusal.ends_with("offset 8192: the checksum of slot 0 does not match"), "{refusal}");
    assert!(unlinked.exists());
}

/// All of them, and not the first alone.
#[test]
fn verify_goes_on_after_the_first_complaint() {
    let (copy, other) = (directory(), directory());
    let (segments, snapshots) = (files(copy.path(), ".seg"), files(copy.path(), ".snap"));
    flip(&snapshots[0], 20);
    flip(&snapshots[1], 90);
    flip(&segments[0], 40);
    flip(&segments[1], SLOTS_AT);
    fs::copy(&files(other.path(), ".seg")[2], &segments[2]).unwrap();

    let found = verify(copy.path(), NOON).unwrap();
    let complaints: Vec<_> = found.complaints().map(ToString::to_string).collect();
    assert_eq!(complaints.len(), 5, "{complaints:#?}");
    assert!(complaints[1].contains("offset 60: the checksum of section 0 does not match"), "{complaints:#?}");
    assert!(complaints[3].contains("offset 8192: the checksum of slot 0 does not match"), "{complaints:#?}");
    assert!(complaints[4].contains("is of another data directory"), "{complaints:#?}");
    assert!(!found.is_sound());
}

#[test]
fn any_changed_byte_is_judged_alike() {
    let base = directory();
    let mut random = 0x5eed_u64;
    for round in 0..60 {
        let copy = copy_of(base.path());
        let files = files(copy.path(), "");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let file = &files[(random >> 33) as usize % files.len()];
        // The header's zeros and the free places are most of a file: look where there is something.
        let length = fs::read(file).unwrap().len().min(9_000);
        flip(file, (random >> 40) as usize % length);
        agreed(copy.path(), &format!("round {round}, {}", file.display()));
    }
}

#[test]
fn what_is_not_ours_is_told_and_stops_nothing() {
    let copy = directory();
    let at = |name: &str| copy.path().join(name);
    for name in ["notes.txt", "snapshot-0000000009.snap.tmp", "README.md", ".gitignore"] {
        fs::write(at(name), "x").unwrap();
    }
    fs::create_dir_all(at("journal-0000000055.seg")).unwrap();
    fs::create_dir_all(at("quarantine")).unwrap();
    fs::write(at("quarantine/snapshot-0000000001.snap"), "x").unwrap();

    let found = verify(copy.path(), NOON).unwrap();
    assert!(found.is_sound());
    assert_eq!(found.unknown, [at("journal-0000000055.seg"), at("notes.txt")]);
    assert_eq!(found.temporaries, [at("snapshot-0000000009.snap.tmp")]);
    assert_eq!(found.quarantine, [at("quarantine/snapshot-0000000001.snap")]);
    agreed(copy.path(), "with other files");
}

#[test]
fn a_journal_from_the_future_is_judged_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), NOON.plus(2 * 86_400)).unwrap();
    engine.heal(UserId::new(1)).unwrap();
    drop(engine);
    let found = agreed(folder.path(), "from the future");
    assert_eq!(found.complaints().count(), 1);
}

#[test]
fn verify_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let output = run(&["verify", missing.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(74), 0));
    assert!(stderr(&output).starts_with("heartbeat: cannot open "), "{}", stderr(&output));
    assert!(!missing.exists());

    let output = run(&["verify", folder.path().to_str().unwrap()]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "sound: a start would begin with nobody\n".into())
    );
    assert_eq!(contents(folder.path()), []);
}

#[test]
fn verify_says_it_as_text_and_as_json() {
    let copy = directory();
    let path = copy.path().to_str().unwrap();
    let segments = files(copy.path(), ".seg").len();

    let output = run(&["verify", path, "--json"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found["sound"], true);
    assert_eq!(found["in_use"], false);
    assert_eq!(found["refusal"], Value::Null);
    assert_eq!(found["start"], json!({"snapshot": 2, "segments": 2, "slots": 499}));
    assert_eq!(found["snapshots"][1]["users"], 2);
    assert_eq!(found["snapshots"][1]["closed_sessions"], 1);
    assert_eq!(found["segments"].as_array().unwrap().len(), segments);
    let text = stdout(&run(&["verify", path]));
    assert!(
        text.ends_with("\nsound: a start would begin from snapshot 2 and replay 2 segments with 499 slots\n"),
        "{text}"
    );

    flip(&files(copy.path(), ".seg")[1], SLOTS_AT + 24);
    let output = run(&["verify", path, "--json"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(65), String::new()));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&found["sound"], &found["start"]), (&json!(false), &Value::Null));
    assert_eq!(found["segments"][1]["offset"], SLOTS_AT + 24);
    let text = stdout(&run(&["verify", path]));
    assert!(text.contains("\nunsound: a start would refuse: "), "{text}");
    assert!(text.contains("offset 8216: the checksum of slot 1 does not match"), "{text}");
}

/// The older one and a longer replay say the same; but somebody should know.
#[test]
fn a_damaged_snapshot_that_is_not_needed_is_a_complaint_and_not_unsound() {
    let copy = directory();
    flip(&files(copy.path(), ".snap")[1], 90);
    let output = run(&["verify", copy.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("offset 60: the checksum of section 0 does not match"), "{text}");
    assert!(
        text.ends_with("\nsound in spite of 1 complaint: a start would begin from snapshot 1 and replay 3 segments with 501 slots\n"),
        "{text}"
    );
}
