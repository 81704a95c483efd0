//! Everyone known, in one file: written beside a running engine, read back after it has ended.
//!
//! All numbers are little-endian. Nothing is aligned and no byte is unused, so a change of any byte is noticed.
//!
//! ```text
//!          0 ┌ preamble ── these 16 bytes are the same in every version to come
//!            │    magic "HBSNAP\r\n" · version u32 · checksum u32
//!         16 ├ header
//!            │    directory id 16 bytes · number u64 · first segment u64 · ttl u32 · grace u32 · checksum u32
//!         60 ├ section 0
//!            │    bytes u64 · shard u32 · users u32 · sessions u64       `bytes` counts the users below, nothing else
//!            │    user i64 · live u64 · n u64 · n closed u64             24 bytes a user, 8 a closed session
//!            │    user …
//!            │    checksum u32
//!            ├ section 1 …                                               each begins where the one before ends
//!            ├ footer
//!            │    engine time u32 · users u64 · sessions u64 · outages u64 · sections u64
//!            │    from u32 · to u32                                      each outage
//!            │    offset u64 · bytes u64 · shard u32 · users u32 · sessions u64     each section
//!            └ trailer
//!                 footer's offset u64 · footer's bytes u64 · checksum u32 · magic "HBSNAP\r\n"
//! ```
//!
//! - A checksum is the CRC-32 of all bytes of its part before it; the trailer's is that of footer and trailer. The header's
//!   continues from the preamble's, and every other from the header's, so a part of another file never verifies.
//! - `live` is the word of `engine/live.rs`, or 0; `closed` are those of `engine/timeline.rs`.
//! - Engine time and outages are seconds. Replay begins with the journal segment `first segment`.
//! - A shard has as many sections as it needs, or none if it is empty. A section holds at least one user and at most
//!   [`SECTION_BYTES_MAX`], unless it holds a single user who needs more.
//!
//! The numbers are written and read by bincode, in its fixed-size encoding and with a limit, and nothing outside this module
//! knows it. A snapshot says nothing of users twice known or of what the journal holds: that is recovery's to judge.

mod copied;
mod footer;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod read;
mod salvage;
mod source;
#[cfg(test)]
mod tests;
mod write;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

use crate::directory::DirectoryId;
use crate::engine::{Closed, Live};
use crate::time::{Ttl, UnixSeconds};

pub(crate) use copied::Copied;
#[cfg(test)]
pub(crate) use read::Section;
pub(crate) use read::Snapshot;
pub(crate) use salvage::Salvage;
pub(crate) use write::Writer;
#[cfg(test)]
pub(crate) use write::Written;

/// What was in force when a snapshot was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub directory: DirectoryId,
    /// The snapshot's own number.
    pub number: u64,
    /// The journal segment from which replay begins.
    pub first_segment: u64,
    pub ttl: Ttl,
    pub grace_seconds: u32,
}

/// A time in which the service was not there: `from <= t < to`.
pub(crate) type Outage = (UnixSeconds, UnixSeconds);

const MAGIC: [u8; 8] = *b"HBSNAP\r\n";
const VERSION: u32 = 1;

/// Of a section's users, if they are more than one. A reader needs memory for one section per thread.
const SECTION_BYTES_MAX: usize = 16 << 20;
/// Of a single user: a session for every second there is, and those do not overlap.
const USER_BYTES_MAX: usize = (u32::MAX as usize).saturating_mul(SESSION_BYTES).saturating_add(USER_BYTES);

const USER_BYTES: usize = 3 * size_of::<u64>();
const SESSION_BYTES: usize = size_of::<u64>();

const PREAMBLE_BYTES: usize = 12;
const HEADER_BYTES: usize = 40;
const SECTION_HEADER_BYTES: usize = 24;
const FOOTER_BYTES_MIN: usize = 36;
const OUTAGE_BYTES: usize = 8;
const TABLE_ROW_BYTES: usize = 32;
const TRAILER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// No less than the length of a snapshot of so many users and closed sessions in so many shards.
pub(crate) fn bytes_at_most(users: u64, sessions: u64, shards: usize) -> u64 {
    let users = users * USER_BYTES as u64 + sessions * SESSION_BYTES as u64;
    // A shard may be in several sections, all of them but its last full.
    let sections = shards as u64 + users / (SECTION_BYTES_MAX / 2) as u64;
    let ends = SECTIONS_AT + (FOOTER_BYTES_MIN + END_BYTES) as u64 + OUTAGES_BYTES;
    users + sections * (SECTION_FRAME_BYTES + TABLE_ROW_BYTES) as u64 + ends
}

/// Room for 8,000 outages.
const OUTAGES_BYTES: u64 = 64 << 10;

/// Where the first section begins, or the footer of a snapshot of nobody.
const SECTIONS_AT: u64 = (PREAMBLE_BYTES + CHECKSUM_BYTES + HEADER_BYTES + CHECKSUM_BYTES) as u64;
/// What a section has around its users.
const SECTION_FRAME_BYTES: usize = SECTION_HEADER_BYTES + CHECKSUM_BYTES;
/// What follows the footer.
const END_BYTES: usize = TRAILER_BYTES + CHECKSUM_BYTES + MAGIC.len();

type Codec<const LIMIT: usize> = Configuration<LittleEndian, Fixint, Limit<LIMIT>>;

const fn codec<const LIMIT: usize>() -> Codec<LIMIT> {
    bincode::config::legacy().with_limit::<LIMIT>()
}

#[derive(Debug, Encode, Decode)]
struct PreambleRecord {
    magic: [u8; 8],
    version: u32,
}

#[derive(Debug, Encode, Decode)]
struct HeaderRecord {
    directory: [u8; 16],
    number: u64,
    first_segment: u64,
    ttl_seconds: u32,
    grace_seconds: u32,
}

/// A section's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct SectionRecord {
    bytes: u64,
    shard: u32,
    users: u32,
    sessions: u64,
}

#[derive(Debug, Encode)]
struct UserRecord<'a> {
    user: i64,
    live: u64,
    closed: &'a [u64],
}

/// The footer's beginning.
#[derive(Debug, Encode, Decode)]
struct TotalsRecord {
    engine_time: u32,
    users: u64,
    sessions: u64,
    outages: u64,
    sections: u64,
}

#[derive(Debug, Encode, Decode)]
struct OutageRecord {
    from: u32,
    to: u32,
}

/// One row of the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct TableRecord {
    offset: u64,
    section: SectionRecord,
}

#[derive(Debug, Encode, Decode)]
struct TrailerRecord {
    footer_at: u64,
    footer_bytes: u64,
}

/// Whether one user can have these: in order, none beginning before the one before it has ended, and the live one last.
fn are_sessions(live: u64, closed: &[u64]) -> bool {
    let mut free_from = UnixSeconds::new(0);
    for session in closed.iter().copied().map(Closed::from_word) {
        if session.online_at() < free_from {
            return false;
        }
        free_from = session.offline_at();
    }
    Live::unpack(live).is_none_or(|live| free_from <= live.online_at && live.online_at <= live.deadline)
}
