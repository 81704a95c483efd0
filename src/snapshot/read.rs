//! Reading a snapshot, which may hold anything: a disk, a copy or another program may have changed it.
//!
//! [`Snapshot::open`] verifies everything but the sections' users, and [`Snapshot::read_section`] those. Nothing is believed
//! before its checksum is, and no count before it agrees with the length of what it counts, so memory is asked for only in
//! proportion to the file. Nothing is mapped and nothing is changed: any number of threads may read at once.

use std::path::Path;

use bincode::Decode;
use bincode::config::Config;
use bincode::de::DecoderImpl;
use bincode::de::read::SliceReader;

use super::footer::Footer;
use super::source::{Source, decode, undecodable};
use super::{
    CHECKSUM_BYTES, Header, Outage, SECTION_BYTES_MAX, SECTION_HEADER_BYTES, SECTIONS_AT, SESSION_BYTES,
    SectionRecord, USER_BYTES, USER_BYTES_MAX, are_sessions, codec,
};
use crate::damage::{Flaw, Part, ReadError};
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// A snapshot, open for reading.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) source: Source,
    pub(super) header: Header,
    /// The header's checksum, from which all others continue.
    pub(super) seed: u32,
    pub(super) engine_time: UnixSeconds,
    pub(super) users: u64,
    pub(super) sessions: u64,
    pub(super) outages: Vec<Outage>,
    pub(super) sections: Vec<Section>,
}

/// A part of one shard's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    /// Where in the file its header begins.
    pub offset: u64,
    /// The length of its users.
    pub bytes: u64,
    pub shard: u32,
    pub users: u32,
    /// Closed sessions.
    pub sessions: u64,
}

impl Snapshot {
    /// Opens a snapshot and verifies all but its sections' users.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let source = Source::open(path)?;
        let preamble = source.checked_preamble()?;
        let (header, seed) = source.checked_header(preamble)?;
        let (footer_at, footer) = source.checked_footer(seed)?;
        let Footer { totals, outages, sections } =
            Footer::parse(footer_at, &footer).map_err(|(offset, flaw)| source.damaged(offset, flaw))?;
        Ok(Self {
            source,
            header,
            seed,
            engine_time: UnixSeconds::new(totals.engine_time),
            users: totals.users,
            sessions: totals.sessions,
            outages,
            sections,
        })
    }

    /// What the header says, if that is whole.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn header_of(path: &Path) -> Result<Header, ReadError> {
        let source = Source::open(path)?;
        let preamble = source.checked_preamble()?;
        source.checked_header(preamble).map(|(header, _)| header)
    }

    /// The same as [`open`](Self::open) of a file that may end too early, or whose footer is damaged: then with the sections from the first one on
    /// that verify, and with the damage. Outages and engine time are not known then.
    ///
    /// # Errors
    /// [`ReadError`], if not even the header is whole.
    pub fn open_as_far_as_whole(path: &Path) -> Result<(Self, Option<ReadError>), ReadError> {
        let damage = match Self::open(path) {
            Err(damage @ ReadError::Damaged(_)) => damage,
            opened => return opened.map(|snapshot| (snapshot, None)),
        };
        let source = Source::open(path)?;
        let preamble = source.checked_preamble()?;
        let (header, seed) = source.checked_header(preamble)?;
        let mut snapshot = Self {
            source,
            header,
            seed,
            engine_time: UnixSeconds::new(0),
            users: 0,
            sessions: 0,
            outages: Vec::new(),
            sections: Vec::new(),
        };
        let mut at = SECTIONS_AT;
        while let Some(section) = snapshot.section_at(at)? {
            at += section.framed_bytes() + CHECKSUM_BYTES as u64;
            snapshot.users += u64::from(section.users);
            snapshot.sessions += section.sessions;
            snapshot.sections.push(section);
        }
        Ok((snapshot, Some(damage)))
    }

    /// The section that begins here; `None` if none does that verifies.
    pub(super) fn section_at(&self, offset: u64) -> Result<Option<Section>, ReadError> {
        let Some(header) = self.source.peek(offset, SECTION_HEADER_BYTES as u64)? else { return Ok(None) };
        let Ok(SectionRecord { bytes, shard, users, sessions }) = decode(&header) else { return Ok(None) };
        let section = Section { offset, bytes, shard, users, sessions };
        // The footer, or anything, may stand here: ask for memory only if this can be a section that the file holds.
        if !section.has_length_of_its_users() || bytes > self.source.bytes {
            return Ok(None);
        }
        match self.source.checked(
            offset,
            section.framed_bytes(),
            self.seed,
            Part::Section(self.sections.len()),
        ) {
            Ok(_) => Ok(Some(section)),
            Err(ReadError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The engine's time after the last shard had been copied: nothing in here is later.
    pub const fn engine_time(&self) -> UnixSeconds {
        self.engine_time
    }

    /// How many users there are. The file is large enough for them.
    pub const fn users(&self) -> u64 {
        self.users
    }

    /// How many closed sessions they have.
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    pub fn outages(&self) -> &[Outage] {
        &self.outages
    }

    /// The file's length.
    pub const fn bytes(&self) -> u64 {
        self.source.bytes
    }

    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// All sections, in the file's order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Verifies a section and hands over each user, with the word of the live session, or 0, and those of the closed ones in
    /// order. Takes memory for the section and for the sessions of the user in it who has most.
    ///
    /// # Errors
    /// If it is for a user's sessions, the users before have been handed over already: throw away what was made of them.
    ///
    /// # Panics
    /// There is no such section.
    pub fn read_section(
        &self,
        index: usize,
        visit: impl FnMut(UserId, u64, &[u64]),
    ) -> Result<(), ReadError> {
        let (part, section) = (Part::Section(index), self.sections[index]);
        let framed = self.source.checked(section.offset, section.framed_bytes(), self.seed, part)?;
        let (header, users) = framed.split_at(SECTION_HEADER_BYTES);
        let damaged = |offset, flaw| self.source.damaged(section.offset + offset, flaw);

        let known = decode::<SectionRecord>(header).map_err(|_| damaged(0, undecodable(part)))?;
        if known != section.record() {
            return Err(damaged(0, Flaw::Contradiction(part, "is not what the footer says it is")));
        }
        let visited = if users.len() <= SECTION_BYTES_MAX {
            visit_users(codec::<SECTION_BYTES_MAX>(), users, part, known, visit)
        } else {
            visit_users(codec::<USER_BYTES_MAX>(), users, part, known, visit)
        };
        visited.map_err(|(offset, flaw)| damaged((SECTION_HEADER_BYTES + offset) as u64, flaw))
    }

    /// Reads and verifies every section.
    pub fn verify(&self) -> Result<(), ReadError> {
        (0..self.sections.len()).try_for_each(|index| self.read_section(index, |_, _, _| {}))
    }
}

impl Section {
    pub(super) const fn record(self) -> SectionRecord {
        SectionRecord { bytes: self.bytes, shard: self.shard, users: self.users, sessions: self.sessions }
    }

    /// Whether there are users, and they and their sessions need so many bytes.
    pub(super) fn has_length_of_its_users(&self) -> bool {
        let users = u64::from(self.users) * USER_BYTES as u64;
        let counted = self.sessions.checked_mul(SESSION_BYTES as u64).and_then(|n| n.checked_add(users));
        self.users > 0 && counted == Some(self.bytes)
    }

    /// With header, without checksum.
    pub(super) const fn framed_bytes(self) -> u64 {
        self.bytes + SECTION_HEADER_BYTES as u64
    }
}

/// Hands over the users of a section that has the length of its counts. A flaw comes with its place among them.
pub(super) fn visit_users<C: Config>(
    codec: C,
    users: &[u8],
    part: Part,
    section: SectionRecord,
    mut visit: impl FnMut(UserId, u64, &[u64]),
) -> Result<(), (usize, Flaw)> {
    let mut decoder = DecoderImpl::new(SliceReader::new(users), codec, ());
    let mut closed = Vec::new();
    let mut sessions_left = section.sessions;
    let mut at = 0;
    for _ in 0..section.users {
        let undecodable = |_| (at, undecodable(part));
        let (user, live, count) = <(i64, u64, u64)>::decode(&mut decoder).map_err(undecodable)?;
        sessions_left = sessions_left
            .checked_sub(count)
            .ok_or((at, Flaw::Contradiction(part, "counts fewer sessions than its users have")))?;
        closed.clear();
        for _ in 0..count {
            closed.push(u64::decode(&mut decoder).map_err(undecodable)?);
        }
        if !are_sessions(live, &closed) {
            return Err((at, Flaw::Sessions(UserId::new(user))));
        }
        visit(UserId::new(user), live, &closed);
        at += USER_BYTES + closed.len() * SESSION_BYTES;
    }
    if sessions_left > 0 {
        return Err((at, Flaw::Contradiction(part, "counts more sessions than its users have")));
    }
    Ok(())
}
