//! Looks once a second at how things are: a point for the last hour, and what is told to those who follow.
//!
//! A thread of its own, which looks at counters only: it goes on while the disk hangs, which is when somebody wants to see it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::app::{App, Served};
use super::figures::Point;
use super::route::Route;
use super::stats::{LatencySnapshot, WorkerStats};
use super::status::{Journal, Snapshot};
use crate::engine::Engine;

const EVERY: Duration = Duration::from_secs(1);

/// What the last point was counted from.
pub(super) struct Sampler {
    heals: u64,
    latency: LatencySnapshot,
    /// Since the start.
    at: Duration,
}

impl Sampler {
    pub fn new(app: &App) -> Self {
        Self {
            heals: app.stats().heals.taken(),
            latency: WorkerStats::latency(app.workers(), Route::Heal),
            at: app.started.elapsed(),
        }
    }

    /// Adds a point if a second has been swept since the last one, and tells those who follow how things are.
    pub fn look(&mut self, app: &App) {
        let Ok(Served { engine, .. }) = app.served() else { return };
        let next = Self::new(app);
        if app.recent.add(self.point(engine, &next)) {
            *self = next;
        }
        if let Some(point) = app.recent.last() {
            app.recent.tell(event(app, engine, point).into());
        }
    }

    fn point(&self, engine: &Engine, next: &Self) -> Point {
        let figures = engine.figures();
        let seconds = (next.at.saturating_sub(self.at)).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "no service takes 2^53 heals in a second")]
        let rate = next.heals.saturating_sub(self.heals) as f64 / seconds;
        Point {
            at: figures.at.as_u32(),
            online: figures.online,
            heals_per_second: if seconds > 0.0 { (rate * 10.0).round() / 10.0 } else { 0.0 },
            p99_seconds: next
                .latency
                .since(&self.latency)
                .quantile(0.99)
                .map(|latency| latency.as_secs_f64()),
        }
    }
}

/// The data of an event.
#[derive(Serialize)]
struct Now {
    #[serde(flatten)]
    point: Point,
    users: u64,
    ready: bool,
    reasons: Vec<std::borrow::Cow<'static, str>>,
    journal: Option<Journal>,
    snapshot: Option<Snapshot>,
}

fn event(app: &App, engine: &Engine, point: Point) -> Vec<u8> {
    let reasons = app.unready_reasons();
    let now = Now {
        point,
        users: engine.figures().users,
        ready: reasons.is_empty(),
        reasons,
        journal: engine.journal_state().map(Journal::from),
        snapshot: engine.last_snapshot().map(Snapshot::from),
    };
    // Nothing in it is a map with keys other than text, so it can be written.
    let data = serde_json::to_vec(&now).unwrap_or_default();
    [b"event: figures\ndata: ".as_slice(), &data, b"\n\n"].concat()
}

/// The sampler's thread. It ends when this is dropped.
pub(super) struct Sampling {
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampling {
    /// # Errors
    /// The operating system's.
    pub fn start(app: &Arc<App>) -> std::io::Result<Self> {
        let (ended, end) = mpsc::channel();
        let app = Arc::clone(app);
        let thread = std::thread::Builder::new().name("figures".into()).spawn(move || run(&app, &end))?;
        Ok(Self { ended: Some(ended), thread: Some(thread) })
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        drop(self.ended.take());
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

fn run(app: &App, ended: &mpsc::Receiver<()>) {
    let mut sampler = Sampler::new(app);
    let mut due = Instant::now() + EVERY;
    while ended.recv_timeout(due - Instant::now()) == Err(mpsc::RecvTimeoutError::Timeout) {
        if catch_unwind(AssertUnwindSafe(|| sampler.look(app))).is_err() {
            app.metrics.thread_restarts.figures.increment(1);
            tracing::error!("the thread that samples figures panicked and goes on");
        }
        // Seconds that were missed stay missed.
        due = (due + EVERY).max(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use crate::config::Settings;
    use crate::http::app::Counting;
    use crate::time::UnixSeconds;
    use crate::user_id::UserId;

    const NOON: u32 = 1_638_360_000;

    #[test]
    fn a_point_says_what_has_been_since_the_one_before() {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
        let app = App::new(&Settings::default(), Arc::default(), Counting::On);
        app.serve(Arc::clone(&engine), None);
        let mut sampler = Sampler::new(&app);
        for id in 1..=3 {
            let heal = engine.heal(UserId::new(id)).expect("there is room");
            app.workers()[0].healed(Ok(heal));
        }
        app.workers()[0].took(Route::Heal, Duration::from_micros(10));

        clock.advance(1);
        engine.sweep();
        let started = sampler.at;
        sampler.look(&app);
        let first = app.recent.last().expect("a second was swept");
        sampler.look(&app);
        assert_eq!(app.recent.last(), Some(first), "no further second has been swept");
        clock.advance(9);
        engine.sweep();
        sampler.look(&app);
        let second = app.recent.last().expect("there is one");

        assert_eq!((first.at, first.online, first.p99_seconds), (NOON + 1, 3, Some(0.000_012)));
        let heals = first.heals_per_second * (sampler.at - started).as_secs_f64();
        assert!(heals >= 2.0, "{heals} heals");
        assert_eq!(second, Point { at: NOON + 10, online: 0, heals_per_second: 0.0, p99_seconds: None });
    }

    #[test]
    fn what_is_told_has_the_state_of_the_service_with_it() {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
        let app = App::new(&Settings::default(), Arc::default(), Counting::On);
        let mut sampler = Sampler::new(&app);
        sampler.look(&app);
        assert_eq!(app.recent.told().number, 0, "there is no engine yet");

        app.serve(Arc::clone(&engine), None);
        engine.sweep();
        sampler.look(&app);
        app.drain();
        sampler.look(&app);

        let told = app.recent.told();
        assert_eq!(told.number, 2);
        assert_eq!(
            String::from_utf8_lossy(&told.text),
            "event: figures\ndata: {\"at\":1638360000,\"online\":0,\"heals_per_second\":0.0,\"p99_seconds\":null,\"users\":0,\
             \"ready\":false,\"reasons\":[\"draining\"],\"journal\":null,\"snapshot\":null}\n\n"
        );
    }
}
