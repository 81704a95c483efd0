//! What a new connection's first request asks for, seen in its first bytes and left there for whoever serves it.
//!
//! A worker whose store into the journal hangs in the kernel answers nobody, however well everything else is. So whoever asks
//! how the service is doing must not be given to one, and that shows in the first bytes: `GET /livez`, `HEAD /metrics?x`. As soon
//! as they differ from all of these, the connection is for a worker, which reads them again from the beginning.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::route::{Route, Verb};
use super::routes::MetricsAt;
use super::socket::Timeouts;

/// More than the longest beginning that is told apart.
const BYTES_MAX: usize = 16;

const OBSERVING: [Route; 4] = [Route::Livez, Route::Healthz, Route::Readyz, Route::Metrics];

/// For whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstRequest {
    /// It asks how the service is doing.
    Observes,
    /// It asks anything else, or is no HTTP at all.
    Other,
}

impl FirstRequest {
    /// Of one that begins with `bytes`; `None` while it may be either.
    fn of(bytes: &[u8], metrics: MetricsAt) -> Option<Self> {
        let mut may_observe = false;
        for verb in [Verb::Get, Verb::Head] {
            for route in OBSERVING {
                // Where metrics have an address of their own, that path is not ours here.
                if route == Route::Metrics && metrics == MetricsAt::OtherPort {
                    continue;
                }
                match cut([verb.name(), " ", route.path()], bytes) {
                    Some([b' ' | b'?', ..]) => return Some(Self::Observes),
                    Some([]) => may_observe = true,
                    Some(_) | None => {}
                }
            }
        }
        (!may_observe).then_some(Self::Other)
    }

    /// Waits for the first bytes of `stream`; `None` if it is over before it began, by its peer or because that took too long.
    pub async fn on(stream: &TcpStream, timeouts: Timeouts, metrics: MetricsAt) -> Option<Self> {
        let mut deadline = Instant::now() + timeouts.idle;
        let mut has_begun = false;
        loop {
            let ready = timeout_at(deadline, stream.ready(Interest::READABLE)).await.ok()?.ok()?;
            let mut bytes = [0; BYTES_MAX];
            let mut length = 0;
            let first = stream.try_io(Interest::READABLE, || {
                (_, length) = recv(stream, &mut bytes[..], RecvFlags::PEEK)?;
                // As if there was nothing: then the next byte wakes us.
                Self::of(&bytes[..length], metrics).ok_or(io::ErrorKind::WouldBlock.into())
            });
            match first {
                Ok(first) => return Some(first),
                // No more will come, and what is missing a worker can tell.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                    return (length > 0).then_some(Self::Other);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            if length > 0 && !has_begun {
                has_begun = true;
                deadline = Instant::now() + timeouts.header;
            }
        }
    }
}

/// What of `bytes` stands behind `parts`, nothing if they end within these; `None` if they differ.
fn cut<'a>(parts: [&str; 3], mut bytes: &'a [u8]) -> Option<&'a [u8]> {
    for part in parts {
        let length = part.len().min(bytes.len());
        let (begin, rest) = bytes.split_at(length);
        if begin != &part.as_bytes()[..length] {
            return None;
        }
        bytes = rest;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_decided_as_soon_as_it_can_be() {
        use FirstRequest::{Observes, Other};
        for (request, decided_after, first) in [
            ("GET /livez HTTP/1.1\r\n", "GET /livez ", Observes),
            ("GET /healthz?verbose HTTP/1.1\r\n", "GET /healthz?", Observes),
            ("HEAD /readyz HTTP/1.1\r\n", "HEAD /readyz ", Observes),
            ("GET /metrics HTTP/1.1\r\n", "GET /metrics ", Observes),
            ("PUT /heal/1 HTTP/1.1\r\n", "P", Other),
            ("GET /checkup/1 HTTP/1.1\r\n", "GET /c", Other),
            ("GET /heart_rhythm/1 HTTP/1.1\r\n", "GET /hear", Other),
            ("GET /livez/ HTTP/1.1\r\n", "GET /livez/", Other),
            ("GET /metricsx HTTP/1.1\r\n", "GET /metricsx", Other),
            ("POST /livez HTTP/1.1\r\n", "P", Other),
            ("get /livez HTTP/1.1\r\n", "g", Other),
            ("GET  /livez HTTP/1.1\r\n", "GET  ", Other),
            ("\r\nGET /livez HTTP/1.1\r\n", "\r", Other),
        ] {
            for length in 0..=request.len() {
                let found = FirstRequest::of(&request.as_bytes()[..length], MetricsAt::SamePort);
                let expected = (length >= decided_after.len()).then_some(first);
                assert_eq!(found, expected, "{:?}", &request[..length]);
            }
            assert!(decided_after.len() <= BYTES_MAX);
        }
    }

    #[test]
    fn metrics_that_have_an_address_of_their_own_are_anything_else_here() {
        let of = |request: &str| FirstRequest::of(request.as_bytes(), MetricsAt::OtherPort);
        assert_eq!(of("GET /m"), Some(FirstRequest::Other));
        assert_eq!(of("GET /readyz "), Some(FirstRequest::Observes));
    }
}
