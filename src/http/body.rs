//! Bodies: of responses, whole or from axum; and of requests, read to their end within limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::stats::InFlight;

/// A response's body.
pub(super) enum Body {
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
    /// Whatever axum makes of it; and the request, in flight until all of it is out or the client has gone.
    Axum { body: axum::body::Body, _in_flight: Option<InFlight> },
}

impl Body {
    /// The request is in flight for as long as this is.
    pub fn holding(self, in_flight: Option<InFlight>) -> Self {
        match self {
            Self::Axum { body, .. } => Self::Axum { body, _in_flight: in_flight },
            // It is written as soon as it is taken.
            Self::Whole(bytes) => Self::Whole(bytes),
        }
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Axum { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Axum { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Axum { body, .. } => body.size_hint(),
        }
    }
}

/// How long and how large a request's body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub bytes: usize,
    /// The longest pause between two pieces of it.
    pub pause: Duration,
    /// From the head to the end.
    pub whole: Duration,
}

/// Why a request's body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TooSlow,
    /// The connection ended before it, or its framing is broken.
    Broken,
}

/// Reads a body to its end. What it was part of must not take effect before.
pub(super) async fn read<B>(body: B, limits: BodyLimits) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(limits.whole, read_frames(body, limits)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read_frames<B>(body: B, limits: BodyLimits) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(Limited::new(body, limits.bytes));
    let mut read = BytesMut::new();
    let mut first = None;
    while let Some(frame) =
        tokio::time::timeout(limits.pause, body.frame()).await.map_err(|_| BodyError::TooSlow)?
    {
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                BodyError::TooLarge
            } else {
                BodyError::Broken
            }
        })?;
        // A body in one piece, as most are, is not copied.
        match (frame.into_data(), &first) {
            (Ok(piece), None) if read.is_empty() => first = Some(piece),
            (Ok(piece), _) => {
                read.extend_from_slice(&first.take().unwrap_or_default());
                read.extend_from_slice(&piece);
            }
            (Err(_trailers), _) => {}
        }
    }
    Ok(first.unwrap_or_else(|| read.freeze()))
}
