//! The threads that drive the connections.
//!
//! Each has a runtime of its own and every so-manieth connection; they share nothing but the order to stop. The reporter
//! takes their tallies from outside, so that printing delays no request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::args::{Plan, Work};
use super::lane::{Lane, connect};
use super::load::Load;
use super::moment;
use super::tally::{SharedTally, Tally};
use super::users::Users;

/// What was due in time is still sent this long after the end, or the last requests of every run would be missing.
const LATE_MAX: Duration = Duration::from_millis(100);

/// Threads at work.
#[derive(Debug)]
pub struct Crew {
    workers: Vec<JoinHandle<io::Result<()>>>,
    tallies: Vec<SharedTally>,
    stop: watch::Sender<bool>,
    /// Closed when the last worker is done.
    working: mpsc::Receiver<()>,
}

impl Crew {
    /// Starts the threads. The load begins as soon as each has tried to open its connections.
    pub fn start(plan: &Plan, to: SocketAddr) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (at_work, working) = mpsc::channel(1);
        let plan = Arc::new(plan.clone());
        let mut crew = Self { workers: Vec::new(), tallies: Vec::new(), stop, working };
        for first_lane in 0..plan.threads {
            let runtime = current_thread()?;
            let tally = SharedTally::default();
            crew.tallies.push(tally.clone());
            let worker = Worker { plan: Arc::clone(&plan), to, first_lane, tally };
            let (mut stopped, at_work) = (stopped.clone(), at_work.clone());
            let work = move || {
                let _at_work = at_work;
                runtime.block_on(async {
                    tokio::select! {
                        done = worker.work() => done,
                        _ = stopped.changed() => Ok(()),
                    }
                })
            };
            crew.workers.push(std::thread::Builder::new().name("bench".into()).spawn(work)?);
        }
        Ok(crew)
    }

    /// Returns when all is sent and answered, or timed out.
    pub async fn done(&mut self) {
        // Nothing is ever sent.
        let _closed = self.working.recv().await;
    }

    /// Ends the work now. Requests in flight count as sent and as nothing else.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Tally {
        let mut tally = Tally::default();
        for shared in &self.tallies {
            tally.add(&shared.take());
        }
        tally
    }

    /// Waits for the threads.
    pub fn join(self) -> io::Result<()> {
        for worker in self.workers {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a bench thread panicked")))?;
        }
        Ok(())
    }
}

/// The runtime of one thread.
pub fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

struct Worker {
    plan: Arc<Plan>,
    to: SocketAddr,
    first_lane: u64,
    tally: SharedTally,
}

impl Worker {
    async fn work(&self) -> io::Result<()> {
        let mut connecting = JoinSet::new();
        let step = usize::try_from(self.plan.threads).unwrap_or(usize::MAX);
        for lane in (self.first_lane..self.plan.connections).step_by(step) {
            let to = self.to;
            connecting.spawn(async move { (lane, connect(to).await) });
        }
        let connected = connecting.join_all().await;

        let start = moment::now();
        self.tally.lock().started = Some(start);
        let mut lanes = JoinSet::new();
        for (lane, stream) in connected {
            if stream.is_err() {
                self.tally.lock().connects_failed += 1;
            }
            self.spawn(&mut lanes, lane, start, stream.ok())?;
        }
        lanes.join_all().await;
        // Users who next heal after the end are not waited for, but the run lasts as long as it was asked to.
        tokio::time::sleep_until((start + self.plan.duration).into()).await;
        Ok(())
    }

    fn spawn(
        &self,
        lanes: &mut JoinSet<()>,
        lane: u64,
        start: Instant,
        stream: Option<tokio::net::TcpStream>,
    ) -> io::Result<()> {
        let (to, connections, tally) = (self.to, self.plan.connections, self.tally.clone());
        let end = start + self.plan.duration;
        match &self.plan.work {
            Work::Users(plan) => {
                let users = Users::new(plan, start, lane, connections);
                lanes.spawn(Lane::new(to, users, 1, end + LATE_MAX, tally)?.run(stream));
            }
            Work::Load(plan) => {
                let load = Load::new(plan, start, lane, connections);
                // A closed loop has something due for ever.
                let gives_up = if plan.rate.is_some() { end + LATE_MAX } else { end };
                lanes.spawn(Lane::new(to, load, plan.pipeline, gives_up, tally)?.run(stream));
            }
        }
        Ok(())
    }
}
