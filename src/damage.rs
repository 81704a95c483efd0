//! What is wrong with a file, said so that somebody can go and look: which file, at which offset, what.
//!
//! The readers of the journal and of snapshots share these words. They only report: what to do about it is decided by
//! recovery, and nothing is mended while reading.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::user_id::UserId;

/// Why a file of ours cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused. Says nothing about what the file holds.
    #[error("{} cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file does not hold what was written to it.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The file is whole, and was written by a later program.
    #[error("{} is of format version {version}, which is newer than any that this program reads", file.display())]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// A place in a file that does not hold what was written there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, offset {offset}: {flaw}", file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Bytes from the file's beginning to the first that is known to be wrong, or to the part that does not verify.
    pub offset: u64,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with a place in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file is of another kind.
    #[error("this is not a {0}")]
    Foreign(&'static str),
    /// The file is shorter than it must be.
    #[error("the file ends in {0}")]
    Ends(Part),
    /// Some of its bytes are not those that were written.
    #[error("the checksum of {0} does not match")]
    Checksum(Part),
    /// It verifies and yet cannot be right. The text follows the part's name in a sentence.
    #[error("{0} {1}")]
    Contradiction(Part, &'static str),
    /// It verifies and yet no user can have such sessions.
    #[error("the sessions of user {0} overlap or are out of order")]
    Sessions(UserId),
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the file begins with.
    Header,
    /// A snapshot's section, counted from 0.
    Section(usize),
    /// A journal segment's slot, counted from 0.
    Slot(u32),
    /// What is said of all sections together.
    Footer,
    /// What the file ends with.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Section(index) => write!(f, "section {index}"),
            Self::Slot(index) => write!(f, "slot {index}"),
            Self::Footer => f.write_str("the footer"),
            Self::Trailer => f.write_str("the trailer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_reads_as_one_sentence() {
        let at = |offset, flaw| Damage { file: "snapshot-0000000003.snap".into(), offset, flaw }.to_string();

        assert_eq!(
            at(4_128, Flaw::Checksum(Part::Section(2))),
            "snapshot-0000000003.snap, offset 4128: the checksum of section 2 does not match"
        );
        assert_eq!(
            at(12, Flaw::Ends(Part::Header)),
            "snapshot-0000000003.snap, offset 12: the file ends in the header"
        );
        assert_eq!(
            at(0, Flaw::Foreign("snapshot")),
            "snapshot-0000000003.snap, offset 0: this is not a snapshot"
        );
        assert_eq!(
            at(84, Flaw::Sessions(UserId::new(-7))),
            "snapshot-0000000003.snap, offset 84: the sessions of user -7 overlap or are out of order"
        );
    }

    #[test]
    fn a_newer_version_is_named() {
        let error = ReadError::NewerVersion { file: "snapshot-0000000003.snap".into(), version: 2 };
        assert_eq!(
            error.to_string(),
            "snapshot-0000000003.snap is of format version 2, which is newer than any that this program reads"
        );
    }
}
