//! How a worker is given connections, and how it is seen that it takes none.
//!
//! A worker can hang in the kernel: on a file system that is frozen a store into the journal does not return. So it says every
//! second that it goes on, and what it has not taken when it falls silent is taken back and given to another.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::stats::WorkerStats;

/// How often a worker says that it goes on.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// One that has not said so for this long hangs. No request holds a worker up for as long.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// What a worker is told. When nobody is left to tell it anything, it ends, and its connections with it.
pub(super) enum Order {
    /// A connection is waiting in the inbox.
    Serve,
    Drain,
}

/// What a worker and those who give it connections share.
pub(super) struct Inbox {
    waiting: Mutex<VecDeque<TcpStream>>,
    start: Instant,
    /// When the worker last said that it goes on, in ms after `start`.
    beat_at: AtomicU64,
}

impl Inbox {
    fn new() -> Self {
        Self { waiting: Mutex::default(), start: Instant::now(), beat_at: AtomicU64::new(0) }
    }

    /// The next connection, unless it has been taken back.
    pub fn take(&self) -> Option<TcpStream> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The worker goes on.
    pub fn beat(&self) {
        self.beat_at.store(self.millis(Instant::now()), Ordering::Relaxed);
    }

    fn goes_on(&self, now: Instant) -> bool {
        let silence = self.millis(now).saturating_sub(self.beat_at.load(Ordering::Relaxed));
        u128::from(silence) < SILENCE.as_millis()
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A worker, as those see it who give it connections.
#[derive(Clone)]
pub(super) struct Recipient {
    orders: UnboundedSender<Order>,
    inbox: Arc<Inbox>,
    stats: Arc<WorkerStats>,
}

impl Recipient {
    /// One whose connections are counted in `stats`, and where its worker finds orders and connections.
    pub fn new(stats: Arc<WorkerStats>) -> (Self, UnboundedReceiver<Order>, Arc<Inbox>) {
        let (orders, received) = unbounded_channel();
        let inbox = Arc::new(Inbox::new());
        (Self { orders, inbox: Arc::clone(&inbox), stats }, received, inbox)
    }

    /// Gives it a connection, which is counted from now on and until it has ended. One that has ended takes none.
    pub fn give(&self, stream: TcpStream) {
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(stream);
        if self.orders.send(Order::Serve).is_err() {
            self.take_back();
        }
    }

    /// The connections that it has not taken.
    pub fn take_back(&self) -> VecDeque<TcpStream> {
        let taken = std::mem::take(&mut *self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.stats.connections.fetch_sub(taken.len() as u64, Ordering::Relaxed);
        taken
    }

    pub fn drain(&self) {
        // A worker that is gone has no connections either.
        let _ = self.orders.send(Order::Drain);
    }

    pub fn connections(&self) -> u64 {
        self.stats.connections.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.orders.is_closed()
    }

    /// Whether it runs and does not hang.
    pub fn goes_on(&self, now: Instant) -> bool {
        !self.has_ended() && self.inbox.goes_on(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_falls_silent_hangs_until_it_speaks_again() {
        let (recipient, orders, inbox) = Recipient::new(Arc::default());
        assert!(recipient.goes_on(Instant::now()));
        tokio::time::advance(SILENCE).await;
        assert!(!recipient.goes_on(Instant::now()));
        inbox.beat();
        assert!(recipient.goes_on(Instant::now()));
        drop(orders);
        assert!(!recipient.goes_on(Instant::now()), "it has ended");
    }

    #[test]
    fn what_a_worker_has_not_taken_can_be_taken_back() {
        let stats: Arc<WorkerStats> = Arc::default();
        let (recipient, orders, inbox) = Recipient::new(Arc::clone(&stats));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            recipient.give(TcpStream::connect(address).unwrap());
        }
        assert!(inbox.take().is_some());
        assert_eq!(recipient.take_back().len(), 2);
        assert_eq!((recipient.connections(), inbox.take().is_none()), (1, true));

        drop(orders);
        recipient.give(TcpStream::connect(address).unwrap());
        assert_eq!(recipient.connections(), 1, "one that has ended is given nobody");
    }
}
