//! Writing a snapshot: shard by shard, to a file that has no name until it is complete.
//!
//! It needs [`PIECE_BYTES`] of memory however large a shard is. All of it runs outside the roster's guards.

use std::io;
use std::path::PathBuf;

use bincode::Encode;
use bincode::error::EncodeError;
use crc32fast::Hasher;

use super::copied::{Copied, Portion};
use super::{
    Header, HeaderRecord, MAGIC, Outage, OutageRecord, PreambleRecord, SectionRecord, TableRecord,
    TotalsRecord, TrailerRecord, VERSION, are_sessions,
};
use crate::calls;
use crate::directory::{Directory, FileError, Name, Unpublished};
use crate::time::UnixSeconds;

/// What goes to the operating system at once.
const PIECE_BYTES: usize = 1 << 20;

/// A snapshot being written. Dropped before [`finish`](Self::finish), it leaves nothing.
pub(crate) struct Writer<'a> {
    sink: Sink<'a>,
    number: u64,
    /// The header's checksum, from which all others continue.
    seed: u32,
    table: Vec<TableRecord>,
}

/// A snapshot that is complete and will survive a power loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub number: u64,
    pub path: PathBuf,
    /// The file's length.
    pub bytes: u64,
    pub users: u64,
    /// Closed sessions.
    pub sessions: u64,
}

impl<'a> Writer<'a> {
    /// Begins the snapshot of the header's number.
    pub fn create(directory: &'a Directory, header: Header) -> Result<Self, FileError> {
        let mut sink = Sink::new(Unpublished::create(directory, Name::Snapshot(header.number))?);
        let seed = sink.write_header(header).map_err(|source| sink.cannot_write(source))?;
        Ok(Self { sink, number: header.number, seed, table: Vec::new() })
    }

    /// As if the file were this one.
    #[cfg(test)]
    pub fn replace_file(&mut self, file: std::fs::File) {
        self.sink.unpublished.replace(file);
    }

    /// Adds what was copied from one shard. A shard may be added in several parts.
    ///
    /// # Errors
    /// The file cannot be written. Nothing can be added then: drop the writer.
    pub fn write_shard(&mut self, shard: u32, copied: &Copied) -> Result<(), FileError> {
        for portion in copied.portions() {
            self.write_section(shard, &portion).map_err(|source| self.sink.cannot_write(source))?;
        }
        Ok(())
    }

    /// Completes the file, syncs it and gives it its name. `engine_time` was read after the last shard had been copied.
    ///
    /// # Errors
    /// The file cannot be written, synced or renamed. There is no such snapshot then, unless only the directory could not
    /// be synced.
    pub fn finish(mut self, engine_time: UnixSeconds, outages: &[Outage]) -> Result<Written, FileError> {
        let (users, sessions) = self.totals();
        self.write_end(engine_time, outages).map_err(|source| self.sink.cannot_write(source))?;
        let bytes = self.sink.position();
        let (_, path) = self.sink.unpublished.publish()?;
        Ok(Written { number: self.number, path, bytes, users, sessions })
    }

    fn write_section(&mut self, shard: u32, portion: &Portion<'_>) -> io::Result<()> {
        let offset = self.sink.position();
        let section = SectionRecord {
            bytes: portion.bytes(),
            shard,
            users: portion.users,
            sessions: portion.sessions(),
        };
        self.sink.sum_from(self.seed);
        self.sink.put(&section)?;
        for user in portion.users() {
            // Else it is refused when it is read, and that is late.
            debug_assert!(are_sessions(user.live, user.closed), "{user:?}");
            self.sink.put(&user)?;
        }
        self.sink.put_checksum()?;
        self.table.push(TableRecord { offset, section });
        Ok(())
    }

    fn write_end(&mut self, engine_time: UnixSeconds, outages: &[Outage]) -> io::Result<()> {
        let footer_at = self.sink.position();
        let (users, sessions) = self.totals();
        self.sink.sum_from(self.seed);
        self.sink.put(&TotalsRecord {
            engine_time: engine_time.as_u32(),
            users,
            sessions,
            outages: outages.len() as u64,
            sections: self.table.len() as u64,
        })?;
        for (from, to) in outages {
            self.sink.put(&OutageRecord { from: from.as_u32(), to: to.as_u32() })?;
        }
        for row in &self.table {
            self.sink.put(row)?;
        }
        self.sink.put(&TrailerRecord { footer_at, footer_bytes: self.sink.position() - footer_at })?;
        self.sink.put_checksum()?;
        self.sink.put(&MAGIC)?;
        self.sink.flush()
    }

    fn totals(&self) -> (u64, u64) {
        self.table.iter().fold((0, 0), |(users, sessions), row| {
            (users + u64::from(row.section.users), sessions + row.section.sessions)
        })
    }
}

/// The file, what is not in it yet, and the checksum of the part being written.
struct Sink<'a> {
    unpublished: Unpublished<'a>,
    piece: Vec<u8>,
    /// How much of the piece is in the checksum, or not to be in it.
    summed: usize,
    checksum: Hasher,
    flushed: u64,
    /// The operating system refused, and how much of the file is there is not known.
    failed: bool,
}

impl<'a> Sink<'a> {
    fn new(unpublished: Unpublished<'a>) -> Self {
        Self {
            unpublished,
            piece: Vec::with_capacity(PIECE_BYTES),
            summed: 0,
            checksum: Hasher::new(),
            flushed: 0,
            failed: false,
        }
    }

    /// Gives the header's checksum.
    fn write_header(&mut self, header: Header) -> io::Result<u32> {
        self.put(&PreambleRecord { magic: MAGIC, version: VERSION })?;
        let preamble = self.put_checksum()?;
        self.sum_from(preamble);
        self.put(&HeaderRecord {
            directory: *header.directory.as_bytes(),
            number: header.number,
            first_segment: header.first_segment,
            ttl_seconds: header.ttl.as_seconds(),
            grace_seconds: header.grace_seconds,
        })?;
        self.put_checksum()
    }

    const fn position(&self) -> u64 {
        self.flushed + self.piece.len() as u64
    }

    fn put(&mut self, record: &impl Encode) -> io::Result<()> {
        bincode::encode_into_writer(record, self, bincode::config::legacy()).map_err(|error| match error {
            EncodeError::Io { inner, .. } => inner,
            other => io::Error::other(other),
        })
    }

    /// The part whose checksum is wanted begins here.
    fn sum_from(&mut self, seed: u32) {
        self.checksum = Hasher::new_with_initial(seed);
        self.summed = self.piece.len();
    }

    /// Ends the part with its checksum, and gives it.
    fn put_checksum(&mut self) -> io::Result<u32> {
        self.sum();
        let checksum = self.checksum.clone().finalize();
        self.put(&checksum)?;
        Ok(checksum)
    }

    fn sum(&mut self) {
        self.checksum.update(&self.piece[self.summed..]);
        self.summed = self.piece.len();
    }

    #[cold]
    fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier part could not be written"));
        }
        self.sum();
        self.failed = true;
        calls::write_at(self.unpublished.file(), &self.piece, self.flushed)?;
        self.failed = false;
        self.flushed += self.piece.len() as u64;
        self.piece.clear();
        self.summed = 0;
        Ok(())
    }

    fn cannot_write(&self, source: io::Error) -> FileError {
        self.unpublished.cannot_write(source)
    }
}

/// For bincode, which hands over a number at a time.
impl bincode::enc::write::Writer for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            self.flush().map_err(|inner| EncodeError::Io { inner, index: 0 })?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }
}
