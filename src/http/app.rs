//! What all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::body::BodyLimits;
use super::log::ClientLog;
use super::socket::Timeouts;
use super::stats::{Stats, WorkerStats};
use crate::config::Settings;
use crate::engine::Engine;

pub(super) struct App {
    pub engine: Arc<Engine>,
    pub log: ClientLog,
    pub timeouts: Timeouts,
    pub body_limits: BodyLimits,
    pub connections_max: u64,
    pub started: Instant,
    pub workers: Vec<Arc<WorkerStats>>,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    draining: AtomicBool,
    worker_ended: AtomicBool,
}

impl App {
    pub fn new(engine: Arc<Engine>, settings: &Settings) -> Self {
        Self {
            engine,
            log: ClientLog::new(),
            timeouts: Timeouts { idle: settings.idle_timeout, header: settings.header_timeout },
            body_limits: BodyLimits {
                bytes: settings.max_body_bytes,
                pause: settings.header_timeout,
                whole: settings.idle_timeout,
            },
            connections_max: settings.max_connections as u64,
            started: Instant::now(),
            workers: (0..settings.threads).map(|_| Arc::default()).collect(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            worker_ended: AtomicBool::new(false),
        }
    }

    pub fn stats(&self) -> Stats {
        Stats {
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            ..Stats::of(&self.workers)
        }
    }

    pub fn connections(&self) -> u64 {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// A worker thread ends. Unless everything does, its panic has been printed, and the service runs on with fewer.
    pub fn end_worker(&self) {
        if !self.draining.load(Ordering::Acquire) {
            self.worker_ended.store(true, Ordering::Release);
        }
    }

    /// Why the service is not ready; empty when it is.
    pub fn unready_reasons(&self) -> Vec<&'static str> {
        let reasons = [
            (&self.draining, "draining"),
            (&self.worker_ended, "a worker thread has ended; restart the service"),
        ];
        reasons
            .into_iter()
            .filter(|(flag, _)| flag.load(Ordering::Acquire))
            .map(|(_, reason)| reason)
            .collect()
    }
}
