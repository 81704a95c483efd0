//! Everybody's sessions, out and in: `GET /v1/export`, `POST /v1/import`.
//!
//! Both as NDJSON, one session a line: `{"id":12345,"online_at":1638360000,"offline_at":1638360300}`.
//!
//! An export is written as it is read: a shard is copied under its guard and then sent, before the next one is looked at. So
//! it needs the memory of one shard however many users there are, and a client that reads slowly holds up nobody.
//!
//! An import takes effect line by line, while it arrives. A line has a limit and the body has none.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::Served;
use super::body::BodyError;
use super::bulk::TURN;
use super::error::{Error, Refused};
use super::ids::MaybeId;
use super::json::{self, IdFormat};
use super::query::Common;
use super::room::when_there_is_room;
use super::routes::Shared;
use super::seed::NO_STORE;
use super::user;
use crate::engine::{Engine, Imported, WriteError};
use crate::session::Session;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// A line of 80 bytes is long.
pub(super) const LINE_MAX: usize = 1_024;
/// So many rejected lines are told one by one.
const ERRORS_MAX: usize = 10;

/// Everybody's sessions. A live one has its deadline as `offline_at`.
pub(super) async fn export(common: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    let export = Export {
        engine: Arc::clone(&shared.app.served()?.engine),
        id_format: common.id_format,
        next_shard: 0,
        sessions: Vec::new(),
        sent: 0,
        has_rested: true,
    };
    Ok(([(CONTENT_TYPE, NDJSON), (CACHE_CONTROL, NO_STORE)], Body::new(export)).into_response())
}

/// The body of an export, made while it is sent.
struct Export {
    engine: Arc<Engine>,
    id_format: IdFormat,
    next_shard: usize,
    /// Of the shard before `next_shard`.
    sessions: Vec<(UserId, Session)>,
    sent: usize,
    has_rested: bool,
}

impl Export {
    /// Up to [`TURN`] lines; `None` after the last.
    fn next_piece(&mut self) -> Option<Vec<u8>> {
        while self.sent == self.sessions.len() {
            if self.next_shard == Engine::SHARDS {
                return None;
            }
            self.sessions.clear();
            self.sent = 0;
            self.engine.export(self.next_shard, &mut self.sessions);
            self.next_shard += 1;
        }
        let rest = &self.sessions[self.sent..];
        let turn = &rest[..rest.len().min(TURN)];
        self.sent += turn.len();
        // 66 bytes a line, with an id of eight digits.
        let mut out = Vec::with_capacity(72 * turn.len());
        for &(user, session) in turn {
            json::session_of(&mut out, user, session, self.id_format);
            out.push(b'\n');
        }
        Some(out)
    }
}

impl HttpBody for Export {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let export = self.get_mut();
        // To a client that reads as fast as we write, nothing else would end a turn.
        if !std::mem::replace(&mut export.has_rested, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        export.has_rested = false;
        Poll::Ready(export.next_piece().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

/// What came of an import.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct ImportReply {
    imported: u64,
    /// There already.
    unchanged: u64,
    rejected: u64,
    /// Of the first ten rejected lines.
    first_errors: Vec<LineError>,
}

#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct LineError {
    /// From 1.
    line: u64,
    error: String,
}

impl ImportReply {
    fn reject(&mut self, line: u64, error: &(impl ToString + ?Sized)) {
        self.rejected += 1;
        if self.first_errors.len() < ERRORS_MAX {
            self.first_errors.push(LineError { line, error: error.to_string() });
        }
    }
}

/// A line as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: MaybeId,
    online_at: u64,
    offline_at: u64,
}

const FORM: &str = r#"write {"id":12345,"online_at":1638360000,"offline_at":1638360300}"#;

/// A session that was read, or what is wrong with its line.
pub(super) type Read = Result<(UserId, UnixSeconds, UnixSeconds), Cow<'static, str>>;

/// Takes sessions from elsewhere, line by line. Repeating it, or any part of it, changes nothing more.
pub(super) async fn import(_: Common, State(shared): State<Shared>, body: Body) -> Result<Response, Error> {
    // Whatever is answered before the body's end, the rest of the body is not the next request.
    let refuse = |refused: Refused| shared.refuse(refused).closing();
    let Served { engine, .. } = shared.app.served().map_err(refuse)?;
    let mut import = Import { engine, reply: ImportReply::default(), done: 0 };
    let mut lines = Lines::default();
    let mut read: Vec<(u64, Read)> = Vec::new();
    let mut body = std::pin::pin!(body);
    let pause = shared.app.body_limits.pause;
    while let Some(frame) = tokio::time::timeout(pause, body.frame()).await.map_err(|_| BodyError::TooSlow)? {
        let Ok(piece) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        lines.take(&piece, |line, text| read.extend(read_line(text).map(|session| (line, session))));
        import.all(&mut read).await.map_err(|error| refuse(error.into()))?;
    }
    lines.end(|line, text| read.extend(read_line(text).map(|session| (line, session))));
    import.all(&mut read).await.map_err(|error| shared.refuse(error))?;
    shared.app.kept(engine, engine.ticket()).await.map_err(|refused| shared.refuse(refused))?;
    Ok(user::json(&import.reply))
}

/// `None` of a blank line; `text` is `None` of one that is too long.
pub(super) fn read_line(text: Option<&[u8]>) -> Option<Read> {
    let Some(text) = text else {
        return Some(Err(format!("longer than {LINE_MAX} bytes").into()));
    };
    if text.trim_ascii().is_empty() {
        return None;
    }
    Some(match serde_json::from_slice(text) {
        // serde takes a list of the three for a struct as well.
        _ if !text.trim_ascii_start().starts_with(b"{") => Err(FORM.into()),
        Err(_) => Err(FORM.into()),
        Ok(Line { id: MaybeId(None), .. }) => Err("invalid user_id format".into()),
        Ok(Line { id: MaybeId(Some(user)), online_at, offline_at }) => {
            Ok((user, seconds(online_at), seconds(offline_at)))
        }
    })
}

/// An import under way.
struct Import<'a> {
    engine: &'a Engine,
    reply: ImportReply,
    done: usize,
}

impl Import<'_> {
    async fn all(&mut self, read: &mut Vec<(u64, Read)>) -> Result<(), WriteError> {
        for (line, session) in read.drain(..) {
            match session {
                Ok((user, online_at, offline_at)) => match self.one(user, online_at, offline_at).await? {
                    Imported::Added => self.reply.imported += 1,
                    Imported::Unchanged => self.reply.unchanged += 1,
                    Imported::Rejected(rejection) => self.reply.reject(line, &rejection),
                },
                Err(wrong) => self.reply.reject(line, &wrong),
            }
            self.done += 1;
            if self.done.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        user: UserId,
        online_at: UnixSeconds,
        offline_at: UnixSeconds,
    ) -> Result<Imported, WriteError> {
        let import = || self.engine.import_unconfirmed(user, online_at, offline_at);
        match import() {
            Err(refused) => when_there_is_room(refused, import, || true).await,
            imported => imported,
        }
    }
}

/// What lies beyond all seconds lies in the future.
fn seconds(seconds: u64) -> UnixSeconds {
    u32::try_from(seconds).map_or(UnixSeconds::MAX, UnixSeconds::new)
}

/// Cuts what arrives into lines. Of one that has not ended yet it keeps no more than a line may have.
#[derive(Default)]
pub(super) struct Lines {
    ended: u64,
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Gives each line that ends in `piece`, with its number from 1 on, to `visit`; `None` in place of one that is too long.
    pub fn take(&mut self, piece: &[u8], mut visit: impl FnMut(u64, Option<&[u8]>)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.begun.is_empty() && !self.is_too_long && line.len() <= LINE_MAX {
                // Most lines arrive whole, and are not copied.
                self.ended += 1;
                visit(self.ended, Some(line));
            } else {
                self.begin(line);
                self.end(&mut visit);
            }
        }
        self.begin(rest);
    }

    fn begin(&mut self, part: &[u8]) {
        self.is_too_long |= self.begun.len() + part.len() > LINE_MAX;
        if !self.is_too_long {
            self.begun.extend_from_slice(part);
        }
    }

    /// The line begun ends here.
    pub fn end(&mut self, visit: impl FnOnce(u64, Option<&[u8]>)) {
        self.ended += 1;
        let line = (!std::mem::take(&mut self.is_too_long)).then_some(self.begun.as_slice());
        visit(self.ended, line);
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `pieces`, each with its number; `-` for one that is too long.
    fn lines(pieces: &[&str]) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        let mut visit = |line: u64, text: Option<&[u8]>| {
            found.push((line, text.map_or("-".into(), |text| String::from_utf8_lossy(text).into_owned())));
        };
        for piece in pieces {
            lines.take(piece.as_bytes(), &mut visit);
            assert!(lines.begun.len() <= LINE_MAX);
        }
        lines.end(&mut visit);
        found
    }

    #[test]
    fn a_line_is_an_object_and_nothing_else() {
        let session = (UserId::new(1), seconds(5), seconds(6));
        assert_eq!(read_line(Some(br#" {"id":1,"online_at":5,"offline_at":6}"#)), Some(Ok(session)));
        for text in ["[1,5,6]", " [\"1\",5,6]", "1", "null", "{}"] {
            assert_eq!(read_line(Some(text.as_bytes())), Some(Err(FORM.into())), "{text}");
        }
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let expected: Vec<(u64, String)> =
            [(1, "ab"), (2, ""), (3, "cd"), (4, "e")].map(|(line, text)| (line, text.into())).into();
        for pieces in [&["ab\n\ncd\ne"][..], &["a", "b\n", "\nc", "d", "\ne"], &["ab", "\n\ncd\n", "e"]] {
            assert_eq!(lines(pieces), expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_costs_no_more_memory() {
        let long = "x".repeat(LINE_MAX + 1);
        let just = "y".repeat(LINE_MAX);
        let expected = [(1, "-".to_owned()), (2, just.clone()), (3, "z".to_owned())];
        assert_eq!(lines(&[&format!("{long}\n{just}\nz")]), expected);
        assert_eq!(lines(&[&long, &long, "\n", &just, "\nz"]), expected);
    }
}
