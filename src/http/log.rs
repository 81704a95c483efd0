//! What clients can make us log, at a rate they cannot choose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Refused;

/// One line about invalid input in this time, whatever comes.
const INVALID_EVERY: Duration = Duration::from_secs(10);
/// One line about refused writes in this time.
const REFUSED_EVERY: Duration = Duration::from_secs(1);
/// Of what a client sent, so many bytes are shown.
const EXAMPLE_MAX: usize = 64;

/// Lines that would otherwise come as often as a client likes.
#[derive(Debug)]
pub(super) struct ClientLog {
    invalid: Limit,
    refused: Limit,
}

impl ClientLog {
    pub fn new() -> Self {
        Self { invalid: Limit::new(INVALID_EVERY), refused: Limit::new(REFUSED_EVERY) }
    }

    /// A request with something in place of an id.
    pub fn invalid_input(&self, example: &str) {
        let example = shorten(example);
        tracing::debug!(example, "a request was refused as invalid");
        if let Some(count) = self.invalid.pass() {
            tracing::warn!(
                count,
                example,
                "requests were refused as invalid since the last such line; one example is shown"
            );
        }
    }

    /// A write that was not taken.
    pub fn refused(&self, why: Refused) {
        if let Some(count) = self.refused.pass() {
            tracing::warn!(count, %why, "writes were refused since the last such line");
        }
    }
}

fn shorten(text: &str) -> &str {
    let end = (0..=EXAMPLE_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Lets one through in a time and counts the others.
#[derive(Debug)]
pub(super) struct Limit {
    every: Duration,
    start: Instant,
    /// Milliseconds after `start` from which the next one may pass.
    next: AtomicU64,
    held: AtomicU64,
}

impl Limit {
    pub fn new(every: Duration) -> Self {
        Self { every, start: Instant::now(), next: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    /// How many came since one passed, this one included; `None` if this one does not pass.
    pub fn pass(&self) -> Option<u64> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.start.elapsed());
        let next = self.next.load(Ordering::Relaxed);
        let passes = now >= next
            && self
                .next
                .compare_exchange(next, now + millis(self.every), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes {
            return Some(self.held.swap(0, Ordering::Relaxed) + 1);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_passes_in_its_time_and_counts_the_others() {
        let limit = Limit::new(Duration::from_secs(10));

        assert_eq!([limit.pass(), limit.pass(), limit.pass()], [Some(1), None, None]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([limit.pass(), limit.pass()], [Some(3), None]);
    }

    #[test]
    fn an_example_is_cut_between_characters() {
        assert_eq!(shorten("abc"), "abc");
        assert_eq!(shorten(&"é".repeat(40)), "é".repeat(32));
        assert_eq!(shorten(&format!("a{}", "é".repeat(40))), format!("a{}", "é".repeat(31)));
    }
}
