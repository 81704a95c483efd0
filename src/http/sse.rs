//! The text of an event stream, as browsers' `EventSource` reads it, and the cursors in it.
//!
//! ```text
//!   id: e5f0c…-2a                                            everything up to here is known
//!   event: offline
//!   data: {"id":12345,"at":1638360007,"reason":"lapsed"}
//! ```

use super::cursor::Cursor;
use super::json::{self, IdFormat};
use crate::engine::{Change, Event, Events};
use crate::session::Status;
use crate::user_id::UserId;

/// The letter of our cursors.
pub(super) const KIND: char = 'e';

/// The cursor that says: everything up to `sequence` is known.
pub(super) fn cursor(generation: u64, sequence: u64) -> Cursor<2> {
    Cursor { kind: KIND, numbers: [generation, sequence] }
}

/// The sequence of a cursor; `None` if it is another engine's, or what comes after it is not held.
pub(super) fn place(events: &Events, [generation, sequence]: [u64; 2]) -> Option<u64> {
    let is_ours = generation == events.generation() && sequence <= events.tail();
    (is_ours && events.read(sequence, 1, &mut Vec::new()).is_ok()).then_some(sequence)
}

/// What an event says of the reason why a user went offline.
pub(super) fn reason(change: Change) -> Option<&'static str> {
    match change {
        Change::Online => None,
        Change::Lapsed => Some("lapsed"),
        Change::Left => Some("left"),
        Change::Forgotten => Some("forgotten"),
    }
}

/// Those events whose users are wanted; empty if none are.
pub(super) fn events(
    events: &[Event],
    generation: u64,
    format: IdFormat,
    is_wanted: impl Fn(UserId) -> bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events.iter().filter(|event| is_wanted(event.user)) {
        if out.is_empty() {
            // 120 bytes an event, with an id of eight digits.
            out.reserve(120 * events.len());
        }
        id(&mut out, generation, event.sequence);
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.change.status().as_str().as_bytes());
        out.extend_from_slice(b"\ndata: {");
        members(&mut out, event, format);
        out.extend_from_slice(b"}\n\n");
    }
    out
}

/// `"id":12345,"at":1638360007,"reason":"lapsed"`
pub(super) fn members(out: &mut Vec<u8>, event: &Event, format: IdFormat) {
    out.extend_from_slice(b"\"id\":");
    json::id(out, event.user, format);
    out.extend_from_slice(b",\"at\":");
    json::integer(out, event.at.as_u32());
    if let Some(reason) = reason(event.change) {
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(reason.as_bytes());
        out.push(b'"');
    }
}

/// Silence, and how far it reaches: an `id` without data is no event, and yet a browser comes back with it.
pub(super) fn silence(generation: u64, sequence: u64) -> Vec<u8> {
    let mut out = b":\n".to_vec();
    id(&mut out, generation, sequence);
    out.push(b'\n');
    out
}

/// The states of users: `{"users":[{"id":1,"status":"online"},…],"seq":"e5f0c…-2a"}`.
pub(super) fn snapshot_of(
    users: &[(UserId, Status)],
    generation: u64,
    sequence: u64,
    format: IdFormat,
) -> Vec<u8> {
    snapshot(generation, sequence, |out| {
        out.extend_from_slice(b"\"users\":[");
        for (index, &(user, status)) in users.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::checkup_as(out, user, status, format);
        }
        out.push(b']');
    })
}

/// How many are online: `{"online":123456,"seq":"e5f0c…-2a"}`.
pub(super) fn snapshot_of_all(online: u64, generation: u64, sequence: u64) -> Vec<u8> {
    snapshot(generation, sequence, |out| {
        out.extend_from_slice(b"\"online\":");
        json::integer(out, online);
    })
}

fn snapshot(generation: u64, sequence: u64, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    id(&mut out, generation, sequence);
    out.extend_from_slice(b"event: snapshot\ndata: {");
    write(&mut out);
    out.extend_from_slice(format!(",\"seq\":\"{}\"}}\n\n", cursor(generation, sequence)).as_bytes());
    out
}

fn id(out: &mut Vec<u8>, generation: u64, sequence: u64) {
    out.extend_from_slice(format!("id: {}\n", cursor(generation, sequence)).as_bytes());
}
