//! Accepting connections, and handing each to whom it is for.
//!
//! ```text
//!   listeners ──▶ acceptor thread ──▶ first bytes ──▶ the worker with the fewest connections
//!                                          └────────▶ the observer: /livez, /readyz, /metrics
//! ```
//!
//! The kernel's own way to spread connections (`SO_REUSEPORT`) hashes addresses: with few connections one thread gets most of
//! them. Counting spreads them evenly, also after some have been closed.
//!
//! A worker can hang: on a file system that is frozen its next store into the journal does not return. Each says every second
//! that it goes on; one that has not is given nobody. If none has, new connections wait here, and once the journal refuses writes
//! because the disk hangs, the observer refuses them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::app::App;
use super::first_request::FirstRequest;
use super::log::Limit;
use super::recipient::Recipient;
use super::routes::MetricsAt;
use crate::journal::Refusal;

/// After a failed accept (no descriptors left, as a rule) the next waits so long, then twice as long, up to the second.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often somebody looks whether the disk or a worker hangs.
const LOOK: Duration = Duration::from_secs(1);
/// How often a connection that finds all workers hanging looks again.
const WORKER_LOOK: Duration = Duration::from_millis(100);
/// One line about connections that were refused, or could not be accepted, in this time.
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Acceptor {
    pub app: Arc<App>,
    /// Empty where everybody only observes.
    pub workers: Vec<Recipient>,
    /// Serves those who ask how the service is doing, and waits for no disk.
    pub observer: Recipient,
    pub metrics: MetricsAt,
    /// Connections whose first bytes are waited for.
    pub arriving: Arc<AtomicU64>,
    /// Most connections that there may be.
    pub limit: u64,
}

impl Acceptor {
    /// Registers the listeners with `runtime` and gives what the thread runs, until `stopped` says so.
    ///
    /// # Errors
    /// The operating system's.
    pub fn prepare(
        self,
        runtime: Runtime,
        listeners: Vec<TcpListener>,
        stopped: watch::Receiver<()>,
    ) -> io::Result<impl FnOnce()> {
        let entered = runtime.enter();
        let listeners: Vec<_> =
            listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<_, _>>()?;
        drop(entered);
        // The runtime ends with the thread, and with it the connections that are still waiting.
        Ok(move || self.run(&runtime, listeners, &stopped))
    }

    fn run(self, runtime: &Runtime, listeners: Vec<tokio::net::TcpListener>, stopped: &watch::Receiver<()>) {
        let acceptor = Arc::new(self);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for listener in listeners {
                let (acceptor, mut stopped) = (Arc::clone(&acceptor), stopped.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = acceptor.accept(&listener) => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
            // Here, because this thread waits for no disk.
            let look = tokio::spawn(Arc::clone(&acceptor).look());
            tasks.join_all().await;
            look.abort();
        });
    }

    /// Looks for ever after what hangs.
    async fn look(self: Arc<Self>) {
        let mut seconds = tokio::time::interval(LOOK);
        loop {
            let now = seconds.tick().await;
            self.app.look_at_the_disk();
            for worker in self.workers.iter().filter(|worker| !worker.goes_on(now)) {
                for stream in worker.take_back() {
                    self.admit_again(stream);
                }
            }
        }
    }

    /// Accepts for ever.
    async fn accept(self: &Arc<Self>, listener: &tokio::net::TcpListener) {
        let log = Limit::new(LOG_EVERY);
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    self.admit(stream, &log);
                }
                // The peer was gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(count) = log.pass() {
                        tracing::error!(%error, count, "connections cannot be accepted; trying again");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, log: &Limit) {
        if self.connections() >= self.limit {
            self.app.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(count) = log.pass() {
                let limit = self.limit;
                tracing::warn!(limit, count, "connections were refused: as many are open as may be");
            }
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it was served");
            return;
        }
        self.app.accepted.fetch_add(1, Ordering::Relaxed);
        if self.workers.is_empty() {
            hand_over(stream, &self.observer);
            return;
        }
        let (acceptor, arriving) = (Arc::clone(self), Arriving::new(&self.arriving));
        tokio::spawn(async move {
            if let Some(recipient) = acceptor.recipient_of(&stream).await {
                hand_over(stream, recipient);
            }
            drop(arriving);
        });
    }

    /// A worker had been given this one and hangs.
    fn admit_again(self: &Arc<Self>, stream: std::net::TcpStream) {
        let (acceptor, arriving) = (Arc::clone(self), Arriving::new(&self.arriving));
        tokio::spawn(async move {
            if let Some(worker) = acceptor.worker().await {
                worker.give(stream);
            }
            drop(arriving);
        });
    }

    /// Who is to serve this connection, once that is known; `None` if it is over.
    async fn recipient_of(&self, stream: &TcpStream) -> Option<&Recipient> {
        match FirstRequest::on(stream, self.app.timeouts, self.metrics).await? {
            FirstRequest::Observes => Some(&self.observer),
            FirstRequest::Other => self.worker().await,
        }
    }

    /// The worker with the fewest connections, of those that go on; the observer, if there are none and the disk hangs: it refuses.
    /// `None` if all have ended.
    async fn worker(&self) -> Option<&Recipient> {
        loop {
            let now = Instant::now();
            let going_on = self.workers.iter().filter(|worker| worker.goes_on(now));
            if let Some(worker) = going_on.min_by_key(|worker| worker.connections()) {
                return Some(worker);
            }
            if self.workers.iter().all(Recipient::has_ended) {
                return None;
            }
            if self.app.refusal() == Some(Refusal::Overdue) {
                return Some(&self.observer);
            }
            tokio::time::sleep(WORKER_LOOK).await;
        }
    }

    /// All that there are.
    fn connections(&self) -> u64 {
        let served = self.workers.iter().chain([&self.observer]).map(Recipient::connections);
        served.sum::<u64>() + self.arriving.load(Ordering::Relaxed)
    }
}

fn hand_over(stream: TcpStream, recipient: &Recipient) {
    // The worker registers it with its own runtime.
    match stream.into_std() {
        Ok(stream) => recipient.give(stream),
        Err(error) => tracing::debug!(%error, "a connection ended before it was served"),
    }
}

/// A connection that nobody serves yet. However it goes on, it is counted out.
struct Arriving(Arc<AtomicU64>);

impl Arriving {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
