//! One user: `GET` and `DELETE /v1/users/{user_id}`.

use axum::extract::{FromRequestParts, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::Served;
use super::error::{Error, JSON};
use super::json::IdFormat;
use super::query::Common;
use super::routes::Shared;
use super::seed::percent_decode;
use crate::user_id::UserId;

/// The id in a path: what follows `/v1/users/`.
pub(super) struct PathId(pub UserId);

impl<S: Sync> FromRequestParts<S> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let id = parts.uri.path().split('/').nth(3).unwrap_or_default();
        Ok(Self(UserId::from_ascii(&percent_decode(id.as_bytes()))?))
    }
}

/// A number; with `id_format=string` a string of digits.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    String(String),
}

impl Id {
    pub fn new(user: UserId, format: IdFormat) -> Self {
        match format {
            IdFormat::Number => Self::Number(user.as_i64()),
            IdFormat::String => Self::String(user.to_string()),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Profile {
    id: Id,
    status: &'static str,
    /// Of the latest session; null for a user who has only ever left in the second of coming.
    #[schema(required)]
    online_at: Option<u32>,
    #[schema(required)]
    offline_at: Option<u32>,
    /// The latest second in which the user counted as online.
    last_seen: u32,
    sessions: u64,
    online_seconds: u64,
}

/// What is known of a user in a few numbers; 404 for one never seen.
pub(super) async fn profile(
    PathId(user): PathId,
    common: Common,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let profile = shared
        .app
        .served()?
        .engine
        .profile(user)
        .ok_or(Error::fixed(StatusCode::NOT_FOUND, "this user has never been seen"))?;
    let body = Profile {
        id: Id::new(user, common.id_format),
        status: profile.status.as_str(),
        online_at: profile.latest.map(|session| session.online_at.as_u32()),
        offline_at: profile.latest.map(|session| session.offline_at.as_u32()),
        last_seen: profile.last_seen.as_u32(),
        sessions: profile.sessions,
        online_seconds: profile.online_seconds,
    };
    Ok(json(&body))
}

/// Removes a user and the whole timeline: `{"forgotten":42}` sessions.
pub(super) async fn forget(
    PathId(user): PathId,
    _: Common,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let Served { engine, .. } = shared.app.served().map_err(|refused| shared.refuse(refused))?;
    let forgotten = engine.forget_unconfirmed(user).map_err(|error| shared.refuse(error))?;
    shared.app.kept(engine, engine.ticket()).await.map_err(|refused| shared.refuse(refused))?;
    Ok(([(CONTENT_TYPE, JSON)], format!(r#"{{"forgotten":{forgotten}}}"#)).into_response())
}

/// A body as JSON without spaces.
pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => ([(CONTENT_TYPE, JSON)], body).into_response(),
        Err(_) => Error::INTERNAL.into_response(),
    }
}
