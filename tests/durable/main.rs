//! What is acknowledged survives a disk that fails and a loss of power: tried at every call to the operating system.
//!
//! - [`failing`]: each call fails in turn, once or from then on.
//! - [`power`]: after any call the power goes. What the disk then has is what was synced, and any part of what was not.
//! - [`held_up`]: a thread is held up between two steps of a write, and the power goes.
//! - [`promises`]: what else a start owes.
//! - [`planted`]: each promise is broken on purpose, and one of these must notice.
#![cfg(not(shuttle))] // the checker's locks only work in its own threads
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is waited for is the disk, on threads of the service's own"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the dice give small numbers"
)]
#![allow(clippy::print_stdout, reason = "how much was tried is worth knowing")]

#[path = "../common/mod.rs"]
mod common;

mod book;
mod failing;
mod held_up;
mod image;
mod life;
mod planted;
mod power;
mod promises;
mod recorder;
