//! What must hold of bytes from outside, whatever they are: one function for each place where they are read.
//!
//! Only tests and fuzzers see this module. The fuzzers in `fuzz/` call the functions with inputs that they make up; the test
//! here calls them with every input that is kept in `fuzz/corpus`, so that what was once found stays found.
//!
//! None is content with "does not panic". What is accepted is written again and must be the same bytes; what is refused must be
//! refused for a reason that a second, simpler reading agrees with; and no reading takes memory out of proportion to what it
//! reads. A checksum stands in the fuzzer's way, so inputs are read as they are and once more with their checksums put right.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "only tests and fuzzers run this, and what fails here is a finding"
)]

mod scratch;

pub use crate::journal::fuzzing::{header, segment, slot};
pub use crate::snapshot::fuzzing::{footer, section, snapshot};

#[cfg(feature = "service")]
pub use crate::http::fuzzing::{bulk, id, import};

pub(crate) use scratch::Scratch;

/// Runs what it is given, and panics if that takes more than so many bytes of memory at a time.
pub type Within<'a> = &'a dyn Fn(usize, &mut dyn FnMut());

/// What any reading may take, however short its input: paths, buffers of fixed size.
pub(crate) const SOME_BYTES: usize = 32 << 10;

/// What `read` gives, and never more memory than this meanwhile.
pub(crate) fn bounded<T>(within: Within, bytes: usize, read: impl FnOnce() -> T) -> T {
    let (mut read, mut result) = (Some(read), None);
    within(bytes, &mut || result = read.take().map(|read| read()));
    result.expect("what is given is run")
}

/// What each byte does to a CRC-32.
const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte, 0);
        while bit < 8 {
            sum = sum >> 1 ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

/// CRC-32 byte by byte, continued from `seed`: not the code that is under test.
pub(crate) fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |sum, byte| sum >> 8 ^ CRC_OF_BYTE[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

/// The eight bytes at `at`, as a number.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The four bytes at `at`, as a number.
pub(crate) fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    type Property = fn(&[u8], Within);

    const TARGETS: &[(&str, Property)] = &[
        ("slot", slot),
        ("header", header),
        ("segment", segment),
        ("section", section),
        ("footer", footer),
        ("snapshot", snapshot),
        #[cfg(feature = "service")]
        ("id", id),
        #[cfg(feature = "service")]
        ("bulk", bulk),
        #[cfg(feature = "service")]
        ("import", import),
    ];

    #[test]
    fn what_was_found_by_fuzzing_stays_found() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, property) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
            assert!(inputs.len() >= 5, "{name} has hardly any inputs");
            for input in inputs {
                let path = input.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                if let Err(panic) = std::panic::catch_unwind(|| property(&bytes, &|_, run| run())) {
                    eprintln!("with {}", path.display());
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// A target that nobody runs finds nothing.
    #[test]
    #[cfg(feature = "service")]
    fn every_target_is_a_program_of_its_own() {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let mut programs: Vec<_> = fs::read_dir(programs)
            .unwrap()
            .map(|program| program.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        programs.sort();
        targets.sort();
        assert_eq!(programs, targets);
    }

    #[test]
    fn the_second_checksum_is_the_one_that_everybody_knows() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"12345"), b"6789"), 0xcbf4_3926);
    }
}
