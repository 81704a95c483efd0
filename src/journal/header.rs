//! The first page of a segment: what it is and under which rules its slots were written.
//!
//! ```text
//!   0    magic "HeartJnl"          40   number
//!   8    format version            48   number of the segment before it, 0 for none
//!  12    ttl in seconds            56   salt
//!  16    grace in seconds          64   length of the file in bytes
//!  20    0                         72   0 …
//!  24    data directory's id     4092   CRC-32 of all before
//! ```
//!
//! Little-endian. Written once, before the segment is in service, and never again.

use crate::directory::DirectoryId;
use crate::time::Ttl;

pub(crate) const PAGE: usize = 4_096;
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"HeartJnl";
const SUM: usize = PAGE - 4;

/// What the header of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub directory: DirectoryId,
    pub number: u64,
    /// 0 for none.
    pub previous: u64,
    pub salt: u64,
    /// Of the file, in bytes.
    pub length: u64,
    pub ttl: Ttl,
    /// In seconds.
    pub grace: u32,
}

/// Why a page is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("this is no journal segment: the magic is missing")]
    Magic,
    #[error("the checksum of the segment's header does not match")]
    Checksum,
    #[error("the segment's header makes no sense")]
    Contents,
    #[error("written by format version {0}")]
    Version(u32),
}

impl Header {
    pub fn encode(&self) -> Box<[u8; PAGE]> {
        let mut page = Box::new([0; PAGE]);
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.ttl.as_seconds().to_le_bytes());
        put(16, &self.grace.to_le_bytes());
        put(24, self.directory.as_bytes());
        put(40, &self.number.to_le_bytes());
        put(48, &self.previous.to_le_bytes());
        put(56, &self.salt.to_le_bytes());
        put(64, &self.length.to_le_bytes());
        let sum = crc32fast::hash(&page[..SUM]);
        page[SUM..].copy_from_slice(&sum.to_le_bytes());
        page
    }

    pub fn decode(page: &[u8; PAGE]) -> Result<Self, HeaderError> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| page[at + byte]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| page[at + byte]));
        if page[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32fast::hash(&page[..SUM]) != half(SUM) {
            return Err(HeaderError::Checksum);
        }
        // After the checksum: a damaged version is damage, and not a reason to look for a newer program.
        if half(8) != VERSION {
            return Err(HeaderError::Version(half(8)));
        }
        let ttl = Ttl::from_seconds(half(12)).map_err(|_| HeaderError::Contents)?;
        let header = Self {
            directory: DirectoryId::from_bytes(std::array::from_fn(|byte| page[24 + byte])),
            number: word(40),
            previous: word(48),
            salt: word(56),
            length: word(64),
            ttl,
            grace: half(16),
        };
        // Bytes that mean nothing are 0: a program that gives them a meaning names another version.
        let is_canonical = *header.encode() == *page;
        if !is_canonical || header.number == 0 || header.length < 2 * PAGE as u64 {
            return Err(HeaderError::Contents);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            directory: DirectoryId::from_bytes([7; 16]),
            number: 3,
            previous: 2,
            salt: 42,
            length: 16_384,
            ttl: Ttl::DEFAULT,
            grace: 5,
        }
    }

    #[test]
    fn a_header_survives_its_page() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let page = header().encode();
        // Miri takes a second for each.
        for at in (0..PAGE).step_by(if cfg!(miri) { 500 } else { 1 }) {
            let mut changed = page.clone();
            changed[at] ^= 0x40;
            assert!(Header::decode(&changed).is_err(), "byte {at}");
        }
    }

    /// A later program that uses them must name another version, or this one would read on without them.
    #[test]
    fn unused_bytes_are_zeros() {
        for at in [20, 23, 72, SUM - 1] {
            let mut page = header().encode();
            page[at] = 1;
            let sum = crc32fast::hash(&page[..SUM]);
            page[SUM..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(Header::decode(&page), Err(HeaderError::Contents), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut page = header().encode();
        page[8] = 2;
        let sum = crc32fast::hash(&page[..SUM]);
        page[SUM..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Header::decode(&page), Err(HeaderError::Version(2)));
    }
}
