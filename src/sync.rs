//! Atomics, locks and queues: the usual ones, or the interleaving checker's when it is on (`--cfg shuttle`).

#[cfg(not(shuttle))]
pub(crate) use crossbeam::queue::SegQueue;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, PoisonError};

#[cfg(shuttle)]
pub(crate) use queue::SegQueue;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::Mutex;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(shuttle)]
pub(crate) use std::sync::PoisonError;

/// The checker cannot see into crossbeam's queue, and would never stop a thread between what it read and what it pushes.
#[cfg(shuttle)]
mod queue {
    use super::Mutex;
    use std::collections::VecDeque;

    pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

    impl<T> SegQueue<T> {
        pub fn new() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub fn push(&self, value: T) {
            self.0.lock().expect("no thread panics under the checker").push_back(value);
        }

        pub fn pop(&self) -> Option<T> {
            self.0.lock().expect("no thread panics under the checker").pop_front()
        }
    }
}
