//! Atomics, locks, queues and threads: the usual ones, or the interleaving checker's when it is on (`--cfg shuttle`).
//!
//! Under the checker no time passes: an [`Instant`] is always the same one, and whoever parks or waits with a timeout is woken
//! by somebody else or never. So a wake-up that is lost shows. Who only looks again from time to time says so: [`look_again`].

#[cfg(not(shuttle))]
pub(crate) use arc_swap::ArcSwap;
#[cfg(not(shuttle))]
pub(crate) use crossbeam::queue::SegQueue;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
#[cfg(not(shuttle))]
pub(crate) use std::thread::{self, park_timeout as look_again};
#[cfg(not(shuttle))]
pub(crate) use std::time::Instant;

#[cfg(shuttle)]
pub(crate) use cells::{ArcSwap, OnceLock};
#[cfg(shuttle)]
pub(crate) use queue::SegQueue;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex};
#[cfg(shuttle)]
pub(crate) use std::sync::PoisonError;
#[cfg(shuttle)]
pub(crate) use time::{Instant, look_again};

/// The checker cannot see into these either.
#[cfg(shuttle)]
mod cells {
    use super::{AtomicU64, Mutex, Ordering};
    use std::sync::Arc;

    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub fn new(value: Arc<T>) -> Self {
            Self(Mutex::new(value))
        }

        pub fn load(&self) -> Arc<T> {
            Arc::clone(&self.0.lock().expect("no thread panics under the checker"))
        }

        pub fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub fn compare_and_swap(&self, current: &Arc<T>, new: Arc<T>) {
            let mut value = self.0.lock().expect("no thread panics under the checker");
            if Arc::ptr_eq(&value, current) {
                *value = new;
            }
        }
    }

    /// The usual one, with a place before each access where the checker may change threads.
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        turn: AtomicU64,
    }

    impl<T> OnceLock<T> {
        pub const fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), turn: AtomicU64::new(0) }
        }

        pub fn get(&self) -> Option<&T> {
            self.turn.load(Ordering::SeqCst);
            self.value.get()
        }

        pub fn set(&self, value: T) -> Result<(), T> {
            self.turn.load(Ordering::SeqCst);
            self.value.set(value)
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }
}

#[cfg(shuttle)]
mod time {
    use std::ops::Add;
    use std::time::Duration;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub fn now() -> Self {
            Self(Duration::ZERO)
        }

        pub fn elapsed(self) -> Duration {
            Duration::ZERO
        }

        pub fn saturating_duration_since(self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Self;

        fn add(self, duration: Duration) -> Self {
            Self(self.0 + duration)
        }
    }

    /// The pause is over whenever the checker likes.
    pub(crate) fn look_again(_pause: Duration) {
        shuttle::thread::yield_now();
    }
}

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

/// The checker's own `park` may return at any time, and a wake-up that is lost would not show.
#[cfg(shuttle)]
pub(crate) mod thread {
    use super::{Condvar, Mutex, PoisonError};
    use std::cell::RefCell;
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    #[derive(Default)]
    struct Token {
        is_there: Mutex<bool>,
        given: Condvar,
    }

    shuttle::thread_local! {
        static TOKEN: RefCell<Arc<Token>> = RefCell::default();
    }

    #[derive(Clone)]
    pub(crate) struct Thread(Arc<Token>);

    impl Thread {
        pub fn unpark(&self) {
            *self.0.is_there.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.0.given.notify_one();
        }
    }

    /// Only in a thread of this [`Builder`].
    pub(crate) fn park_timeout(_: Duration) {
        let token = TOKEN.with(|token| Arc::clone(&token.borrow()));
        let mut is_there = token.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_there {
            is_there = token.given.wait(is_there).unwrap_or_else(PoisonError::into_inner);
        }
        *is_there = false;
    }

    pub(crate) struct Builder(shuttle::thread::Builder);

    impl Builder {
        pub fn new() -> Self {
            Self(shuttle::thread::Builder::new())
        }

        pub fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        pub fn spawn(self, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
            let token = Arc::new(Token::default());
            let thread = Thread(Arc::clone(&token));
            let running = self.0.spawn(move || {
                TOKEN.with(|own| *own.borrow_mut() = token);
                run();
            })?;
            Ok(JoinHandle { running, thread })
        }
    }

    pub(crate) struct JoinHandle<T> {
        running: shuttle::thread::JoinHandle<T>,
        thread: Thread,
    }

    impl<T> JoinHandle<T> {
        pub fn thread(&self) -> &Thread {
            &self.thread
        }

        pub fn join(self) -> std::thread::Result<T> {
            self.running.join()
        }
    }
}
