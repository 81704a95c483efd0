//! One mend: of which file, what is done, and what is lost by it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::directory::DirectoryId;

/// What is done about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The file.
    pub path: PathBuf,
    /// What is done.
    pub work: Work,
    /// What is lost.
    pub loss: Loss,
}

/// What is done about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// It goes into the quarantine.
    PutAside(Why),
    /// It gets this name.
    Rename(PathBuf),
    /// A segment is changed in place.
    Patch(Patch),
    /// An empty segment is put where one is missing, to follow this number.
    StandIn {
        /// The number of the segment before it; 0 for none.
        previous: u64,
    },
    /// A new snapshot is made of what is left of this one.
    Rewrite(Rewrite),
}

/// Why a file goes into the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is another directory's.
    Foreign(DirectoryId),
    /// It says that it is this number, and there is another file of that number.
    Misnamed(u64),
    /// Nothing in it can be told from anything else.
    Unreadable,
    /// It has slots, and no later segment names it.
    Unlinked,
    /// It is damaged, and what it says is known without it.
    NotNeeded,
    /// What is good in it is in a new snapshot.
    Rewritten,
}

/// What is changed in a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its header is made again.
    pub header: Option<HeaderFrom>,
    /// So many bytes it has, and so many it will have.
    pub length: Option<(u64, u64)>,
    /// Slots that get a void in their place.
    pub voids: Vec<Range<u32>>,
    /// So many of its slots are called synced, in place of more that are not there, or of a mark that cannot be read.
    pub synced: Option<u32>,
}

/// How sure a header is that was made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFrom {
    /// Its checksum is the old one's.
    Checksum,
    /// Its slots verify with it; ttl, grace and the segment before it are as those beside it say.
    Slots,
}

/// A new snapshot of what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The new file.
    pub to: PathBuf,
    /// Users taken from what is left of the old one.
    pub kept: u64,
    /// Users taken from the one before, or from the journal before it.
    pub taken: u64,
    /// The one before.
    pub earlier: Option<PathBuf>,
    /// Sections that do not verify, and the users in them.
    pub lost: Vec<(u32, u32)>,
    /// Whether that is all of them: the footer tells it.
    pub is_told: bool,
}

/// What is lost at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// So many writes.
    pub writes: u64,
    /// So many users, with all their sessions.
    pub users: u64,
    /// So many users are as an older snapshot and what is left of the journal after it know them.
    pub outdated: u64,
    /// And what so many files say that are of another directory, if they are this one's after all.
    pub foreign: u64,
    /// And users of whom nobody can say how many they are.
    pub unknown_users: bool,
    /// And writes of which nobody can say how many they were.
    pub unknown_writes: bool,
}

impl Loss {
    /// Nothing.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(super) const fn writes(writes: u64) -> Self {
        Self { writes, users: 0, outdated: 0, foreign: 0, unknown_users: false, unknown_writes: false }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            writes: self.writes.saturating_add(other.writes),
            users: self.users + other.users,
            outdated: self.outdated + other.outdated,
            foreign: self.foreign + other.foreign,
            unknown_users: self.unknown_users || other.unknown_users,
            unknown_writes: self.unknown_writes || other.unknown_writes,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.unknown_users {
            parts.push("users of whom nothing else tells, nobody can say how many".to_owned());
        }
        if self.users > 0 {
            parts.push(counted(self.users, "user"));
        }
        if self.outdated > 0 {
            let of = counted(self.outdated, "user");
            parts.push(format!("of {of} what came after the older snapshot and is not in the journal"));
        }
        if self.unknown_writes {
            parts.push("writes, nobody can say how many".to_owned());
        } else if self.writes > 0 {
            parts.push(format!("at most {}", counted(self.writes, "write")));
        }
        if self.foreign > 0 {
            let files = counted(self.foreign, "file");
            parts.push(format!("all in {files} of another directory, if this is that directory after all"));
        }
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join("; ")) }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutAside(why) => write!(f, "{why}: it is put aside"),
            Self::Rename(to) => write!(f, "it is renamed to {}, as it calls itself", name(to)),
            Self::Patch(patch) => patch.fmt(f),
            Self::StandIn { .. } => f.write_str(
                "it is missing: an empty one is put in its place; it had no more slots than the longest here, presumably",
            ),
            Self::Rewrite(rewrite) => rewrite.fmt(f),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(id) => write!(f, "it is of another data directory, {id}"),
            Self::Misnamed(number) => write!(f, "it calls itself number {number}, of which there is another"),
            Self::Unreadable => f.write_str("nothing in it vouches for itself"),
            Self::Unlinked => f.write_str("no later segment names it as the one before"),
            Self::NotNeeded => f.write_str("it is damaged, and not needed"),
            Self::Rewritten => f.write_str("what is good in it is in the new snapshot"),
        }
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.header {
            Some(HeaderFrom::Checksum) => {
                parts.push("its header is made again, and the checksum proves it".to_owned());
            }
            Some(HeaderFrom::Slots) => {
                parts.push("its header is made again from its slots and the segments beside it".to_owned());
            }
            None => {}
        }
        match self.length {
            Some((is, must)) if is < must => {
                parts.push(format!("it ends after {is} bytes and is brought to {must}"));
            }
            Some((is, must)) => parts.push(format!("it has {is} bytes and is cut to {must}")),
            None => {}
        }
        if !self.voids.is_empty() {
            let slots = self.voids.iter().map(|range| u64::from(range.end - range.start)).sum();
            let what = if slots == 1 { "is unreadable and becomes" } else { "are unreadable and become" };
            parts.push(format!("{} {what} void", named(&self.voids, slots)));
        }
        if let Some(synced) = self.synced {
            parts.push(format!("its synced mark becomes {synced}"));
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, users) in &self.lost {
            write!(
                f,
                "a section of shard {section} with {} does not verify; ",
                counted((*users).into(), "user")
            )?;
        }
        if !self.is_told {
            f.write_str("it may have had more sections than are found; ")?;
        }
        write!(f, "{} is made with {} of it", name(&self.to), counted(self.kept, "user"))?;
        if self.taken > 0 {
            let from = self.earlier.as_deref().map_or_else(|| "the journal".to_owned(), name);
            write!(f, " and {} as of {from} and the journal after that", counted(self.taken, "user"))?;
        }
        Ok(())
    }
}

/// Ranges shown by name; of more only the number.
const NAMED_MAX: usize = 4;

fn named(ranges: &[Range<u32>], slots: u64) -> String {
    if slots == 1 {
        return format!("slot {}", ranges[0].start);
    }
    if ranges.len() > NAMED_MAX {
        return format!("{slots} slots from {} to {}", ranges[0].start, ranges[ranges.len() - 1].end - 1);
    }
    let range = |range: &Range<u32>| match range.end - range.start {
        1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end - 1),
    };
    let all: Vec<_> = ranges.iter().map(range).collect();
    format!("slots {}", all.join(", "))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
