//! `heartbeat bench`: drives a running service, or one it starts itself, and reports.
//!
//! Two kinds of load. Simulated users behave as clients do, and the table shows what they cost the service. With a rate, heals
//! fall due at fixed moments and their latency is measured from those moments, so that a service that stalls cannot hide it.
//!
//! The HTTP client is our own: one task a connection, requests written as prepared bytes, so that measuring costs less than
//! what is measured. It speaks plain HTTP/1.1 with `Content-Length`, and nothing else.
//!
//! ```text
//!   main thread                    worker threads, a runtime each
//!   drive ── table or bar           crew ── lane ── source (load or users)
//!     │  ▲                                   │
//!     │  └──────── tallies ──────────────────┤
//!     └── status ──► service ◄─── heals ─────┘
//! ```

mod args;
mod crew;
mod drive;
mod lane;
mod load;
mod moment;
mod open_files;
mod own_service;
mod random;
mod report;
mod report_text;
mod request;
mod response;
mod schedule;
mod source;
mod status;
mod table;
mod tally;
mod timer;
mod units;
mod url;
mod users;

#[cfg(test)]
mod fixed_server;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};

use anyhow::Context as _;

pub use args::BenchArgs;
pub use report::Verdict;

use own_service::OwnService;
use report::Report;
use url::ServiceUrl;

/// Carries out what the arguments ask for, and prints the report: on stdout for people, or as JSON.
///
/// Takes as long as `--duration`, up to 10 s more for the last answers, and the time to start and stop a service.
///
/// # Errors
/// When there is no service to drive (none answers at the address given, or the one started dies), when it ends with an error
/// at the end, or when the report cannot be written. Requests that fail are no errors: they make [`Verdict::Failed`].
pub fn run(args: &BenchArgs) -> anyhow::Result<Verdict> {
    if let Some(url) = &args.url {
        let report = drive(args, url)?;
        print(args, &report)?;
        return Ok(report.verdict());
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the service's data")?;
    let service = OwnService::start(own_service::serve_command(folder.path())?)?;
    let report = drive(args, &service.address().into());
    if let Ok(report) = &report {
        print(args, report)?;
    }
    // If it died under the load, its own last words explain more than a failed connection.
    service.stop()?;
    report.map(|report| report.verdict())
}

fn drive(args: &BenchArgs, url: &ServiceUrl) -> anyhow::Result<Report> {
    let plan = args.plan(url.host());
    let to = url.resolve()?;
    if args.json {
        drive::drive(&plan, url, to, &mut io::stderr())
    } else {
        drive::drive(&plan, url, to, &mut io::stdout())
    }
}

fn print(args: &BenchArgs, report: &Report) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
    } else {
        writeln!(out, "\n{report}")?;
    }
    Ok(())
}
