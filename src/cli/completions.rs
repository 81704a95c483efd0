//! `heartbeat completions`: what a shell needs to complete our flags.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::exit::{Exit, Failure};
use super::{Cli, output};

/// Arguments of `heartbeat completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Into memory first: the generator panics if it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "heartbeat", &mut script);
    output::print(&script)?;
    Ok(Exit::Done)
}
