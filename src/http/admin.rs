//! The service about itself: health, readiness, figures.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Error, JSON};
use super::query::Common;
use super::routes::Shared;
use super::user::json;
use crate::process;

/// The process is up and answers.
pub(super) async fn livez() -> Response {
    ([(CONTENT_TYPE, JSON)], r#"{"live":true}"#).into_response()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    reasons: Vec<&'static str>,
}

/// Whether heals are taken; 503 with the reasons if not.
pub(super) async fn readyz(State(shared): State<Shared>) -> Response {
    let reasons = shared.app.unready_reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(&Readiness { ready: reasons.is_empty(), reasons })).into_response()
}

/// How many are online, as of the second last swept: a session leaves this count in second deadline + grace + 1.
pub(super) async fn online(_: Common, State(shared): State<Shared>) -> Response {
    let figures = shared.app.engine.figures();
    ([(CONTENT_TYPE, JSON)], format!(r#"{{"online":{},"at":{}}}"#, figures.online, figures.at))
        .into_response()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    uptime_seconds: u64,
    users: u64,
    online: u64,
    at: u32,
    sessions: u64,
    heals: Heals,
    connections: u64,
    process: Option<process::Usage>,
}

#[derive(Serialize, ToSchema)]
struct Heals {
    opened: u64,
    extended: u64,
    unchanged: u64,
    refused: u64,
    invalid: u64,
}

/// What runs and how it is doing.
pub(super) async fn status(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    let figures = shared.app.engine.figures();
    let stats = shared.app.stats();
    Ok(json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: shared.app.started.elapsed().as_secs(),
        users: figures.users,
        online: figures.online,
        at: figures.at.as_u32(),
        sessions: figures.sessions,
        heals: Heals {
            opened: stats.heals.opened,
            extended: stats.heals.extended,
            unchanged: stats.heals.unchanged,
            refused: stats.heals.refused,
            invalid: stats.heals.invalid,
        },
        connections: stats.connections,
        process: process::usage(),
    }))
}
