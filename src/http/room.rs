//! Whoever writes a lot at once can be faster than the disk is with the journal's next segment.
//!
//! A single write is refused then, and repeated by its client. A batch that was refused would be repeated from its beginning, and with short
//! segments never come to its end: so it waits where it is, and its client with it.

use std::time::Duration;

use crate::engine::WriteError;
use crate::journal::Refusal;

/// So long it waits for each segment, and looks again so often. A segment of 64 MiB takes a fraction of a second.
const WAIT_MAX: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(10);

/// `write`, which was refused, again and again while it is for want of a segment and `can_come` says that there may be one.
pub(super) async fn when_there_is_room<T>(
    mut refused: WriteError,
    write: impl Fn() -> Result<T, WriteError>,
    can_come: impl Fn() -> bool,
) -> Result<T, WriteError> {
    let mut waited = Duration::ZERO;
    while refused == WriteError::Journal(Refusal::NoRoom) && waited < WAIT_MAX && can_come() {
        tokio::time::sleep(WAIT).await;
        waited += WAIT;
        match write() {
            Err(again) => refused = again,
            written => return written,
        }
    }
    Err(refused)
}
