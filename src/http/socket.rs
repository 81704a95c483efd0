//! A socket with our timeouts, between the kernel and hyper.
//!
//! ```text
//!   Idle ──first byte──▶ Head ──complete──▶ Serving ──answered──▶ Idle
//!   idle-timeout         header-timeout     the handler's own limits
//! ```
//!
//! hyper's own header timeout runs while a kept connection is idle, too, so it would close a client that heals every 7 s.
//! Hence these phases, kept where the bytes come in. One timer serves a connection; it is set late, not per request.
//!
//! Responses are gathered here while the task runs and handed to the kernel before it sleeps. So requests in a pipeline are
//! answered in one system call, and yet no finished response waits for a slow one behind it (hyper's `pipeline_flush` holds
//! them back until its whole read buffer has been served).

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use rustix::io::ioctl_fionread;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::heads::Heads;
use super::route::Route;
use super::stats::{LATENCY_SAMPLE, WorkerStats};

/// Responses are handed to the kernel early once this many bytes are waiting.
const OUT_MAX: usize = 64 * 1024;
/// The same of somebody who follows transitions, and what the kernel may keep for them (it counts twice as much for its own
/// needs). Left to itself it kept 0.75 MB for each of a thousand who read slowly, and filling that took all the processor there was.
const FOLLOWER_OUT_MAX: usize = 16 * 1024;
const FOLLOWER_SENT_MAX: usize = 64 * 1024;
/// What a read may bring at most.
pub(super) const READ_MAX: usize = 16 * 1024;
/// A head beyond this, and what one more read adds, is refused.
pub(super) const HEAD_MAX: usize = 64 * 1024;
/// A buffer for responses that has grown beyond this is given back when they are out.
const OUT_IDLE: usize = 16 * 1024;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub idle: Duration,
    pub header: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Serving,
}

/// A socket as hyper and the service of its connection share it. One thread; no borrow outlives a call.
#[derive(Clone)]
pub(super) struct Socket(Rc<RefCell<Inner>>);

struct Inner {
    stream: TcpStream,
    /// Scratch space for reads, the worker's own.
    scratch: Rc<RefCell<Box<[u8]>>>,
    stats: Arc<WorkerStats>,
    timeouts: Timeouts,
    phase: Phase,
    /// The request before has been answered; the phase is `Idle` from the next read on.
    answered: bool,
    /// When `phase` began, or for a stalled write when it stalled.
    since: Option<Instant>,
    stalled: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    heads: Heads,
    out: Vec<u8>,
    written: usize,
    reads: u32,
    sampled: Option<Instant>,
    /// Of the request served last.
    route: Route,
    peer_closed: bool,
    timed_out: bool,
}

impl Socket {
    pub fn new(
        stream: TcpStream,
        scratch: Rc<RefCell<Box<[u8]>>>,
        stats: Arc<WorkerStats>,
        timeouts: Timeouts,
    ) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stream,
            scratch,
            stats,
            timeouts,
            phase: Phase::Idle,
            answered: false,
            since: None,
            stalled: None,
            timer: None,
            heads: Heads::default(),
            out: Vec::new(),
            written: 0,
            reads: 0,
            sampled: None,
            route: Route::Other,
            peer_closed: false,
            timed_out: false,
        })))
    }

    /// A complete head has arrived and its request is being served.
    pub fn serving(&self, route: Route) {
        self.set(route, false);
        if route.waits() {
            self.0.borrow_mut().begin_to_wait();
        }
    }

    /// A complete request has come and been answered at once.
    #[inline]
    pub fn served(&self, route: Route) {
        self.set(route, true);
    }

    #[inline]
    fn set(&self, route: Route, answered: bool) {
        let mut inner = self.0.borrow_mut();
        inner.phase = Phase::Serving;
        inner.route = route;
        inner.answered = answered;
    }

    /// The request has been answered.
    pub fn answered(&self, had_body: bool) {
        let mut inner = self.0.borrow_mut();
        inner.answered = true;
        if had_body {
            inner.heads.end_body();
        }
    }

    /// Hands what has been gathered to the kernel.
    pub fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_out(cx)
    }

    /// The same, and tells the peer that nothing more will come.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }

    /// Reads what the peer is still sending, and drops it.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_rest(cx)
    }

    /// Whether the peer may still be there, reading and sending.
    pub fn is_heard(&self) -> bool {
        let inner = self.0.borrow();
        !inner.peer_closed && !inner.timed_out
    }

    /// Whether what is left to send are events for somebody who does not read them.
    pub fn is_ignored(&self) -> bool {
        let inner = self.0.borrow();
        inner.route == Route::Watch && inner.stalled.is_some()
    }

    /// Whether something has come that nobody has read, while no request is being served.
    pub fn is_asked(&self) -> bool {
        let inner = self.0.borrow();
        let is_serving = inner.phase == Phase::Serving && !inner.answered;
        !is_serving && ioctl_fionread(&inner.stream).is_ok_and(|unread| unread > 0)
    }

    /// Ready once the peer has ended its side, or the connection is broken. Whoever has sent more than the request that is being
    /// served is taken to be there.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        match self.0.borrow().stream.poll_peek(cx, &mut read) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether a head that came in lately names both a content length and a transfer encoding.
    pub fn is_contradictory(&self) -> bool {
        self.0.borrow().heads.is_contradictory()
    }
}

impl Inner {
    fn begin_to_wait(&mut self) {
        // How long that takes says nothing about us.
        self.sampled = None;
        if self.route == Route::Watch {
            // Should the kernel refuse, it keeps what it usually does.
            let _ = set_socket_send_buffer_size(&self.stream, FOLLOWER_SENT_MAX);
        }
    }

    const fn out_max(&self) -> usize {
        if matches!(self.route, Route::Watch) { FOLLOWER_OUT_MAX } else { OUT_MAX }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.answered {
            self.answered = false;
            self.phase = Phase::Idle;
            self.since = None;
        }
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let most = buf.remaining().min(READ_MAX);
        let mut read = ReadBuf::new(&mut scratch[..most]);
        if Pin::new(&mut self.stream).poll_read(cx, &mut read)?.is_pending() {
            return self.poll_silence(cx).map(Err);
        }
        let read = read.filled();
        if read.is_empty() {
            self.peer_closed = true;
            return Poll::Ready(Ok(()));
        }
        buf.put_slice(read);
        self.came_in(read);
        Poll::Ready(Ok(()))
    }

    fn came_in(&mut self, read: &[u8]) {
        self.reads = self.reads.wrapping_add(1);
        if self.reads % LATENCY_SAMPLE == 1 {
            self.sampled = Some(Instant::now());
        }
        match self.phase {
            Phase::Idle => {
                self.phase = Phase::Head;
                self.since = None;
                self.heads.begin(read);
            }
            Phase::Head => self.heads.go_on(read),
            Phase::Serving => self.heads.serve(read),
        }
    }

    /// Nothing to read: an error once that has lasted too long, and until then a timer that wakes the task.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // Whoever is waited for now has not sent a request in one piece: no latency of ours.
        if self.phase != Phase::Idle {
            self.sampled = None;
        }
        let most = match self.phase {
            Phase::Idle if self.heads.has_begun() => self.timeouts.header,
            Phase::Idle => self.timeouts.idle,
            Phase::Head => self.timeouts.header,
            Phase::Serving => return Poll::Pending,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        self.poll_timer(cx, since + most)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<io::Error> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // A timer that is set for earlier will wake the task, and then it is set anew: most requests come long before, and
        // setting it for each would cost more than serving them.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                self.timed_out = true;
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.written += written;
                    self.stalled = None;
                }
                Poll::Pending => {
                    // A peer that does not read its answers is as silent as one that does not ask.
                    let since = *self.stalled.get_or_insert_with(Instant::now);
                    return self.poll_timer(cx, since + self.timeouts.idle).map(Err);
                }
            }
        }
        if self.written > 0 {
            self.out.clear();
            self.out.shrink_to(OUT_IDLE);
            self.written = 0;
            if let Some(read_at) = self.sampled.take() {
                self.stats.took(self.route, read_at.elapsed());
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.out_max();
        if self.out.len() >= most {
            ready!(self.poll_out(cx))?;
        }
        let taken = bytes.len().min(most);
        self.out.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    /// Puts it off: the connection flushes when hyper has done what it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }
}
