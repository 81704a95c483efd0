//! The two words on a segment's second page: the synced mark and the alive second.
//!
//! ```text
//!   4096   synced mark: so many slots from the first one on were committed before an fdatasync that succeeded
//!   4104   alive second: the service was up in this second
//!          each: value (upper half) │ CRC-32 (lower half) over which word it is, the value, the salt, the segment's number
//! ```
//!
//! They are written again and again while the segment is in service, so each vouches for itself; one that cannot be read
//! counts as 0, and is reported.

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mark {
    Synced = 1,
    Alive = 2,
}

/// What a mark's word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkFound {
    /// Never written.
    Unset,
    /// This.
    Value(u32),
    /// Nothing: its check bits do not fit.
    Unreadable,
}

impl MarkFound {
    /// What it counts as: 0 if it says nothing.
    pub fn value(self) -> u32 {
        match self {
            Self::Value(value) => value,
            Self::Unset | Self::Unreadable => 0,
        }
    }
}

impl Mark {
    /// Where its word stands, in bytes from the beginning of the file.
    pub const fn offset(self) -> usize {
        match self {
            Self::Synced => 4_096,
            Self::Alive => 4_104,
        }
    }

    pub fn encode(self, value: u32, salt: u64, number: u64) -> u64 {
        (u64::from(value) << 32 | u64::from(self.checksum(value, salt, number))).to_le()
    }

    pub fn decode(self, word: u64, salt: u64, number: u64) -> MarkFound {
        let word = u64::from_le(word);
        let (value, sum) = crate::time::unpack(word);
        if word == 0 {
            MarkFound::Unset
        } else if sum.as_u32() == self.checksum(value.as_u32(), salt, number) {
            MarkFound::Value(value.as_u32())
        } else {
            MarkFound::Unreadable
        }
    }

    fn checksum(self, value: u32, salt: u64, number: u64) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&(self as u32).to_le_bytes());
        sum.update(&value.to_le_bytes());
        sum.update(&salt.to_le_bytes());
        sum.update(&number.to_le_bytes());
        sum.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_only_in_its_own_place() {
        let word = Mark::Synced.encode(17, 42, 3);
        assert_eq!(Mark::Synced.decode(word, 42, 3), MarkFound::Value(17));
        assert_eq!(Mark::Alive.decode(word, 42, 3), MarkFound::Unreadable);
        assert_eq!(Mark::Synced.decode(word, 43, 3), MarkFound::Unreadable);
        assert_eq!(Mark::Synced.decode(word, 42, 4), MarkFound::Unreadable);
        assert_eq!(Mark::Synced.decode(0, 42, 3), MarkFound::Unset);
        for bit in 0..64 {
            assert_eq!(Mark::Synced.decode(word ^ 1 << bit, 42, 3), MarkFound::Unreadable, "bit {bit}");
        }
    }
}
