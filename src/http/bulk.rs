//! Users in bulk, for gateways: `POST /v1/heal`, `/v1/checkup`, `/v1/leave`.
//!
//! All ids are read ([`Form`]) before anything is done, so a malformed one refuses the whole request and nothing is applied.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;

use super::body;
use super::error::{Error, JSON};
use super::ids::Form;
use super::json;
use super::query::Common;
use super::routes::Shared;
use super::stats::Tally;
use crate::engine::Leave;
use crate::user_id::UserId;

/// A batch lets other connections have their turn after so many ids, some 0.1 ms.
const TURN: usize = 1_024;

/// Heals everybody named: `{"healed":3,"opened":1}`.
pub(super) async fn heal(
    _: Common,
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let ids = read_ids(&shared, &headers, body).await.inspect_err(|error| {
        if error.is_about_input() {
            shared.stats.invalid();
        }
    })?;
    let mut total = Tally::default();
    for turn in ids.chunks(TURN) {
        let mut tally = Tally::default();
        let result = turn.iter().try_for_each(|&user| {
            let heal = shared.app.engine.heal(user);
            tally.count(heal);
            heal.map(|_| ())
        });
        shared.stats.healed_many(tally);
        if let Err(error) = result {
            shared.app.log.refused(error);
            return Err(error.into());
        }
        total += tally;
        tokio::task::yield_now().await;
    }
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
    let ids = read_ids(&shared, &headers, body).await?;
    // 34 bytes a user, with an id of eight digits.
    let mut out = Vec::with_capacity(16 + 34 * ids.len());
    out.extend_from_slice(b"{\"users\":[");
    for (index, turn) in ids.chunks(TURN).enumerate() {
        for (position, &user) in turn.iter().enumerate() {
            if index + position > 0 {
                out.push(b',');
            }
            json::checkup_as(&mut out, user, shared.app.engine.status(user), common.id_format);
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
    let ids = read_ids(&shared, &headers, body).await?;
    let mut left = 0;
    for turn in ids.chunks(TURN) {
        left += turn.iter().filter(|&&user| shared.app.engine.leave(user) == Leave::Left).count();
        tokio::task::yield_now().await;
    }
    Ok(([(CONTENT_TYPE, JSON)], format!(r#"{{"left":{left}}}"#)).into_response())
}

async fn read_ids(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Vec<UserId>, Error> {
    let form = Form::of(headers)?;
    let body = body::read(body, shared.app.body_limits).await?;
    form.parse(&body).inspect_err(|error| shared.app.log.invalid_input(&error.sentence))
}
