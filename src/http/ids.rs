//! The ids of a request in bulk, in one of three forms, told by the content type:
//!
//! ```text
//!   application/json           {"ids":[1,"2",3]}
//!   text/plain                 one id a line
//!   application/octet-stream   8-byte little-endian integers, one after another
//! ```
//!
//! All are read before anything is done: a malformed one refuses the whole request, and is named by its position.

use std::borrow::Cow;

use axum::http::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Error;
use crate::user_id::UserId;

/// What is wrong with a body is told in so many characters.
pub(super) const WHY_MAX: usize = 200;
/// Most ids in a request.
pub(super) const IDS_MAX: usize = 100_000;

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Lines,
    Binary,
}

impl Form {
    /// As the content type says.
    pub fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        [
            ("application/json", Self::Json),
            ("text/plain", Self::Lines),
            ("application/octet-stream", Self::Binary),
        ]
        .into_iter()
        .find(|(name, _)| media_type.eq_ignore_ascii_case(name))
        .map(|(_, form)| form)
        .ok_or(Error::fixed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-type: send application/json, text/plain or application/octet-stream",
        ))
    }

    pub fn parse(self, body: &[u8]) -> Result<Vec<UserId>, Error> {
        match self {
            Self::Json => parse_json(body),
            Self::Lines => parse_lines(body),
            Self::Binary => parse_binary(body),
        }
    }
}

fn malformed(position: usize) -> Error {
    Error::bad_request(format!("ids[{position}]: invalid user_id format"))
}

const TOO_MANY: Error = Error::fixed(StatusCode::PAYLOAD_TOO_LARGE, "at most 100000 ids in a request");

fn parse_binary(body: &[u8]) -> Result<Vec<UserId>, Error> {
    let (ids, rest) = body.as_chunks::<8>();
    if ids.len() > IDS_MAX {
        return Err(TOO_MANY);
    }
    if !rest.is_empty() {
        return Err(malformed(ids.len()));
    }
    Ok(ids.iter().map(|&id| UserId::new(i64::from_le_bytes(id))).collect())
}

fn parse_lines(body: &[u8]) -> Result<Vec<UserId>, Error> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let mut ids = Vec::with_capacity((body.len() / 4).min(IDS_MAX));
    for (position, line) in body.split(|&byte| byte == b'\n').enumerate() {
        if position == IDS_MAX {
            return Err(TOO_MANY);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        ids.push(UserId::from_ascii(line).map_err(|_| malformed(position))?);
    }
    Ok(ids)
}

fn parse_json(body: &[u8]) -> Result<Vec<UserId>, Error> {
    let mut refusal = None;
    let mut input = serde_json::Deserializer::from_slice(body);
    let ids = Request(&mut refusal).deserialize(&mut input).and_then(|ids| input.end().map(|()| ids));
    ids.map_err(|error| {
        refusal.unwrap_or_else(|| {
            // serde repeats a member's name, which is as long as a client makes it.
            let why: String = error.to_string().chars().take(WHY_MAX).collect();
            Error::bad_request(format!(r#"the body is not of the form {{"ids":[1,2,3]}}: {why}"#))
        })
    })
}

/// Reads `{"ids":[…]}`. What is wrong with an id is told by position, beside serde's own error.
struct Request<'a>(&'a mut Option<Error>);

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = Vec<UserId>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<UserId>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = Vec<UserId>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with the one member ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<UserId>, A::Error> {
        let mut ids = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name != "ids" {
                return Err(A::Error::unknown_field(&name, &["ids"]));
            }
            if ids.is_some() {
                return Err(A::Error::duplicate_field("ids"));
            }
            ids = Some(map.next_value_seed(Ids(&mut *self.0))?);
        }
        ids.ok_or_else(|| A::Error::missing_field("ids"))
    }
}

struct Ids<'a>(&'a mut Option<Error>);

impl<'de> DeserializeSeed<'de> for Ids<'_> {
    type Value = Vec<UserId>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<UserId>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Ids<'_> {
    type Value = Vec<UserId>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<UserId>, A::Error> {
        let mut ids = Vec::new();
        while let Some(MaybeId(id)) = list.next_element()? {
            let refused = match id {
                _ if ids.len() == IDS_MAX => TOO_MANY,
                None => malformed(ids.len()),
                Some(id) => {
                    ids.push(id);
                    continue;
                }
            };
            *self.0 = Some(refused);
            return Err(A::Error::custom("refused"));
        }
        Ok(ids)
    }
}

/// An id, as a number or a decimal string, or whatever else JSON has.
pub(super) struct MaybeId(pub Option<UserId>);

impl<'de> serde::Deserialize<'de> for MaybeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MaybeIdVisitor)
    }
}

struct MaybeIdVisitor;

impl<'de> Visitor<'de> for MaybeIdVisitor {
    type Value = MaybeId;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an id")
    }

    fn visit_i64<E>(self, id: i64) -> Result<MaybeId, E> {
        Ok(MaybeId(Some(UserId::new(id))))
    }

    fn visit_u64<E>(self, id: u64) -> Result<MaybeId, E> {
        Ok(MaybeId(i64::try_from(id).ok().map(UserId::new)))
    }

    fn visit_str<E>(self, id: &str) -> Result<MaybeId, E> {
        Ok(MaybeId(id.parse().ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<MaybeId, E> {
        Ok(MaybeId(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<MaybeId, E> {
        Ok(MaybeId(None))
    }

    fn visit_unit<E>(self) -> Result<MaybeId, E> {
        Ok(MaybeId(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MaybeId, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(MaybeId(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MaybeId, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MaybeId(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i64]) -> Vec<UserId> {
        ids.iter().copied().map(UserId::new).collect()
    }

    #[test]
    fn the_three_forms_say_the_same() {
        assert_eq!(
            parse_json(br#" {"ids": [1, "-2", 9223372036854775807, "+3"]} "#),
            Ok(ids(&[1, -2, i64::MAX, 3]))
        );
        assert_eq!(parse_lines(b"1\r\n-2\n9223372036854775807\n+3\n"), Ok(ids(&[1, -2, i64::MAX, 3])));
        let binary: Vec<u8> = [1, -2, i64::MAX, 3].into_iter().flat_map(i64::to_le_bytes).collect();
        assert_eq!(parse_binary(&binary), Ok(ids(&[1, -2, i64::MAX, 3])));

        assert_eq!(parse_json(br#"{"ids":[]}"#), Ok(ids(&[])));
        assert_eq!(parse_lines(b""), Ok(ids(&[])));
        assert_eq!(parse_binary(b""), Ok(ids(&[])));
    }

    #[test]
    fn a_malformed_id_is_named_by_its_position() {
        for element in [
            "1.5",
            "1e3",
            "9223372036854775808",
            "\"x\"",
            "\"\"",
            "null",
            "true",
            "[1]",
            "{\"a\":1}",
            "1e999",
        ] {
            let body = format!(r#"{{"ids":[7,{element},8]}}"#);
            let refused = parse_json(body.as_bytes()).unwrap_err().sentence;
            assert!(
                refused == "ids[1]: invalid user_id format" || element == "1e999",
                "{element}: {refused}"
            );
        }
        assert_eq!(parse_lines(b"1\n\n2\n"), Err(malformed(1)));
        assert_eq!(parse_lines(b"1\n 2\n"), Err(malformed(1)));
        assert_eq!(parse_lines(b"\n"), Err(malformed(0)));
        assert_eq!(parse_binary(&[0; 12]), Err(malformed(1)));
    }

    #[test]
    fn a_body_of_another_shape_is_refused_with_what_is_wrong() {
        for body in [
            "",
            "{}",
            "[1]",
            r#"{"ids":1}"#,
            r#"{"ids":[1],"x":2}"#,
            r#"{"ids":[1],"ids":[2]}"#,
            r#"{"ids":[1]}x"#,
            r#"{"ids":[1"#,
        ] {
            let refused = parse_json(body.as_bytes()).unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            assert!(
                refused.sentence.starts_with("the body is not of the form"),
                "{body}: {}",
                refused.sentence
            );
        }
    }

    #[test]
    fn a_hundred_thousand_ids_are_taken_and_no_more() {
        let list = |n: usize| format!(r#"{{"ids":[{}1]}}"#, "1,".repeat(n - 1));
        assert_eq!(parse_json(list(IDS_MAX).as_bytes()).unwrap().len(), IDS_MAX);
        assert_eq!(parse_json(list(IDS_MAX + 1).as_bytes()), Err(TOO_MANY));
        assert_eq!(parse_lines("1\n".repeat(IDS_MAX).as_bytes()).unwrap().len(), IDS_MAX);
        assert_eq!(parse_lines("1\n".repeat(IDS_MAX + 1).as_bytes()), Err(TOO_MANY));
        assert_eq!(parse_binary(&vec![0; 8 * IDS_MAX]).unwrap().len(), IDS_MAX);
        assert_eq!(parse_binary(&vec![0; 8 * (IDS_MAX + 1)]), Err(TOO_MANY));
    }
}
