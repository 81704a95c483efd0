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
use super::route::Route;
use super::seed::NO_STORE;
use super::stats::WorkerStats;
use super::{
    admin, bulk, compression, concurrency, docs, events, figures, figures_watch, history, online, openapi,
    page, status, transfer, uptime, user, watch,
};

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

pub(super) fn router(app: &Arc<App>, stats: &Arc<WorkerStats>, metrics: MetricsAt) -> Router {
    let routes = compression::layer(richer())
        .route(Route::Openapi.path(), get(openapi::openapi))
        .route(Route::Docs.path(), get(docs::page))
        .route(Route::DocsFile.path(), get(docs::file))
        .route(Route::Page.path(), get(page::page))
        .route(Route::PageFile.path(), get(page::file))
        .route(Route::Client.path(), get(page::client))
        .merge(observed(metrics));
    finish(routes.fallback(|| async { Error::NOT_FOUND }), app, stats)
}

/// Everything on `/v1`.
fn richer() -> Router<Shared> {
    Router::new()
        .route(Route::HealMany.path(), post(bulk::heal))
        .route(Route::CheckupMany.path(), post(bulk::checkup))
        .route(Route::LeaveMany.path(), post(bulk::leave))
        .route(Route::User.path(), get(user::profile).delete(user::forget))
        .route(Route::UserHistory.path(), get(history::history))
        .route(Route::UserStats.path(), get(uptime::uptime))
        .route(Route::Online.path(), get(online::online))
        .route(Route::OnlineUsers.path(), get(online::users))
        .route(Route::OnlineAt.path(), get(online::at).post(online::at_of))
        .route(Route::Concurrency.path(), get(concurrency::concurrency))
        .route(Route::Watch.path(), get(watch::watch))
        .route(Route::Events.path(), get(events::events))
        .route(Route::Figures.path(), get(figures::figures))
        .route(Route::FiguresWatch.path(), get(figures_watch::watch))
        .route(Route::Status.path(), get(status::status))
        .route(Route::Export.path(), get(transfer::export))
        .route(Route::Import.path(), post(transfer::import))
        .route(Route::Snapshot.path(), post(admin::snapshot))
}

/// What is served where metrics have addresses of their own.
pub(super) fn metrics_observer(app: &Arc<App>, stats: &Arc<WorkerStats>) -> Router {
    let routes = health().merge(metrics_alone());
    finish(routes.fallback(|| async { Error::NOT_FOUND }), app, stats)
}

/// What is served by the thread that waits for no disk. Anything else is given to it only when no worker goes on.
pub(super) fn observer(app: &Arc<App>, stats: &Arc<WorkerStats>, metrics: MetricsAt) -> Router {
    finish(observed(metrics).fallback(admin::refuse), app, stats)
}

/// Where metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsAt {
    SamePort,
    OtherPort,
}

fn observed(metrics: MetricsAt) -> Router<Shared> {
    match metrics {
        MetricsAt::SamePort => health().merge(metrics_alone()),
        MetricsAt::OtherPort => health(),
    }
}

fn health() -> Router<Shared> {
    Router::new()
        .route(Route::Livez.path(), get(admin::livez))
        .route(Route::Healthz.path(), get(admin::livez))
        .route(Route::Readyz.path(), get(admin::readyz))
}

fn metrics_alone() -> Router<Shared> {
    Router::new().route(Route::Metrics.path(), get(admin::metrics))
}

fn finish(routes: Router<Shared>, app: &Arc<App>, stats: &Arc<WorkerStats>) -> Router {
    routes
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
