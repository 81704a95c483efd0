//! HTTP responses as they come in on one connection, several behind one another or in pieces.
//!
//! Only what the service sends is understood: a head and a body of `Content-Length` bytes. Anything else is [`Malformed`], and
//! the connection is of no more use then. Head and body are limited, so a peer cannot fill the memory.

use httparse::{EMPTY_HEADER, Status};

/// Longest response head.
const HEAD_MAX: usize = 16 * 1024;
/// Most lines in a head.
const HEADERS_MAX: usize = 64;
/// Longest body: `/v1/status` is the longest answer asked for, a few kilobytes.
const BODY_MAX: usize = 1024 * 1024;
/// How much room a read is given.
const READ_ROOM: usize = 16 * 1024;

/// What a peer sent is not a response that is understood here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not HTTP/1.
    #[error("the response head is not HTTP/1")]
    Head(#[from] httparse::Error),
    /// The head does not end.
    #[error("the response head is longer than {HEAD_MAX} bytes")]
    HeadTooLarge,
    /// No usable `Content-Length`: none, not a number, two that differ, or a transfer encoding.
    #[error("the response has no usable Content-Length")]
    Length,
    /// The body would be too long.
    #[error("the response body is longer than {BODY_MAX} bytes")]
    BodyTooLarge,
}

/// One response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// 200 and so on; never 1xx, which are skipped.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
    /// Whether the peer closes the connection after it.
    pub closes: bool,
}

/// The bytes that came in on one connection and were not yet taken as responses.
#[derive(Debug, Default)]
pub struct Responses {
    buffer: Vec<u8>,
    taken: usize,
    head: Option<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: usize,
    body: usize,
    status: u16,
    closes: bool,
}

impl Responses {
    /// Where to append what was read. Take all responses before reading again: that is what keeps the buffer small.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.reserve(READ_ROOM);
        &mut self.buffer
    }

    /// The next complete response, `None` until more has been read.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed then.
    pub fn take(&mut self) -> Result<Option<Response<'_>>, Malformed> {
        let Some(head) = self.next_head()? else { return Ok(None) };
        let end = self.taken + head.body;
        if self.buffer.len() < end {
            self.head = Some(head);
            return Ok(None);
        }
        let body = self.taken..end;
        self.taken = end;
        Ok(Some(Response { status: head.status, body: &self.buffer[body], closes: head.closes }))
    }

    fn next_head(&mut self) -> Result<Option<Head>, Malformed> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        loop {
            let Some(head) = parse_head(&self.buffer[self.taken..])? else { return Ok(None) };
            self.taken += head.bytes;
            let interim = head.status < 200;
            if !interim {
                return Ok(Some(head));
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(length) = response.parse(bytes)? else {
        return if bytes.len() > HEAD_MAX { Err(Malformed::HeadTooLarge) } else { Ok(None) };
    };
    if length > HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    let status = response.code.unwrap_or_default();
    let bodiless = status < 200 || status == 204 || status == 304;
    let body = if bodiless { 0 } else { content_length(response.headers)? };
    if body > BODY_MAX {
        return Err(Malformed::BodyTooLarge);
    }
    let closes = match response.version {
        Some(0) => !has_connection_option(response.headers, "keep-alive"),
        _ => has_connection_option(response.headers, "close"),
    };
    Ok(Some(Head { bytes: length, body, status, closes }))
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize, Malformed> {
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Malformed::Length);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = digits(header.value).ok_or(Malformed::Length)?;
            if length.is_some_and(|other| other != value) {
                return Err(Malformed::Length);
            }
            length = Some(value);
        }
    }
    length.ok_or(Malformed::Length)
}

fn digits(value: &[u8]) -> Option<usize> {
    let value = value.trim_ascii();
    // `parse` alone would also take a sign.
    let unsigned = value.iter().all(u8::is_ascii_digit);
    if unsigned { str::from_utf8(value).ok()?.parse().ok() } else { None }
}

fn has_connection_option(headers: &[httparse::Header<'_>], option: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .flat_map(|header| header.value.split(|&byte| byte == b','))
        .any(|value| value.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ONLINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{\"status\":\"online\"}";
    const REFUSED: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nConnection: foo, Close\r\n\r\n{}";

    /// What [`Response`] says, owned.
    type Seen = (u16, Vec<u8>, bool);

    fn take_all(responses: &mut Responses) -> Result<Vec<Seen>, Malformed> {
        let mut all = Vec::new();
        while let Some(response) = responses.take()? {
            all.push((response.status, response.body.to_vec(), response.closes));
        }
        Ok(all)
    }

    fn parse(bytes: &[u8]) -> Result<Vec<Seen>, Malformed> {
        let mut responses = Responses::default();
        responses.room().extend_from_slice(bytes);
        take_all(&mut responses)
    }

    fn online() -> Seen {
        (200, br#"{"status":"online"}"#.to_vec(), false)
    }

    fn refused() -> Seen {
        (503, b"{}".to_vec(), true)
    }

    #[test]
    fn pipelined_responses_come_out_one_by_one() {
        assert_eq!(parse(&[ONLINE, ONLINE, REFUSED].concat()), Ok(vec![online(), online(), refused()]));
    }

    #[test]
    fn a_response_split_at_any_byte_is_the_same_response() {
        let bytes = [ONLINE, REFUSED].concat();
        for split in 0..=bytes.len() {
            let mut responses = Responses::default();
            responses.room().extend_from_slice(&bytes[..split]);
            let mut seen = take_all(&mut responses).unwrap();
            responses.room().extend_from_slice(&bytes[split..]);
            seen.extend(take_all(&mut responses).unwrap());
            assert_eq!(seen, [online(), refused()], "split at {split}");
        }
    }

    #[test]
    fn a_response_that_comes_byte_by_byte_is_the_same_response() {
        let mut responses = Responses::default();
        let mut seen = Vec::new();
        for &byte in ONLINE.iter().chain(REFUSED) {
            responses.room().push(byte);
            seen.extend(take_all(&mut responses).unwrap());
        }
        assert_eq!(seen, [online(), refused()]);
    }

    #[test]
    fn interim_responses_are_skipped_and_bodiless_ones_need_no_length() {
        let bytes = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ONLINE].concat();
        assert_eq!(parse(&bytes), Ok(vec![(204, vec![], false), online()]));
    }

    #[rstest]
    #[case::keeps(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", false)]
    #[case::closes(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", true)]
    fn http_1_0_closes_unless_it_says_otherwise(#[case] bytes: &[u8], #[case] closes: bool) {
        assert_eq!(parse(bytes), Ok(vec![(200, vec![], closes)]));
    }

    #[rstest]
    #[case::none(b"HTTP/1.1 200 OK\r\n\r\n")]
    #[case::empty(b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n")]
    #[case::signed(b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n")]
    #[case::two(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")]
    #[case::chunked(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n")]
    fn a_length_that_is_no_length_is_malformed(#[case] bytes: &[u8]) {
        assert_eq!(parse(bytes), Err(Malformed::Length));
    }

    #[test]
    fn garbage_is_malformed() {
        assert!(matches!(parse(b"220 mail.example ESMTP\r\n"), Err(Malformed::Head(_))));
        assert!(matches!(parse(b"\0\0\0"), Err(Malformed::Head(_))));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_there() {
        let head = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &b"x".repeat(17_000)].concat();
        assert_eq!(parse(&head), Err(Malformed::HeadTooLarge));
        assert_eq!(parse(&[&head[..], b"\r\n\r\n"].concat()), Err(Malformed::HeadTooLarge));
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n"),
            Err(Malformed::BodyTooLarge)
        );
        let headers = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"x: y\r\n".repeat(65), b"\r\n"].concat();
        assert_eq!(parse(&headers), Err(Malformed::Head(httparse::Error::TooManyHeaders)));
    }
}
