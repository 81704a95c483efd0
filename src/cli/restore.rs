//! `heartbeat restore`: a data directory from one snapshot.

use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure, quoted};
use super::output::{self, counted};
use crate::restore::restore;

/// Arguments of `heartbeat restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The snapshot's file: a copy of a snapshot-….snap, under whatever name
    snapshot: PathBuf,
    /// The data directory to make: it must not exist, or be empty
    dir: PathBuf,
}

pub(super) fn run(args: &RestoreArgs) -> Result<Exit, Failure> {
    let restored = restore(&args.snapshot, &args.dir)?;
    let text = format!(
        "restored snapshot {} into {}: {} and {}, as of second {}; what came after is not in it\n\
         start the service on it with: heartbeat --data-dir {}\n",
        restored.number,
        args.dir.display(),
        counted(restored.users, "user"),
        counted(restored.closed_sessions, "closed session"),
        restored.engine_time,
        quoted(&args.dir),
    );
    output::print(text.as_bytes())?;
    Ok(Exit::Done)
}
