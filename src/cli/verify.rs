//! `heartbeat verify`: what lies in a data directory, and what a start would make of it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, sentence};
use super::inspect::mark;
use super::output::{self, counted};
use crate::clock::SystemClock;
use crate::damage::ReadError;
use crate::engine::{Beginning, Mark, OpenError, SegmentFound, SnapshotFound, Verification, verify};
use crate::time::Clock;

/// Arguments of `heartbeat verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The data directory
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0 if a start would take it.
pub(super) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let found = verify(&args.dir, SystemClock::start().now())?;
    let text = if args.json { format!("{:#}\n", of(&found)) } else { text(&found) };
    output::print(text.as_bytes())?;
    Ok(exit(&found))
}

/// Of a file that could not be read nobody knows whether it is sound.
fn exit(found: &Verification) -> Exit {
    let is_io = |error: &OpenError| matches!(error, OpenError::Read(ReadError::Io { .. }));
    match &found.verdict {
        Err(error) if !is_io(error) => Exit::Corrupt,
        _ if found.complaints().any(is_io) => Exit::Io,
        _ => Exit::Done,
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn text(found: &Verification) -> String {
    let mut lines = Vec::new();
    let directory = found.path.display();
    if let Some(holder) = found.holder {
        lines.push(format!("{directory} is in use by {holder}, which goes on changing it meanwhile"));
    }
    if !found.file_system.is_reservable() {
        let file_system = found.file_system;
        lines.push(format!("{directory} is on {file_system}: a start needs --allow-unsafe-filesystem there"));
    }
    lines.extend(
        found
            .snapshots
            .iter()
            .map(|snapshot| format!("{}  {}", name(&snapshot.path), about_snapshot(snapshot))),
    );
    lines.extend(
        found.segments.iter().map(|segment| format!("{}  {}", name(&segment.path), about_segment(segment))),
    );
    lines.extend(found.chain.iter().map(|error| format!("journal  {}", sentence(error))));
    for (what, paths) in [
        ("not complete: being written, or left by a crash", &found.temporaries),
        ("not a file of heartbeat's", &found.unknown),
        ("put aside earlier", &found.quarantine),
    ] {
        lines.extend(paths.iter().map(|path| {
            let path = path.strip_prefix(&found.path).unwrap_or(path);
            format!("{}  {what}", path.display())
        }));
    }
    lines.push(verdict(found));
    lines.join("\n") + "\n"
}

fn about_snapshot(snapshot: &SnapshotFound) -> String {
    if let Some(error) = &snapshot.error {
        return sentence(error);
    }
    snapshot.facts.map_or_else(String::new, |facts| {
        format!(
            "sound: {}, {}, {}, as of second {}; replay begins with segment {}",
            counted(facts.users, "user"),
            counted(facts.closed_sessions, "closed session"),
            counted(facts.bytes, "byte"),
            facts.engine_time,
            facts.first_segment
        )
    })
}

fn about_segment(segment: &SegmentFound) -> String {
    if let Some(error) = &segment.error {
        return sentence(error);
    }
    let Some((facts, slots)) = segment.facts.and_then(|facts| Some((facts, facts.slots?))) else {
        return String::new();
    };
    let mut text = format!(
        "sound: {}, {} torn, {} empty; synced {}, alive at {}",
        counted(slots.good, "slot"),
        slots.torn,
        slots.empty,
        shown(facts.synced, "none"),
        shown(facts.alive, "no second")
    );
    if !segment.is_replayed {
        // Writing to a string cannot fail.
        let _ = write!(text, "; not needed");
    }
    text
}

fn shown(mark: Mark, unset: &str) -> String {
    match mark {
        Mark::Unset => unset.into(),
        Mark::Value(value) => value.to_string(),
        Mark::Unreadable => "unreadable".into(),
    }
}

fn verdict(found: &Verification) -> String {
    let sound = match found.complaints().count() as u64 {
        0 => "sound".to_owned(),
        complaints => format!("sound in spite of {}", counted(complaints, "complaint")),
    };
    match &found.verdict {
        Ok(Beginning { snapshot: None, segments: 0, .. }) => {
            format!("{sound}: a start would begin with nobody")
        }
        Ok(Beginning { snapshot, segments: count, slots }) => {
            let from = snapshot
                .map_or_else(|| "from nothing".to_owned(), |number| format!("from snapshot {number}"));
            format!(
                "{sound}: a start would begin {from} and replay {} with {}",
                counted(*count as u64, "segment"),
                counted(*slots, "slot")
            )
        }
        Err(error) => format!("unsound: a start would refuse: {}", sentence(error)),
    }
}

fn of(found: &Verification) -> Value {
    let names = |paths: &[PathBuf]| paths.iter().map(|path| name(path)).collect::<Vec<_>>();
    let start = found.verdict.as_ref().ok().map(|beginning| {
        json!({"snapshot": beginning.snapshot, "segments": beginning.segments, "slots": beginning.slots})
    });
    json!({
        "directory": found.path.to_string_lossy(),
        "in_use": found.holder.is_some(),
        "in_use_by": found.holder.and_then(|holder| holder.0),
        "file_system": found.file_system.to_string(),
        "snapshots": found.snapshots.iter().map(of_snapshot).collect::<Vec<_>>(),
        "segments": found.segments.iter().map(of_segment).collect::<Vec<_>>(),
        "chain": found.chain.iter().map(|error| sentence(error)).collect::<Vec<_>>(),
        "temporaries": names(&found.temporaries),
        "unknown": names(&found.unknown),
        "quarantine": names(&found.quarantine),
        "complaints": found.complaints().count(),
        "sound": found.is_sound(),
        "start": start,
        "refusal": found.verdict.as_ref().err().map(|error| sentence(error)),
    })
}

fn of_snapshot(snapshot: &SnapshotFound) -> Value {
    let facts = snapshot.facts;
    json!({
        "file": name(&snapshot.path),
        "number": snapshot.number,
        "sound": snapshot.error.is_none(),
        "error": snapshot.error.as_deref().map(|error| sentence(error)),
        "offset": snapshot.error.as_deref().and_then(offset),
        "users": facts.map(|facts| facts.users),
        "closed_sessions": facts.map(|facts| facts.closed_sessions),
        "bytes": facts.map(|facts| facts.bytes),
        "first_segment": facts.map(|facts| facts.first_segment),
        "engine_time": facts.map(|facts| facts.engine_time.as_u32()),
    })
}

fn of_segment(segment: &SegmentFound) -> Value {
    let facts = segment.facts;
    let slots = facts.and_then(|facts| facts.slots);
    json!({
        "file": name(&segment.path),
        "number": segment.number,
        "sound": segment.error.is_none(),
        "error": segment.error.as_deref().map(|error| sentence(error)),
        "offset": segment.error.as_deref().and_then(offset),
        "replayed": segment.is_replayed,
        "previous": facts.map(|facts| facts.previous),
        "bytes": facts.map(|facts| facts.bytes),
        "synced": facts.map(|facts| mark(facts.synced)),
        "alive": facts.map(|facts| mark(facts.alive)),
        "slots": slots.map(|slots| slots.good),
        "torn": slots.map(|slots| slots.torn),
        "empty": slots.map(|slots| slots.empty),
    })
}

fn offset(error: &OpenError) -> Option<u64> {
    match error {
        OpenError::Read(ReadError::Damaged(damage)) => Some(damage.offset),
        _ => None,
    }
}
