//! `heartbeat inspect`: one file as JSON lines.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::exit::{Exit, Failure};
use crate::UserId;
use crate::engine::Mark;
use crate::inspect::{Piece, Place, SegmentHead, SegmentTotals, SnapshotHead, SnapshotTotals, inspect};
use crate::journal::Kind;
use crate::session::{End, Session};
use crate::time::UnixSeconds;

/// Arguments of `heartbeat inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A snapshot (snapshot-….snap) or a journal segment (journal-….seg), under whatever name
    file: PathBuf,
}

/// Exit 65 if the file is damaged, after all that could be read.
pub(super) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut written = Ok(());
    let read = inspect(&args.file, |piece| {
        written = print(&mut stdout, &Line::of(&piece));
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match written.and_then(|()| stdout.flush()) {
        // Whoever closed the other end of the pipe has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        written => written.map_err(Failure::io("write to stdout"))?,
    }
    read.map(|()| Exit::Done).map_err(Failure::Read)
}

fn print(mut to: impl Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut to, line)?;
    to.write_all(b"\n")
}

/// Seconds, users and numbers are as they stand in the file.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Snapshot {
        directory: String,
        number: u64,
        first_segment: u64,
        ttl_seconds: u32,
        grace_seconds: u32,
        engine_time: Option<u32>,
        users: Option<u64>,
        closed_sessions: Option<u64>,
        outages: Option<Vec<(u32, u32)>>,
    },
    User {
        id: i64,
        live: Option<LiveSession>,
        #[serde(serialize_with = "sessions_closed")]
        closed: &'a [Session],
    },
    Segment {
        directory: String,
        number: u64,
        previous: u64,
        ttl_seconds: u32,
        grace_seconds: u32,
        bytes: u64,
        capacity: u32,
        synced: Value,
        alive: Value,
    },
    Slot {
        index: u32,
        kind: &'static str,
        #[serde(flatten)]
        says: Option<Says>,
    },
    #[serde(rename = "totals")]
    SnapshotTotals { users: u64, live: u64, closed_sessions: u64, damaged_sections: u64 },
    #[serde(rename = "totals")]
    SegmentTotals { slots: u64, torn: u64, empty: u64, damaged: u64 },
}

#[derive(Serialize)]
struct LiveSession {
    online_at: u32,
    deadline: u32,
}

#[derive(Serialize)]
struct ClosedSession {
    online_at: u32,
    offline_at: u32,
    end: &'static str,
}

/// What a slot says that says something; an outage is nobody's.
#[derive(Serialize)]
struct Says {
    user: Option<i64>,
    online_at: u32,
    until: u32,
}

fn sessions_closed<S: serde::Serializer>(sessions: &&[Session], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(sessions.iter().map(|session| ClosedSession {
        online_at: session.online_at.as_u32(),
        offline_at: session.offline_at.as_u32(),
        end: if session.end == End::Left { "left" } else { "lapsed" },
    }))
}

impl<'a> Line<'a> {
    fn of(piece: &Piece<'a>) -> Self {
        match piece {
            Piece::Snapshot(head) => Self::snapshot(head),
            Piece::User(user, sessions) => Self::user(*user, sessions),
            Piece::SnapshotTotals(SnapshotTotals { users, live, closed_sessions, damaged_sections }) => {
                Self::SnapshotTotals {
                    users: *users,
                    live: *live,
                    closed_sessions: *closed_sessions,
                    damaged_sections: *damaged_sections,
                }
            }
            Piece::Segment(head) => Self::segment(head),
            Piece::Slot(index, place) => Self::slot(*index, *place),
            Piece::SegmentTotals(SegmentTotals { verdicts, damaged }) => Self::SegmentTotals {
                slots: verdicts.good,
                torn: verdicts.torn,
                empty: verdicts.empty,
                damaged: *damaged,
            },
        }
    }

    fn snapshot(head: &SnapshotHead) -> Self {
        let footer = head.footer.as_ref();
        let seconds = |(from, to): &(UnixSeconds, UnixSeconds)| (from.as_u32(), to.as_u32());
        Self::Snapshot {
            directory: head.directory.to_string(),
            number: head.number,
            first_segment: head.first_segment,
            ttl_seconds: head.ttl.as_seconds(),
            grace_seconds: head.grace_seconds,
            engine_time: footer.map(|footer| footer.engine_time.as_u32()),
            users: footer.map(|footer| footer.users),
            closed_sessions: footer.map(|footer| footer.closed_sessions),
            outages: footer.map(|footer| footer.outages.iter().map(seconds).collect()),
        }
    }

    fn user(user: UserId, sessions: &'a [Session]) -> Self {
        let (live, closed) = match sessions {
            [closed @ .., live] if live.end == End::Live => (Some(live), closed),
            closed => (None, closed),
        };
        let live = live.map(|live| LiveSession {
            online_at: live.online_at.as_u32(),
            deadline: live.offline_at.as_u32(),
        });
        Self::User { id: user.as_i64(), live, closed }
    }

    fn segment(head: &SegmentHead) -> Self {
        Self::Segment {
            directory: head.directory.to_string(),
            number: head.number,
            previous: head.previous,
            ttl_seconds: head.ttl.as_seconds(),
            grace_seconds: head.grace_seconds,
            bytes: head.bytes,
            capacity: head.capacity,
            synced: mark(head.synced),
            alive: mark(head.alive),
        }
    }

    fn slot(index: u32, place: Place) -> Self {
        let (kind, says) = match place {
            Place::Empty => ("empty", None),
            Place::Torn => ("torn", None),
            Place::Damaged => ("damaged", None),
            Place::Slot { kind: Kind::Void, .. } => ("void", None),
            Place::Slot { kind, user, online_at, until } => {
                let user = (kind != Kind::Outage).then_some(user.as_i64());
                let says = Says { user, online_at: online_at.as_u32(), until: until.as_u32() };
                (name(kind), Some(says))
            }
        };
        Self::Slot { index, kind, says }
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Live => "live",
        Kind::Left => "left",
        Kind::Forgotten => "forgotten",
        Kind::Closed => "closed",
        Kind::Outage => "outage",
        Kind::Void => "void",
    }
}

/// `null` if it was never written.
pub(super) fn mark(mark: Mark) -> Value {
    match mark {
        Mark::Unset => Value::Null,
        Mark::Value(value) => value.into(),
        Mark::Unreadable => "unreadable".into(),
    }
}
