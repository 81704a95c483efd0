//! Text for stdout.

use std::io::{self, Write};

use super::exit::Failure;

/// Prints `text`. Whoever closed the other end of a pipe has read enough: that is no error.
pub(super) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("write to stdout")(error)),
        _ => Ok(()),
    }
}
