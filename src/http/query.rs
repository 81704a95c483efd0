//! Query parameters: those that a call knows, each at most once, and no others.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::error::Error;
use super::json::IdFormat;

/// The parameters that every `/v1` call takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Common {
    pub id_format: IdFormat,
}

impl<S: Sync> FromRequestParts<S> for Common {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Error::bad_request("the query is not made of name=value pairs"))?;
        let mut id_format = None;
        for (name, value) in pairs {
            let value = match (name.as_str(), value.as_str()) {
                ("id_format", "number") => IdFormat::Number,
                ("id_format", "string") => IdFormat::String,
                ("id_format", _) => return Err(Error::bad_request("id_format: write number or string")),
                _ => return Err(Error::bad_request(format!("{}: no such parameter here", shorten(&name)))),
            };
            if id_format.replace(value).is_some() {
                return Err(Error::bad_request("id_format: given more than once"));
            }
        }
        Ok(Self { id_format: id_format.unwrap_or_default() })
    }
}

/// A name that a client made up is repeated only so far.
fn shorten(name: &str) -> String {
    name.chars().take(32).collect()
}
