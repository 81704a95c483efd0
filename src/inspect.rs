//! One file of a data directory, piece by piece: a snapshot or a journal segment.
//!
//! [`inspect`] hands over what the file says of itself, then every user or slot, then the totals. It needs memory for a section
//! or for a piece of a segment, however large the file is, and changes nothing.
//!
//! Of a damaged file it hands over all that vouches for itself, and gives the first damage at the end. It looks at one file
//! alone: whether that belongs to the others beside it is what [`verify`](crate::verify) tells.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use crate::calls;
use crate::damage::{Damage, Flaw, ReadError};
use crate::directory::{DirectoryId, Name};
use crate::engine::{Closed, Live, Mark};
use crate::journal::{Found, Kind, SegmentFile, Slot, Verdicts};
use crate::session::{End, Session};
use crate::snapshot::Snapshot;
use crate::time::{Ttl, UnixSeconds};
use crate::user_id::UserId;

/// Slots that are looked at before asking whether to go on.
const PIECE_SLOTS: u32 = 1 << 16;

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What a snapshot says of itself.
    Snapshot(SnapshotHead),
    /// A user in a snapshot, with all sessions, the live one last.
    User(UserId, &'a [Session]),
    /// What was handed over of a snapshot.
    SnapshotTotals(SnapshotTotals),
    /// What a segment says of itself.
    Segment(SegmentHead),
    /// A place in a segment, by its index.
    Slot(u32, Place),
    /// What was handed over of a segment.
    SegmentTotals(SegmentTotals),
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose it is.
    pub directory: DirectoryId,
    /// Its number.
    pub number: u64,
    /// The segment from which replay begins.
    pub first_segment: u64,
    /// The ttl then.
    pub ttl: Ttl,
    /// The grace then.
    pub grace_seconds: u32,
    /// What its footer says; `None` if that is damaged.
    pub footer: Option<SnapshotFooter>,
}

/// What a snapshot's footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFooter {
    /// Nothing in it is later.
    pub engine_time: UnixSeconds,
    /// Users.
    pub users: u64,
    /// Closed sessions.
    pub closed_sessions: u64,
    /// When the service was not there: from, to.
    pub outages: Vec<(UnixSeconds, UnixSeconds)>,
}

/// What was handed over of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotTotals {
    /// Users.
    pub users: u64,
    /// Of them with a live session.
    pub live: u64,
    /// Closed sessions.
    pub closed_sessions: u64,
    /// Sections that could not be read.
    pub damaged_sections: u64,
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    /// Whose it is.
    pub directory: DirectoryId,
    /// Its number.
    pub number: u64,
    /// The number of the one before it; 0 for none.
    pub previous: u64,
    /// The ttl then.
    pub ttl: Ttl,
    /// The grace then.
    pub grace_seconds: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Places for slots.
    pub capacity: u32,
    /// So many slots are known to be on disk.
    pub synced: Mark,
    /// A second in which the service was up.
    pub alive: Mark,
}

/// What stands in a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A write.
    Slot {
        /// What it says.
        kind: Kind,
        /// Of whom.
        user: UserId,
        /// When the session, or outage, began.
        online_at: UnixSeconds,
        /// Until when it lasts.
        until: UnixSeconds,
    },
    /// Reserved and never stored.
    Empty,
    /// Torn by a power loss.
    Torn,
    /// It was on disk, and is not what was written.
    Damaged,
}

/// What was handed over of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentTotals {
    /// What stood in the places that are not damaged.
    pub verdicts: Verdicts,
    /// Places that are.
    pub damaged: u64,
}

/// Hands over the file at `path`, piece by piece, until `visit` has enough.
///
/// # Errors
/// [`ReadError`], after everything that could be read.
pub fn inspect(path: &Path, visit: impl FnMut(Piece<'_>) -> ControlFlow<()>) -> Result<(), ReadError> {
    let mut start = Vec::new();
    let io = |source| ReadError::Io { path: path.into(), source };
    calls::open(path).map_err(io)?.take(8).read_to_end(&mut start).map_err(io)?;
    let mut inspector = Inspector { visit, has_enough: false, first: None };
    match (&start[..], path.file_name().and_then(|name| Name::parse(name.to_str()?))) {
        (b"HeartJnl", _) => inspector.segment(path)?,
        (b"HBSNAP\r\n", _) | (_, Some(Name::Snapshot(_))) => inspector.snapshot(path)?,
        (_, Some(Name::Segment(_))) => inspector.segment(path)?,
        _ => {
            let flaw = Flaw::Foreign("snapshot or journal segment");
            return Err(Damage { file: path.into(), offset: 0, flaw }.into());
        }
    }
    match inspector.first {
        Some(error) if !inspector.has_enough => Err(error),
        _ => Ok(()),
    }
}

struct Inspector<V> {
    visit: V,
    has_enough: bool,
    /// What was found wrong first.
    first: Option<ReadError>,
}

impl<V: FnMut(Piece<'_>) -> ControlFlow<()>> Inspector<V> {
    fn hand(&mut self, piece: Piece<'_>) {
        if !self.has_enough {
            self.has_enough = (self.visit)(piece).is_break();
        }
    }

    /// # Errors
    /// The operating system's: a file that is merely damaged is read on.
    fn note(&mut self, error: ReadError) -> Result<(), ReadError> {
        match error {
            ReadError::Damaged(_) => {
                self.first.get_or_insert(error);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn snapshot(&mut self, path: &Path) -> Result<(), ReadError> {
        let (snapshot, damage) = Snapshot::open_as_far_as_whole(path)?;
        let header = snapshot.header();
        let footer = damage.is_none().then(|| SnapshotFooter {
            engine_time: snapshot.engine_time(),
            users: snapshot.users(),
            closed_sessions: snapshot.sessions(),
            outages: snapshot.outages().to_vec(),
        });
        self.first = damage;
        self.hand(Piece::Snapshot(SnapshotHead {
            directory: header.directory,
            number: header.number,
            first_segment: header.first_segment,
            ttl: header.ttl,
            grace_seconds: header.grace_seconds,
            footer,
        }));
        let mut totals = SnapshotTotals::default();
        for section in 0..snapshot.sections().len() {
            if self.has_enough {
                return Ok(());
            }
            if let Err(error) = self.section(&snapshot, section, &mut totals) {
                totals.damaged_sections += 1;
                self.note(error)?;
            }
        }
        self.hand(Piece::SnapshotTotals(totals));
        Ok(())
    }

    fn section(
        &mut self,
        snapshot: &Snapshot,
        section: usize,
        totals: &mut SnapshotTotals,
    ) -> Result<(), ReadError> {
        let mut sessions = Vec::new();
        snapshot.read_section(section, |user, live, closed| {
            let live = Live::unpack(live);
            totals.users += 1;
            totals.live += u64::from(live.is_some());
            totals.closed_sessions += closed.len() as u64;
            sessions.clear();
            sessions.extend(closed.iter().map(|&word| Closed::from_word(word).session()));
            sessions.extend(live.map(|live| Session {
                online_at: live.online_at,
                offline_at: live.deadline,
                end: End::Live,
            }));
            self.hand(Piece::User(user, &sessions));
        })
    }

    fn segment(&mut self, path: &Path) -> Result<(), ReadError> {
        let (segment, length) = SegmentFile::open_of_any_length(path)?;
        let header = &segment.header;
        self.hand(Piece::Segment(SegmentHead {
            directory: header.directory,
            number: header.number,
            previous: header.previous,
            ttl: header.ttl,
            grace_seconds: header.grace,
            bytes: header.length,
            capacity: segment.capacity(),
            synced: segment.synced,
            alive: segment.alive,
        }));
        self.first = segment.damage_of_length(length).map(ReadError::from);
        let (mut totals, mut unused) = (SegmentTotals::default(), 0..0);
        let places = segment.capacity_in(length);
        for from in (0..places).step_by(PIECE_SLOTS as usize) {
            if self.has_enough {
                return Ok(());
            }
            let piece = from..from.saturating_add(PIECE_SLOTS).min(places);
            segment.scan(piece, |index, found, is_synced| {
                let verdicts = &mut totals.verdicts;
                let place = match found {
                    // Whether it was ever reserved shows when a later one was.
                    Found::Empty if !is_synced => {
                        unused.end = index + 1;
                        return Ok(());
                    }
                    Found::Slot(Slot { kind, user, online_at, until }) => {
                        verdicts.good += 1;
                        Place::Slot { kind, user, online_at, until }
                    }
                    Found::Bad if !is_synced => {
                        verdicts.torn += 1;
                        Place::Torn
                    }
                    Found::Empty | Found::Bad => {
                        totals.damaged += 1;
                        self.note(segment.damage_at(index).into())?;
                        Place::Damaged
                    }
                };
                verdicts.empty += unused.len() as u64;
                unused.clone().for_each(|index| self.hand(Piece::Slot(index, Place::Empty)));
                unused = index + 1..index + 1;
                self.hand(Piece::Slot(index, place));
                Ok(())
            })?;
        }
        self.hand(Piece::SegmentTotals(totals));
        Ok(())
    }
}
