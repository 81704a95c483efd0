//! Users in bulk, for gateways: `POST /v1/heal`, `/v1/checkup`, `/v1/leave`.
//!
//! All ids are read ([`Form`]) before anything is done, so a malformed one refuses the whole request and nothing is applied.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;

use super::app::Served;
use super::body;
use super::error::{Error, JSON, Refused};
use super::ids::Form;
use super::json;
use super::query::Common;
use super::room::when_there_is_room;
use super::route::Route;
use super::routes::Shared;
use super::stats::Tally;
use crate::engine::{Engine, Leave, WriteError};
use crate::metrics::number;
use crate::user_id::UserId;

/// A batch lets other connections have their turn after so many ids, some 0.1 ms.
pub(super) const TURN: usize = 1_024;

/// Heals everybody named: `{"healed":3,"opened":1}`.
pub(super) async fn heal(
    _: Common,
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let ids = read_ids(&shared, Route::HealMany, &headers, body).await.inspect_err(|error| {
        if error.is_about_input() {
            shared.stats.invalid();
        }
    })?;
    // Of a request that is refused, each id that was not taken is a heal refused.
    let refuse = |refused: Refused, mut total: Tally| {
        total.refuse(ids.len());
        shared.stats.healed_many(total);
        shared.refuse(refused)
    };
    let mut total = Tally::default();
    let Served { engine, .. } = shared.app.served().map_err(|refused| refuse(refused, total))?;
    for turn in ids.chunks(TURN) {
        for &user in turn {
            let healed = match engine.heal_unconfirmed(user) {
                Err(refused) => with_room(engine, refused, || engine.heal_unconfirmed(user)).await,
                healed => healed,
            };
            total.count(healed.map_err(|error| refuse(error.into(), total))?);
        }
        tokio::task::yield_now().await;
    }
    // One sync serves the whole batch. If it fails, none of it has been acknowledged.
    let kept = shared.app.kept(engine, engine.ticket()).await;
    kept.map_err(|refused| refuse(refused, Tally::default()))?;
    shared.stats.healed_many(total);
    let total = total.counts();
    Ok(([(CONTENT_TYPE, JSON)], format!(r#"{{"healed":{},"opened":{}}}"#, total.taken(), total.opened))
        .into_response())
}

/// Says who is online: `{"users":[{"id":1,"status":"online"},…]}` in the request's order.
pub(super) async fn checkup(
    common: Common,
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let ids = read_ids(&shared, Route::CheckupMany, &headers, body).await?;
    let Served { engine, .. } = shared.app.served()?;
    // 34 bytes a user, with an id of eight digits.
    let mut out = Vec::with_capacity(16 + 34 * ids.len());
    out.extend_from_slice(b"{\"users\":[");
    for (index, turn) in ids.chunks(TURN).enumerate() {
        for (position, &user) in turn.iter().enumerate() {
            if index + position > 0 {
                out.push(b',');
            }
            json::checkup_as(&mut out, user, engine.status(user), common.id_format);
        }
        tokio::task::yield_now().await;
    }
    out.extend_from_slice(b"]}");
    Ok(([(CONTENT_TYPE, JSON)], out).into_response())
}

/// Ends the live sessions of everybody named: `{"left":2}`.
pub(super) async fn leave(
    _: Common,
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let ids = read_ids(&shared, Route::LeaveMany, &headers, body).await?;
    let Served { engine, .. } = shared.app.served().map_err(|refused| shared.refuse(refused))?;
    let mut left = 0;
    for turn in ids.chunks(TURN) {
        for &user in turn {
            let leave = match engine.leave_unconfirmed(user) {
                Err(refused) => with_room(engine, refused, || engine.leave_unconfirmed(user)).await,
                leave => leave,
            };
            left += u64::from(leave.map_err(|error| shared.refuse(error))? == Leave::Left);
        }
        tokio::task::yield_now().await;
    }
    shared.app.kept(engine, engine.ticket()).await.map_err(|refused| shared.refuse(refused))?;
    Ok(([(CONTENT_TYPE, JSON)], format!(r#"{{"left":{left}}}"#)).into_response())
}

/// A disk that has no room for a segment is not waited for: who is refused at once can go elsewhere.
async fn with_room<T>(
    engine: &Engine,
    refused: WriteError,
    write: impl Fn() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    when_there_is_room(refused, write, || !engine.is_short_of_room()).await
}

/// The ids in a body, all of them; counted under the route that took them.
pub(super) async fn read_ids(
    shared: &Shared,
    route: Route,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<UserId>, Error> {
    let form = Form::of(headers)?;
    let body = body::read(body, shared.app.body_limits).await?;
    let ids = form.parse(&body).inspect_err(|error| shared.app.log.invalid_input(&error.sentence))?;
    shared.app.metrics.batch_ids().of(route.path()).record(number(ids.len() as u64));
    Ok(ids)
}
