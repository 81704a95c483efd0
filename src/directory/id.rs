//! Which data directory a file belongs to, so that a file copied in from another one is noticed.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// The id of a data directory: drawn at random when its first file is written, and in the header of every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryId([u8; 16]);

impl DirectoryId {
    /// One that no other directory has.
    ///
    /// # Errors
    /// The operating system has no random numbers to give.
    pub fn random() -> io::Result<Self> {
        let mut id = [0; 16];
        // So few bytes come at once or not at all, says getrandom(2); but nobody is to rely on it unawares.
        match getrandom(&mut id, GetRandomFlags::empty())? {
            16 => Ok(Self(id)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The id of these bytes.
    pub const fn from_bytes(id: [u8; 16]) -> Self {
        Self(id)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits() {
        let id = DirectoryId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
    }

    #[test]
    fn no_two_are_alike() {
        assert_ne!(DirectoryId::random().unwrap(), DirectoryId::random().unwrap());
    }
}
