//! The names of our files, and nothing else's.

use std::fmt;

/// A file of ours, by kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// `journal-0000000001.seg`
    Segment(u64),
    /// `snapshot-0000000001.snap`
    Snapshot(u64),
}

/// Follows the name of a file that is not complete yet.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Numbers count by one from 1; a file that says more than this was not named by us, and must not lead the count to its end.
const NUMBER_MAX: u64 = 1 << 60;

impl Name {
    /// Reads a name exactly as it is written, and no other spelling of the number: two files must never count as one.
    pub fn parse(text: &str) -> Option<Self> {
        let name = if let Some(text) = text.strip_prefix("journal-") {
            Self::Segment(text.strip_suffix(".seg")?.parse().ok()?)
        } else {
            Self::Snapshot(text.strip_prefix("snapshot-")?.strip_suffix(".snap")?.parse().ok()?)
        };
        ((1..=NUMBER_MAX).contains(&name.number()) && name.to_string() == text).then_some(name)
    }

    /// Counted from 1.
    pub const fn number(self) -> u64 {
        let (Self::Segment(number) | Self::Snapshot(number)) = self;
        number
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "journal-{number:010}.seg"),
            Self::Snapshot(number) => write!(f, "snapshot-{number:010}.snap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for (text, name) in [
            ("journal-0000000001.seg", Name::Segment(1)),
            ("journal-9999999999.seg", Name::Segment(9_999_999_999)),
            ("journal-10000000000.seg", Name::Segment(10_000_000_000)),
            ("journal-1152921504606846976.seg", Name::Segment(1 << 60)),
            ("snapshot-0000000001.snap", Name::Snapshot(1)),
            ("snapshot-0000000020.snap", Name::Snapshot(20)),
        ] {
            assert_eq!(Name::parse(text), Some(name));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn no_other_spelling_is_a_name() {
        for text in [
            "",
            "journal-.seg",
            "journal-1.seg",
            "journal-0000000000.seg",
            "journal-00000000001.seg",
            "journal-+000000001.seg",
            "journal--000000001.seg",
            "journal-000000000a.seg",
            "journal-1152921504606846977.seg",
            "journal-18446744073709551615.seg",
            "journal-18446744073709551616.seg",
            "journal-0000000001.snap",
            "journal-0000000001.seg.2",
            "journal-0000000001.seg.tmp",
            "journal-0000000001.seg ",
            "Journal-0000000001.seg",
            "snapshot-0000000001.seg",
            "snapshot-0000000000.snap",
            "snapshot-0000000001",
            "xsnapshot-0000000001.snap",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
