//! Who sends heartbeats: an integer that fits in 64 bits, signed.
//!
//! The id is all that the service knows about a user. It is written as an optional sign and decimal digits; leading zeros
//! and `-0` are taken for the number they mean, as the original service did.

use std::fmt;
use std::str::FromStr;

/// A user's id: any `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

/// The text was not a sign and digits that fit in an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid user_id format")]
pub struct InvalidUserId;

impl UserId {
    /// The user with this number.
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// Reads `[+-]?[0-9]+` from bytes.
    ///
    /// # Errors
    /// [`InvalidUserId`] for anything else, and for a number beyond `i64`.
    pub fn from_ascii(text: &[u8]) -> Result<Self, InvalidUserId> {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] | digits => (false, digits),
        };
        if digits.is_empty() {
            return Err(InvalidUserId);
        }
        // Counting downwards reaches `i64::MIN`, which has no positive counterpart.
        let mut id: i64 = 0;
        for &byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(InvalidUserId);
            }
            id = id.checked_mul(10).and_then(|id| id.checked_sub(i64::from(digit))).ok_or(InvalidUserId)?;
        }
        if negative { Ok(Self(id)) } else { id.checked_neg().map(Self).ok_or(InvalidUserId) }
    }
}

impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        Self::from_ascii(text.as_bytes())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_and_digits_are_an_id() {
        for (text, id) in [
            ("0", 0),
            ("-0", 0),
            ("-5", -5),
            ("+5", 5),
            ("007", 7),
            ("0000000000000000000000000000001", 1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(text.parse(), Ok(UserId::new(id)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "+",
            "-",
            "--1",
            "+-1",
            "abc",
            "1e3",
            "1.0",
            " 1",
            "1 ",
            "1;a=b",
            "/",
            "٣",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999999",
        ] {
            assert_eq!(text.parse::<UserId>(), Err(InvalidUserId), "{text}");
        }
    }
}
