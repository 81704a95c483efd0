//! What reaches the process from outside while it runs: signals, and the end of its stdin.

use std::io::{self, Read};
use std::thread;

use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;

/// What somebody wants of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// TERM, INT, or stdin at its end: finish and go.
    Stop(&'static str),
    /// HUP: read the log level again.
    Reload,
    /// USR1: take a snapshot.
    Snapshot,
}

/// Signals from the moment this was made; their default actions no longer happen.
#[derive(Debug)]
pub(super) struct Signals {
    term: unix::Signal,
    int: unix::Signal,
    hup: unix::Signal,
    usr1: unix::Signal,
    stdin_closed: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// Needs tokio's context.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            stdin_closed: None,
        })
    }

    /// From now on the end of stdin counts as a wish to stop, once.
    ///
    /// The thread that reads it is not joined: it ends with stdin or with the process.
    pub fn watch_stdin(&mut self) -> io::Result<()> {
        let (closed, receiver) = oneshot::channel();
        thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut discarded = [0; 512];
            let mut stdin = io::stdin().lock();
            // A stdin that cannot be read is as good as closed.
            while matches!(stdin.read(&mut discarded), Ok(1..)) {}
            let _ = closed.send(());
        })?;
        self.stdin_closed = Some(receiver);
        Ok(())
    }

    /// The next one. Can be dropped at any time without losing any.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.term.recv() => Wish::Stop("SIGTERM"),
            _ = self.int.recv() => Wish::Stop("SIGINT"),
            _ = self.hup.recv() => Wish::Reload,
            _ = self.usr1.recv() => Wish::Snapshot,
            () = closed(&mut self.stdin_closed) => Wish::Stop("end of stdin"),
        }
    }
}

async fn closed(stdin: &mut Option<oneshot::Receiver<()>>) {
    match stdin {
        Some(receiver) => {
            // The sender is never dropped without having sent, but that would mean the same.
            let _ = receiver.await;
            *stdin = None;
        }
        None => std::future::pending().await,
    }
}
