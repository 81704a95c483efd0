//! What all workers share.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::time::Instant;

use super::announcer::Announcer;
use super::body::BodyLimits;
use super::error::Refused;
use super::figures::Recent;
use super::log::ClientLog;
use super::pool::Pool;
use super::publish::Published;
use super::route::{Route, Verb};
use super::socket::Timeouts;
use super::stats::{Stats, WorkerStats};
use super::waiters::Waiters;
use crate::config::{CorsOrigins, Settings};
use crate::durability::Durability;
use crate::engine::{Engine, Progress, Recovery, Ticket};
use crate::journal::Refusal;
use crate::metrics::{Metrics, RouteNames, number};

/// One on the service's own addresses, one on those that metrics are read from.
const OBSERVERS: usize = 2;

pub(super) struct App {
    /// Empty until recovery has finished.
    served: OnceLock<Served>,
    progress: Arc<Progress>,
    /// Woken, in `always`, when a sync has ended.
    waiters: Arc<Waiters>,
    is_taking_snapshot: AtomicBool,
    /// Over everybody.
    pub queries: Pool,
    pub log: ClientLog,
    pub timeouts: Timeouts,
    pub body_limits: BodyLimits,
    pub connections_max: u64,
    /// Whose pages may call us from a browser; `None` if nobody's.
    pub cors: Option<CorsOrigins>,
    pub started: Instant,
    /// One for each worker, and one for each observer.
    counted: Vec<Arc<WorkerStats>>,
    /// Connections whose first bytes are waited for.
    pub arriving: Arc<AtomicU64>,
    pub metrics: Arc<Metrics>,
    /// What of the latencies has been given to the metrics.
    pub published: Mutex<Published>,
    pub announcer: Announcer,
    pub recent: Recent,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    draining: AtomicBool,
    worker_ended: AtomicBool,
}

/// Whether requests are counted: not to be, for a measurement of what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    On,
    Off,
}

fn metrics(settings: &Settings) -> Metrics {
    let paths = Route::ALL.map(Route::path);
    let metrics = Metrics::new(RouteNames {
        all: &paths,
        bulk: &[Route::HealMany, Route::CheckupMany, Route::LeaveMany, Route::OnlineAt].map(Route::path),
    });
    for route in Route::ALL {
        let (verbs, codes) = route.expected();
        let expected = verbs.iter().flat_map(|verb| codes.iter().map(|&code| (*verb, code)));
        let not_taken = Verb::ALL.into_iter().filter(|verb| !verbs.contains(verb)).map(|verb| (verb, "405"));
        for (verb, code) in expected.chain(not_taken) {
            metrics.http_requests(route.path(), verb.name(), code).absolute(0);
        }
    }
    metrics.ttl.set(f64::from(settings.ttl.as_seconds()));
    metrics.snapshot_interval.set(settings.snapshot_interval.as_secs_f64());
    metrics.connections_max.set(number(settings.max_connections as u64));
    metrics
}

/// What is served.
pub(super) struct Served {
    pub engine: Arc<Engine>,
    /// How the engine came about.
    pub recovery: Option<Recovery>,
    /// A write is acknowledged only after a sync: a worker must not wait for that.
    pub confirms_later: bool,
}

impl App {
    pub fn new(settings: &Settings, progress: Arc<Progress>, counting: Counting) -> Self {
        let stats = || {
            Arc::new(match counting {
                Counting::On => WorkerStats::default(),
                Counting::Off => WorkerStats::uncounted(),
            })
        };
        Self {
            served: OnceLock::new(),
            progress,
            waiters: Arc::default(),
            is_taking_snapshot: AtomicBool::new(false),
            queries: Pool::default(),
            log: ClientLog::new(),
            timeouts: Timeouts { idle: settings.idle_timeout, header: settings.header_timeout },
            body_limits: BodyLimits {
                bytes: settings.max_body_bytes,
                pause: settings.header_timeout,
                whole: settings.idle_timeout,
            },
            connections_max: settings.max_connections as u64,
            cors: settings.cors_origin.clone(),
            started: Instant::now(),
            counted: (0..settings.threads + OBSERVERS).map(|_| stats()).collect(),
            arriving: Arc::default(),
            metrics: Arc::new(metrics(settings)),
            published: Mutex::default(),
            announcer: Announcer::default(),
            recent: Recent::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            worker_ended: AtomicBool::new(false),
        }
    }

    /// Recovery has finished. Of two engines the first one stays.
    pub fn serve(&self, engine: Arc<Engine>, recovery: Option<Recovery>) {
        let confirms_later =
            engine.journal_state().is_some_and(|state| state.durability == Durability::Always);
        if confirms_later {
            let waiters = Arc::clone(&self.waiters);
            engine.on_sync(move |ended| waiters.wake(ended));
        }
        let _ = self.served.set(Served { engine, recovery, confirms_later });
    }

    /// Costs one load.
    ///
    /// # Errors
    /// [`Refused::Recovering`].
    #[inline]
    pub fn served(&self) -> Result<&Served, Refused> {
        self.served.get().ok_or_else(|| Refused::Recovering(self.progress.percent()))
    }

    /// Waits until what `ticket` promises is kept, without holding up the thread.
    ///
    /// # Errors
    /// [`Refused::Unknown`].
    pub async fn kept(&self, engine: &Engine, ticket: Option<Ticket>) -> Result<(), Refused> {
        match ticket {
            Some(ticket) => self.waiters.wait(engine, ticket).await.map_err(Refused::after_the_write),
            None => Ok(()),
        }
    }

    /// Once a second: a sync that hangs wakes nobody.
    pub fn look_at_the_disk(&self) {
        if let Ok(Served { engine, confirms_later: true, .. }) = self.served()
            && engine.refusal() == Some(Refusal::Overdue)
        {
            self.waiters.wake_all();
        }
    }

    /// The turn to take a snapshot; `None` while somebody else has it.
    pub fn begin_snapshot(self: &Arc<Self>) -> Option<SnapshotTurn> {
        let was_taking = self.is_taking_snapshot.swap(true, Ordering::AcqRel);
        (!was_taking).then(|| SnapshotTurn(Arc::clone(self)))
    }

    /// Why the journal takes no writes now. Waits for nobody.
    pub fn refusal(&self) -> Option<Refusal> {
        self.served.get()?.engine.refusal()
    }

    /// What changes while heals arrive: where the journal is written to, and how many heals have been answered.
    pub fn load(&self) -> (Option<(u64, u32)>, u64) {
        let position = self.served.get().and_then(|served| served.engine.journal_position());
        (position, self.workers().iter().map(|worker| worker.heals_asked()).sum())
    }

    pub fn stats(&self) -> Stats {
        let served = Stats::of(&self.counted);
        Stats {
            connections: served.connections + self.arriving.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            ..served
        }
    }

    /// The stats of all workers and observers.
    pub fn counted(&self) -> &[Arc<WorkerStats>] {
        &self.counted
    }

    /// The stats of the workers.
    pub fn workers(&self) -> &[Arc<WorkerStats>] {
        &self.counted[..self.counted.len() - OBSERVERS]
    }

    /// Those of the observer on the service's own addresses, and of the one where metrics are read.
    pub fn observers(&self) -> [&Arc<WorkerStats>; OBSERVERS] {
        let first = self.counted.len() - OBSERVERS;
        std::array::from_fn(|index| &self.counted[first + index])
    }

    /// All on the service's own addresses.
    pub fn connections(&self) -> u64 {
        let served = self.workers().iter().chain([self.observers()[0]]);
        served.map(|worker| worker.connections.load(Ordering::Relaxed)).sum::<u64>()
            + self.arriving.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.announcer.drain();
        self.recent.drain();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A worker thread ends. Unless everything does, its panic has been printed, and the service runs on with fewer.
    pub fn end_worker(&self) {
        if !self.is_draining() {
            self.worker_ended.store(true, Ordering::Release);
        }
    }

    /// Why the service is not ready; empty when it is.
    pub fn unready_reasons(&self) -> Vec<Cow<'static, str>> {
        let flags = [
            (&self.draining, "draining"),
            (&self.worker_ended, "a worker thread has ended; restart the service"),
        ];
        let flags = flags
            .into_iter()
            .filter(|(flag, _)| flag.load(Ordering::Acquire))
            .map(|(_, reason)| Cow::Borrowed(reason));
        let engine = match self.served.get() {
            None => Some(format!("recovering {}%", self.progress.percent()).into()),
            Some(served) => served.engine.refusal().map(|refusal| refusal.to_string().into()),
        };
        engine.into_iter().chain(flags).collect()
    }
}

/// Held by whoever takes a snapshot for a client, so that clients cannot make us start one thread after another.
pub(super) struct SnapshotTurn(Arc<App>);

impl Drop for SnapshotTurn {
    fn drop(&mut self) {
        self.0.is_taking_snapshot.store(false, Ordering::Release);
    }
}
