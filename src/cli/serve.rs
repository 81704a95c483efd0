//! `heartbeat serve`: starts everything, waits, and ends in good order.
//!
//! ```text
//!   settings ─ open files ─ signals ─ listeners ─ recovery ─ sweeper, snapshotter ─ ready ─ … ─ draining ─ drained
//!                                        │                                                │            │
//!                                     /livez                           TERM, INT, end of stdin       snapshot ─ exit 0
//! ```
//!
//! The main thread does nothing but wait for signals and timers; whatever takes long has threads of its own. A second signal
//! exits with 0 at once: a shutdown that was asked for is no failure, and the journal has everything. So does a first one
//! during recovery, which changes nothing that the next one would not find again.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::time::{Instant, interval_at};
use tracing::{error, info, warn};

use super::background;
use super::descriptors::{self, Lowered};
use super::disk;
use super::drain;
use super::exit::{self, Exit, Failure};
use super::flags::SettingFlags;
use super::logs::Logs;
use super::minute::Minute;
use super::reports::Reports;
use super::signals::{Signals, Wish};
use super::systemd::{self, Watchdog};
use crate::config::{Effective, Inputs, Settings};
use crate::engine::{Builder, Engine, Progress, Recovery, SnapshotError, Snapshotter, Sweeper};
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
    runtime.block_on(async {
        let mut watchdog = Watchdog::start();
        let listening = Listening::start(inputs, effective)?;
        if let Some(service) = listening.recover(&mut signals, &mut watchdog).await? {
            service.run(signals, watchdog).await;
        }
        Ok(Exit::Done)
    })
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start the runtime of the main thread"))
}

/// How often the log says how far recovery has got.
const PROGRESS: Duration = Duration::from_secs(1);

/// Addresses are bound, and `/livez` answers.
struct Listening {
    inputs: Inputs,
    effective: Effective,
    settings: Settings,
    logs: Logs,
    server: Server,
    reports: Reports,
    progress: Arc<Progress>,
}

impl Listening {
    fn start(inputs: Inputs, effective: Effective) -> Result<Self, Failure> {
        let mut settings = effective.settings.clone();
        let lowered = descriptors::fit(&mut settings);
        let logs = Logs::start(&settings);
        let progress = Arc::new(Progress::default());
        let server = Server::listen(&settings, Arc::clone(&progress))?;
        log_start(&settings, &server, lowered);
        let reports = Reports(server.metrics());
        Ok(Self { inputs, effective, settings, logs, server, reports, progress })
    }

    /// `None` if a signal came first.
    async fn recover(
        self,
        signals: &mut Signals,
        watchdog: &mut Watchdog,
    ) -> Result<Option<Service>, Failure> {
        let builder = engine(&self.settings);
        let disk = disk::disk(&self.settings, Arc::clone(&self.progress), self.reports.clone());
        let mut recovered = background::run("recovery", move || builder.open(disk))
            .map_err(Failure::io("start the thread for recovery"))?;
        let mut progress = interval_at(Instant::now() + PROGRESS, PROGRESS);
        let (engine, recovery) = loop {
            tokio::select! {
                opened = &mut recovered => match opened {
                    Ok(opened) => break opened.map_err(Box::new)?,
                    Err(_) => return Err(Failure::Check("recovery panicked".into())),
                },
                wish = signals.next() => match wish {
                    Wish::Stop(reason) => {
                        info!(reason, "stopped during recovery");
                        return Ok(None);
                    }
                    Wish::Reload | Wish::Snapshot => warn!("recovering: the signal was ignored"),
                },
                _ = progress.tick() => info!(percent = self.progress.percent(), "recovering"),
                () = watchdog.beat() => {}
            }
        };
        disk::log_recovery(&recovery);
        self.serve(Arc::new(engine), recovery).map(Some)
    }

    fn serve(self, engine: Arc<Engine>, recovery: Recovery) -> Result<Service, Failure> {
        let reports = self.reports.clone();
        let sweeper = Sweeper::start(Arc::clone(&engine), move |report| reports.sweeper(report))
            .map_err(Failure::io("start the sweeper's thread"))?;
        let (plan, reports) = (disk::plan(&self.settings), self.reports.clone());
        let snapshotter =
            Snapshotter::start(Arc::clone(&engine), plan, move |report| reports.snapshotter(report))
                .map_err(Failure::io("start the snapshotter's thread"))?;
        if !recovery.quarantined.is_empty() {
            snapshotter.request();
        }
        self.server.serve(Arc::clone(&engine), Some(recovery));
        info!(addresses = addresses(&self.server), page = page(&self.server), "listening");
        let Self { inputs, effective, logs, server, reports, .. } = self;
        Ok(Service { inputs, effective, logs, engine, server, sweeper, snapshotter, reports })
    }
}

struct Service {
    inputs: Inputs,
    effective: Effective,
    logs: Logs,
    engine: Arc<Engine>,
    server: Server,
    sweeper: Sweeper,
    snapshotter: Snapshotter,
    reports: Reports,
}

impl Service {
    async fn run(self, mut signals: Signals, mut watchdog: Watchdog) {
        systemd::ready(&format!("listening on {}", addresses(&self.server)));
        let reason = self.serve(&mut signals, &mut watchdog).await;
        info!(reason, "draining: no new connections, requests in flight finish");
        systemd::stopping();
        let drained =
            drain::drain(self.server, self.effective.settings.drain_timeout, &mut signals, &mut watchdog)
                .await;
        drop(self.sweeper);
        if drained.is_some() {
            let engine = Arc::clone(&self.engine);
            last_snapshot(engine, self.snapshotter, &self.reports, &mut signals, &mut watchdog).await;
        }
        self.engine.close();
        info!("stopped");
    }

    async fn serve(&self, signals: &mut Signals, watchdog: &mut Watchdog) -> &'static str {
        let mut minute = Minute::start(&self.server);
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::Stop(reason) => return reason,
                    Wish::Reload => self.reload(),
                    Wish::Snapshot => self.snapshotter.request(),
                },
                () = minute.due() => minute.log(&self.engine, &self.server),
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

/// So that the next start has little to replay. Unless somebody is in a hurry: the journal has it all.
async fn last_snapshot(
    engine: Arc<Engine>,
    snapshotter: Snapshotter,
    reports: &Reports,
    signals: &mut Signals,
    watchdog: &mut Watchdog,
) {
    let taken = background::run("last-snapshot", move || {
        // One that is under way is waited for.
        drop(snapshotter);
        if engine.journal_bytes_since_snapshot() == 0 { Ok(None) } else { engine.snapshot().map(Some) }
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(error) => return error!(%error, "no thread for a last snapshot; the journal has everything"),
    };
    loop {
        tokio::select! {
            taken = &mut taken => return match taken {
                Ok(Ok(Some(taken))) => reports.snapshot(&taken),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => log_no_snapshot(&error),
                Err(_) => error!("the last snapshot panicked; the journal has everything"),
            },
            wish = signals.next() => if let Wish::Stop(reason) = wish {
                return warn!(reason, "asked a second time: no last snapshot; the journal has everything");
            },
            () = watchdog.beat() => {}
        }
    }
}

fn log_no_snapshot(error: &SnapshotError) {
    error!(error = exit::sentence(error), "no last snapshot could be taken; the journal has everything");
}

fn engine(settings: &Settings) -> Builder {
    let mut builder = Engine::builder()
        .ttl(settings.ttl)
        .grace_seconds(settings.grace)
        .users_max(settings.max_users.unwrap_or(u64::MAX))
        .events_held(settings.events_held);
    if let Some(seconds) = settings.retain {
        builder = builder.retain_seconds(seconds);
    }
    if let Some(sessions) = settings.retain_sessions {
        builder = builder.retain_sessions(sessions);
    }
    builder
}

fn log_start(settings: &Settings, server: &Server, lowered: Option<Lowered>) {
    info!(version = env!("CARGO_PKG_VERSION"), threads = settings.threads, "heartbeat has started");
    info!(
        addresses = addresses(server),
        data_dir = %settings.data_dir.display(),
        durability = %settings.durability,
        "recovering; until that is done only /livez and /readyz are served"
    );
    info!(
        ttl_seconds = settings.ttl.as_seconds(),
        grace_seconds = settings.grace,
        "a heal keeps its user online for one ttl"
    );
    if let Some(Lowered { from, to, open_files_max }) = lowered {
        warn!(
            from,
            to,
            open_files_max,
            "max-connections was lowered to what the hard limit on open files leaves room for"
        );
    }
}

/// As one text, separated by commas.
/// Where the live page is.
fn page(server: &Server) -> String {
    server.addresses().first().map(|address| format!("http://{address}/")).unwrap_or_default()
}

fn addresses(server: &Server) -> String {
    server.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
