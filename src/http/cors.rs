//! Pages of other origins: which may call the service from a browser, as the setting `cors-origin` says.
//!
//! A browser sends `Origin` with what such a page asks, and shows the page an answer only if the answer names that origin. Before
//! a call with another method than GET and POST it asks whether it may, with OPTIONS: the preflight. Whoever is no browser
//! sends no `Origin` and is answered as ever.
//!
//! This keeps no page from *sending* what needs no preflight, a `POST /v1/leave` with a `text/plain` id among it. It is about
//! who may read.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::body::Body;
use super::route::Route;
use crate::config::CorsOrigins;

/// A day, as long as a browser may keep what a preflight was told.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
/// What a page may send beside what every page may: the bodies' types, where an event stream is to go on, and what a proxy that
/// authenticates wants to see.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id");

/// What is to stand in the answer to a request that came with an `Origin`.
pub(super) struct Grant {
    /// `None` where the origin is none of those set.
    allowed: Option<HeaderValue>,
}

impl Grant {
    /// `None` for a request without an `Origin`.
    pub fn of(origins: &CorsOrigins, headers: &HeaderMap) -> Option<Self> {
        let origin = headers.get(ORIGIN)?;
        let allowed = match origins {
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            CorsOrigins::These(these) => {
                these.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        };
        Some(Self { allowed })
    }

    /// To another origin, and to none, the answer would be another.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(allowed) = self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
}

/// The route that a preflight asks about; `None` of any other request, and of a path that we do not serve.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Route> {
    let headers = request.headers();
    let is_one = request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    is_one.then(|| Route::of(request.uri().path())).filter(|route| *route != Route::Other)
}

/// The answer to a preflight, without what [`Grant::write`] adds: which methods the path takes.
pub(super) fn permit(route: Route) -> Response<Body> {
    let (verbs, _) = route.expected();
    let methods = verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ");
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Ok(methods) = HeaderValue::try_from(methods) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}
