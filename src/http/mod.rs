//! The service over HTTP.
//!
//! ```text
//!   server      binds, starts the threads, drains and ends them
//!   acceptor    accepts, looks at the first bytes (first_request), hands each connection to the worker with the fewest (recipient)
//!   worker      one thread, one runtime, its connections; one more, the observer, for whoever asks how the service is doing
//!   connection  drives hyper over its socket, to the end and past it
//!   socket      our timeouts; gathers responses
//!   dispatch    request → response; catches panics
//!   cors        which pages of other origins may call us
//!   seed        the original three endpoints, by hand
//!   routes      everything else, on axum: bulk, one user (user, history, uptime), export and import (transfer), health and
//!               orders (admin), status, the description (openapi) and a page to try it (docs)
//!   compression long answers, when asked
//!   route       the paths there are, as metrics name them
//!   watch       transitions as they happen; events: the same by long poll; sse: their text
//!   figures     the last hour, a point a second (sampler); figures_watch: the same as it happens; page: where it is looked at
//!   announcer   one thread that tells those who wait for transitions that there are new ones
//!   waiters     who waits for the disk
//!   publish     what the workers (stats) and the engine have counted, into metrics
//! ```
//!
//! On the path of a heal there is no middleware, no span and no timer of its own; it is counted in its handler.

mod acceptor;
mod admin;
#[cfg(test)]
mod always_tests;
mod announcer;
mod app;
mod body;
mod bulk;
mod compression;
mod concurrency;
mod connection;
mod cors;
mod cursor;
mod dispatch;
mod docs;
mod error;
mod events;
mod figures;
mod figures_watch;
mod first_request;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod heads;
mod history;
#[cfg(test)]
mod hung_tests;
mod ids;
mod json;
mod log;
mod online;
mod openapi;
mod page;
mod pool;
mod publish;
mod query;
mod recipient;
mod room;
mod route;
mod routes;
mod sampler;
mod seed;
mod server;
mod socket;
mod sse;
mod stats;
mod status;
mod transfer;
mod uptime;
mod user;
mod waiters;
mod watch;
mod worker;

pub use server::{Server, StartError};
pub use stats::{HealCounts, LATENCY_SAMPLE, LatencySnapshot, Stats};
