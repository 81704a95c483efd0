//! Errors as clients see them: a status that carries the class, and `{"error":"…"}` with one sentence that says what to
//! change.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response as AxumResponse};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Response, StatusCode};

use super::body::{Body, BodyError};
use crate::engine::WriteError;
use crate::journal::Refusal;
use crate::user_id::InvalidUserId;

/// `content-type` of everything but event streams and metrics.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Error {
    pub status: StatusCode,
    pub sentence: Cow<'static, str>,
    /// The connection cannot go on: what follows on it could be anything.
    pub close: bool,
}

impl Error {
    pub const NOT_FOUND: Self = Self::fixed(StatusCode::NOT_FOUND, "not found");
    pub const MISSING_ID: Self = Self::fixed(StatusCode::BAD_REQUEST, "missing user_id parameter");
    pub const INTERNAL: Self = Self::fixed(StatusCode::INTERNAL_SERVER_ERROR, "internal server error");
    pub const METHOD: Self =
        Self::fixed(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; see the Allow header");
    pub const HOST: Self =
        Self::fixed(StatusCode::BAD_REQUEST, "an HTTP/1.1 request needs exactly one Host header").closing();
    pub const CONTRADICTORY_LENGTH: Self =
        Self::fixed(StatusCode::BAD_REQUEST, "a request has Content-Length or Transfer-Encoding, not both")
            .closing();

    pub const UNKNOWN_ENCODING: Self =
        Self::fixed(StatusCode::NOT_IMPLEMENTED, "the only transfer encoding is chunked, given once")
            .closing();

    pub const fn fixed(status: StatusCode, sentence: &'static str) -> Self {
        Self { status, sentence: Cow::Borrowed(sentence), close: false }
    }

    pub fn bad_request(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, sentence: sentence.into(), close: false }
    }

    /// Whether a complete request came with something in it that is not what it should be: 400, and the connection goes on.
    pub fn is_about_input(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST && !self.close
    }

    /// What follows on the connection is the rest of a body that nobody reads.
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The response, with `headers` for its map: a request's own, cleared, saves an allocation.
    pub fn into_response_with(self, mut headers: HeaderMap) -> Response<Body> {
        headers.clear();
        headers.insert(CONTENT_TYPE, JSON);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let body = serde_json::json!({ "error": self.sentence }).to_string();
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> AxumResponse {
        self.into_response_with(HeaderMap::new()).map(axum::body::Body::new)
    }
}

impl From<InvalidUserId> for Error {
    fn from(_: InvalidUserId) -> Self {
        Self::fixed(StatusCode::BAD_REQUEST, "invalid user_id format")
    }
}

/// Why a call was not served although nothing is wrong with it: 503, and it can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// There is no engine yet; so much of what it begins from has been read, in percent.
    #[error("recovering {0}%; repeat the request in a moment")]
    Recovering(u64),
    #[error("the service knows as many users as its setting max-users allows")]
    UsersFull,
    /// The journal took nothing.
    #[error("{0}; repeat the request")]
    Journal(Refusal),
    /// It was written, and the disk has not confirmed it.
    #[error("{0}; whether the write is kept is unknown, and repeating it is safe")]
    Unknown(Refusal),
}

impl Refused {
    /// Of a write that had been applied when the disk was asked to confirm it.
    pub fn after_the_write(error: WriteError) -> Self {
        match error {
            WriteError::Journal(refusal) => Self::Unknown(refusal),
            WriteError::UsersFull => Self::UsersFull,
        }
    }
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::UsersFull => Self::UsersFull,
            WriteError::Journal(refusal) => Self::Journal(refusal),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, sentence: refused.to_string().into(), close: false }
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::fixed(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than the setting max-body-bytes allows",
            ),
            BodyError::TooSlow => Self::fixed(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
            BodyError::Broken => {
                Self::fixed(StatusCode::BAD_REQUEST, "the body is incomplete or badly framed")
            }
        }
        .closing()
    }
}
