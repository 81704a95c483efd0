//! Text for stdout, and the one sentence for stderr.

use std::io::{self, Write};

use super::exit::Failure;

/// Says what is wrong. If stderr takes nothing the exit code has to do.
pub(super) fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "heartbeat: {sentence}");
}

/// `1 user`, `2 users`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Prints `text`. Whoever closed the other end of a pipe has read enough: that is no error.
pub(super) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("write to stdout")(error)),
        _ => Ok(()),
    }
}
