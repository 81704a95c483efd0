//! Long answers, compressed for whoever asks: those on `/v1` and of `/heart_rhythm`.
//!
//! What is made while it is sent, as an export is, is compressed as it goes and held no longer than that. Event streams are
//! left as they are: an event must not wait in a compressor until more come.
//!
//! A thread has other connections. So the body rests now and then, and it is compressed fast rather than well.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as AxumBody;
use axum::middleware::map_response;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use hyper::{HeaderMap, Request, StatusCode};
use tower::{ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLayer};

use super::body::Body;
use super::routes::Shared;

/// 1 KiB and a byte.
pub(super) const LONG_BYTES: u64 = 1_025;

/// An answer of more than 1 KiB; or of a length that nobody knows yet.
fn is_long() -> impl Predicate + Send + Sync + 'static {
    SizeAbove::new(LONG_BYTES).and(NotForContentType::SSE)
}

/// Routes whose long answers are compressed when asked.
pub(super) fn layer(routes: Router<Shared>) -> Router<Shared> {
    routes
        .layer(map_response(|response| ready(note_status(response))))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_long()))
        .layer(map_response(|response| ready(finish(response))))
}

/// The answer to a request with these headers, compressed if it is long and that was asked for.
pub(super) async fn compress(accepts: HeaderMap, answer: hyper::Response<Body>) -> hyper::Response<Body> {
    let mut request = Request::new(());
    *request.headers_mut() = accepts;
    let mut answer = Some(note_status(answer.map(AxumBody::new)));
    let answer = service_fn(move |_: Request<()>| {
        ready(Ok::<_, Infallible>(answer.take().expect("one request is made")))
    });
    let compressing = Compression::new(answer).quality(CompressionLevel::Fastest).compress_when(is_long());
    match compressing.oneshot(request).await {
        Ok(answer) => finish(answer.map(AxumBody::new)).map(|body| Body::Axum { body, _in_flight: None }),
        Err(never) => match never {},
    }
}

/// What of a request's headers [`compress`] looks at; `None` if it asks for nothing.
pub(super) fn accepts(headers: &HeaderMap) -> Option<HeaderMap> {
    let mut accepts = HeaderMap::new();
    for value in headers.get_all(ACCEPT_ENCODING) {
        accepts.append(ACCEPT_ENCODING, value.clone());
    }
    (!accepts.is_empty()).then_some(accepts)
}

/// The status that the handler gave.
#[derive(Clone, Copy)]
struct Given(StatusCode);

fn note_status(mut response: Response) -> Response {
    let given = Given(response.status());
    response.extensions_mut().insert(given);
    response
}

/// Who takes neither gzip nor the answer as it is gets the answer as it is, as RFC 9110 (12.5.3) allows: what was asked has been
/// done by then, and 406, as the layer would have it, would say that it had not.
fn finish(mut response: Response) -> Response {
    if let Some(Given(status)) = response.extensions_mut().remove() {
        *response.status_mut() = status;
    }
    if response.headers().contains_key(CONTENT_ENCODING) {
        return response.map(|body| AxumBody::new(Resting { body, sent: 0 }));
    }
    response
}

/// After so much that was compressed, in some milliseconds, other connections have their turn.
const TURN_BYTES: usize = 16 << 10;

/// A body that rests now and then.
struct Resting {
    body: AxumBody,
    /// Since the last rest.
    sent: usize,
}

impl HttpBody for Resting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.sent >= TURN_BYTES {
            this.sent = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            this.sent += frame.data_ref().map_or(0, Bytes::len);
        }
        frame
    }
}
