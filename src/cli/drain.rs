//! The end of a service: requests in flight finish, unless someone is in a hurry.

use std::time::Duration;

use tracing::{error, info, warn};

use super::background;
use super::signals::{Signals, Wish};
use super::systemd::Watchdog;
use crate::http::Server;

/// Closes the listeners and waits until requests in flight are finished, `timeout` has passed, or a second wish to stop comes:
/// then it is false.
///
/// Waiting blocks, so a thread of its own does it; after a second wish it is left behind and ends with the process.
pub(super) async fn drain(
    mut server: Server,
    timeout: Duration,
    signals: &mut Signals,
    watchdog: &mut Watchdog,
) -> bool {
    server.draining();
    let mut finished = match background::run("drain", move || server.drain(timeout)) {
        Ok(finished) => finished,
        Err(error) => {
            error!(%error, "no thread to wait with: requests in flight are cut");
            return true;
        }
    };
    loop {
        tokio::select! {
            finished = &mut finished => {
                // An error is a panic of the waiting thread: then, too, nothing is known to have finished.
                if !finished.unwrap_or(false) {
                    warn!(drain_timeout_ms = timeout.as_millis(), "requests in flight were cut at the drain timeout");
                }
                return true;
            }
            wish = signals.next() => match wish {
                Wish::Stop(reason) => {
                    warn!(reason, "asked a second time: requests in flight are cut");
                    return false;
                }
                Wish::Reload => info!("draining: nothing was reloaded"),
                Wish::Snapshot => info!("draining: a snapshot is taken at the end"),
            },
            () = watchdog.beat() => {}
        }
    }
}
