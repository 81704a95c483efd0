//! The service about itself: health, readiness, who is online; and what an operator can ask of it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::{Method, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::error::{Error, JSON, Refused};
use super::publish;
use super::query::Common;
use super::route::Route;
use super::routes::Shared;
use super::seed::NO_STORE;
use super::user::json;
use crate::engine::{SnapshotError, SnapshotTaken};
use crate::journal::Refusal;

/// The process is up and answers.
pub(super) async fn livez() -> Response {
    ([(CONTENT_TYPE, JSON)], r#"{"live":true}"#).into_response()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    reasons: Vec<Cow<'static, str>>,
}

/// Whether heals are taken; 503 with the reasons if not.
pub(super) async fn readyz(State(shared): State<Shared>) -> Response {
    let reasons = shared.app.unready_reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(&Readiness { ready: reasons.is_empty(), reasons })).into_response()
}

/// Says no to whatever this is: all workers hang, and the disk does not answer.
pub(super) async fn refuse(State(shared): State<Shared>, method: Method, uri: Uri) -> Error {
    let refused = Refused::Journal(shared.app.refusal().unwrap_or(Refusal::Overdue));
    if Route::of(uri.path()) == Route::Heal && matches!(method, Method::PUT | Method::POST) {
        shared.stats.healed(Err(refused));
    }
    shared.refuse(refused)
}

/// Everything for Prometheus.
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    publish::publish(&shared.app);
    let content_type = HeaderValue::from_static(crate::metrics::TEXT);
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, NO_STORE)], shared.app.metrics.render()).into_response()
}

#[derive(Serialize, ToSchema)]
pub(super) struct SnapshotReply {
    number: u64,
    bytes: u64,
    seconds: f64,
    users: u64,
    /// Closed ones; live sessions are part of their users.
    sessions: u64,
}

impl From<&SnapshotTaken> for SnapshotReply {
    fn from(taken: &SnapshotTaken) -> Self {
        Self {
            number: taken.number,
            bytes: taken.bytes,
            seconds: taken.elapsed.as_secs_f64(),
            users: taken.users,
            sessions: taken.sessions,
        }
    }
}

/// Takes a snapshot now, and answers when it is on disk. 409 while one is under way; 501 if the engine keeps nothing on disk:
/// repeating that is no use.
pub(super) async fn snapshot(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    let engine = Arc::clone(&shared.app.served()?.engine);
    let turn = shared.app.begin_snapshot().ok_or(UNDER_WAY)?;
    let (done, taken) = oneshot::channel();
    // It takes seconds, and neither this worker nor its end may wait for it: hence a thread of its own.
    let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        let taken = engine.snapshot();
        drop((engine, turn));
        // A client that has gone has its snapshot all the same.
        let _ = done.send(taken);
    });
    if let Err(error) = thread {
        tracing::error!(%error, "a snapshot that was asked for found no thread");
        return Err(NOT_TAKEN);
    }
    match taken.await {
        Ok(Ok(taken)) => {
            shared.app.metrics.took_snapshot(&taken);
            if let Some(error) = &taken.not_removed {
                let source = std::error::Error::source(&**error).map(ToString::to_string);
                tracing::error!(%error, source, "what a snapshot has made needless could not all be removed");
            }
            Ok(json(&SnapshotReply::from(&taken)))
        }
        Ok(Err(error)) => {
            if matches!(error, SnapshotError::Journal(_) | SnapshotError::File(_)) {
                shared.app.metrics.snapshot_failures.increment(1);
            }
            Err(refuse_snapshot(error))
        }
        Err(_panicked) => Err(Error::INTERNAL),
    }
}

const UNDER_WAY: Error =
    Error::fixed(StatusCode::CONFLICT, "a snapshot is under way; ask again when it is done");
const NOT_TAKEN: Error =
    Error::fixed(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot could not be written; the log says why");

fn refuse_snapshot(error: SnapshotError) -> Error {
    match error {
        SnapshotError::NotPersistent => {
            Error::fixed(StatusCode::NOT_IMPLEMENTED, "this service keeps nothing on disk")
        }
        SnapshotError::UnderWay => UNDER_WAY,
        SnapshotError::Journal(refusal) => {
            tracing::error!(%refusal, "a snapshot that was asked for could not be taken");
            Refused::Journal(refusal).into()
        }
        SnapshotError::File(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "a snapshot that was asked for could not be written");
            NOT_TAKEN
        }
    }
}
