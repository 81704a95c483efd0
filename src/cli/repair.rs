//! `heartbeat repair`: what a start refuses, made so that it takes it; a dry run unless told otherwise.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, sentence};
use super::output;
use crate::clock::SystemClock;
use crate::engine::{OpenError, Verification};
use crate::repair::{Loss, Mend, Repair, Work, repair, repair_applied};
use crate::time::Clock;

/// Arguments of `heartbeat repair`.
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The data directory; no service may use it
    dir: PathBuf,
    /// Do it; without this it is only told what would be done and lost
    #[arg(long, conflicts_with = "dry_run")]
    apply: bool,
    /// Only tell it (this is what happens without --apply)
    #[arg(long)]
    dry_run: bool,
    /// Copy what is dropped or changed into this folder, and not into quarantine/: on another disk if this one is full
    #[arg(long, value_name = "PLACE")]
    quarantine: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0 if a start takes it now.
pub(super) fn run(args: &RepairArgs) -> Result<Exit, Failure> {
    let now = SystemClock::start().now();
    let run = if args.apply { repair_applied } else { repair };
    let found = run(&args.dir, args.quarantine.as_deref(), now)?;
    let text = if args.json { format!("{:#}\n", of(&found)) } else { text(&found) };
    output::print(text.as_bytes())?;
    Ok(if found.is_sound() { Exit::Done } else { Exit::Corrupt })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn text(found: &Repair) -> String {
    let mut lines: Vec<_> =
        found.before.complaints().map(|complaint| format!("found   {}", sentence(complaint))).collect();
    let done = if found.after.is_some() { "mended" } else { "to mend" };
    for Mend { path, work, loss } in &found.mends {
        lines.push(format!("{done:7} {}: {work}; lost: {loss}", name(path)));
    }
    lines.push(verdict(found));
    lines.join("\n") + "\n"
}

fn verdict(found: &Repair) -> String {
    let state = found.after.as_ref().unwrap_or(&found.before);
    let (loss, quarantine) = (found.loss(), found.quarantine.display());
    match (&state.verdict, found.after.is_some(), found.mends.is_empty()) {
        (Ok(_), _, true) => "nothing to do: a start takes it as it is".to_owned(),
        (Ok(_), true, false) => {
            format!(
                "mended: a start takes it now; lost: {loss}; what was dropped or changed is in {quarantine}"
            )
        }
        (Err(error), _, true) => format!("not to be mended: {}", refusal(error)),
        (Err(error), true, false) => {
            format!("mended as far as can be, and a start still refuses: {}", refusal(error))
        }
        (_, false, false) => format!(
            "nothing was changed; --apply would do this, lose {loss}, and first copy what it drops or changes into {quarantine}"
        ),
    }
}

fn refusal(error: &OpenError) -> String {
    let hint = match error {
        OpenError::Future { .. } => "; set the clock, or start with --allow-future-journal",
        _ => "",
    };
    format!("{}{hint}", sentence(error))
}

fn of(found: &Repair) -> Value {
    let complaints =
        |state: &Verification| state.complaints().map(|error| sentence(error)).collect::<Vec<_>>();
    let state = found.after.as_ref().unwrap_or(&found.before);
    json!({
        "directory": found.before.path.to_string_lossy(),
        "applied": found.after.is_some(),
        "quarantine": found.quarantine.to_string_lossy(),
        "complaints": complaints(&found.before),
        "mends": found.mends.iter().map(of_mend).collect::<Vec<_>>(),
        "loss": of_loss(found.loss()),
        "sound": found.is_sound(),
        "refusal": state.verdict.as_ref().err().map(|error| sentence(error)),
    })
}

fn of_mend(mend: &Mend) -> Value {
    let work = match &mend.work {
        Work::PutAside(_) => "put aside",
        Work::Rename(_) => "rename",
        Work::Patch(_) => "patch",
        Work::StandIn { .. } => "stand in",
        Work::Rewrite(_) => "rewrite",
    };
    json!({"file": name(&mend.path), "work": work, "text": mend.work.to_string(), "loss": of_loss(mend.loss)})
}

/// The numbers are the most that may be lost.
fn of_loss(loss: Loss) -> Value {
    json!({
        "text": loss.to_string(),
        "writes": if loss.unknown_writes { Value::Null } else { loss.writes.into() },
        "users": if loss.unknown_users { Value::Null } else { loss.users.into() },
        "outdated_users": loss.outdated,
        "foreign_files": loss.foreign,
    })
}
