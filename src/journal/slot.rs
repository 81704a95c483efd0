//! One write, in 24 bytes that vouch for themselves.
//!
//! ```text
//!   word 0   user id
//!   word 1   online_at (upper half) │ until (lower half)
//!   word 2   kind (upper half)      │ CRC-32 (lower half) over words 0 and 1, the kind, the slot's index, the segment's salt
//! ```
//!
//! Words are little-endian. A kind is never 0, so neither is a last word that has been stored. A slot carries the state after
//! the write (which session, until when), not what was asked for: replaying it decides nothing and looks at no clock.

use crate::planted::{Planted, planted};
use crate::time::{UnixSeconds, pack, unpack};
use crate::user_id::UserId;

/// 8-byte words in a slot.
pub(crate) const SLOT_WORDS: usize = 3;
/// Bytes in a slot.
pub(crate) const SLOT_BYTES: u64 = 24;

/// What a slot says of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The session that opened at `online_at` lasts until `until`, and longer if healed.
    Live = 1,
    /// It ended at `until`: its user left.
    Left = 2,
    /// The user is forgotten; at `until`.
    Forgotten = 3,
    /// That session is in the timeline, closed: brought in by an import.
    Closed = 4,
    /// Nobody's: the service was down from `online_at` to `until`.
    Outage = 5,
    /// Nobody's: written by somebody who had nothing to say.
    Void = 6,
}

impl Kind {
    const fn from_u32(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::Live,
            2 => Self::Left,
            3 => Self::Forgotten,
            4 => Self::Closed,
            5 => Self::Outage,
            6 => Self::Void,
            _ => return None,
        })
    }
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub kind: Kind,
    pub user: UserId,
    pub online_at: UnixSeconds,
    pub until: UnixSeconds,
}

/// What stands where a slot could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Slot(Slot),
    /// The last word is 0: reserved and never stored, or never reserved.
    Empty,
    /// The checksum does not fit: torn by a power loss, or damaged since.
    Bad,
}

impl Slot {
    /// Nobody's, in a place that has nothing else to say.
    pub const fn void() -> Self {
        let never = UnixSeconds::new(0);
        Self { kind: Kind::Void, user: UserId::new(0), online_at: never, until: never }
    }

    pub fn outage(from: UnixSeconds, to: UnixSeconds) -> Self {
        Self { kind: Kind::Outage, user: UserId::new(0), online_at: from, until: to }
    }

    /// Its words as they stand at `index` of the segment with this salt. Cannot panic: between reserving and storing, a
    /// panic would leave a hole for ever.
    #[inline]
    pub fn encode(self, index: u32, salt: u64) -> [u64; SLOT_WORDS] {
        let user = self.user.as_i64().cast_unsigned();
        let times = pack(self.online_at, self.until);
        let kind = self.kind as u32;
        let last = u64::from(kind) << 32 | u64::from(checksum(user, times, kind, index, salt));
        [user.to_le(), times.to_le(), last.to_le()]
    }

    #[inline]
    pub fn decode(words: [u64; SLOT_WORDS], index: u32, salt: u64) -> Found {
        let [user, times, last] = words.map(u64::from_le);
        if last == 0 {
            return Found::Empty;
        }
        let (kind, sum) = unpack(last);
        let (kind, sum) = (kind.as_u32(), sum.as_u32());
        if sum != checksum(user, times, kind, index, salt) && !planted(Planted::ChecksumIgnored) {
            return Found::Bad;
        }
        let Some(kind) = Kind::from_u32(kind) else { return Found::Bad };
        let (online_at, until) = unpack(times);
        Found::Slot(Self { kind, user: UserId::new(user.cast_signed()), online_at, until })
    }
}

/// What the salt adds to the checksum of a slot, by the checksum that stands in it: the same for all slots of a segment.
pub(super) fn sum_without_salt(words: [u64; SLOT_WORDS], index: u32) -> u32 {
    let [user, times, last] = words;
    let (kind, sum) = unpack(last);
    sum.as_u32() ^ checksum(user, times, kind.as_u32(), index, 0)
}

/// What this salt adds to the checksum of any slot.
pub(super) fn salt_part(salt: u64) -> u32 {
    checksum(0, 0, 0, 0, salt) ^ checksum(0, 0, 0, 0, 0)
}

/// Index and salt are in it, so that a slot counts only where it was written: not in another place, and not in a file whose
/// blocks belonged to another segment before.
#[inline]
fn checksum(user: u64, times: u64, kind: u32, index: u32, salt: u64) -> u32 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&user.to_le_bytes());
    bytes[8..16].copy_from_slice(&times.to_le_bytes());
    bytes[16..20].copy_from_slice(&kind.to_le_bytes());
    bytes[20..24].copy_from_slice(&index.to_le_bytes());
    bytes[24..].copy_from_slice(&salt.to_le_bytes());
    crc32fast::hash(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn slot(kind: Kind) -> Slot {
        Slot {
            kind,
            user: UserId::new(-5),
            online_at: UnixSeconds::new(1_638_360_000),
            until: UnixSeconds::new(1_638_360_007),
        }
    }

    #[test]
    fn every_kind_survives_its_bytes() {
        for kind in [Kind::Live, Kind::Left, Kind::Forgotten, Kind::Closed, Kind::Outage, Kind::Void] {
            let words = slot(kind).encode(7, SALT);
            assert_ne!(words[2], 0);
            assert_eq!(Slot::decode(words, 7, SALT), Found::Slot(slot(kind)));
        }
    }

    #[test]
    fn a_slot_counts_only_where_it_was_written() {
        let words = slot(Kind::Live).encode(7, SALT);
        assert_eq!(Slot::decode(words, 8, SALT), Found::Bad);
        assert_eq!(Slot::decode(words, 7, SALT + 1), Found::Bad);
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let words = slot(Kind::Left).encode(7, SALT);
        for word in 0..SLOT_WORDS {
            for bit in 0..64 {
                let mut changed = words;
                changed[word] ^= 1 << bit;
                assert_eq!(Slot::decode(changed, 7, SALT), Found::Bad, "word {word}, bit {bit}");
            }
        }
        assert_eq!(Slot::decode([words[0], words[1], 0], 7, SALT), Found::Empty);
    }

    #[test]
    fn a_kind_of_the_future_is_bad_even_with_a_good_checksum() {
        let [user, times, _] = slot(Kind::Live).encode(7, SALT);
        let last = 7 << 32 | u64::from(checksum(user, times, 7, 7, SALT));
        assert_eq!(Slot::decode([user, times, last], 7, SALT), Found::Bad);
    }
}
