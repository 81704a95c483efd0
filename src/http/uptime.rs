//! How much of a range one user was online: `GET /v1/users/{user_id}/stats`.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Error;
use super::query::{Parameters, TimeRange};
use super::routes::Shared;
use super::user::{PathId, json};

#[derive(Serialize, ToSchema)]
pub(super) struct RangeStats {
    /// Those with a second in the range that has passed.
    sessions: u64,
    /// Their seconds in the range, a live one's up to now.
    online_seconds: u64,
    longest_seconds: u32,
    /// Null without a session.
    #[schema(required)]
    mean_seconds: Option<f64>,
    /// The range, up to now, from the user's first session on, less outages of the service.
    observed_seconds: u64,
    /// The part of `observed_seconds` in which the user was online, 0 to 1; null if nothing was observed.
    #[schema(required, minimum = 0, maximum = 1)]
    uptime_ratio: Option<f64>,
}

/// What a range comes to for a user. Of a user never seen nothing was observed.
pub(super) async fn uptime(
    PathId(user): PathId,
    mut parameters: Parameters,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let engine = &shared.app.served()?.engine;
    let TimeRange { from, to } = parameters.range(engine.now())?;
    // There is no id in the answer, but every call takes it.
    parameters.id_format()?;
    parameters.end()?;

    let stats = engine.user_stats(user, from..to);
    Ok(json(&RangeStats {
        sessions: stats.sessions,
        online_seconds: stats.online_seconds,
        longest_seconds: stats.longest_seconds,
        mean_seconds: stats.mean_seconds(),
        observed_seconds: stats.observed_seconds,
        uptime_ratio: stats.uptime_ratio(),
    }))
}
