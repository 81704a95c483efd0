//! What is left of a damaged snapshot: every section that vouches for itself, wherever the damage is.
//!
//! Each part's checksum goes on from the header's. So a header that is damaged can be made again from what is known beside it,
//! and if its checksum is the one that stands in the file, or a section verifies with it, it is the one that was there. Of a
//! section that does not verify nothing is kept: nobody can tell which of its users is the wrong one.

use std::path::Path;

use bincode::Encode;

use super::footer::Footer;
use super::read::{Section, Snapshot};
use super::source::{Source, checksum, decode};
use super::{
    CHECKSUM_BYTES, FOOTER_BYTES_MIN, HEADER_BYTES, Header, HeaderRecord, MAGIC, OUTAGE_BYTES,
    PREAMBLE_BYTES, PreambleRecord, SECTION_HEADER_BYTES, SECTIONS_AT, SectionRecord, TABLE_ROW_BYTES,
    TRAILER_BYTES, TotalsRecord, VERSION,
};
use crate::damage::{Part, ReadError};
use crate::time::{Ttl, UnixSeconds};

/// Where the header stands.
const HEADER_AT: u64 = (PREAMBLE_BYTES + CHECKSUM_BYTES) as u64;

/// A snapshot with those of its sections that verify.
#[derive(Debug)]
pub(crate) struct Salvage {
    /// Its users and sessions are counted without the lost ones.
    pub snapshot: Snapshot,
    /// Sections that do not verify, as far as it is known that there were some.
    pub lost: Vec<Section>,
    /// The footer is whole: there were no other sections, and outages and engine time are known.
    pub is_told: bool,
}

impl Salvage {
    /// Of the file at `path`. If its header is damaged, `known` are those that it may have had: `number` and `directory` of any of
    /// them are right. `None` if nothing vouches for any of them.
    ///
    /// # Errors
    /// The file cannot be read, or is of a newer version.
    pub fn of(path: &Path, known: &[Header]) -> Result<Option<Self>, ReadError> {
        let source = Source::open(path)?;
        match source.checked_preamble().and_then(|preamble| source.checked_header(preamble)) {
            Ok((header, seed)) => return Self::with(source, header, seed).map(Some),
            Err(ReadError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let Some(found) = source.peek(HEADER_AT, (HEADER_BYTES + CHECKSUM_BYTES) as u64)? else {
            return Ok(None);
        };
        let (fields, sum) = found.split_at(HEADER_BYTES);
        if let Some(&header) = known.iter().find(|header| seed_of(header).to_le_bytes()[..] == *sum) {
            return Self::with(source, header, seed_of(&header)).map(Some);
        }
        // Or the checksum is what was damaged, or what is before the header.
        let Some(header) = header_of(fields) else { return Ok(None) };
        let is_known = |known: &Header| {
            (known.directory, known.number) == (header.directory, header.number) && header.first_segment > 0
        };
        if !known.iter().any(is_known) {
            return Ok(None);
        }
        let salvage = Self::with(source, header, seed_of(&header))?;
        Ok((salvage.is_told || !salvage.snapshot.sections.is_empty()).then_some(salvage))
    }

    fn with(source: Source, header: Header, seed: u32) -> Result<Self, ReadError> {
        let snapshot = Snapshot {
            source,
            header,
            seed,
            engine_time: UnixSeconds::new(0),
            users: 0,
            sessions: 0,
            outages: Vec::new(),
            sections: Vec::new(),
        };
        let mut salvage = Self { snapshot, lost: Vec::new(), is_told: false };
        let footer = match salvage.snapshot.source.checked_footer(seed) {
            Ok((_, footer)) => Some(footer),
            Err(ReadError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        if !footer.is_some_and(|footer| salvage.believe(0, &footer)) {
            let end = salvage.scan()?;
            salvage.look_for_footer(end)?;
        }
        salvage.keep_what_verifies()?;
        Ok(salvage)
    }

    /// Takes the sections from a footer whose checksum fits. False if it contradicts itself.
    fn believe(&mut self, footer_at: u64, footer: &[u8]) -> bool {
        let at = match footer_at {
            0 => self.snapshot.source.bytes - (footer.len() + super::END_BYTES) as u64,
            at => at,
        };
        let Ok(Footer { totals, outages, sections }) = Footer::parse(at, footer) else { return false };
        self.snapshot.engine_time = UnixSeconds::new(totals.engine_time);
        (self.snapshot.outages, self.snapshot.sections) = (outages, sections);
        (self.lost, self.is_told) = (Vec::new(), true);
        true
    }

    /// Goes from section to section, over those that do not verify if they tell a length that can be. Gives where it came to.
    fn scan(&mut self) -> Result<u64, ReadError> {
        let mut at = SECTIONS_AT;
        loop {
            let section = match self.snapshot.section_at(at)? {
                Some(section) => {
                    self.snapshot.sections.push(section);
                    section
                }
                None => match self.skipped(at)? {
                    Some(section) => {
                        self.lost.push(section);
                        section
                    }
                    None => return Ok(at),
                },
            };
            at += section.framed_bytes() + CHECKSUM_BYTES as u64;
        }
    }

    fn skipped(&self, offset: u64) -> Result<Option<Section>, ReadError> {
        let source = &self.snapshot.source;
        let Some(header) = source.peek(offset, SECTION_HEADER_BYTES as u64)? else { return Ok(None) };
        let Ok(SectionRecord { bytes, shard, users, sessions }) = decode(&header) else { return Ok(None) };
        let section = Section { offset, bytes, shard, users, sessions };
        let fits = section.has_length_of_its_users()
            && offset
                .checked_add(bytes)
                .and_then(|end| end.checked_add((SECTION_HEADER_BYTES + CHECKSUM_BYTES) as u64))
                .is_some_and(|end| end <= source.bytes);
        Ok(fits.then_some(section))
    }

    /// It may be whole and not stand where the file ends, because something follows it or its last bytes are damaged.
    fn look_for_footer(&mut self, at: u64) -> Result<(), ReadError> {
        let source = &self.snapshot.source;
        let Some(totals) = source.peek(at, FOOTER_BYTES_MIN as u64)? else { return Ok(()) };
        let Ok(TotalsRecord { outages, sections, .. }) = decode(&totals) else { return Ok(()) };
        let lists = outages
            .checked_mul(OUTAGE_BYTES as u64)
            .zip(sections.checked_mul(TABLE_ROW_BYTES as u64))
            .and_then(|(outages, table)| outages.checked_add(table));
        let Some(bytes) =
            lists.and_then(|lists| lists.checked_add((FOOTER_BYTES_MIN + TRAILER_BYTES) as u64))
        else {
            return Ok(());
        };
        match source.checked(at, bytes, self.snapshot.seed, Part::Footer) {
            Ok(mut footer) => {
                footer.truncate(footer.len() - TRAILER_BYTES);
                self.believe(at, &footer);
                Ok(())
            }
            Err(ReadError::Damaged(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn keep_what_verifies(&mut self) -> Result<(), ReadError> {
        let mut kept = Vec::new();
        for index in 0..self.snapshot.sections.len() {
            let section = self.snapshot.sections[index];
            match self.snapshot.read_section(index, |_, _, _| {}) {
                Ok(()) => kept.push(section),
                Err(ReadError::Damaged(_)) => self.lost.push(section),
                Err(error) => return Err(error),
            }
        }
        self.snapshot.users = kept.iter().map(|section| u64::from(section.users)).sum();
        self.snapshot.sessions = kept.iter().map(|section| section.sessions).sum();
        self.snapshot.sections = kept;
        Ok(())
    }
}

/// The checksum of this header, from which all others continue.
fn seed_of(header: &Header) -> u32 {
    let preamble = checksum(0, &encoded(&PreambleRecord { magic: MAGIC, version: VERSION }));
    checksum(
        preamble,
        &encoded(&HeaderRecord {
            directory: *header.directory.as_bytes(),
            number: header.number,
            first_segment: header.first_segment,
            ttl_seconds: header.ttl.as_seconds(),
            grace_seconds: header.grace_seconds,
        }),
    )
}

fn encoded(record: &impl Encode) -> Vec<u8> {
    bincode::encode_to_vec(record, bincode::config::legacy()).expect("memory takes it, and it has no lists")
}

/// What the header's bytes say, whether or not they are those that were written.
fn header_of(fields: &[u8]) -> Option<Header> {
    let record: HeaderRecord = decode(fields).ok()?;
    Some(Header {
        directory: crate::directory::DirectoryId::from_bytes(record.directory),
        number: record.number,
        first_segment: record.first_segment,
        ttl: Ttl::from_seconds(record.ttl_seconds).ok()?,
        grace_seconds: record.grace_seconds,
    })
}
