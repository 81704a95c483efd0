//! JSON written by hand where serde's generality would show: short fixed shapes, and long lists.

use crate::session::{Session, Status};
use crate::user_id::UserId;

/// How ids are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum IdFormat {
    #[default]
    Number,
    /// In quotes, for clients whose numbers cannot hold every `i64`.
    String,
}

/// Appends an integer.
pub(super) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn id(out: &mut Vec<u8>, user: UserId, format: IdFormat) {
    match format {
        IdFormat::Number => integer(out, user.as_i64()),
        IdFormat::String => {
            out.push(b'"');
            integer(out, user.as_i64());
            out.push(b'"');
        }
    }
}

/// `{"id":12345,"status":"online"}`
pub(super) fn checkup(out: &mut Vec<u8>, user: UserId, status: Status) {
    checkup_as(out, user, status, IdFormat::Number);
}

pub(super) fn checkup_as(out: &mut Vec<u8>, user: UserId, status: Status, format: IdFormat) {
    out.extend_from_slice(b"{\"id\":");
    id(out, user, format);
    out.extend_from_slice(b",\"status\":\"");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// `{"id":12345,"history":[{"online_at":1638360000,"offline_at":1638360300},…]}`
pub(super) fn heart_rhythm(user: UserId, timeline: &[Session]) -> Vec<u8> {
    // 48 bytes a session: two keys and two numbers of ten digits.
    let mut out = Vec::with_capacity(48 + 48 * timeline.len());
    out.extend_from_slice(b"{\"id\":");
    integer(&mut out, user.as_i64());
    out.extend_from_slice(b",\"history\":[");
    for (index, session) in timeline.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"online_at\":" } else { b",{\"online_at\":" });
        integer(&mut out, session.online_at.as_u32());
        out.extend_from_slice(b",\"offline_at\":");
        integer(&mut out, session.offline_at.as_u32());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// `{"id":12345,"online_at":1638360000,"offline_at":1638360300}`
pub(super) fn session_of(out: &mut Vec<u8>, user: UserId, session: Session, format: IdFormat) {
    out.extend_from_slice(b"{\"id\":");
    id(out, user, format);
    out.extend_from_slice(b",\"online_at\":");
    integer(out, session.online_at.as_u32());
    out.extend_from_slice(b",\"offline_at\":");
    integer(out, session.offline_at.as_u32());
    out.push(b'}');
}
