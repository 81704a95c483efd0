//! Work that blocks, on a thread of its own, while the main thread goes on listening to signals.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Runs `work` on a thread called `name`. The result is an error only if `work` panicked.
///
/// Nobody joins the thread: whoever does not wait leaves it behind, and it ends with the process.
pub(super) fn run<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<oneshot::Receiver<R>> {
    let (done, finished) = oneshot::channel();
    thread::Builder::new().name(name.into()).spawn(move || {
        // Nobody listens after a second signal.
        let _ = done.send(work());
    })?;
    Ok(finished)
}
