//! What came in lately, kept to look at request heads once more.
//!
//! hyper parses a head and tells neither how long it was nor what it left out: of a content length beside a transfer encoding
//! it drops one silently, and a proxy that believes in that one would see other requests than we do. So the last bytes are
//! kept, as long as they may belong to a head that hyper has not finished: a head may come in pieces, and its first piece with
//! the end of the request before.

use super::socket::READ_MAX;

/// More than the largest head that hyper takes: its buffer of 64 KiB and what one more read adds.
const BYTES_MAX: usize = 256 * 1024;
/// A buffer that has grown beyond this is given back when the connection falls idle.
const BYTES_IDLE: usize = 4 * 1024;

/// The last bytes of a connection.
#[derive(Debug, Default)]
pub(super) struct Heads {
    bytes: Vec<u8>,
    /// The last request had a body, so what stands last may be its end.
    is_after_body: bool,
}

impl Heads {
    /// `read` came in while no request was being read or served. What stands before it and is no head's beginning goes.
    pub fn begin(&mut self, read: &[u8]) {
        let begun = self.bytes.len() - self.unfinished().len();
        if begun == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(BYTES_IDLE);
        } else {
            self.bytes.drain(..begun);
        }
        self.is_after_body = false;
        self.go_on(read);
    }

    /// `read` continues a head.
    pub fn go_on(&mut self, read: &[u8]) {
        let room = BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&read[..read.len().min(room)]);
    }

    /// `read` came in while a request was being served: its body, and perhaps a head behind it.
    pub fn serve(&mut self, read: &[u8]) {
        let before = self.bytes.len().saturating_sub(READ_MAX);
        self.bytes.drain(..before);
        self.go_on(read);
    }

    /// A request that had a body has been answered.
    pub fn end_body(&mut self) {
        self.is_after_body = true;
    }

    /// Whether the beginning of a head is here, behind a request that was complete.
    pub fn has_begun(&self) -> bool {
        !self.is_after_body && !self.unfinished().is_empty()
    }

    /// What stands behind the last blank line.
    fn unfinished(&self) -> &[u8] {
        if self.bytes.ends_with(b"\r\n\r\n") {
            return &[];
        }
        let end = self.bytes.windows(4).rposition(|window| window == b"\r\n\r\n");
        &self.bytes[end.map_or(0, |end| end + 4)..]
    }

    /// Whether a head names both a content length and a transfer encoding.
    pub fn is_contradictory(&self) -> bool {
        let (mut is_head, mut has_length, mut has_encoding) = (false, false, false);
        for line in self.bytes.split(|&byte| byte == b'\n') {
            let line = line.trim_ascii_end();
            if line.ends_with(b"HTTP/1.1") || line.ends_with(b"HTTP/1.0") {
                (is_head, has_length, has_encoding) = (true, false, false);
            } else if line.is_empty() {
                is_head = false;
            } else if is_head {
                let name = line.split(|&byte| byte == b':').next().unwrap_or_default().trim_ascii_end();
                has_length |= name.eq_ignore_ascii_case(b"content-length");
                has_encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
                if has_length && has_encoding {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &str = "PUT /heal/1 HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n";
    const ENCODING: &str = "TRANSFER-ENCODING : chunked\r\n\r\n0\r\n\r\n";

    fn heads(reads: &[&str]) -> Heads {
        let mut heads = Heads::default();
        for read in reads {
            heads.begin(read.as_bytes());
        }
        heads
    }

    #[test]
    fn both_lengths_in_one_head_are_found_however_it_came_in() {
        let whole = format!("{LENGTH}{ENCODING}");
        let behind_another = format!("GET /checkup/1 HTTP/1.1\r\nhost: a\r\n\r\n{LENGTH}");
        let behind_a_body = format!("abc{LENGTH}");
        assert!(heads(&[&whole]).is_contradictory());
        assert!(heads(&[LENGTH, ENCODING]).is_contradictory());
        assert!(heads(&[&behind_another, ENCODING]).is_contradictory());
        assert!(heads(&[&behind_a_body, ENCODING]).is_contradictory());
        assert!(heads(&[&whole.replace("\r\n", "\n")]).is_contradictory());
    }

    #[test]
    fn lengths_of_two_heads_longer_names_and_bodies_are_not() {
        let two =
            "PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\nPUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let hint = "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length-hint: 5\r\n\r\n";
        let body = "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n25\r\ncontent-length: 1\ntransfer-encoding: abcd\r\n";
        for read in [two, hint, body, ""] {
            assert!(!heads(&[read]).is_contradictory(), "{read}");
        }
    }

    #[test]
    fn a_head_has_begun_when_something_stands_behind_the_last_blank_line() {
        let complete = "GET /checkup/1 HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(!heads(&[complete, complete]).has_begun());
        let mut heads = heads(&[complete, &format!("{complete}PUT /heal/1")]);
        assert!(heads.has_begun());
        heads.end_body();
        assert!(!heads.has_begun());
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut heads = Heads::default();
        heads.begin(b"POST /v1/heal HTTP/1.1\r\n\r\n");
        for _ in 0..1_000 {
            heads.serve(&[b'1'; READ_MAX]);
            assert!(heads.bytes.len() <= 2 * READ_MAX);
        }
        heads.begin(b"\r\n\r\n");
        heads.begin(b"x");
        assert!(heads.bytes.capacity() <= BYTES_IDLE);
        for _ in 0..1_000 {
            heads.go_on(&[b'1'; READ_MAX]);
        }
        assert_eq!(heads.bytes.len(), BYTES_MAX);
    }
}
