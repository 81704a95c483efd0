//! Queries over everybody, on a thread of their own: no worker looks at ten million users while its connections wait.
//!
//! ```text
//!   handler ── ask ──▶ 16 waiting ──▶ 4 under way, a shard of each in turn ──▶ answer ── oneshot ──▶ handler
//!                 └─▶ 503 beyond them
//! ```
//!
//! One thread, because a pass over memory is bound by memory: a second one would slow the first, and take a core from heals.
//! Several under way, so that a page does not wait for a curve over a month before it; four, because a curve takes up to 12 MiB.
//!
//! While heals arrive the thread works a tenth of the time ([`Pace`]): a query then takes up to ten times as long as it does
//! alone, and four at once share that. What arrives is seen by the journal's position, which a heal moves as it is written, and
//! by the count of heals answered, for an engine that keeps no journal. It looks once a millisecond of work, for a rest of
//! microseconds is one of a timer's granularity; and what arrives during a rest does not count, so that a few heals slow a query
//! down a little and many tenfold.
//!
//! The thread has no lower priority than others: preempted with a shard's guard in its hands, it would hold up everybody who
//! comes or goes there.
//!
//! A query whose client has gone (its receiver is dropped) is given up before its next shard.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::oneshot;

use super::error::Error;
use crate::engine::Pace;

/// Queries that take turns.
const UNDER_WAY_MAX: usize = 4;
/// Queries that wait to be among them.
const WAITING_MAX: usize = 16;
/// So long it works before it looks whether to rest.
const STRETCH: Duration = Duration::from_millis(1);

const FULL: Error = Error::fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    "20 queries over everybody are under way or waiting; repeat the request in a moment",
);

/// A query over everybody.
pub(super) trait Query: Send + 'static {
    type Answer: Send + 'static;

    /// Looks at one more shard; the answer after the last.
    fn proceed(&mut self) -> Option<Self::Answer>;
}

/// The queries, and whoever works on them.
#[derive(Default)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    /// Something was asked, or the pool has ended.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Asked>>,
    has_ended: bool,
}

impl Pool {
    /// Waits for the answer.
    ///
    /// # Errors
    /// 503 if too many are waiting already, 500 if the query panicked.
    pub async fn ask<Q: Query>(&self, query: Q) -> Result<Q::Answer, Error> {
        let (answer, answered) = oneshot::channel();
        self.take(Box::new(Question { query, answer: Some(answer) }))?;
        answered.await.map_err(|_| Error::INTERNAL)
    }

    fn take(&self, asked: Box<dyn Asked>) -> Result<(), Error> {
        let mut queue = self.lock();
        if queue.has_ended {
            return Err(Error::INTERNAL);
        }
        if queue.waiting.len() >= WAITING_MAX {
            queue.waiting.retain(|asked| !asked.is_given_up());
        }
        if queue.waiting.len() >= WAITING_MAX {
            return Err(FULL);
        }
        queue.waiting.push_back(asked);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Works on what is asked until the pool ends. `load` gives something that changes when heals arrive.
    pub fn run<Load: PartialEq>(&self, load: impl Fn() -> Load) {
        let mut under_way = VecDeque::new();
        let mut pace = Pace::new(load());
        let mut worked = Duration::ZERO;
        while self.admit(&mut under_way) {
            let Some(mut asked) = under_way.pop_front() else { continue };
            let start = Instant::now();
            if is_going_on(&mut *asked) {
                under_way.push_back(asked);
            }
            worked += start.elapsed();
            if worked >= STRETCH {
                std::thread::park_timeout(pace.rest(load(), std::mem::take(&mut worked)));
                pace = Pace::new(load());
            }
        }
    }

    /// Lets those who wait come in, as far as there is room, and waits while there is nothing to do. False at the end.
    fn admit(&self, under_way: &mut VecDeque<Box<dyn Asked>>) -> bool {
        let mut queue = self.lock();
        while under_way.is_empty() && queue.waiting.is_empty() && !queue.has_ended {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let room = UNDER_WAY_MAX.saturating_sub(under_way.len()).min(queue.waiting.len());
        under_way.extend(queue.waiting.drain(..room));
        !queue.has_ended
    }

    /// Whoever waits is answered 500: there are no connections left then.
    pub fn end(&self) {
        let mut queue = self.lock();
        queue.has_ended = true;
        queue.waiting.clear();
        drop(queue);
        self.changed.notify_all();
    }

    /// Nothing is left half done in it by a panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query and who waits for it, of any kind.
trait Asked: Send {
    fn is_given_up(&self) -> bool;

    /// Looks at one more shard; false if that was the last.
    fn proceed(&mut self) -> bool;
}

struct Question<Q: Query> {
    query: Q,
    answer: Option<oneshot::Sender<Q::Answer>>,
}

impl<Q: Query> Asked for Question<Q> {
    fn is_given_up(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn proceed(&mut self) -> bool {
        let Some(answer) = self.query.proceed() else { return true };
        if let Some(sender) = self.answer.take() {
            // Its client may have gone at last.
            let _ = sender.send(answer);
        }
        false
    }
}

/// Gives it its turn. A panic, which is printed, ends this query and no other.
fn is_going_on(asked: &mut dyn Asked) -> bool {
    !asked.is_given_up() && catch_unwind(AssertUnwindSafe(|| asked.proceed())).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::{Context, Poll, Waker};
    use std::thread::JoinHandle;

    use super::*;

    /// Tells of each of its turns by name, and may have to wait for leave to take it.
    struct Told {
        name: &'static str,
        turns: u32,
        teller: Sender<&'static str>,
        leave: Option<Receiver<()>>,
    }

    impl Query for Told {
        type Answer = &'static str;

        fn proceed(&mut self) -> Option<&'static str> {
            let _ = self.teller.send(self.name);
            if let Some(leave) = &self.leave {
                let _ = leave.recv();
            }
            assert_ne!(self.name, "panic");
            self.turns -= 1;
            (self.turns == 0).then_some(self.name)
        }
    }

    struct Running {
        pool: Arc<Pool>,
        thread: Option<JoinHandle<()>>,
        teller: Sender<&'static str>,
        told: Receiver<&'static str>,
    }

    impl Running {
        fn start() -> Self {
            let pool = Arc::new(Pool::default());
            let (teller, told) = channel();
            let running = Arc::clone(&pool);
            let thread = std::thread::spawn(move || running.run(|| 0));
            Self { pool, thread: Some(thread), teller, told }
        }

        fn query(&self, name: &'static str, turns: u32) -> Told {
            Told { name, turns, teller: self.teller.clone(), leave: None }
        }

        /// Holds the thread up in its first turn until what is given is dropped.
        fn hold(&self) -> (Sender<()>, oneshot::Receiver<&'static str>) {
            let (hold, leave) = channel();
            let answered = self.ask(Told { leave: Some(leave), ..self.query("held", 1) }).expect("a place");
            assert_eq!(self.told.recv(), Ok("held"));
            (hold, answered)
        }

        fn ask(&self, query: Told) -> Result<oneshot::Receiver<&'static str>, Error> {
            let (answer, answered) = oneshot::channel();
            self.pool.take(Box::new(Question { query, answer: Some(answer) }))?;
            Ok(answered)
        }

        /// Ends it after what was asked; all turns that were taken.
        fn end(mut self) -> String {
            let last = self.ask(self.query("|", 1)).expect("a place");
            assert_eq!(last.blocking_recv(), Ok("|"));
            self.stop();
            let turns: String = self.told.try_iter().collect();
            turns.strip_suffix('|').expect("it came last").to_owned()
        }

        fn stop(&mut self) {
            self.pool.end();
            if let Some(thread) = self.thread.take() {
                thread.join().expect("the pool's thread does not panic");
            }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop();
        }
    }

    #[test]
    fn queries_take_turns() {
        let running = Running::start();
        let (hold, _held) = running.hold();
        let long = running.ask(running.query("l", 5)).unwrap();
        let short = running.ask(running.query("s", 2)).unwrap();
        drop(hold);
        assert_eq!((short.blocking_recv(), long.blocking_recv()), (Ok("s"), Ok("l")));
        assert_eq!(running.end(), "lslslll");
    }

    #[test]
    fn four_are_under_way_sixteen_wait_and_the_next_is_refused() {
        let running = Running::start();
        let (hold, _held) = running.hold();
        let waiting: Vec<_> = (0..16).map(|_| running.ask(running.query("w", 1)).unwrap()).collect();
        assert_eq!(running.ask(running.query("x", 1)).unwrap_err(), FULL);
        drop(hold);
        for answered in waiting {
            assert_eq!(answered.blocking_recv(), Ok("w"));
        }
        assert_eq!(running.end(), "w".repeat(16));
    }

    #[test]
    fn who_has_gone_is_not_worked_for_and_keeps_no_place() {
        let running = Running::start();
        let (hold, _held) = running.hold();
        for _ in 0..16 {
            drop(running.ask(running.query("g", 1_000)).unwrap());
        }
        let stays = running.ask(running.query("s", 1)).unwrap();
        drop(hold);
        assert_eq!(stays.blocking_recv(), Ok("s"));
        assert_eq!(running.end(), "s");
    }

    #[test]
    fn who_goes_while_it_is_under_way_is_not_worked_for_any_longer() {
        let running = Running::start();
        let (hold, leave) = channel();
        let goes =
            running.ask(Told { leave: Some(leave), ..running.query("g", 1_000) }).expect("there is room");
        assert_eq!(running.told.recv(), Ok("g"));
        drop(goes);
        drop(hold);
        assert_eq!(running.end(), "");
    }

    #[test]
    fn a_query_that_panics_is_answered_500_and_harms_no_other() {
        let running = Running::start();
        let panics = running.ask(running.query("panic", 1)).unwrap();
        let other = running.ask(running.query("o", 3)).unwrap();
        assert!(panics.blocking_recv().is_err());
        assert_eq!(other.blocking_recv(), Ok("o"));
    }

    #[test]
    fn what_waits_at_the_end_is_let_go() {
        let mut running = Running::start();
        let (hold, _held) = running.hold();
        let pool = Arc::clone(&running.pool);
        let mut waits = std::pin::pin!(pool.ask(running.query("w", 1)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        pool.end();
        drop(hold);
        assert_eq!(waits.poll(&mut cx), Poll::Ready(Err(Error::INTERNAL)));
        running.stop();
    }
}
