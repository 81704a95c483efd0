//! The three endpoints of the original service, and leaving: a match by hand in front of the router.
//!
//! Nearly all requests are heals, and a router with its extractors costs more than the heal itself. What the match does not
//! know, it leaves to the router. It allocates nothing for a heal: the answer is static, and its header map is the request's.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, Version};

use super::app::Served;
use super::body::Body;
use super::compression;
use super::error::{Error, JSON, Refused};
use super::json;
use super::route::Route;
use super::socket::Socket;
use super::worker::Worker;
use crate::engine::{Engine, Heal, Leave, WriteError};
use crate::user_id::UserId;

pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

const ONLINE: Bytes = Bytes::from_static(b"{\"status\":\"online\"}");
const OFFLINE: Bytes = Bytes::from_static(b"{\"status\":\"offline\"}");

/// One of the original endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Heal,
    Checkup,
    HeartRhythm,
}

impl Endpoint {
    /// Which endpoint a path names, and the id behind it, without the one slash that may end it: `None` for `/heal` itself.
    pub fn of(path: &str) -> Option<(Self, Option<&str>)> {
        let split = |name: &str| match path.strip_prefix(name)? {
            "" => Some(None),
            rest => {
                let id = rest.strip_prefix('/')?;
                let id = id.strip_suffix('/').unwrap_or(id);
                (!id.contains('/')).then_some(Some(id))
            }
        };
        // The second letter tells the three apart from most of the rest.
        match path.as_bytes().get(1)? {
            b'h' => split("/heal")
                .map(|id| (Self::Heal, id))
                .or_else(|| split("/heart_rhythm").map(|id| (Self::HeartRhythm, id))),
            b'c' => split("/checkup").map(|id| (Self::Checkup, id)),
            _ => None,
        }
    }

    fn allow(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Heal => "PUT, POST, DELETE",
            Self::Checkup | Self::HeartRhythm => "GET, HEAD",
        })
    }
}

/// What a request asks for, as far as this match knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Heal(UserId),
    Leave(UserId),
    Checkup(UserId),
    HeartRhythm(UserId),
}

impl Ask {
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Heal(_) | Self::Leave(_))
    }

    pub const fn route(self) -> Route {
        match self {
            Self::Heal(_) | Self::Leave(_) => Route::Heal,
            Self::Checkup(_) => Route::Checkup,
            Self::HeartRhythm(_) => Route::HeartRhythm,
        }
    }
}

/// What the match makes of a request.
pub(super) enum Match {
    /// One of its own.
    Ask(Ask),
    /// The router's.
    Other,
    /// A browser's that asks whether a page may call this.
    Preflight(Route),
    /// Nobody's.
    Refused(Error, Option<HeaderValue>),
}

pub(super) fn match_request(request: &Request<Incoming>) -> Match {
    if let Err(error) = check_host(request) {
        return Match::Refused(error, None);
    }
    let Some((endpoint, id)) = Endpoint::of(request.uri().path()) else {
        return Match::Other;
    };
    let ask: fn(UserId) -> Ask = match (endpoint, request.method()) {
        (Endpoint::Heal, &Method::PUT | &Method::POST) => Ask::Heal,
        (Endpoint::Heal, &Method::DELETE) => Ask::Leave,
        (Endpoint::Checkup, &Method::GET | &Method::HEAD) => Ask::Checkup,
        (Endpoint::HeartRhythm, &Method::GET | &Method::HEAD) => Ask::HeartRhythm,
        _ => return Match::Refused(Error::METHOD, Some(endpoint.allow())),
    };
    match id.map_or(Err(Error::MISSING_ID), read_id) {
        Ok(user) => Match::Ask(ask(user)),
        Err(error) => Match::Refused(error, None),
    }
}

/// RFC 9112, section 3.2: a request without a Host header, or with more than one, is refused.
pub(super) fn check_host(request: &Request<Incoming>) -> Result<(), Error> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) if request.version() == Version::HTTP_10 => Ok(()),
        _ => Err(Error::HOST),
    }
}

/// RFC 9112, section 6: the end of a body must be told in one way, and in one that we know.
pub(super) fn check_framing(request: &Request<Incoming>, socket: &Socket) -> Result<(), Error> {
    let mut encodings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if socket.is_contradictory() {
        return Err(Error::CONTRADICTORY_LENGTH);
    }
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Error::UNKNOWN_ENCODING);
    }
    Ok(())
}

/// Reads the last part of a path; percent-encoding is undone.
pub(super) fn read_id(segment: &str) -> Result<UserId, Error> {
    if segment.is_empty() {
        return Err(Error::MISSING_ID);
    }
    if segment.contains('%') {
        return Ok(UserId::from_ascii(&percent_decode(segment.as_bytes()))?);
    }
    Ok(UserId::from_ascii(segment.as_bytes())?)
}

/// Undoes percent-encoding. What is no encoding stays as it stands, and then is no id.
pub(super) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (byte, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    decoded
}

impl Worker {
    /// Whether what is asked can only be answered after a sync. Then it is for [`Worker::answer_in_time`].
    #[inline]
    pub fn must_wait(&self, ask: Ask) -> bool {
        ask.is_write() && self.app.served().is_ok_and(|served| served.confirms_later)
    }

    /// Does what is asked, once the request is complete.
    #[inline]
    pub fn answer(&self, ask: Ask, headers: HeaderMap) -> Response<Body> {
        let Served { engine, .. } = match self.app.served() {
            Ok(served) => served,
            Err(refused) => return self.answer_unserved(ask, refused, headers),
        };
        match ask {
            Ask::Heal(user) => self.answer_heal(engine.heal(user).map_err(Refused::from), headers),
            Ask::Leave(user) => self.answer_leave(engine.leave(user).map_err(Refused::from), headers),
            Ask::Checkup(user) => {
                let mut body = Vec::with_capacity(56);
                json::checkup(&mut body, user, engine.status(user));
                not_stored(json_response(headers, body.into()))
            }
            Ask::HeartRhythm(user) => {
                let body = json::heart_rhythm(user, &engine.timeline(user));
                let is_long = body.len() as u64 >= compression::LONG_BYTES;
                let mut response = not_stored(json_response(headers, body.into()));
                if is_long {
                    response.headers_mut().insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
                }
                response
            }
        }
    }

    /// The same, also where a write is acknowledged only after a sync.
    pub async fn answer_in_time(&self, ask: Ask, headers: HeaderMap) -> Response<Body> {
        let Ok(Served { engine, confirms_later: true, .. }) = self.app.served() else {
            return self.answer(ask, headers);
        };
        match ask {
            Ask::Heal(user) => {
                let heal = self.confirmed(engine, engine.heal_unconfirmed(user)).await;
                self.answer_heal(heal, headers)
            }
            Ask::Leave(user) => {
                let leave = self.confirmed(engine, engine.leave_unconfirmed(user)).await;
                self.answer_leave(leave, headers)
            }
            Ask::Checkup(_) | Ask::HeartRhythm(_) => self.answer(ask, headers),
        }
    }

    async fn confirmed<T>(&self, engine: &Engine, written: Result<T, WriteError>) -> Result<T, Refused> {
        let written = written?;
        self.app.kept(engine, engine.ticket()).await?;
        Ok(written)
    }

    #[inline]
    fn answer_heal(&self, heal: Result<Heal, Refused>, headers: HeaderMap) -> Response<Body> {
        self.stats.healed(heal);
        match heal {
            Ok(_) => json_response(headers, ONLINE),
            Err(refused) => self.answer_refused(refused, headers),
        }
    }

    fn answer_leave(&self, leave: Result<Leave, Refused>, headers: HeaderMap) -> Response<Body> {
        match leave {
            Ok(_) => json_response(headers, OFFLINE),
            Err(refused) => self.answer_refused(refused, headers),
        }
    }

    #[cold]
    fn answer_refused(&self, refused: Refused, headers: HeaderMap) -> Response<Body> {
        self.app.log.refused(refused);
        Error::from(refused).into_response_with(headers)
    }

    #[cold]
    fn answer_unserved(&self, ask: Ask, refused: Refused, headers: HeaderMap) -> Response<Body> {
        match ask {
            Ask::Heal(_) => self.answer_heal(Err(refused), headers),
            Ask::Leave(_) => self.answer_leave(Err(refused), headers),
            Ask::Checkup(_) | Ask::HeartRhythm(_) => {
                not_stored(Error::from(refused).into_response_with(headers))
            }
        }
    }

    /// Says no, and counts it when it was a heal.
    pub fn refuse(
        &self,
        request: &mut Request<Incoming>,
        error: Error,
        allow: Option<HeaderValue>,
    ) -> Response<Body> {
        if error.is_about_input()
            && let Some((endpoint, id)) = Endpoint::of(request.uri().path())
        {
            if endpoint == Endpoint::Heal && request.method() != Method::DELETE {
                self.stats.invalid();
            }
            self.app.log.invalid_input(id.unwrap_or_default());
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut response = error.into_response_with(std::mem::take(request.headers_mut()));
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
        if is_read { not_stored(response) } else { response }
    }
}

/// A JSON answer in the request's own header map, which hyper takes back for the next request: nothing is allocated.
fn json_response(mut headers: HeaderMap, body: Bytes) -> Response<Body> {
    headers.clear();
    headers.insert(CONTENT_TYPE, JSON);
    let mut response = Response::new(Body::whole(body));
    *response.headers_mut() = headers;
    response
}

fn not_stored(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_endpoint_and_an_id() {
        for (path, named) in [
            ("/heal/1", Some((Endpoint::Heal, Some("1")))),
            ("/heal", Some((Endpoint::Heal, None))),
            ("/heal/", Some((Endpoint::Heal, Some("")))),
            ("/heart_rhythm/-5", Some((Endpoint::HeartRhythm, Some("-5")))),
            ("/checkup/1/", Some((Endpoint::Checkup, Some("1")))),
            ("/checkup/1/2", None),
            ("/healthz", None),
            ("/heals/1", None),
            ("/v1/heal", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(Endpoint::of(path), named, "{path}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        assert_eq!(percent_decode(b"%31%2B%ff%2525%4"), b"1+\xff%25%4");
    }
}
