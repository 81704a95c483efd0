//! One user's timeline in pages: `GET /v1/users/{user_id}/history`.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::cursor::Cursor;
use super::error::Error;
use super::query::{Parameters, TimeRange};
use super::routes::Shared;
use super::status::Outage;
use super::user::{Id, PathId, json};
use crate::engine::{Extract, Order};
use crate::session::{End, Session};
use crate::time::UnixSeconds;

#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct Page {
    id: Id,
    /// Those that overlap the range, whole; in the order that was asked for.
    history: Vec<Entry>,
    /// When the service was not there, within the range.
    outages: Vec<Outage>,
    /// For `after`; null on the last page.
    #[schema(required)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Entry {
    online_at: u32,
    /// For a live session its deadline.
    offline_at: u32,
    end: Ended,
}

/// How a session ended: nobody healed (`lapsed`), the user left (`left`), or it has not (`live`).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Ended {
    Live,
    Lapsed,
    Left,
}

impl From<Session> for Entry {
    fn from(session: Session) -> Self {
        Self {
            online_at: session.online_at.as_u32(),
            offline_at: session.offline_at.as_u32(),
            end: match session.end {
                End::Live => Ended::Live,
                End::Lapsed => Ended::Lapsed,
                End::Left => Ended::Left,
            },
        }
    }
}

/// Where a page ended. One of the other order is another kind.
const fn cursor_kind(order: Order) -> char {
    match order {
        Order::Ascending => 'h',
        Order::Descending => 'r',
    }
}

/// A user's sessions, and our outages. Of a user never seen there are none.
pub(super) async fn history(
    PathId(user): PathId,
    mut parameters: Parameters,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let engine = &shared.app.served()?.engine;
    // A session that opens in this second belongs to what has been up to now.
    let TimeRange { from, to } = parameters.range(engine.now().plus(1))?;
    let order = parameters.choice("order", &[("asc", Order::Ascending), ("desc", Order::Descending)])?;
    let limit = parameters.limit()?;
    let after = parameters.after(cursor_kind(order))?;
    let merge_gap = parameters.number("merge_gap", 0..=u32::MAX)?;
    let id_format = parameters.id_format()?;
    parameters.end()?;

    let after = after.map(|[second]| u32::try_from(second).map_or(UnixSeconds::MAX, UnixSeconds::new));
    let page = engine.history(user, &Extract { range: from..to, merge_gap, order, after, limit });
    let outages = engine.outages();
    let next = page.next.map(|second| Cursor { kind: cursor_kind(order), numbers: [second.as_u32().into()] });
    Ok(json(&Page {
        id: Id::new(user, id_format),
        history: page.sessions.into_iter().map(Entry::from).collect(),
        outages: outages
            .into_iter()
            .filter(|outage| outage.0 < to && outage.1 > from)
            .map(Outage::from)
            .collect(),
        next: next.map(|cursor| cursor.to_string()),
    }))
}
