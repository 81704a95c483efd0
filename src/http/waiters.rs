//! Who waits for the disk, in `always`: requests that have been written and are to be acknowledged once a sync that began later
//! has ended.
//!
//! Each is woken by the sync that it waits for and by no other. There are two kinds at any time, for the sync under way takes
//! one and the next the other; woken for each, every request was looked at twice, which was a tenth of what it cost.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::engine::{Engine, Ticket, WriteError};

/// Tasks of all workers.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Vec<(Ticket, Waker)>>);

impl Waiters {
    /// All syncs up to that of `ticket` have ended, one way or the other.
    pub fn wake(&self, ticket: Ticket) {
        let woken: Vec<Waker> = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extract_if(.., |(waited_for, _)| *waited_for <= ticket).map(|(_, waker)| waker).collect()
        };
        // Outside the lock: whoever is woken may run at once, and wait for the next.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody: the disk has hung for too long, and they are to look.
    pub fn wake_all(&self) {
        let woken = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Waits until what `ticket` promises is kept, or is known not to be.
    pub fn wait<'a>(&'a self, engine: &'a Engine, ticket: Ticket) -> Wait<'a> {
        Wait { waiters: self, engine, ticket, registered: None }
    }
}

/// See [`Waiters::wait`].
pub(super) struct Wait<'a> {
    waiters: &'a Waiters,
    engine: &'a Engine,
    ticket: Ticket,
    /// The task that will be woken.
    registered: Option<Waker>,
}

impl Future for Wait<'_> {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.engine.outcome(self.ticket) {
            return Poll::Ready(outcome);
        }
        // A task is looked at for other reasons, too; it need be woken only once.
        if self.registered.as_ref().is_none_or(|registered| !registered.will_wake(cx.waker())) {
            let mut waiting = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((self.ticket, cx.waker().clone()));
            drop(waiting);
            self.registered = Some(cx.waker().clone());
            // The sync may have ended between the look and the entry, and then nobody comes to wake us.
            if let Some(outcome) = self.engine.outcome(self.ticket) {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }
}
