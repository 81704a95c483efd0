//! Where a page ended, as clients carry it to the next one: a letter for the kind of page, and a few numbers.
//!
//! ```text
//!   h61a76a80-3f     hexadecimal, each number after the first behind a hyphen: only [A-Za-z0-9_-], nothing to escape in a URL
//! ```
//!
//! To clients it is opaque. A cursor that was not given out by us may be read as one that was: it names a place, and a call
//! must stand any place.

use std::fmt;

/// A place in pages of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor<const NUMBERS: usize> {
    pub kind: char,
    pub numbers: [u64; NUMBERS],
}

impl<const NUMBERS: usize> Cursor<NUMBERS> {
    /// The numbers of a cursor of this kind; `None` of anything else.
    pub fn read(kind: char, text: &str) -> Option<[u64; NUMBERS]> {
        let mut words = text.strip_prefix(kind)?.split('-');
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            let word = words.next()?;
            // `from_str_radix` takes a sign, too.
            let is_ours = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            *number = is_ours.then(|| u64::from_str_radix(word, 16).ok()).flatten()?;
        }
        words.next().is_none().then_some(numbers)
    }
}

impl<const NUMBERS: usize> fmt::Display for Cursor<NUMBERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        for (index, number) in self.numbers.iter().enumerate() {
            write!(f, "{}{number:x}", if index == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for numbers in [[0, 0], [1, 2], [u64::MAX, 0x61a7_6a80]] {
            let text = Cursor { kind: 'h', numbers }.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(Cursor::read('h', &text), Some(numbers));
        }
        assert_eq!(Cursor { kind: 'h', numbers: [0x61a7_6a80, 0x3f] }.to_string(), "h61a76a80-3f");
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "",
            "h",
            "h1",
            "h1-",
            "h-1",
            "h1-2-3",
            "u1-2",
            "h+1-2",
            "h1-+2",
            "h1-g",
            "h1-10000000000000000",
            " h1-2",
        ] {
            assert_eq!(Cursor::<2>::read('h', text), None, "{text}");
        }
    }
}
