//! The running service: its addresses and its threads, from the start to the end.
//!
//! ```text
//!   listeners ──▶ acceptor ──▶ workers
//!                        └───▶ observer      /livez, /readyz, /metrics: it touches neither roster nor mapping
//! ```
//!
//! It can listen before there is an engine: recovery takes its time, and whoever asks meanwhile is told how far it has got.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::acceptor::Acceptor;
use super::announcer::Announcing;
use super::app::{App, Counting};
use super::publish;
use super::recipient::Recipient;
use super::routes::{self, MetricsAt};
use super::sampler::Sampling;
use super::stats::{Stats, WorkerStats};
use super::worker::{self, Scope, Worker};
use crate::config::Settings;
use crate::engine::{Engine, Progress, Recovery};
use crate::metrics::Metrics;

/// Connections that may wait to be accepted: when a gateway comes back, its clients all come at once, and whoever finds the
/// queue full tries again a second later. The kernel takes the lesser of this and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// Most connections at the addresses that only metrics are read from.
const OBSERVERS_MAX: u64 = 256;
/// How often a draining server looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on: in use, not of this machine, not permitted.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system gave no thread, or none of the descriptors that a thread needs to wait for its connections.
    #[error("cannot start the thread {name:?}")]
    Thread {
        /// Its name.
        name: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A running service. Dropping it ends it at once; see [`Server::drain`] for the way that finishes requests.
pub struct Server {
    app: Arc<App>,
    addresses: Vec<SocketAddr>,
    metrics_addresses: Vec<SocketAddr>,
    serving: Side,
    /// Where metrics have addresses of their own. It goes on while the service drains, so that this can be seen.
    observing: Side,
    publisher: Option<Publisher>,
    queries: Option<Queries>,
    announcing: Option<Announcing>,
    sampling: Option<Sampling>,
}

/// Some addresses, and the threads that serve them.
#[derive(Default)]
struct Side {
    workers: Vec<Recipient>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped, it ends the acceptor, which closes the listeners.
    accepting: Option<watch::Sender<()>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Side {
    fn start_worker(&mut self, name: &str, worker: Worker) -> Result<Recipient, StartError> {
        let (recipient, orders, inbox) = Recipient::new(Arc::clone(&worker.stats));
        let thread = spawn(name, |runtime| Ok(move || worker::run(&runtime, worker, orders, &inbox)))?;
        self.threads.push(thread);
        self.workers.push(recipient.clone());
        Ok(recipient)
    }

    fn start_acceptor(
        &mut self,
        name: &str,
        acceptor: Acceptor,
        listeners: Vec<TcpListener>,
    ) -> Result<(), StartError> {
        let (accepting, stopped) = watch::channel(());
        self.acceptor = Some(spawn(name, |runtime| acceptor.prepare(runtime, listeners, stopped))?);
        self.accepting = Some(accepting);
        Ok(())
    }

    /// The listeners close, and each connection ends with the request that it is serving.
    fn drain(&mut self) {
        drop(self.accepting.take());
        if let Some(acceptor) = self.acceptor.take() {
            // It has printed its own panic, and there is nothing to do about it now.
            let _ = acceptor.join();
        }
        self.workers.iter().for_each(Recipient::drain);
    }

    /// Ends what is left of it.
    fn end(&mut self) {
        self.drain();
        self.workers.clear();
        for thread in self.threads.drain(..) {
            // As above.
            let _ = thread.join();
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread that publishes metrics. It ends when this is dropped.
struct Publisher {
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.ended.take());
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

/// The thread that works on queries over everybody. It ends when this is dropped.
struct Queries {
    app: Arc<App>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Queries {
    fn drop(&mut self) {
        self.app.queries.end();
        if let Some(thread) = self.thread.take() {
            // It catches the panics of queries.
            let _ = thread.join();
        }
    }
}

impl Server {
    /// Binds the addresses of `settings` and starts the threads.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(engine: Arc<Engine>, settings: &Settings) -> Result<Self, StartError> {
        Self::start_with_routes(engine, settings, &Router::new())
    }

    /// The same, with routes of the embedding program's own beside ours.
    ///
    /// # Errors
    /// As [`Server::start`].
    ///
    /// # Panics
    /// If one of them is ours already.
    pub fn start_with_routes(
        engine: Arc<Engine>,
        settings: &Settings,
        more: &Router,
    ) -> Result<Self, StartError> {
        let server = Self::listen_with_routes(settings, Arc::default(), more, Counting::On)?;
        server.serve(engine, None);
        Ok(server)
    }

    /// As [`Server::start`], but requests are not counted and metrics not published: for measuring what that costs.
    ///
    /// # Errors
    /// As [`Server::start`].
    #[doc(hidden)]
    pub fn start_uncounted(engine: Arc<Engine>, settings: &Settings) -> Result<Self, StartError> {
        let server = Self::listen_with_routes(settings, Arc::default(), &Router::new(), Counting::Off)?;
        server.serve(engine, None);
        Ok(server)
    }

    /// Binds the addresses of `settings` and starts the threads, before there is an engine. Until [`Server::serve`], `/livez`
    /// says yes, `/readyz` no, and every call that needs the engine is answered 503 with what `progress` says.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn listen(settings: &Settings, progress: Arc<Progress>) -> Result<Self, StartError> {
        Self::listen_with_routes(settings, progress, &Router::new(), Counting::On)
    }

    fn listen_with_routes(
        settings: &Settings,
        progress: Arc<Progress>,
        more: &Router,
        counting: Counting,
    ) -> Result<Self, StartError> {
        let app = Arc::new(App::new(settings, progress, counting));
        let (listeners, addresses) = bind_all(&settings.listen)?;
        let (metrics_listeners, metrics_addresses) = bind_all(&settings.metrics_listen)?;
        if counting == Counting::On {
            // Whoever comes first finds the process as it is, and not at 0.
            publish::publish_slowly(&app);
        }
        let metrics_at =
            if metrics_listeners.is_empty() { MetricsAt::SamePort } else { MetricsAt::OtherPort };
        let mut server = Self {
            app,
            addresses,
            metrics_addresses,
            serving: Side::default(),
            observing: Side::default(),
            publisher: None,
            queries: None,
            announcing: None,
            sampling: None,
        };
        server.start_serving(listeners, metrics_at, more)?;
        if metrics_at == MetricsAt::OtherPort {
            server.start_observing(metrics_listeners)?;
        }
        server.queries = Some(start_queries(&server.app)?);
        server.announcing = Some(start_announcer(&server.app)?);
        server.sampling = Some(start_sampler(&server.app)?);
        if counting == Counting::On {
            server.publisher = Some(start_publisher(&server.app)?);
        }
        Ok(server)
    }

    fn start_serving(
        &mut self,
        listeners: Vec<TcpListener>,
        metrics: MetricsAt,
        more: &Router,
    ) -> Result<(), StartError> {
        let Self { app, serving, .. } = self;
        let mut workers = Vec::new();
        for (index, stats) in app.workers().iter().enumerate() {
            let router = routes::router(app, stats, metrics).merge(Router::clone(more));
            let worker = worker(app, stats, router, Scope::Everything);
            workers.push(serving.start_worker(&format!("worker-{index}"), worker)?);
        }
        let [stats, _] = app.observers();
        let router = routes::observer(app, stats, metrics);
        let observer = serving.start_worker("observer", worker(app, stats, router, Scope::ObservingOnce))?;
        let (arriving, limit) = (Arc::clone(&app.arriving), app.connections_max);
        let acceptor = Acceptor { app: Arc::clone(app), workers, observer, metrics, arriving, limit };
        serving.start_acceptor("acceptor", acceptor, listeners)
    }

    fn start_observing(&mut self, listeners: Vec<TcpListener>) -> Result<(), StartError> {
        let Self { app, observing, .. } = self;
        let [_, stats] = app.observers();
        let router = routes::metrics_observer(app, stats);
        let worker = worker(app, stats, router, Scope::Observing);
        let acceptor = Acceptor {
            app: Arc::clone(app),
            workers: Vec::new(),
            observer: observing.start_worker("metrics-observer", worker)?,
            metrics: MetricsAt::OtherPort,
            arriving: Arc::default(),
            limit: OBSERVERS_MAX,
        };
        observing.start_acceptor("metrics-acceptor", acceptor, listeners)
    }

    /// Serves `engine` from now on; `recovery` is what `/v1/status` tells of how it came about. Called again, it changes nothing.
    pub fn serve(&self, engine: Arc<Engine>, recovery: Option<Recovery>) {
        self.app.serve(engine, recovery);
        if self.publisher.is_some() {
            publish::publish_slowly(&self.app);
        }
    }

    /// Where it listens; with the port that was given for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are read, if that is not the same port.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// The metrics that it serves, for whoever has something to count.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.app.metrics)
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.app.stats()
    }

    /// How many connections each worker has.
    pub fn connections_by_worker(&self) -> Vec<u64> {
        self.app.workers().iter().map(|worker| worker.connections.load(Ordering::Relaxed)).collect()
    }

    /// `/readyz` says no from now on, the listeners close, and each connection ends with the request that it is serving. Only
    /// where metrics have addresses of their own these are served on, until this is dropped.
    pub fn draining(&mut self) {
        self.app.drain();
        self.serving.drain();
    }

    /// Drains, waits until all connections have ended, but no longer than `timeout`, cuts those that have not, and says whether
    /// all had.
    pub fn drain(&mut self, timeout: Duration) -> bool {
        self.draining();
        let deadline = Instant::now() + timeout;
        while self.app.connections() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(DRAIN_LOOK);
        }
        let has_drained = self.app.connections() == 0;
        self.serving.end();
        has_drained
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.drain();
        self.serving.end();
        self.observing.end();
    }
}

fn worker(app: &Arc<App>, stats: &Arc<WorkerStats>, router: Router, scope: Scope) -> Worker {
    Worker { app: Arc::clone(app), stats: Arc::clone(stats), router, scope }
}

/// The listeners, and where they listen: with the port that was given for port 0.
fn bind_all(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let bound = addresses.iter().map(|&address| {
        let listen = |source| StartError::Listen { address, source };
        let listener = bind(address).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        Ok((listener, bound))
    });
    Ok(bound.collect::<Result<Vec<_>, StartError>>()?.into_iter().unzip())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // The standard library lets 128 wait; this asks again for more.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Starts a thread with a runtime of its own, which `prepare` makes what the thread runs. Whatever may be refused is asked for
/// here, before the service says that it runs.
fn spawn<Run: FnOnce() + Send + 'static>(
    name: &str,
    prepare: impl FnOnce(Runtime) -> io::Result<Run>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .and_then(prepare)
        .and_then(|run| std::thread::Builder::new().name(name.into()).spawn(run))
        .map_err(|source| StartError::Thread { name: name.into(), source })
}

fn start_announcer(app: &Arc<App>) -> Result<Announcing, StartError> {
    Announcing::start(app).map_err(|source| StartError::Thread { name: "announcer".into(), source })
}

fn start_sampler(app: &Arc<App>) -> Result<Sampling, StartError> {
    Sampling::start(app).map_err(|source| StartError::Thread { name: "figures".into(), source })
}

fn start_queries(app: &Arc<App>) -> Result<Queries, StartError> {
    let name = "queries";
    let working = Arc::clone(app);
    let thread = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || working.queries.run(|| working.load()))
        .map_err(|source| StartError::Thread { name: name.into(), source })?;
    Ok(Queries { app: Arc::clone(app), thread: Some(thread) })
}

fn start_publisher(app: &Arc<App>) -> Result<Publisher, StartError> {
    let name = "metrics";
    let (ended, end) = mpsc::channel();
    let app = Arc::clone(app);
    let thread = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || publish::run(&app, &end))
        .map_err(|source| StartError::Thread { name: name.into(), source })?;
    Ok(Publisher { ended: Some(ended), thread: Some(thread) })
}
