//! The live page, `GET /`, what it loads, and `GET /heartbeat.js`, a client for the pages of others.
//!
//! All of it is in the binary, as it stands in `src/web`: there is no build step. Not a byte comes from elsewhere, and the content
//! security policy lets none, nor any script or style within the page. Addresses in it are relative, so it also works behind a
//! proxy that serves it under a longer path. A browser asks each time whether what it has is still right, and is told so in
//! 304 without a body.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use hyper::{HeaderMap, StatusCode, Uri};

use super::error::Error;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal: $content_type:expr),* $(,)?) => {
        [$(File { name: $name, content_type: $content_type, text: include_str!(concat!("../web/page/", $name)) }),*]
    };
}

const PAGE: File = File { name: "", content_type: HTML, text: include_str!("../web/page.html") };
const CLIENT: File = File { name: "", content_type: SCRIPT, text: include_str!("../web/heartbeat.js") };
const FILES: [File; 13] = files! {
    "page.css": CSS,
    "page.js": SCRIPT,
    "service.js": SCRIPT,
    "words.js": SCRIPT,
    "curve.js": SCRIPT,
    "moment.js": SCRIPT,
    "user.js": SCRIPT,
    "timeline.js": SCRIPT,
    "download.js": SCRIPT,
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": SCRIPT,
    "uPlot.min.css": CSS,
    "uPlot.LICENSE.txt": "text/plain; charset=utf-8",
};

impl File {
    /// Another text has another tag.
    fn tag(&self) -> String {
        format!("\"{:08x}-{:x}\"", crc32fast::hash(self.text.as_bytes()), self.text.len())
    }

    fn answer(&self, tag: &str, headers: &HeaderMap) -> Response {
        let tag_value = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        let caching = [(ETAG, tag_value), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        if is_known(tag, headers) {
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        let about = [
            (CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        (caching, about, self.text).into_response()
    }
}

/// Whether the browser has what goes by this tag (RFC 9110, 13.1.2: compared weakly).
fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

static PAGE_TAG: LazyLock<String> = LazyLock::new(|| PAGE.tag());
static CLIENT_TAG: LazyLock<String> = LazyLock::new(|| CLIENT.tag());
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(File::tag).collect());

/// The page.
pub(super) async fn page(headers: HeaderMap) -> Response {
    PAGE.answer(&PAGE_TAG, &headers)
}

/// What the page loads.
pub(super) async fn file(uri: Uri, headers: HeaderMap) -> Result<Response, Error> {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let (file, tag) = FILES.iter().zip(&*TAGS).find(|(file, _)| file.name == name).ok_or(Error::NOT_FOUND)?;
    Ok(file.answer(tag, &headers))
}

/// The client.
pub(super) async fn client(headers: HeaderMap) -> Response {
    CLIENT.answer(&CLIENT_TAG, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_shorter_than_2_kb() {
        assert!(CLIENT.text.len() < 2_000, "{} bytes", CLIENT.text.len());
    }

    /// What the policy forbids does not work in a browser; it is not there, either.
    #[test]
    fn there_is_no_script_style_or_handler_within_the_page() {
        for forbidden in ["<script>", "<style", " style=", " onclick=", " onload=", "javascript:", "http:"] {
            assert!(!PAGE.text.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn what_the_page_loads_is_there() {
        let loaded = PAGE.text.split("page/").skip(1);
        let mut names: Vec<_> = loaded.filter_map(|rest| rest.split('"').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["icon.svg", "page.css", "page.js", "uPlot.iife.min.js", "uPlot.min.css"]);
        for name in names {
            assert!(FILES.iter().any(|file| file.name == name), "{name}");
        }
    }

    #[test]
    fn a_browser_names_what_it_has_in_many_ways() {
        let known = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            is_known("\"a-1\"", &headers)
        };
        assert!(known("\"a-1\"") && known("W/\"a-1\"") && known("\"b\", \"a-1\"") && known("*"));
        assert!(!known("\"a-2\"") && !known("a-1") && !known(""));
        assert!(!is_known("\"a-1\"", &HeaderMap::new()));
    }
}
