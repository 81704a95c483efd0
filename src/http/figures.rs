//! The last hour in figures, a point a second: `GET /v1/figures`.
//!
//! Whoever opens the page finds its curve drawn: the service keeps the points, some 140 KiB, not the tab. They are of this run: a
//! restart begins anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use utoipa::ToSchema;

use super::error::Error;
use super::query::Common;
use super::routes::Shared;
use super::user::json;

/// An hour of seconds.
pub(super) const POINTS_MAX: usize = 60 * 60;

/// How things were in one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[schema(as = FiguresPoint)]
pub(super) struct Point {
    /// The second last swept when this was looked at; no two points have the same.
    pub at: u32,
    /// Live sessions, as of `at`.
    pub online: u64,
    /// Heals taken, single and in bulk, since the point before.
    pub heals_per_second: f64,
    /// Of single heals over HTTP since the point before, of which one read in 16 is timed; null if none was.
    #[schema(required)]
    pub p99_seconds: Option<f64>,
}

/// What was told last, by its number: 1 is the first.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub number: u64,
    pub text: Bytes,
}

/// The points of the last hour, and what those who follow are told.
#[derive(Default)]
pub(super) struct Recent {
    points: Mutex<VecDeque<Point>>,
    told: Mutex<Told>,
    news: Arc<Notify>,
}

impl Recent {
    /// Adds a point, unless there is one of the same second, or a later one.
    pub fn add(&self, point: Point) -> bool {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.back().is_some_and(|last| last.at >= point.at) {
            return false;
        }
        if points.len() == POINTS_MAX {
            points.pop_front();
        }
        points.push_back(point);
        true
    }

    fn points(&self) -> Vec<Point> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The latest point.
    pub fn last(&self) -> Option<Point> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).back().copied()
    }

    /// Tells everybody who follows.
    pub fn tell(&self, text: Bytes) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Told { number: told.number + 1, text };
        }
        self.news.notify_waiters();
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Completes when something is told after this call, or the service drains.
    pub fn news(&self) -> OwnedNotified {
        Arc::clone(&self.news).notified_owned()
    }

    /// Wakes everybody who follows: the service drains, and they are to look.
    pub fn drain(&self) {
        self.news.notify_waiters();
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Figures {
    /// Seconds from one point to the next, if none is missing.
    step: u32,
    /// Ascending, 3,600 at most.
    points: Vec<Point>,
}

/// The last hour.
pub(super) async fn figures(_: Common, State(shared): State<Shared>) -> Result<Response, Error> {
    shared.app.served()?;
    Ok(json(&Figures { step: 1, points: shared.app.recent.points() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u32) -> Point {
        Point { at, online: 5, heals_per_second: 1.0, p99_seconds: None }
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let recent = Recent::default();
        for at in 0..3_605 {
            assert!(recent.add(point(at)));
        }
        let kept: Vec<_> = recent.points().iter().map(|point| point.at).collect();
        assert_eq!((kept.len(), kept[0], kept[3_599]), (3_600, 5, 3_604));
    }

    #[test]
    fn no_second_has_two_points() {
        let recent = Recent::default();
        assert!(recent.add(point(7)));
        assert!(!recent.add(point(7)));
        assert!(!recent.add(point(6)));
        assert_eq!(recent.points(), [point(7)]);
    }
}
