//! A page to try the calls: `GET /docs`, Swagger UI over `/openapi.json`.
//!
//! Not a byte of it comes from elsewhere, and its content security policy lets none: the files are in the binary, compressed
//! when it was built, and the page calls nobody but the service it was loaded from.

use std::sync::{Arc, LazyLock};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use super::error::Error;

/// Its own scripts and styles, its own pictures and those that its styles carry in themselves; calls to where it came from; in
/// nobody's frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// With another version of the service they are others.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

const PAGE: &str = include_str!("../web/docs.html");
const START: &str = include_str!("../web/docs.js");

/// A file of the page.
struct File {
    content_type: HeaderValue,
    bytes: Bytes,
}

/// The files by name: of Swagger UI those that the page needs. Each as gzip; every browser takes that.
static FILES: LazyLock<Vec<(&'static str, File)>> = LazyLock::new(|| {
    let content_types = [
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("favicon-32x32.png", "image/png"),
    ];
    content_types
        .into_iter()
        .filter_map(|(name, content_type)| {
            let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("/openapi.json"))).ok()??;
            let bytes = match file.bytes {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => bytes.into(),
            };
            Some((name, File { content_type: HeaderValue::from_static(content_type), bytes }))
        })
        .collect()
});

fn protected(content_type: HeaderValue, body: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, NO_CACHE),
    ];
    (headers, body).into_response()
}

/// The page.
pub(super) async fn page() -> Response {
    protected(HeaderValue::from_static("text/html; charset=utf-8"), Bytes::from_static(PAGE.as_bytes()))
}

/// What the page loads.
pub(super) async fn file(uri: hyper::Uri) -> Result<Response, Error> {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    if name == "start.js" {
        let content_type = HeaderValue::from_static("text/javascript; charset=utf-8");
        return Ok(protected(content_type, Bytes::from_static(START.as_bytes())));
    }
    let (_, file) = FILES.iter().find(|(known, _)| *known == name).ok_or(Error::NOT_FOUND)?;
    let mut response = protected(file.content_type.clone(), file.bytes.clone());
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(response)
}
