//! What must hold of any bytes that are read as an id, as the ids of a request in bulk, or as lines of an import.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "only tests and fuzzers run this, and what fails here is a finding"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::StatusCode;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::Error;
use super::ids::{Form, IDS_MAX, MaybeId, WHY_MAX};
use super::json::{self, IdFormat};
use super::seed::{Endpoint, percent_decode, read_id};
use super::transfer::{LINE_MAX, Lines, read_line};
use crate::engine::{Engine, Imported};
use crate::fuzzing::{SOME_BYTES, Within, bounded};
use crate::session::Session;
use crate::time::{ManualClock, UnixSeconds};
use crate::user_id::UserId;

const NOW: UnixSeconds = UnixSeconds::new(1_638_360_000);

/// An id as the rule has it: a sign, digits, and 64 bits.
fn id_by_the_rule(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.contains(|char: char| !char.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let number = match digits.len() {
        0 => 0,
        1..20 => digits.parse::<i128>().unwrap(),
        _ => return None,
    };
    i64::try_from(if text.starts_with('-') { -number } else { number }).ok()
}

/// What percent-encoding stands for.
fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let pair = text.get(at + 1..at + 3).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        if let Some(pair) = pair.filter(|_| text[at] == b'%') {
            decoded.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            at += 3;
        } else {
            decoded.push(text[at]);
            at += 1;
        }
    }
    decoded
}

/// What stands for an id: in a path, in a body, anywhere.
pub fn id(input: &[u8], within: Within) {
    let by_the_rule = id_by_the_rule(input);
    let read = bounded(within, 0, || UserId::from_ascii(input));
    assert_eq!(read.ok().map(UserId::as_i64), by_the_rule);
    assert!(bounded(within, input.len(), || percent_decode(input)) == decoded(input));
    if let Some(id) = by_the_rule {
        assert_eq!(UserId::from_ascii(id.to_string().as_bytes()), Ok(UserId::new(id)));
        let MaybeId(of_number) = serde_json::from_str(&id.to_string()).unwrap();
        let MaybeId(of_string) = serde_json::from_str(&format!("\"{id}\"")).unwrap();
        assert_eq!((of_number, of_string), (Some(UserId::new(id)), Some(UserId::new(id))));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    for (name, endpoint) in
        [("heal", Endpoint::Heal), ("checkup", Endpoint::Checkup), ("heart_rhythm", Endpoint::HeartRhythm)]
    {
        let path = format!("/{name}/{text}");
        let named = bounded(within, SOME_BYTES + path.len(), || {
            Endpoint::of(&path).map(|(endpoint, id)| (endpoint, id.map_or(Err(Error::MISSING_ID), read_id)))
        });
        let id = text.strip_suffix('/').unwrap_or(text);
        let expected = match id_by_the_rule(&decoded(id.as_bytes())) {
            _ if id.contains('/') => None,
            _ if id.is_empty() => Some((endpoint, Err(Error::MISSING_ID))),
            id => Some((endpoint, id.map(UserId::new).ok_or(Error::from(crate::user_id::InvalidUserId)))),
        };
        assert_eq!(named, expected, "{path}");
    }
}

/// A request in bulk: its form in the first byte, then its body.
pub fn bulk(input: &[u8], within: Within) {
    let Some((&form, body)) = input.split_first() else { return };
    let form = [Form::Json, Form::Lines, Form::Binary][usize::from(form) % 3];
    // A list that grows is there twice for a moment, and an id in JSON may be a digit and a comma.
    let ids = bounded(within, SOME_BYTES + 16 * body.len(), || form.parse(body));
    let expected = match form {
        Form::Json => json_by_the_rule(body),
        Form::Lines => Some(lines_by_the_rule(body)),
        Form::Binary => Some(binary_by_the_rule(body)),
    };
    match (&ids, expected) {
        (Ok(ids), Some(expected)) => {
            assert!(expected.is_ok_and(|expected| ids.iter().copied().map(UserId::as_i64).eq(expected)));
        }
        (Ok(_), None) => panic!("taken, and no JSON"),
        (Err(error), Some(Err(position))) => {
            assert_eq!(error.sentence, format!("ids[{position}]: invalid user_id format"));
        }
        (Err(error), expected) => {
            // What serde says is cut.
            assert!(error.sentence.chars().count() <= WHY_MAX + 100, "{error:?}");
            assert!(form == Form::Json && expected.is_none(), "{error:?}");
        }
    }
    if let Err(error) = &ids {
        assert!(error.status == StatusCode::BAD_REQUEST && !error.close);
    }
    // The three forms say the same.
    if let Ok(ids) = ids {
        let number = |user: &UserId| user.as_i64().to_string();
        let list = ids.iter().map(number).collect::<Vec<_>>();
        let lines = list.iter().flat_map(|id| [id.as_str(), "\n"]).collect::<String>();
        let binary: Vec<u8> = ids.iter().flat_map(|user| user.as_i64().to_le_bytes()).collect();
        assert_eq!(
            Form::Json.parse(format!("{{\"ids\":[{}]}}", list.join(",")).as_bytes()).as_ref(),
            Ok(&ids)
        );
        assert_eq!(Form::Json.parse(format!("{{\"ids\":{list:?}}}").as_bytes()).as_ref(), Ok(&ids));
        assert_eq!(Form::Lines.parse(lines.as_bytes()).as_ref(), Ok(&ids));
        assert_eq!(Form::Binary.parse(&binary).as_ref(), Ok(&ids));
    }
}

/// The ids, or the position of the first that is none.
type Ids = Result<Vec<i64>, usize>;

fn binary_by_the_rule(body: &[u8]) -> Ids {
    assert!(body.len() < 8 * IDS_MAX, "the fuzzer makes no inputs of this size");
    let ids = body.chunks(8).map(|id| id.try_into().map(i64::from_le_bytes)).collect::<Result<_, _>>();
    ids.map_err(|_| body.len() / 8)
}

fn lines_by_the_rule(body: &[u8]) -> Ids {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines: Vec<_> = body.split(|&byte| byte == b'\n').collect();
    if lines.len() > 1 && lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let id = |(at, line): (usize, &&[u8])| id_by_the_rule(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(at);
    lines.iter().enumerate().map(id).collect()
}

/// `None` if it is not JSON, or of another shape.
fn json_by_the_rule(body: &[u8]) -> Option<Ids> {
    let Members(members) = serde_json::from_slice(body).ok()?;
    let [(name, Value::Array(ids))] = &members[..] else { return None };
    let id = |(at, id): (usize, &Value)| match id {
        Value::Number(id) => id.as_i64().ok_or(at),
        Value::String(id) => id_by_the_rule(id.as_bytes()).ok_or(at),
        _ => Err(at),
    };
    (name == "ids").then(|| ids.iter().enumerate().map(id).collect())
}

/// An object as it is written: `Value` keeps only the last of two members of one name.
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// An import: in the first byte how long the pieces are in which it arrives, then its lines.
pub fn import(input: &[u8], within: Within) {
    let Some((&piece, body)) = input.split_first() else { return };
    let pieces = body.chunks(usize::from(piece).pow(2).max(1));
    let mut expected = (1..).zip(body.split(|&byte| byte == b'\n'));
    let mut cut = Lines::default();
    let engine = Engine::builder().clock(Arc::new(ManualClock::at(NOW))).build();
    let mut imported = BTreeSet::new();
    let mut take = |number: u64, line: Option<&[u8]>| {
        let (expected_number, whole) = expected.next().unwrap();
        assert_eq!((number, line), (expected_number, Some(whole).filter(|whole| whole.len() <= LINE_MAX)));
        if let Some(session) = check_line(line, within)
            && engine.import(session.0, session.1, session.2).unwrap() == Imported::Added
        {
            assert_eq!(engine.import(session.0, session.1, session.2), Ok(Imported::Unchanged));
            imported.insert(session);
        }
    };
    for piece in pieces {
        cut.take(piece, &mut take);
    }
    cut.end(&mut take);
    assert!(expected.next().is_none());
    if !imported.is_empty() {
        check_export(&engine, &imported);
    }
}

type Imports = (UserId, UnixSeconds, UnixSeconds);

/// Reads a line; one that is accepted is written in both ways, and read again.
fn check_line(line: Option<&[u8]>, within: Within) -> Option<Imports> {
    let read = bounded(within, SOME_BYTES + 4 * LINE_MAX, || read_line(line))?;
    let Ok(session @ (user, online_at, offline_at)) = read else { return None };
    let text = std::str::from_utf8(line.unwrap()).unwrap();
    let Value::Object(members) = serde_json::from_str(text).unwrap() else {
        panic!("taken, and no object: {text}")
    };
    assert!(members.len() == 3, "{text}");
    assert_eq!(
        members["online_at"].as_u64().map(|second| second.min(u32::MAX.into())),
        Some(online_at.as_u32().into())
    );
    assert_eq!(
        members["offline_at"].as_u64().map(|second| second.min(u32::MAX.into())),
        Some(offline_at.as_u32().into())
    );
    for format in [IdFormat::Number, IdFormat::String] {
        let mut line = Vec::new();
        json::session_of(
            &mut line,
            user,
            Session { online_at, offline_at, end: crate::session::End::Lapsed },
            format,
        );
        assert_eq!(read_line(Some(&line)), Some(Ok(session)));
    }
    Some(session)
}

/// What was imported is what is exported, but that a session which has not ended may end earlier here.
fn check_export(engine: &Engine, imported: &BTreeSet<Imports>) {
    let mut exported = Vec::new();
    (0..Engine::SHARDS).for_each(|shard| engine.export(shard, &mut exported));
    let exported: BTreeSet<_> =
        exported.iter().map(|(user, session)| (*user, session.online_at, session.offline_at)).collect();
    let in_time = |&(user, online_at, offline_at): &Imports| (user, online_at, offline_at.min(NOW.plus(7)));
    let expected: BTreeSet<_> = imported.iter().map(in_time).collect();
    assert_eq!(exported, expected);
}
