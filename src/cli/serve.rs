//! `heartbeat serve`: starts everything, waits, and ends in good order.
//!
//! ```text
//!   settings ─ open files ─ signals ─ listeners ─ sweeper ─ ready ─ … ─ draining ─ drained ─ exit 0
//!                                                                 │            │
//!                                          TERM, INT, end of stdin          a second one: exit 0 at once
//! ```
//!
//! The main thread does nothing but wait for signals and timers; requests and sweeping have threads of their own. A second
//! signal exits with 0 as well: a shutdown that was asked for is no failure, and whoever asked twice knows that requests were cut.

use std::sync::Arc;

use clap::Args;
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use super::counts::{self, SweeperCounts};
use super::descriptors::{self, Lowered};
use super::drain;
use super::exit::{Exit, Failure};
use super::flags::SettingFlags;
use super::logs::Logs;
use super::minute::Minute;
use super::signals::{Signals, Wish};
use super::systemd::{self, Watchdog};
use crate::config::{Effective, Inputs, Settings};
use crate::engine::{Engine, Sweeper};
use crate::http::Server;

/// Arguments of `heartbeat serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Drain and exit when stdin reaches its end, so as not to outlive a parent
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    let inputs = args.settings.inputs();
    let effective = inputs.load()?;
    let runtime = runtime()?;
    let context = runtime.enter();
    let mut signals = Signals::listen().map_err(Failure::io("take signals"))?;
    if args.until_stdin_closes {
        signals.watch_stdin().map_err(Failure::io("start a thread for stdin"))?;
    }
    drop(context);
    let service = Service::start(inputs, effective)?;
    runtime.block_on(service.run(signals));
    Ok(Exit::Done)
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start the runtime of the main thread"))
}

struct Service {
    inputs: Inputs,
    effective: Effective,
    logs: Logs,
    engine: Arc<Engine>,
    server: Server,
    sweeper: Sweeper,
    counts: Arc<SweeperCounts>,
}

impl Service {
    fn start(inputs: Inputs, effective: Effective) -> Result<Self, Failure> {
        let mut settings = effective.settings.clone();
        let lowered = descriptors::fit(&mut settings);
        let logs = Logs::start(&settings);
        let engine = Arc::new(engine(&settings));
        let server = Server::start(engine.clone(), &settings)?;
        let (sweeper, counts) =
            counts::sweep(engine.clone()).map_err(Failure::io("start the sweeper's thread"))?;
        log_start(&settings, &server, lowered);
        Ok(Self { inputs, effective, logs, engine, server, sweeper, counts })
    }

    async fn run(self, mut signals: Signals) {
        let mut watchdog = Watchdog::start();
        systemd::ready(&format!("listening on {}", addresses(&self.server)));
        let reason = self.serve(&mut signals, &mut watchdog).await;
        info!(reason, "draining: no new connections, requests in flight finish");
        systemd::stopping();
        drain::drain(self.server, self.effective.settings.drain_timeout, &mut signals, &mut watchdog).await;
        drop(self.sweeper);
        info!("stopped");
    }

    async fn serve(&self, signals: &mut Signals, watchdog: &mut Watchdog) -> &'static str {
        let mut minute = Minute::start(&self.server);
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::Stop(reason) => return reason,
                    Wish::Reload => self.reload(),
                    Wish::Snapshot => refuse_snapshot(),
                },
                () = minute.due() => minute.log(&self.engine, &self.server, &self.counts),
                () = watchdog.beat() => {}
            }
        }
    }

    /// Takes the log level from the settings as they are now. Everything else waits for the next start, and says so.
    fn reload(&self) {
        let now = match self.inputs.load() {
            Ok(now) => now,
            Err(error) => return error!("settings were not reloaded: {error}"),
        };
        self.logs.reload(&now.settings);
        info!(log = now.settings.log, "the log level was reloaded");
        let mut waiting = self.effective.differences(&now);
        waiting.retain(|name| *name != "log");
        if !waiting.is_empty() {
            warn!(
                settings = waiting.join(","),
                "other settings have changed and take effect at the next start"
            );
        }
    }
}

fn engine(settings: &Settings) -> Engine {
    let users_max = settings.max_users.unwrap_or(u64::MAX);
    Engine::builder().ttl(settings.ttl).grace_seconds(settings.grace).users_max(users_max).build()
}

fn log_start(settings: &Settings, server: &Server, lowered: Option<Lowered>) {
    info!(version = env!("CARGO_PKG_VERSION"), threads = settings.threads, "heartbeat has started");
    info!(addresses = addresses(server), "listening");
    info!(
        ttl_seconds = settings.ttl.as_seconds(),
        grace_seconds = settings.grace,
        "a heal keeps its user online for one ttl"
    );
    warn!("nothing is persisted in this version: a restart forgets every user");
    if let Some(Lowered { from, to, open_files_max }) = lowered {
        warn!(
            from,
            to,
            open_files_max,
            "max-connections was lowered to what the hard limit on open files leaves room for"
        );
    }
}

pub(super) fn refuse_snapshot() {
    warn!("SIGUSR1 asks for a snapshot, and this version has none: nothing was done");
}

/// As one text, separated by commas.
fn addresses(server: &Server) -> String {
    server.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
