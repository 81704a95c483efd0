//! Transitions by long poll, for those who cannot hold a stream: `GET /v1/events`.
//!
//! `next` is always a cursor, for a feed has no end: with it the next call goes on where this one stopped. Without `after` a
//! call begins with what happens from now on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::announcer::Reader;
use super::bulk::TURN;
use super::error::{Error, JSON};
use super::json::IdFormat;
use super::query::Parameters;
use super::routes::Shared;
use super::sse;
use super::watch::events_of;
use crate::engine::{Event, Events, Overrun};

/// The longest that a call may wait, in seconds: proxies cut what is silent for longer.
const WAIT_MAX: u32 = 30;

const GONE: Error = Error::fixed(
    StatusCode::GONE,
    "after: this is older than what is held, or of another run of the service; begin again without it",
);

/// What came after a cursor: `{"events":[{"event":"online","id":12345,"at":…}],"next":"…"}`.
pub(super) async fn events(
    mut parameters: Parameters,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let format = parameters.id_format()?;
    let most = parameters.limit()?;
    let wait = parameters.number("wait", 0..=WAIT_MAX)?.unwrap_or(0);
    let after = parameters.after(sse::KIND)?;
    parameters.end()?;
    let engine = Arc::clone(&shared.app.served()?.engine);
    let events = events_of(&engine)?;
    let after = match after {
        None => events.tail(),
        Some(cursor) => sse::place(events, cursor).ok_or(GONE)?,
    };
    let mut found = Vec::new();
    events.read(after, most, &mut found).map_err(|Overrun| GONE)?;
    if found.is_empty() && wait > 0 {
        let deadline = Instant::now() + Duration::from_secs(wait.into());
        found = wait_for(&shared, events, after, most, deadline).await?;
    }
    let next = found.last().map_or(after, |last| last.sequence);
    let body = write(&found, sse::cursor(events.generation(), next).to_string(), format).await;
    Ok(([(CONTENT_TYPE, JSON)], body).into_response())
}

/// Empty when the deadline has passed, or the service drains.
async fn wait_for(
    shared: &Shared,
    events: &Events,
    after: u64,
    most: usize,
    deadline: Instant,
) -> Result<Vec<Event>, Error> {
    let announcer = &shared.app.announcer;
    let _reader = Reader::new(&shared.app, IdFormat::Number);
    let mut found = Vec::new();
    loop {
        // Before the look, so that nothing is missed in between.
        let news = announcer.news();
        events.read(after, most, &mut found).map_err(|Overrun| GONE)?;
        if !found.is_empty() || shared.app.is_draining() {
            return Ok(found);
        }
        if events.tail() > after {
            // The next one is under way.
            announcer.look_again();
        }
        if timeout_at(deadline, news).await.is_err() {
            return Ok(found);
        }
    }
}

async fn write(events: &[Event], next: String, format: IdFormat) -> Vec<u8> {
    // 75 bytes an event, with an id of eight digits.
    let mut out = Vec::with_capacity(64 + 75 * events.len());
    out.extend_from_slice(b"{\"events\":[");
    for (index, turn) in events.chunks(TURN).enumerate() {
        if index > 0 {
            tokio::task::yield_now().await;
        }
        for (position, event) in turn.iter().enumerate() {
            if index + position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"event\":\"");
            out.extend_from_slice(event.change.status().as_str().as_bytes());
            out.extend_from_slice(b"\",");
            sse::members(&mut out, event, format);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"],\"next\":\"");
    out.extend_from_slice(next.as_bytes());
    out.extend_from_slice(b"\"}");
    out
}
