//! The figures as they happen: `GET /v1/figures/watch`, a stream of server-sent events, one a second.
//!
//! Each is written down once for all who follow ([`sampler`](super::sampler)). While a socket is full nobody asks for more, so a
//! slow reader misses seconds and costs nothing.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::app::App;
use super::error::Error;
use super::query::Common;
use super::routes::Shared;
use super::watch::{COMMENT_EVERY, DRAINING, HEADERS};

/// A browser that has lost the stream comes back after a second.
const RETRY: &[u8] = b"retry: 1000\n\n";
const COMMENT: &[u8] = b":\n\n";

/// `figures` events: the latest at once, then one a second.
pub(super) async fn watch(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    shared.app.served()?;
    Ok((HEADERS, Body::new(Watch::new(&shared.app))).into_response())
}

/// The body of a watch.
struct Watch {
    app: Arc<App>,
    first: Option<Bytes>,
    /// The number of what was told last.
    seen: u64,
    news: Pin<Box<OwnedNotified>>,
    comments: Interval,
    is_over: bool,
}

impl Watch {
    fn new(app: &Arc<App>) -> Self {
        let mut comments = tokio::time::interval_at(Instant::now() + COMMENT_EVERY, COMMENT_EVERY);
        comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            app: Arc::clone(app),
            first: Some(Bytes::from_static(RETRY)),
            seen: 0,
            news: Box::pin(app.recent.news()),
            comments,
            is_over: false,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            if self.app.is_draining() {
                self.is_over = true;
                return Poll::Ready(Some(Bytes::from_static(DRAINING)));
            }
            let told = self.app.recent.told();
            if told.number > self.seen {
                self.seen = told.number;
                self.comments.reset();
                return Poll::Ready(Some(told.text));
            }
            if self.comments.poll_tick(cx).is_ready() {
                return Poll::Ready(Some(Bytes::from_static(COMMENT)));
            }
            // It was made before the look above, so nothing is missed in between.
            ready!(self.news.as_mut().poll(cx));
            self.news.set(self.app.recent.news());
        }
    }
}

impl HttpBody for Watch {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().poll_next(cx).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::Settings;
    use crate::http::app::Counting;

    async fn next(watch: &mut Watch) -> Option<Bytes> {
        let frame = watch.frame().await?.expect("it cannot fail");
        Some(frame.into_data().expect("there are no trailers"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_comes_at_once_and_silence_is_broken_every_15_seconds() {
        let app = Arc::new(App::new(&Settings::default(), Arc::default(), Counting::On));
        app.recent.tell(Bytes::from_static(b"one"));
        app.recent.tell(Bytes::from_static(b"two"));
        let mut watch = Watch::new(&app);
        let start = Instant::now();

        assert_eq!(next(&mut watch).await.as_deref(), Some(b"retry: 1000\n\n".as_slice()));
        assert_eq!(next(&mut watch).await.as_deref(), Some(b"two".as_slice()));
        assert_eq!(start.elapsed().as_secs(), 0);
        assert_eq!(next(&mut watch).await.as_deref(), Some(b":\n\n".as_slice()));
        assert_eq!(start.elapsed().as_secs(), 15);
        app.recent.tell(Bytes::from_static(b"three"));
        assert_eq!(next(&mut watch).await.as_deref(), Some(b"three".as_slice()));
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_the_service_drains() {
        let app = Arc::new(App::new(&Settings::default(), Arc::default(), Counting::On));
        let mut watch = Watch::new(&app);
        next(&mut watch).await;
        let draining = Arc::clone(&app);
        let drain = tokio::spawn(async move { draining.drain() });

        assert_eq!(next(&mut watch).await.as_deref(), Some(b"event: draining\ndata: {}\n\n".as_slice()));
        assert_eq!(next(&mut watch).await, None);
        drain.await.expect("it does not panic");
    }
}
