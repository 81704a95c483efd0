//! Where queries over everybody run: two threads of their own, and a short queue before them.
//!
//! On a worker such a query would hold up its connections, and heals among them. Two, so that whoever pages through those online
//! does not wait for somebody's month of concurrency; not more, since each goes over all the memory there is. What finds the queue
//! full is refused, to be repeated: a client that asks faster than answers come gains nothing by waiting in a longer one.
//!
//! A query goes from shard to shard. Between two it rests while heals arrive ([`Pace`]), and it ends when nobody waits for it any
//! more: the client has gone, or the service stops.

#![allow(clippy::disallowed_methods, reason = "it measures its own cost")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::oneshot;

use super::error::Error;
use super::stats::WorkerStats;
use crate::engine::{Engine, Pace};

const THREADS: usize = 2;
/// Waiting, beside those that run.
pub(super) const QUEUE: usize = 16;
/// A rest of less is more switching than resting.
const WORK_MIN: Duration = Duration::from_micros(250);

pub(super) const FULL: Error = Error::fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    "too many queries over everybody at once; repeat the request",
);

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which end with it.
#[derive(Default)]
pub(super) struct Pool(OnceLock<SyncSender<Job>>);

impl Pool {
    /// Runs `query` on one of the threads, when its turn comes. Should the future be dropped before, it ends soon.
    ///
    /// # Errors
    /// [`FULL`]; an internal one if it panicked.
    pub async fn run<R: Send + 'static>(
        &self,
        workers: &[Arc<WorkerStats>],
        query: impl FnOnce(&mut Turns) -> Option<R> + Send + 'static,
    ) -> Result<R, Error> {
        let (done, answer) = oneshot::channel();
        let wanted = Wanted::default();
        let mut turns = Turns::new(wanted.clone(), workers);
        let job = Box::new(move || {
            if turns.is_wanted() {
                // Whoever asked may have gone meanwhile.
                let _ = done.send(query(&mut turns));
            }
        });
        // Dropped with this future, whatever ends it.
        let _waits = Waits(wanted);
        match self.sender().try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(FULL),
            Err(TrySendError::Disconnected(_)) => return Err(Error::INTERNAL),
        }
        answer.await.ok().flatten().ok_or(Error::INTERNAL)
    }

    fn sender(&self) -> &SyncSender<Job> {
        self.0.get_or_init(|| {
            let (sender, jobs) = sync_channel(QUEUE);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..THREADS {
                let jobs = Arc::clone(&jobs);
                let thread = std::thread::Builder::new().name("query".into()).spawn(move || work(&jobs));
                if let Err(error) = thread {
                    tracing::error!(%error, "a thread for queries over everybody could not be started");
                }
            }
            sender
        })
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits is told by the dropped sender.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("a query over everybody panicked; its client was answered 500");
        }
    }
}

/// Whether somebody waits for the answer.
#[derive(Debug, Clone)]
struct Wanted(Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

struct Waits(Wanted);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// The turns of one query: a shard, a rest, the next shard.
pub(super) struct Turns {
    wanted: Wanted,
    heals: Box<dyn Fn() -> u64 + Send>,
    pace: Pace<u64>,
}

impl Turns {
    fn new(wanted: Wanted, workers: &[Arc<WorkerStats>]) -> Self {
        let workers = workers.to_vec();
        let heals = move || workers.iter().map(|worker| worker.heals_asked()).sum();
        let pace = Pace::new(heals());
        Self { wanted, heals: Box::new(heals), pace }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.0.load(Ordering::Acquire)
    }

    /// Calls `look` with one shard after the other, from `first` on, until it says that it has enough. `None` if nobody waits for
    /// it any more.
    pub fn each(&mut self, first: usize, mut look: impl FnMut(usize) -> Enough) -> Option<()> {
        let mut start = Instant::now();
        for shard in first..Engine::SHARDS {
            if look(shard) == Enough::Yes {
                return Some(());
            }
            if !self.is_wanted() {
                return None;
            }
            let worked = start.elapsed();
            if worked >= WORK_MIN {
                std::thread::park_timeout(self.pace.rest((self.heals)(), worked));
                start = Instant::now();
            }
        }
        Some(())
    }
}

/// Whether a query needs no further shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::sync::atomic::AtomicU64;

    use super::*;

    #[tokio::test]
    async fn what_finds_the_queue_full_is_refused_and_the_others_are_answered() {
        let pool = Arc::new(Pool::default());
        let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
        let begun = Arc::new(AtomicU64::new(0));
        let mut asked = Vec::new();
        let ask = || {
            let (pool, gate, begun) = (Arc::clone(&pool), Arc::clone(&gate), Arc::clone(&begun));
            tokio::spawn(async move {
                let wait = move |_: &mut Turns| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let open = gate.0.lock().unwrap();
                    drop(gate.1.wait_while(open, |open| !*open).unwrap());
                    Some(7)
                };
                pool.run(&[], wait).await
            })
        };
        for _ in 0..THREADS {
            asked.push(ask());
        }
        while begun.load(Ordering::SeqCst) < THREADS as u64 {
            tokio::task::yield_now().await;
        }
        for _ in 0..QUEUE {
            asked.push(ask());
            tokio::task::yield_now().await;
        }
        assert_eq!(ask().await.unwrap(), Err(FULL));
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Ok(7));
        }
        assert_eq!(pool.run(&[], |_| Some(8)).await, Ok(8), "there is room again");
    }

    #[tokio::test]
    async fn a_query_that_nobody_waits_for_ends_at_the_next_shard() {
        let pool = Arc::new(Pool::default());
        let (told, shards) = std::sync::mpsc::channel();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let asked = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let query = move |turns: &mut Turns| {
                    let ended = turns.each(0, |shard| {
                        let _ = told.send(shard);
                        let _ = waits.lock().unwrap().recv();
                        Enough::No
                    });
                    let _ = told.send(usize::MAX);
                    ended
                };
                pool.run(&[], query).await
            })
        };
        let first = tokio::task::spawn_blocking(move || (shards.recv().unwrap(), shards)).await.unwrap();
        assert_eq!(first.0, 0);
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        assert_eq!(first.1.recv(), Ok(usize::MAX), "it went no further");
    }

    #[tokio::test]
    async fn a_query_that_panics_is_an_error_and_the_thread_goes_on() {
        let pool = Pool::default();
        for _ in 0..2 * THREADS {
            let answer: Result<(), Error> = pool.run(&[], |_| panic!("on purpose")).await;
            assert_eq!(answer, Err(Error::INTERNAL));
        }
        assert_eq!(pool.run(&[], |_| Some(1)).await, Ok(1));
    }
}
