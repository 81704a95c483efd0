//! A worker: one thread, one runtime, and the connections that were given to it.
//!
//! A connection stays with its worker, so nothing that belongs to it is shared between threads.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use super::app::App;
use super::connection::{self, Drain};
use super::dispatch::Dispatch;
use super::recipient::{BEAT, Inbox, Order};
use super::socket::{READ_MAX, Socket};
use super::stats::WorkerStats;

/// What the connections of one worker share.
pub(super) struct Worker {
    pub app: Arc<App>,
    pub stats: Arc<WorkerStats>,
    pub router: Router,
    pub scope: Scope,
}

/// What a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// Its router and not the original endpoints: where metrics are read, nobody is healed.
    Observing,
    /// The same, and each connection ends with its first answer: the next request might be one that must not be served here.
    ObservingOnce,
}

/// Runs a worker on the current thread.
pub(super) fn run(
    runtime: &Runtime,
    worker: Worker,
    mut orders: UnboundedReceiver<Order>,
    inbox: &Arc<Inbox>,
) {
    let _ended = Ended(Arc::clone(&worker.app));
    let worker = Rc::new(worker);
    let scratch = Rc::new(RefCell::new(vec![0; READ_MAX].into_boxed_slice()));
    let drain = Drain::default();
    LocalSet::new().block_on(runtime, async move {
        tokio::task::spawn_local(beat(Arc::clone(inbox)));
        while let Some(order) = orders.recv().await {
            match order {
                Order::Serve => {
                    // Unless it came too late, and another has been given it.
                    if let Some(stream) = inbox.take() {
                        let served = serve(Rc::clone(&worker), stream, Rc::clone(&scratch), drain.clone());
                        tokio::task::spawn_local(served);
                    }
                }
                Order::Drain => drain.give(),
            }
        }
    });
}

/// Says for ever that the worker goes on.
async fn beat(inbox: Arc<Inbox>) {
    let mut beats = tokio::time::interval(BEAT);
    loop {
        beats.tick().await;
        inbox.beat();
    }
}

async fn serve(
    worker: Rc<Worker>,
    stream: std::net::TcpStream,
    scratch: Rc<RefCell<Box<[u8]>>>,
    drain: Drain,
) {
    // However the task ends, the connection is counted out.
    let _open = Open(Arc::clone(&worker.stats));
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be registered with its worker");
            return;
        }
    };
    let socket = Socket::new(stream, scratch, Arc::clone(&worker.stats), worker.app.timeouts);
    let dispatch = Dispatch { worker, socket: socket.clone() };
    connection::drive(socket, dispatch, drain.signal()).await;
}

struct Open(Arc<WorkerStats>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Ended(Arc<App>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end_worker();
    }
}
