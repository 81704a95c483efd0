//! Transitions as they happen: `GET /v1/watch`, a stream of server-sent events.
//!
//! ```text
//!   new, or reset ──▶ snapshot ─┐
//!                               ├──▶ online · offline · … ──▶ lagged, draining: told, and the stream ends
//!   resumed ────────────────────┘           every 15 s a comment
//! ```
//!
//! A watcher is a place in the engine's ring and what hyper has taken of it so far. While its socket is full nobody asks it for
//! more, so a slow reader costs nothing; when the ring has gone past its place it is told so and has to begin again.
//!
//! A snapshot says what the events up to its `seq` have made of users, exactly. It is no checkup: a session whose deadline
//! has passed may still be extended, and until that is decided nothing has been told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Interval, MissedTickBehavior};

use super::announcer::{Reader, TURN_EVENTS};
use super::app::App;
use super::cursor::Cursor;
use super::error::Error;
use super::json::IdFormat;
use super::query::Parameters;
use super::routes::Shared;
use super::sse;
use crate::engine::{Engine, Event, Events, Overrun};
use crate::session::Status;
use crate::user_id::UserId;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Each event is for now, and for whoever asked: no proxy is to keep or collect them.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_TYPE, EVENT_STREAM),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];
/// What a browser that reconnects says it has seen last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Most ids that a watcher may name.
const IDS_MAX: usize = 1_000;
/// How often a comment is sent: proxies cut what is silent for half a minute.
pub(super) const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// A snapshot is tried so often, with a pause of 1 ms, before a service that is changing all the time is said to be.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Transitions from a snapshot on, or from where a cursor says.
pub(super) async fn watch(
    mut parameters: Parameters,
    headers: HeaderMap,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let format = parameters.id_format()?;
    let ids = parameters.text("ids")?.map(|text| parse_ids(&text)).transpose()?;
    let after = parameters.after(sse::KIND)?;
    parameters.end()?;
    let engine = Arc::clone(&shared.app.served()?.engine);
    let events = events_of(&engine)?;
    // A browser repeats the URL with which it began and adds how far it has come since. What it says there can be anything
    // but a reason to give up: then it begins anew.
    let seen = headers
        .get(LAST_EVENT_ID)
        .map(|seen| seen.to_str().ok().and_then(|seen| Cursor::read(sse::KIND, seen)));
    let asked = seen.or(after.map(Some));
    let reader = Reader::new(&shared.app, format);
    let (first, position) = match asked.map(|cursor| cursor.and_then(|cursor| sse::place(events, cursor))) {
        Some(Some(sequence)) => (b": resumed\n\n".to_vec(), sequence),
        Some(None) => {
            let (snapshot, sequence) = snapshot(&engine, events, ids.as_deref(), format).await?;
            ([RESET, &snapshot].concat(), sequence)
        }
        None => snapshot(&engine, events, ids.as_deref(), format).await?,
    };
    let watch = Watch::new(reader, &shared.app, engine, Feed { ids: sorted(ids), format, position }, first);
    Ok((HEADERS, Body::new(watch)).into_response())
}

const RESET: &[u8] = b"event: reset\ndata: {}\n\n";
const LAGGED: &[u8] = b"event: lagged\ndata: {}\n\n";
pub(super) const DRAINING: &[u8] = b"event: draining\ndata: {}\n\n";

pub(super) fn events_of(engine: &Engine) -> Result<&Events, Error> {
    engine.events().ok_or(Error::fixed(
        StatusCode::NOT_IMPLEMENTED,
        "this service holds no events: its setting events-held is 0",
    ))
}

fn parse_ids(text: &str) -> Result<Vec<UserId>, Error> {
    if text.is_empty() || text.split(',').nth(IDS_MAX).is_some() {
        return Err(Error::bad_request(format!("ids: write 1 to {IDS_MAX} user ids, separated by commas")));
    }
    let parse = |(position, id): (usize, &str)| {
        UserId::from_ascii(id.as_bytes())
            .map_err(|_| Error::bad_request(format!("ids[{position}]: invalid user_id format")))
    };
    text.split(',').enumerate().map(parse).collect()
}

fn sorted(ids: Option<Vec<UserId>>) -> Option<Vec<UserId>> {
    ids.map(|mut ids| {
        ids.sort_unstable();
        ids
    })
}

/// What the transitions up to a sequence have made of `ids`, or of everybody, and that sequence.
async fn snapshot(
    engine: &Engine,
    events: &Events,
    ids: Option<&[UserId]>,
    format: IdFormat,
) -> Result<(Vec<u8>, u64), Error> {
    for _ in 0..TRIES {
        let found = match ids {
            Some(ids) => states(engine, events, ids).map(|(users, sequence)| {
                (sse::snapshot_of(&users, events.generation(), sequence, format), sequence)
            }),
            None => engine.announced_online().map(|(online, sequence)| {
                (sse::snapshot_of_all(online, events.generation(), sequence), sequence)
            }),
        };
        if let Some(found) = found {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::fixed(
        StatusCode::SERVICE_UNAVAILABLE,
        "too much happens at once for a snapshot; repeat the request, or let the setting events-held be larger",
    ))
}

/// Users are looked at one after the other, and what has become of them meanwhile stands in the events. `None` if these are not
/// all there yet, or not any more.
fn states(engine: &Engine, events: &Events, ids: &[UserId]) -> Option<(Vec<(UserId, Status)>, u64)> {
    let before = events.tail();
    let mut users: Vec<_> = ids.iter().map(|&user| (user, engine.announced(user))).collect();
    let sequence = events.tail();
    let mut meanwhile = Vec::new();
    let most = usize::try_from(sequence - before).unwrap_or(usize::MAX);
    events.read(before, most, &mut meanwhile).ok()?;
    if meanwhile.len() < most {
        return None;
    }
    for event in meanwhile {
        let of_user = users.iter_mut().filter(|(user, _)| *user == event.user);
        of_user.for_each(|(_, status)| *status = event.change.status());
    }
    Some((users, sequence))
}

/// What a watcher wants, and how far it has come.
struct Feed {
    /// Sorted; everybody if none.
    ids: Option<Vec<UserId>>,
    format: IdFormat,
    position: u64,
}

impl Feed {
    fn wants(&self, user: UserId) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.binary_search(&user).is_ok())
    }
}

/// The body of a watch.
struct Watch {
    _reader: Reader,
    app: Arc<App>,
    engine: Arc<Engine>,
    feed: Feed,
    first: Option<Bytes>,
    news: Pin<Box<OwnedNotified>>,
    comments: Interval,
    read: Vec<Event>,
    /// Its last step took some time on a thread that others need as well.
    is_tired: bool,
    is_over: bool,
}

enum Step {
    Frame(Bytes),
    /// Something was read, and nothing of it was wanted.
    Skipped,
    /// There is nothing new.
    Nothing,
    /// The last there is.
    End(&'static [u8]),
}

impl Watch {
    fn new(reader: Reader, app: &Arc<App>, engine: Arc<Engine>, feed: Feed, first: Vec<u8>) -> Self {
        let mut comments =
            tokio::time::interval_at(tokio::time::Instant::now() + COMMENT_EVERY, COMMENT_EVERY);
        comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            _reader: reader,
            app: Arc::clone(app),
            engine,
            feed,
            first: Some(first.into()),
            news: Box::pin(app.announcer.news()),
            comments,
            read: Vec::new(),
            is_tired: false,
            is_over: false,
        }
    }

    fn step(&mut self) -> Step {
        if self.app.is_draining() {
            return Step::End(DRAINING);
        }
        let told = self.app.announcer.told();
        let position = self.feed.position;
        if position >= told.up_to {
            return Step::Nothing;
        }
        let turn = told.turns.get(told.turns.partition_point(|turn| turn.to <= position));
        match turn {
            Some(turn) if turn.after <= position => {
                self.feed.position = turn.to;
                if self.feed.ids.is_none()
                    && turn.after == position
                    && let Some(text) = turn.text(self.feed.format)
                {
                    return Step::Frame(text.clone());
                }
                if self.feed.ids.as_deref().is_some_and(|ids| !turn.is_about(ids)) {
                    return Step::Skipped;
                }
                // A sequence a place: the turn has no gap.
                let known = usize::try_from(position - turn.after).unwrap_or(usize::MAX);
                self.write(&turn.events[known..])
            }
            // Up to where the turns begin, so as to be in step with them.
            turn => self.read_on(turn.map_or(told.up_to, |turn| turn.after)),
        }
    }

    /// Reads the ring, up to `until` at most.
    fn read_on(&mut self, until: u64) -> Step {
        let mut read = std::mem::take(&mut self.read);
        read.clear();
        let most = usize::try_from(until - self.feed.position).unwrap_or(usize::MAX).min(TURN_EVENTS);
        let held =
            self.engine.events().map_or(Ok(()), |events| events.read(self.feed.position, most, &mut read));
        let step = if held == Err(Overrun) {
            self.app.metrics.watch_lagged.increment(1);
            Step::End(LAGGED)
        } else if let Some(last) = read.last() {
            self.feed.position = last.sequence;
            self.write(&read)
        } else {
            // The next one is under way.
            self.app.announcer.look_again();
            Step::Nothing
        };
        self.read = read;
        step
    }

    fn write(&mut self, events: &[Event]) -> Step {
        self.is_tired = true;
        let generation = self.engine.events().map_or(0, Events::generation);
        let text = sse::events(events, generation, self.feed.format, |user| self.feed.wants(user));
        if text.is_empty() { Step::Skipped } else { Step::Frame(text.into()) }
    }

    fn silence(&self) -> Bytes {
        let generation = self.engine.events().map_or(0, Events::generation);
        sse::silence(generation, self.feed.position).into()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            // Others have their turn before the next piece.
            if std::mem::take(&mut self.is_tired) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.step() {
                Step::Frame(text) => return Poll::Ready(Some(text)),
                Step::End(text) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Bytes::from_static(text)));
                }
                Step::Skipped => continue,
                Step::Nothing => {}
            }
            if self.comments.poll_tick(cx).is_ready() {
                return Poll::Ready(Some(self.silence()));
            }
            // It was made before the step above looked, so nothing is missed in between.
            ready!(self.news.as_mut().poll(cx));
            self.news.set(self.app.announcer.news());
        }
    }
}

impl HttpBody for Watch {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.get_mut().poll_next(cx).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;
    use crate::config::Settings;
    use crate::http::app::Counting;

    async fn next(watch: &mut Watch) -> String {
        let frame = watch.frame().await.expect("it has not ended").expect("it cannot fail");
        String::from_utf8(frame.into_data().expect("there are no trailers").to_vec()).expect("text")
    }

    /// Proxies cut what is silent; and whoever follows a few users only must not fall behind what is held while nothing becomes
    /// of them.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_says_every_15_seconds_how_far_its_silence_reaches() {
        let engine = Arc::new(Engine::builder().events_held(100).build());
        let app = Arc::new(App::new(&Settings::default(), Arc::default(), Counting::On));
        app.serve(Arc::clone(&engine), None);
        let reader = Reader::new(&app, IdFormat::Number);
        let feed = Feed { ids: Some(vec![UserId::new(7)]), format: IdFormat::Number, position: 0 };
        let mut watch = Watch::new(reader, &app, Arc::clone(&engine), feed, b"first".to_vec());
        let (start, generation) = (Instant::now(), engine.events().expect("it holds some").generation());

        assert_eq!(next(&mut watch).await, "first");
        for (seconds, sequence) in [(15, 0), (30, 3), (45, 3)] {
            assert_eq!(next(&mut watch).await, format!(":\nid: e{generation:x}-{sequence:x}\n\n"));
            assert_eq!(start.elapsed().as_secs(), seconds);
            if seconds == 15 {
                for id in 1..=3 {
                    engine.heal(UserId::new(id)).expect("there is room");
                }
                app.announcer.look(engine.events().expect("it holds some"));
            }
        }
    }
}
