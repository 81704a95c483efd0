//! The command line: arguments in, exit code out.
//!
//! The flags of the settings come from their table ([`crate::config`]), so a new setting is a flag without a word here. An
//! error is one sentence on stderr, and its [`Exit`] says of which class it is.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks through them")]

pub mod bench;

mod background;
mod completions;
mod config;
mod descriptors;
mod disk;
mod drain;
mod exit;
mod flags;
mod healthcheck;
mod inspect;
mod logs;
mod minute;
mod output;
mod repair;
mod reports;
mod restore;
mod serve;
mod signals;
mod systemd;
mod verify;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use exit::Exit;

use bench::{BenchArgs, Verdict};
use exit::Failure;

/// Who is online, who has gone, and every user's timeline of sessions.
#[derive(Debug, Parser)]
#[command(name = "heartbeat", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (what a bare `heartbeat` does)
    #[command(after_help = EXAMPLES)]
    Serve(serve::ServeArgs),

    Bench(BenchArgs),
    /// Print a snapshot or a journal segment as JSON lines
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(inspect::InspectArgs),
    /// Read a whole data directory, say what is there and whether it is sound; changes nothing
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Mend what `verify` complains of: says what would be done and lost, and with --apply does it
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(repair::RepairArgs),
    /// Make a data directory from one snapshot file (a backup is a copied snapshot)
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(restore::RestoreArgs),
    /// Print the effective settings and where each came from
    Config(config::ConfigArgs),
    /// Exit 0 if the service is ready, else 1 (for containers)
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
}

const EXAMPLES: &str = "Examples:
  heartbeat --ttl 10s --max-users 1,000,000
  heartbeat serve --listen 0.0.0.0:3519 --no-auth --config /etc/heartbeat.toml";

const INSPECT_EXAMPLES: &str = "Examples:
  heartbeat inspect snapshots/snapshot-0000000003.snap | jq 'select(.type == \"user\" and .id == 12345)'
  heartbeat inspect snapshots/journal-0000000007.seg | tail -1";

const VERIFY_EXAMPLES: &str = "Exit 0: sound; 65: a start would refuse; 74: something could not be read

Examples:
  heartbeat verify snapshots
  heartbeat verify --json /var/lib/heartbeat | jq .start";

const REPAIR_EXAMPLES: &str =
    "Exit 0: a start takes it; 65: it does not, or not before --apply; 74: I/O error; 75: it is in use

Examples:
  heartbeat repair snapshots
  heartbeat repair --apply --quarantine /mnt/other/dropped /var/lib/heartbeat";

const RESTORE_EXAMPLES: &str = "Examples:
  heartbeat restore backup/snapshot-0000000003.snap /var/lib/heartbeat
  heartbeat restore /mnt/backup.snap restored && heartbeat --data-dir restored";

/// Does what `arguments`, the program's name first, ask for. Prints the error if there is one.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    match Cli::try_parse_from(flags::join_negative(arguments)) {
        Ok(cli) => match dispatch(&cli) {
            Ok(exit) => exit,
            Err(failure) => {
                output::complain(&failure.sentence());
                failure.exit()
            }
        },
        Err(refusal) => exit::refused(&refusal),
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(args),
        Some(Command::Bench(args)) => bench::run(args).map(Exit::from).map_err(Failure::Other),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Repair(args)) => repair::run(args),
        Some(Command::Restore(args)) => restore::run(args),
        Some(Command::Config(args)) => config::run(args),
        Some(Command::Healthcheck(args)) => healthcheck::run(args),
        Some(Command::Completions(args)) => completions::run(args),
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Done,
            Verdict::Failed => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        Cli::command().debug_assert();
    }
}
