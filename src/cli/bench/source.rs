//! Where requests come from: what a [`Lane`](super::lane::Lane) sends, and when.

use std::time::Instant;

/// A request that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatched {
    /// When it was due. Its latency counts from here, also when it is sent late.
    pub intended: Instant,
    /// When it was handed out. Its time-out counts from here.
    pub sent_at: Instant,
    /// The (first) user it heals.
    pub user: i64,
    /// How many heals it carries.
    pub heals: u32,
}

/// The requests of one connection. The two are [`Load`](super::load::Load) and [`Users`](super::users::Users).
pub trait Source: Send + 'static {
    /// When the next request is due; `None` when there is none, or none before an answer comes.
    fn due(&self) -> Option<Instant>;

    /// Hands out the next request: appends its bytes to `out`. Only called when one is due at `now`.
    fn take(&mut self, now: Instant, out: &mut Vec<u8>) -> Dispatched;

    /// How many users a 200 with that body says were healed; `None` when it does not say.
    fn healed(&self, body: &[u8]) -> Option<u64>;

    /// The request was answered or failed.
    fn settled(&mut self, sent: &Dispatched, now: Instant);

    /// How many heals are left that were due before the end.
    fn unsent(&self) -> u64;
}
