//! A snapshot's file: bytes from it, believed when their checksum matches, and the parts at its two ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bincode::Decode;
use bincode::error::DecodeError;

use super::{
    CHECKSUM_BYTES, END_BYTES, FOOTER_BYTES_MIN, HEADER_BYTES, Header, HeaderRecord, MAGIC, PREAMBLE_BYTES,
    PreambleRecord, SECTIONS_AT, TRAILER_BYTES, TrailerRecord, VERSION, codec,
};
use crate::calls;
use crate::damage::{Damage, Flaw, Part, ReadError};
use crate::directory::DirectoryId;
use crate::time::Ttl;

/// The file.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    pub path: PathBuf,
    /// Its length when it was opened.
    pub bytes: u64,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let file = calls::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(Self { file, path: path.into(), bytes })
    }

    pub fn damaged(&self, offset: u64, flaw: Flaw) -> ReadError {
        Damage { file: self.path.clone(), offset, flaw }.into()
    }

    /// Bytes that the file was seen to have.
    fn read(&self, offset: u64, bytes: u64, part: Part) -> Result<Vec<u8>, ReadError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(self.damaged(self.bytes, Flaw::Ends(part)));
        }
        let too_large = |_| self.damaged(offset, Flaw::Contradiction(part, "is larger than memory can be"));
        let mut read = vec![0; usize::try_from(bytes).map_err(too_large)?];
        match self.file.read_exact_at(&mut read, offset) {
            Ok(()) => Ok(read),
            Err(shrunk) if shrunk.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, Flaw::Ends(part)))
            }
            Err(source) => Err(ReadError::Io { path: self.path.clone(), source }),
        }
    }

    /// So many bytes, which nothing vouches for; `None` if the file ends before.
    pub fn peek(&self, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>, ReadError> {
        match self.read(offset, bytes, Part::Footer) {
            Ok(read) => Ok(Some(read)),
            Err(ReadError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// So many bytes, of which the checksum after them tells that they are those that were written.
    pub fn checked(&self, offset: u64, bytes: u64, seed: u32, part: Part) -> Result<Vec<u8>, ReadError> {
        let mut read = self.read(offset, bytes.saturating_add(CHECKSUM_BYTES as u64), part)?;
        let stored = read.split_off(read.len() - CHECKSUM_BYTES);
        if checksum(seed, &read).to_le_bytes()[..] == stored[..] {
            return Ok(read);
        }
        Err(self.damaged(offset, Flaw::Checksum(part)))
    }

    /// Says no to files of another kind or version. Gives the checksum.
    pub fn checked_preamble(&self) -> Result<u32, ReadError> {
        let start = self.read(0, self.bytes.min(MAGIC.len() as u64), Part::Header)?;
        if !MAGIC.starts_with(&start) {
            return Err(self.damaged(0, Flaw::Foreign("snapshot")));
        }
        let preamble = self.checked(0, PREAMBLE_BYTES as u64, 0, Part::Header)?;
        let PreambleRecord { version, .. } =
            decode(&preamble).map_err(|_| self.damaged(0, undecodable(Part::Header)))?;
        match version {
            VERSION => Ok(checksum(0, &preamble)),
            0 => Err(self.damaged(8, Flaw::Contradiction(Part::Header, "names a version that never was"))),
            _ => Err(ReadError::NewerVersion { file: self.path.clone(), version }),
        }
    }

    pub fn checked_header(&self, preamble: u32) -> Result<(Header, u32), ReadError> {
        let at = (PREAMBLE_BYTES + CHECKSUM_BYTES) as u64;
        let header = self.checked(at, HEADER_BYTES as u64, preamble, Part::Header)?;
        let record: HeaderRecord =
            decode(&header).map_err(|_| self.damaged(at, undecodable(Part::Header)))?;
        let ttl = Ttl::from_seconds(record.ttl_seconds)
            .map_err(|_| self.damaged(at, Flaw::Contradiction(Part::Header, "holds an impossible ttl")))?;
        let known = Header {
            directory: DirectoryId::from_bytes(record.directory),
            number: record.number,
            first_segment: record.first_segment,
            ttl,
            grace_seconds: record.grace_seconds,
        };
        Ok((known, checksum(preamble, &header)))
    }

    /// The footer's offset and bytes.
    pub fn checked_footer(&self, seed: u32) -> Result<(u64, Vec<u8>), ReadError> {
        let trailer_at = self.bytes.saturating_sub(END_BYTES as u64);
        if trailer_at < SECTIONS_AT + FOOTER_BYTES_MIN as u64 {
            return Err(self.damaged(self.bytes, Flaw::Ends(Part::Trailer)));
        }
        let end = self.read(trailer_at, END_BYTES as u64, Part::Trailer)?;
        if !end.ends_with(&MAGIC) {
            return Err(self.damaged(
                trailer_at,
                Flaw::Contradiction(Part::Trailer, "is not where the file ends: it was cut or changed"),
            ));
        }
        let trailer: TrailerRecord = decode(&end[..TRAILER_BYTES])
            .map_err(|_| self.damaged(trailer_at, undecodable(Part::Trailer)))?;
        if trailer.footer_at < SECTIONS_AT
            || trailer.footer_bytes < FOOTER_BYTES_MIN as u64
            || trailer.footer_at.checked_add(trailer.footer_bytes) != Some(trailer_at)
        {
            return Err(self.damaged(
                trailer_at,
                Flaw::Contradiction(Part::Trailer, "names a place where the footer cannot be"),
            ));
        }
        let bytes = trailer.footer_bytes + TRAILER_BYTES as u64;
        let mut footer = self.checked(trailer.footer_at, bytes, seed, Part::Footer)?;
        footer.truncate(footer.len() - TRAILER_BYTES);
        Ok((trailer.footer_at, footer))
    }
}

/// One of the records of fixed length.
pub(super) fn decode<T: Decode<()>>(record: &[u8]) -> Result<T, DecodeError> {
    // The header is the longest record but a user's.
    bincode::decode_from_slice(record, codec::<HEADER_BYTES>()).map(|(value, _)| value)
}

pub(super) fn undecodable(part: Part) -> Flaw {
    Flaw::Contradiction(part, "cannot be decoded")
}

pub(super) fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new_with_initial(seed);
    checksum.update(bytes);
    checksum.finalize()
}
