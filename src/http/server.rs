//! Listening, accepting, and handing connections to the workers.
//!
//! ```text
//!   listeners ──▶ acceptor thread ──▶ the worker with the fewest connections ──▶ its runtime
//! ```
//!
//! It can listen before there is an engine: recovery takes its time, and whoever asks meanwhile is told how far it has got.
//!
//! The kernel's own way to spread connections (`SO_REUSEPORT`) hashes addresses: with few connections one thread gets most of
//! them. Counting spreads them evenly, also after some have been closed.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::app::App;
use super::log::Limit;
use super::routes;
use super::stats::{Stats, WorkerStats};
use super::worker::{self, Order, Worker};
use crate::config::Settings;
use crate::engine::{Engine, Progress, Recovery};

/// After a failed accept (no descriptors left, as a rule) the next waits so long, then twice as long, up to the second.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted: when a gateway comes back, its clients all come at once, and whoever finds the
/// queue full tries again a second later. The kernel takes the lesser of this and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
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
    workers: Vec<UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped, it ends the acceptor, which closes the listeners.
    accepting: Option<watch::Sender<()>>,
    acceptor: Option<JoinHandle<()>>,
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
        let server = Self::listen_with_routes(settings, Arc::default(), more)?;
        server.serve(engine, None);
        Ok(server)
    }

    /// Binds the addresses of `settings` and starts the threads, before there is an engine. Until [`Server::serve`], `/livez`
    /// says yes, `/readyz` no, and every call that needs the engine is answered 503 with what `progress` says.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn listen(settings: &Settings, progress: Arc<Progress>) -> Result<Self, StartError> {
        Self::listen_with_routes(settings, progress, &Router::new())
    }

    fn listen_with_routes(
        settings: &Settings,
        progress: Arc<Progress>,
        more: &Router,
    ) -> Result<Self, StartError> {
        let app = Arc::new(App::new(settings, progress));
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for &address in &settings.listen {
            let listen = |source| StartError::Listen { address, source };
            let listener = bind(address).map_err(listen)?;
            addresses.push(listener.local_addr().map_err(listen)?);
            listeners.push(listener);
        }
        let mut server = Self {
            app: Arc::clone(&app),
            addresses,
            workers: Vec::new(),
            threads: Vec::new(),
            accepting: None,
            acceptor: None,
        };
        for (index, stats) in app.workers.iter().enumerate() {
            let (orders, received) = unbounded_channel();
            let router = routes::router(&app, stats).merge(Router::clone(more));
            let worker = Worker { app: Arc::clone(&app), stats: Arc::clone(stats), router };
            let thread = spawn(&format!("worker-{index}"), |runtime| {
                Ok(move || worker::run(&runtime, worker, received))
            })?;
            server.workers.push(orders);
            server.threads.push(thread);
        }
        let (accepting, stopped) = watch::channel(());
        let acceptor = Acceptor { app, workers: server.workers.clone() };
        server.acceptor = Some(spawn("acceptor", |runtime| {
            let listeners = register(&runtime, listeners)?;
            Ok(move || acceptor.run(&runtime, listeners, &stopped))
        })?);
        server.accepting = Some(accepting);
        Ok(server)
    }

    /// Serves `engine` from now on; `recovery` is what `/v1/status` tells of how it came about. Called again, it changes nothing.
    pub fn serve(&self, engine: Arc<Engine>, recovery: Option<Recovery>) {
        self.app.serve(engine, recovery);
    }

    /// Where it listens; with the port that was given for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.app.stats()
    }

    /// How many connections each worker has.
    pub fn connections_by_worker(&self) -> Vec<u64> {
        self.app.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).collect()
    }

    /// `/readyz` says no from now on, the listeners close, and each connection ends with the request that it is serving.
    pub fn draining(&mut self) {
        self.app.drain();
        drop(self.accepting.take());
        if let Some(acceptor) = self.acceptor.take() {
            // It has printed its own panic, and there is nothing to do about it now.
            let _ = acceptor.join();
        }
        for worker in &self.workers {
            // A worker that is gone has no connections either.
            let _ = worker.send(Order::Drain);
        }
    }

    /// Drains, waits until all connections have ended, but no longer than `timeout`, and says whether they have.
    pub fn drain(&mut self, timeout: Duration) -> bool {
        self.draining();
        let deadline = Instant::now() + timeout;
        while self.app.connections() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(DRAIN_LOOK);
        }
        self.app.connections() == 0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.draining();
        self.workers.clear();
        for thread in self.threads.drain(..) {
            // As above.
            let _ = thread.join();
        }
    }
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

fn register(runtime: &Runtime, listeners: Vec<TcpListener>) -> io::Result<Vec<tokio::net::TcpListener>> {
    let _entered = runtime.enter();
    listeners.into_iter().map(tokio::net::TcpListener::from_std).collect()
}

struct Acceptor {
    app: Arc<App>,
    workers: Vec<UnboundedSender<Order>>,
}

impl Acceptor {
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
            tasks.join_all().await;
        });
    }

    /// Accepts for ever.
    async fn accept(&self, listener: &tokio::net::TcpListener) {
        let log = Limit::new(Duration::from_secs(10));
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    self.hand_over(stream, &log);
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

    fn hand_over(&self, stream: TcpStream, log: &Limit) {
        if self.app.connections() >= self.app.connections_max {
            self.app.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(count) = log.pass() {
                let limit = self.app.connections_max;
                tracing::warn!(
                    limit,
                    count,
                    "connections were refused: as many are open as the setting max-connections allows"
                );
            }
            return;
        }
        // The worker registers it with its own runtime.
        let stream = match stream.set_nodelay(true).and_then(|()| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection ended before it was served");
                return;
            }
        };
        let Some((orders, stats)) = self.fewest_connections() else {
            return;
        };
        stats.connections.fetch_add(1, Ordering::Relaxed);
        self.app.accepted.fetch_add(1, Ordering::Relaxed);
        if orders.send(Order::Serve(stream)).is_err() {
            stats.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Of the workers that run. One that has ended has no connections, and would otherwise be given all.
    fn fewest_connections(&self) -> Option<(&UnboundedSender<Order>, &WorkerStats)> {
        let workers = self.workers.iter().zip(self.app.workers.iter().map(Arc::as_ref));
        workers
            .filter(|(orders, _)| !orders.is_closed())
            .min_by_key(|(_, stats)| stats.connections.load(Ordering::Relaxed))
    }
}
