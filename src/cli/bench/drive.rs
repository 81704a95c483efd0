//! A run from start to report.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval_at};

use super::args::{Plan, Work};
use super::crew::{Crew, current_thread};
use super::report::{Outcome, Report};
use super::status::{self, Status};
use super::table::Table;
use super::tally::Tally;
use super::units::{self, float, or_unknown};
use super::url::ServiceUrl;
use super::{moment, open_files};

/// How often simulated users get a line.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// What is left at the end gets a line if it is at least this long.
const LAST_LINE_MIN: Duration = Duration::from_secs(1);
/// How often the progress bar moves.
const BAR_EVERY: Duration = Duration::from_millis(250);

/// Carries out `plan` against the service at `to`, with a line on `lines` or a bar on the terminal now and then. Ends early
/// on an interrupt.
///
/// # Errors
/// When nobody answers at `to`, or this machine has no threads or file descriptors left. Failing requests are no errors but
/// part of the report.
pub fn drive(plan: &Plan, url: &ServiceUrl, to: SocketAddr, lines: &mut dyn Write) -> anyhow::Result<Report> {
    open_files::make_room(plan.connections)?;
    current_thread()?.block_on(async {
        let before = status::ask(to, url.host()).await?;
        let mut crew = Crew::start(plan, to)?;
        let mut progress = Progress::new(plan, &before, lines);
        let mut total = Tally::default();
        let interrupted = follow(&mut crew, &mut progress, &mut total, to, url.host()).await?;
        progress.finish();

        let elapsed = elapsed(plan, &total, interrupted);
        crew.join()?;
        // It may have died under the load, and then the report says what that looked like from here.
        let after = status::ask(to, url.host()).await.unwrap_or_default();
        let outcome = Outcome { tally: total, elapsed, interrupted, before, after };
        Ok(Report::new(plan, url.to_string(), &outcome))
    })
}

/// Adds up what is counted and shows it, to the end; says whether somebody ended it early.
async fn follow(
    crew: &mut Crew,
    progress: &mut Progress<'_>,
    total: &mut Tally,
    to: SocketAddr,
    host: &str,
) -> anyhow::Result<bool> {
    let mut ticks = interval_at((moment::now() + progress.every()).into(), progress.every());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let interrupted = loop {
        tokio::select! {
            () = crew.done() => break false,
            Ok(()) = &mut interrupt => break true,
            _ = ticks.tick() => {
                let window = crew.take();
                total.add(&window);
                progress.show(&window, to, host).await?;
            }
        }
    };
    if interrupted {
        crew.stop();
        crew.done().await;
    }
    let window = crew.take();
    total.add(&window);
    if progress.has_a_last_line() {
        progress.show(&window, to, host).await?;
    }
    Ok(interrupted)
}

/// How long the load ran: as long as it was meant to, unless it was ended early. The last answers of a closed loop come after
/// that and count, so it lasted until they came.
fn elapsed(plan: &Plan, total: &Tally, interrupted: bool) -> Duration {
    let Some(started) = total.started else { return Duration::ZERO };
    let until = |end: Instant| end.saturating_duration_since(started);
    if interrupted {
        return until(moment::now());
    }
    match &plan.work {
        Work::Load(load) if load.rate.is_none() => {
            plan.duration.max(total.last_answer.map_or(Duration::ZERO, until))
        }
        _ => plan.duration,
    }
}

/// What is shown during the run.
enum Progress<'a> {
    Lines { table: Table, out: &'a mut dyn Write },
    Bar { bar: ProgressBar, started: Instant, last: Instant },
}

impl<'a> Progress<'a> {
    fn new(plan: &Plan, before: &Status, out: &'a mut dyn Write) -> Self {
        let started = moment::now();
        match plan.work {
            Work::Users(_) => Self::Lines { table: Table::new(started, before), out },
            Work::Load(_) => Self::Bar { bar: bar(plan.duration), started, last: started },
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::Lines { .. } => LINE_EVERY,
            Self::Bar { .. } => BAR_EVERY,
        }
    }

    async fn show(&mut self, window: &Tally, to: SocketAddr, host: &str) -> io::Result<()> {
        match self {
            Self::Lines { table, out } => {
                let status = status::ask(to, host).await.unwrap_or_default();
                writeln!(out, "{}", table.line(moment::now(), window, &status))?;
                out.flush()
            }
            Self::Bar { bar, started, last } => {
                let now = moment::now();
                let passed = now.saturating_duration_since(*last).as_secs_f64().max(f64::MIN_POSITIVE);
                let rate = units::rate(float(window.acknowledged) / passed);
                let p99 = or_unknown(window.latency(0.99), units::latency);
                bar.set_message(format!("{rate} heals/s, p99 {p99}"));
                bar.set_position(milliseconds(now.saturating_duration_since(*started)));
                *last = now;
                Ok(())
            }
        }
    }

    fn has_a_last_line(&self) -> bool {
        match self {
            Self::Lines { table, .. } => table.since_last(moment::now()) >= LAST_LINE_MIN,
            Self::Bar { .. } => false,
        }
    }

    fn finish(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn bar(duration: Duration) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}")
        .expect("the template names only what indicatif has");
    ProgressBar::new(milliseconds(duration)).with_style(style)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
