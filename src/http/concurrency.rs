//! How many were online over a range: `GET /v1/concurrency`.

use std::ops::Range;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Error;
use super::pool::Query;
use super::query::{Parameters, TimeRange};
use super::routes::Shared;
use super::user::json;
use crate::engine::{self, Concurrency, Curve, Engine};
use crate::time::UnixSeconds;

const DAY: u32 = 24 * 60 * 60;
/// A counter of four bytes for each second of it: 12 MB.
const RANGE_MAX: u32 = 35 * DAY;
const POINTS_MAX: u32 = 2_000;
/// A day in steps of five minutes.
const POINTS: u32 = 288;
/// What people read from a clock.
const STEPS: [u32; 17] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200];

#[derive(Serialize, ToSchema)]
pub(super) struct ConcurrencyReply {
    /// Seconds; the last point may have fewer.
    step: u32,
    points: Vec<Point>,
    peak: Peak,
}

#[derive(Serialize, ToSchema)]
struct Point {
    /// Its first second.
    t: u32,
    /// In the second with the fewest online.
    min: u64,
    max: u64,
    mean: f64,
}

#[derive(Serialize, ToSchema)]
struct Peak {
    online: u64,
    /// The first second with so many.
    at: u32,
}

impl From<engine::Point> for Point {
    #[allow(clippy::cast_precision_loss, reason = "of more than 2^53 seconds online nobody misses one")]
    fn from(point: engine::Point) -> Self {
        Self {
            t: point.t.as_u32(),
            min: point.min,
            max: point.max,
            mean: point.sum as f64 / point.seconds as f64,
        }
    }
}

/// Exact, from the timelines: by default of the last day, in the smallest of the usual steps that makes no more than 288 points.
pub(super) async fn concurrency(
    mut parameters: Parameters,
    State(shared): State<Shared>,
) -> Result<Response, Error> {
    let engine = Arc::clone(&shared.app.served()?.engine);
    let TimeRange { from, to } = range(&mut parameters, engine.now())?;
    let step = step(&mut parameters, to.since(from))?;
    parameters.id_format()?;
    parameters.end()?;

    let pass = Pass { engine, range: from..to, step, concurrency: None, next_shard: 0 };
    let Curve { points, peak } = shared.app.queries.ask(pass).await?;
    Ok(json(&ConcurrencyReply {
        step,
        points: points.into_iter().map(Point::from).collect(),
        peak: Peak { online: peak.online, at: peak.at.as_u32() },
    }))
}

/// Goes over everybody once.
struct Pass {
    engine: Arc<Engine>,
    range: Range<UnixSeconds>,
    step: u32,
    /// None before its turn has come: it takes memory.
    concurrency: Option<Concurrency>,
    next_shard: usize,
}

impl Query for Pass {
    type Answer = Curve;

    fn proceed(&mut self) -> Option<Curve> {
        let concurrency = self.concurrency.get_or_insert_with(|| Concurrency::of(self.range.clone()));
        if self.next_shard == Engine::SHARDS {
            return Some(concurrency.curve(self.step));
        }
        self.engine.add_concurrency(self.next_shard, concurrency);
        self.next_shard += 1;
        None
    }
}

fn range(parameters: &mut Parameters, now: UnixSeconds) -> Result<TimeRange, Error> {
    let (from, to) = (parameters.second("from")?, parameters.second("to")?);
    let to = to.unwrap_or(now);
    if to > now {
        return Err(Error::bad_request(format!("to: write a second that has begun; it is {now}")));
    }
    let from = from.unwrap_or(to.minus(DAY));
    if to == UnixSeconds::new(0) {
        return Err(Error::bad_request("to: write a second after 0"));
    }
    if from >= to {
        return Err(Error::bad_request(format!("from: write a second before {to}, where the range ends")));
    }
    if to.since(from) > RANGE_MAX {
        return Err(Error::bad_request("from: write a second at most 35 days before that of to"));
    }
    Ok(TimeRange { from, to })
}

fn step(parameters: &mut Parameters, seconds: u32) -> Result<u32, Error> {
    let Some(step) = parameters.number("step", 1..=RANGE_MAX)? else {
        let makes_few = |step: &u32| seconds.div_ceil(*step) <= POINTS;
        return Ok(STEPS.into_iter().find(makes_few).unwrap_or(DAY));
    };
    let least = seconds.div_ceil(POINTS_MAX);
    if step < least {
        return Err(Error::bad_request(format!(
            "step: write at least {least}, which makes no more than 2,000 points of this range"
        )));
    }
    Ok(step)
}
