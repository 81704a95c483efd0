//! What an acknowledged write survives.
//!
//! ```text
//!               acknowledged after                   survives power loss
//!   process     its slot is stored                   what the kernel had written back by itself
//!   interval    its slot is stored                   everything up to the last sync
//!   always      a sync that began after its slot     everything
//! ```
//!
//! Every mode survives `kill -9`, a panic and the kernel's OOM killer: a stored slot is in the page cache, which belongs to the
//! kernel and not to the process. A mode is a promise to whoever was told that the write was taken; it says nothing about
//! writes that were refused.

use std::fmt;

/// When a write is acknowledged, and so what it then survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Acknowledged once its slot is stored, and never synced on a schedule. Everything survives the end of the process; of
    /// power loss, what the kernel had written back.
    Process,
    /// Acknowledged once its slot is stored, and synced at intervals. Everything survives the end of the process; all but the
    /// last interval and the time of one sync survives power loss.
    #[default]
    Interval,
    /// Acknowledged once an `fdatasync` has succeeded that began after its slot was stored: everything survives power loss. One
    /// sync serves all who wait for it, so a write takes as long as one or two syncs, however many there are.
    Always,
}

/// As in the settings: `process`, `interval`, `always`.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Process => "process",
            Self::Interval => "interval",
            Self::Always => "always",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_shown_as_the_settings_write_it() {
        let shown =
            [Durability::Process, Durability::Interval, Durability::Always].map(|mode| mode.to_string());
        assert_eq!(shown, ["process", "interval", "always"]);
    }

    #[test]
    fn whoever_does_not_choose_loses_no_more_than_an_interval() {
        assert_eq!(Durability::default(), Durability::Interval);
    }
}
