//! One connection: the task that drives hyper over a [`Socket`], to its end and past it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::dispatch::Dispatch;
use super::socket::{HEAD_MAX, Socket};
use super::worker::Scope;

/// After a refusal the peer may still be sending. Its bytes are read and dropped for so long, or closing would reset the
/// connection and destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection to its end. Once the service drains, the requests that have come are the last.
pub(super) async fn drive(socket: Socket, service: Dispatch, mut drain: DrainSignal) {
    let keeps_alive = service.worker.scope != Scope::ObservingOnce;
    let mut protocol = std::pin::pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .keep_alive(keeps_alive)
            // A client may end its side as soon as its request is out, and still wants the answer.
            .half_close(true)
            .max_buf_size(HEAD_MAX)
            .serve_connection(socket.clone(), service)
    );
    let mut is_draining = false;
    let is_cut = std::future::poll_fn(|cx| {
        let mut is_over = protocol.as_mut().poll(cx).is_ready();
        // hyper closes a connection on which it knows of no request. What the kernel has of one wakes this task again.
        if !is_over && !is_draining && drain.is_given(cx) && !socket.is_asked() {
            is_draining = true;
            protocol.as_mut().graceful_shutdown();
            is_over = protocol.as_mut().poll(cx).is_ready();
        }
        let sent = socket.poll_out(cx);
        // What a refused request was answered may still have to go out: that is left to `close`.
        if is_over || matches!(sent, Poll::Ready(Err(_))) {
            return Poll::Ready(false);
        }
        // A watcher that reads nothing cannot be told, and must not hold up the end of all others.
        if is_draining && socket.is_ignored() { Poll::Ready(true) } else { Poll::Pending }
    })
    .await;
    if !is_cut {
        close(&socket).await;
    }
}

/// Tells every connection of a worker that the service drains.
#[derive(Clone, Default)]
pub(super) struct Drain {
    given: Rc<Cell<bool>>,
    notify: Arc<Notify>,
}

impl Drain {
    pub fn give(&self) {
        self.given.set(true);
        self.notify.notify_waiters();
    }

    pub fn signal(&self) -> DrainSignal {
        DrainSignal {
            given: Rc::clone(&self.given),
            notified: Box::pin(Arc::clone(&self.notify).notified_owned()),
            registered: false,
        }
    }
}

/// One connection's end of it.
pub(super) struct DrainSignal {
    given: Rc<Cell<bool>>,
    notified: Pin<Box<OwnedNotified>>,
    registered: bool,
}

impl DrainSignal {
    /// Registers the task once; from then on looking at a flag suffices, since a task's waker stays the same.
    fn is_given(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.registered {
            self.registered = true;
            return self.notified.as_mut().poll(cx).is_ready() || self.given.get();
        }
        self.given.get()
    }
}

async fn close(socket: &Socket) {
    let shut = std::future::poll_fn(|cx| socket.poll_shutdown(cx)).await;
    if shut.is_ok() && socket.is_heard() {
        let rest = std::future::poll_fn(|cx| socket.poll_rest(cx));
        // Whether the peer ended or went on for too long, the connection is over.
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}
