//! Who is online, and who was: `GET /v1/online`, `/v1/online/users`, `/v1/online/at`.
//!
//! Pages go by shard, and within a shard by id. A user who is there throughout is in exactly one page; whoever comes or goes
//! meanwhile may be in one or not. What a page costs is what its shards cost, not what all do: only the count on the first page of
//! `/v1/online/at` goes over everybody.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::bulk::{TURN, read_ids};
use super::cursor::Cursor;
use super::error::{Error, JSON};
use super::json::IdFormat;
use super::pool::Query;
use super::query::{Common, Parameters};
use super::route::Route;
use super::routes::Shared;
use super::user::{Id, json};
use crate::engine::Engine;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// How many are online, as of the second last swept: a session leaves this count in second deadline + grace + 1.
pub(super) async fn online(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    let figures = shared.app.served()?.engine.figures();
    Ok(([(CONTENT_TYPE, JSON)], format!(r#"{{"online":{},"at":{}}}"#, figures.online, figures.at))
        .into_response())
}

#[derive(Serialize, ToSchema)]
pub(super) struct OnlineUsers {
    #[schema(value_type = Vec<super::user::Id>)]
    users: Vec<Id>,
    /// For `after`; null on the last page.
    #[schema(required)]
    next: Option<String>,
}

const NOW: char = 'o';
const THEN: char = 't';

/// A page of those who are online.
pub(super) async fn users(
    mut parameters: Parameters,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let engine = Arc::clone(&shared.app.served()?.engine);
    let limit = parameters.limit()?;
    let after = parameters.after(NOW)?;
    let id_format = parameters.id_format()?;
    parameters.end()?;

    let after = after.map(|[shard, user]| Place::of(shard, user));
    let page = shared.app.queries.ask(Walk::new(engine, None, after, limit)).await?;
    let next = page.next.map(|Place { shard, user }| {
        Cursor { kind: NOW, numbers: [shard as u64, user.as_i64().cast_unsigned()] }.to_string()
    });
    Ok(json(&OnlineUsers { users: ids(&page.users, id_format), next }))
}

#[derive(Serialize, ToSchema)]
pub(super) struct OnlineAt {
    at: u32,
    /// How many there were in all; on the first page only.
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<u64>,
    #[schema(value_type = Vec<super::user::Id>)]
    users: Vec<Id>,
    /// For `after`; null on the last page.
    #[schema(required)]
    next: Option<String>,
    /// Whether the service was not there in that second: nobody could heal.
    outage: bool,
}

/// A page of those who were online in a second.
pub(super) async fn at(mut parameters: Parameters, State(shared): State<Shared>) -> Result<Response, Error> {
    let engine = Arc::clone(&shared.app.served()?.engine);
    let now = engine.now();
    let t = past_second(&mut parameters, now)?;
    let limit = parameters.limit()?;
    let after = parameters.after(THEN)?;
    let id_format = parameters.id_format()?;
    parameters.end()?;

    let (at, after) = match after {
        None => (t.unwrap_or(now), None),
        Some([second, place, user]) => {
            let second = u32::try_from(second).map_or(now, UnixSeconds::new).min(now);
            if t.is_some_and(|asked| asked != second) {
                return Err(Error::bad_request("t: leave it out beside after, which knows the second"));
            }
            (second, Some(Place::of(place, user)))
        }
    };
    let outage = is_in_outage(&engine, at);
    let page = shared.app.queries.ask(Walk::new(engine, Some(at), after, limit)).await?;
    let next = page.next.map(|Place { shard, user }| {
        let numbers = [at.as_u32().into(), shard as u64, user.as_i64().cast_unsigned()];
        Cursor { kind: THEN, numbers }.to_string()
    });
    let users = ids(&page.users, id_format);
    Ok(json(&OnlineAt { at: at.as_u32(), online: page.online, users, next, outage }))
}

/// Who of those named was online in a second, in the request's order.
pub(super) async fn at_of(
    mut parameters: Parameters,
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let engine = &shared.app.served().map_err(|refused| shared.refuse(refused).closing())?.engine;
    let now = engine.now();
    let t = past_second(&mut parameters, now).map_err(Error::closing)?;
    let id_format = parameters.id_format().map_err(Error::closing)?;
    parameters.end().map_err(Error::closing)?;
    let asked = read_ids(&shared, Route::OnlineAt, &headers, body).await?;

    let at = t.unwrap_or(now);
    let mut online = Vec::new();
    for turn in asked.chunks(TURN) {
        online.extend(turn.iter().copied().filter(|&user| engine.was_online(user, at)));
        tokio::task::yield_now().await;
    }
    Ok(json(&OnlineAt {
        at: at.as_u32(),
        online: Some(online.len() as u64),
        users: ids(&online, id_format),
        next: None,
        outage: is_in_outage(engine, at),
    }))
}

/// Nobody knows who will be online.
fn past_second(parameters: &mut Parameters, now: UnixSeconds) -> Result<Option<UnixSeconds>, Error> {
    let t = parameters.second("t")?;
    match t.filter(|&t| t > now) {
        Some(_) => Err(Error::bad_request(format!("t: write a second that has begun; it is {now}"))),
        None => Ok(t),
    }
}

fn is_in_outage(engine: &Engine, at: UnixSeconds) -> bool {
    engine.outages().iter().any(|&(from, to)| from <= at && at < to)
}

fn ids(users: &[UserId], id_format: IdFormat) -> Vec<Id> {
    users.iter().map(|&user| Id::new(user, id_format)).collect()
}

/// Where someone stands in the order of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    shard: usize,
    user: UserId,
}

impl Place {
    /// As a cursor has it.
    fn of(shard: u64, user: u64) -> Self {
        Self { shard: usize::try_from(shard).unwrap_or(usize::MAX), user: UserId::new(user.cast_signed()) }
    }
}

/// Looks for a page; if it is the first of a second, counts all who are on the others, too.
struct Walk {
    engine: Arc<Engine>,
    /// None for now: then each shard is asked as of when its turn comes.
    at: Option<UnixSeconds>,
    after: Option<Place>,
    limit: usize,
    next_shard: usize,
    online: Option<u64>,
    /// In order; one more than the page may have, if there is one, says that there are more.
    found: Vec<Place>,
    /// Those of one shard.
    matching: Vec<UserId>,
}

struct Page {
    online: Option<u64>,
    users: Vec<UserId>,
    /// The last of them, if there are more.
    next: Option<Place>,
}

impl Walk {
    fn new(engine: Arc<Engine>, at: Option<UnixSeconds>, after: Option<Place>, limit: usize) -> Self {
        let online = (at.is_some() && after.is_none()).then_some(0);
        let next_shard = after.map_or(0, |after| after.shard);
        Self { engine, at, after, limit, next_shard, online, found: Vec::new(), matching: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.found.len() > self.limit
    }

    fn look_at(&mut self, shard: usize) {
        self.matching.clear();
        match self.at {
            None => self.engine.online_now_in(shard, &mut self.matching),
            Some(at) if self.is_full() => {
                let more = self.engine.count_online_in(shard, at);
                self.online = self.online.map(|online| online + more);
                return;
            }
            Some(at) => self.engine.online_in(shard, at, &mut self.matching),
        }
        self.online = self.online.map(|online| online + self.matching.len() as u64);
        self.matching.sort_unstable();
        let places = self.matching.iter().map(|&user| Place { shard, user });
        let room = self.limit + 1 - self.found.len();
        self.found.extend(places.filter(|place| self.after.is_none_or(|after| *place > after)).take(room));
    }

    fn page(&mut self) -> Page {
        let is_full = self.is_full();
        self.found.truncate(self.limit);
        Page {
            online: self.online,
            users: self.found.iter().map(|place| place.user).collect(),
            next: self.found.last().copied().filter(|_| is_full),
        }
    }
}

impl Query for Walk {
    type Answer = Page;

    fn proceed(&mut self) -> Option<Page> {
        let is_enough = self.is_full() && self.online.is_none();
        if self.next_shard >= Engine::SHARDS || is_enough {
            return Some(self.page());
        }
        self.look_at(self.next_shard);
        self.next_shard += 1;
        None
    }
}
