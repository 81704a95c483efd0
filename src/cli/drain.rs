//! The end of a service: requests in flight finish, unless someone is in a hurry.

use std::time::Duration;

use tracing::{error, info, warn};

use super::background;
use super::signals::{Signals, Wish};
use super::systemd::Watchdog;
use crate::http::Server;

/// A service that serves nobody any more, but for its metrics where these have an address of their own.
pub(super) struct Drained {
    _server: Option<Server>,
}

/// Closes the listeners and waits until requests in flight are finished, `timeout` has passed, or a second wish to stop comes:
/// then there is `None`.
///
/// Waiting blocks, so a thread of its own does it; after a second wish it is left behind and ends with the process.
pub(super) async fn drain(
    mut server: Server,
    timeout: Duration,
    signals: &mut Signals,
    watchdog: &mut Watchdog,
) -> Option<Drained> {
    server.draining();
    let mut finished = match background::run("drain", move || (server.drain(timeout), server)) {
        Ok(finished) => finished,
        Err(error) => {
            error!(%error, "no thread to wait with: requests in flight are cut");
            return Some(Drained { _server: None });
        }
    };
    loop {
        tokio::select! {
            finished = &mut finished => {
                // An error is a panic of the waiting thread: then, too, nothing is known to have finished.
                let (has_drained, server) = finished.map_or((false, None), |(all, server)| (all, Some(server)));
                if !has_drained {
                    warn!(drain_timeout_ms = timeout.as_millis(), "requests in flight were cut at the drain timeout");
                }
                return Some(Drained { _server: server });
            }
            wish = signals.next() => match wish {
                Wish::Stop(reason) => {
                    warn!(reason, "asked a second time: requests in flight are cut");
                    return None;
                }
                Wish::Reload => info!("draining: nothing was reloaded"),
                Wish::Snapshot => info!("draining: a snapshot is taken at the end"),
            },
            () = watchdog.beat() => {}
        }
    }
}
