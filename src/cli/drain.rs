//! The end of a service: requests in flight finish, unless someone is in a hurry.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::serve::refuse_snapshot;
use super::signals::{Signals, Wish};
use super::systemd::Watchdog;
use crate::http::Server;

/// Closes the listeners and waits until requests in flight are finished, `timeout` has passed, or a second wish to stop comes.
///
/// Waiting blocks, so a thread of its own does it; after a second wish it is left behind and ends with the process.
pub(super) async fn drain(
    mut server: Server,
    timeout: Duration,
    signals: &mut Signals,
    watchdog: &mut Watchdog,
) {
    server.draining();
    let mut finished = match wait(server, timeout) {
        Ok(finished) => finished,
        Err(error) => return error!(%error, "no thread to wait with: requests in flight are cut"),
    };
    loop {
        tokio::select! {
            finished = &mut finished => {
                // An error is a panic of the waiting thread: then, too, nothing is known to have finished.
                if !finished.unwrap_or(false) {
                    warn!(drain_timeout_ms = timeout.as_millis(), "requests in flight were cut at the drain timeout");
                }
                return;
            }
            wish = signals.next() => match wish {
                Wish::Stop(reason) => return warn!(reason, "asked a second time: requests in flight are cut"),
                Wish::Reload => info!("draining: nothing was reloaded"),
                Wish::Snapshot => refuse_snapshot(),
            },
            () = watchdog.beat() => {}
        }
    }
}

fn wait(mut server: Server, timeout: Duration) -> io::Result<oneshot::Receiver<bool>> {
    let (done, finished) = oneshot::channel();
    thread::Builder::new().name("drain".into()).spawn(move || {
        let all = server.drain(timeout);
        drop(server);
        // Nobody listens after a second signal.
        let _ = done.send(all);
    })?;
    Ok(finished)
}
