//! Which path is served by what, for all but the original three endpoints.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use hyper::Method;

use super::app::App;
use super::error::{Error, JSON, Refused};
use super::seed::NO_STORE;
use super::stats::WorkerStats;
use super::{admin, bulk, openapi, status, transfer, user};

/// What a handler on the router works with.
#[derive(Clone)]
pub(super) struct Shared {
    pub app: Arc<App>,
    /// Of the worker that this router belongs to.
    pub stats: Arc<WorkerStats>,
}

impl Shared {
    /// Says no to a write.
    pub fn refuse(&self, refused: impl Into<Refused>) -> Error {
        let refused = refused.into();
        self.app.log.refused(refused);
        refused.into()
    }
}

pub(super) fn router(app: &Arc<App>, stats: &Arc<WorkerStats>) -> Router {
    Router::new()
        .route("/v1/heal", post(bulk::heal))
        .route("/v1/checkup", post(bulk::checkup))
        .route("/v1/leave", post(bulk::leave))
        .route("/v1/users/{user_id}", get(user::profile).delete(user::forget))
        .route("/v1/online", get(admin::online))
        .route("/v1/status", get(status::status))
        .route("/v1/export", get(transfer::export))
        .route("/v1/import", post(transfer::import))
        .route("/v1/admin/snapshot", post(admin::snapshot))
        .route("/livez", get(admin::livez))
        .route("/healthz", get(admin::livez))
        .route("/readyz", get(admin::readyz))
        .route("/openapi.json", get(openapi::openapi))
        .fallback(|| async { Error::NOT_FOUND })
        .method_not_allowed_fallback(|| async { Error::METHOD })
        .layer(middleware::from_fn(do_not_store))
        .with_state(Shared { app: Arc::clone(app), stats: Arc::clone(stats) })
}

/// JSON that answers a GET is as of now.
async fn do_not_store(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    if is_read && response.headers().get(CONTENT_TYPE) == Some(&JSON) {
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    }
    response
}
