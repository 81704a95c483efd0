//! What drives a service that may be killed at any moment, and writes down what came of it.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod connection;
pub mod random;

use std::time::{SystemTime, UNIX_EPOCH};

/// As the service sees it: its clock is the real one.
#[allow(clippy::disallowed_methods)]
pub fn now() -> u32 {
    u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
