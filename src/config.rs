//! Every setting, its default and its reason.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::time::Ttl;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// The effective settings of a service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// How long a heal keeps its user online.
    pub ttl: Ttl,
    /// Seconds after the deadline in which a heal still continues the session.
    pub grace: u32,
    /// Most users known; `None` is unlimited.
    pub max_users: Option<u64>,
    /// Worker threads.
    pub threads: usize,
    /// Most connections open at once.
    pub max_connections: usize,
    /// From the first byte of a request head to its last.
    pub header_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// Longest request body.
    pub max_body_bytes: usize,
    /// Whether to serve everybody off loopback.
    pub no_auth: bool,
    /// Which log lines are written (`tracing-subscriber`'s filter).
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 3519))],
            ttl: Ttl::DEFAULT,
            grace: 0,
            max_users: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_connections: 100_000,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(10),
            max_body_bytes: 4 * 1024 * 1024,
            no_auth: false,
            log: "info".into(),
            log_format: LogFormat::Json,
        }
    }
}
