//! Everybody at once: who was online in a second, and how many were over a range of seconds.
//!
//! All of it is read from the timelines, so it is exact for every second that has begun, whether or not the sweeper has been
//! there. It goes over everybody shard by shard, under each shard's shared guard: whoever asks may rest between two, and what
//! happens meanwhile is seen or not. A session counts in second `t` if `online_at <= t < offline_at`, the live one up to its
//! deadline; so a heal in the very second of its deadline, which makes it go on, adds that second.
//!
//! ```text
//!   second        0    1    2    3    4    5      two sessions, [1, 4) and [3, 6)
//!   difference        +1        +1   -1           one step up where a session begins, one down where it ends
//!   online        0    1    1    2    1    1      their sum so far
//! ```

use std::ops::Range;

use super::Engine;
use super::live::Live;
use super::roster::User;
use super::rules::status;
use super::timeline::Closed;
use crate::session::Status;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

impl Engine {
    /// Whether `user` was online in second `at`, which has begun.
    pub fn was_online(&self, user: UserId, at: UnixSeconds) -> bool {
        self.roster.view(user, |known| is_online_at(known, at)).unwrap_or(false)
    }

    /// Appends those in `shard` (below [`Engine::SHARDS`]) who are online now, in no order. Looks at no timeline, and so costs a
    /// fraction of [`Engine::online_in`].
    pub fn online_now_in(&self, shard: usize, into: &mut Vec<UserId>) {
        let now = self.clock.now();
        self.roster.look(shard, |user, known| {
            if status(known.live.load(), now) == Status::Online {
                into.push(user);
            }
        });
    }

    /// Appends those in `shard` (below [`Engine::SHARDS`]) who were online in second `at`, which has begun, in no order.
    ///
    /// Holds the shard's shared guard for some 50 ns a user.
    pub fn online_in(&self, shard: usize, at: UnixSeconds, into: &mut Vec<UserId>) {
        self.roster.look_at_timelines(shard, |user, known| {
            if is_online_at(known, at) {
                into.push(user);
            }
        });
    }

    /// How many in `shard` were online in second `at`, which has begun.
    pub fn count_online_in(&self, shard: usize, at: UnixSeconds) -> u64 {
        let mut online = 0;
        self.roster.look_at_timelines(shard, |_, known| online += u64::from(is_online_at(known, at)));
        online
    }

    /// All the words of the sessions in `shard`, added up: what a pass over everybody costs at least, for a measurement.
    #[doc(hidden)]
    pub fn sum_of_words(&self, shard: usize) -> u64 {
        let mut sum = 0_u64;
        self.roster.look(shard, |_, known| {
            let live = known.live.load().map_or(0, Live::pack);
            sum = known.closed.words().fold(sum.wrapping_add(live), u64::wrapping_add);
        });
        sum
    }

    /// Adds the sessions in `shard` to a curve.
    pub fn add_concurrency(&self, shard: usize, concurrency: &mut Concurrency) {
        self.roster.look_at_timelines(shard, |_, known| {
            if let Some(live) = known.live.load() {
                concurrency.add(live.online_at, live.deadline);
            }
            let mut closed = known.closed.sessions();
            if closed.len() > FEW {
                let Range { start, end } = concurrency.range;
                closed = &closed[closed.partition_point(|closed| closed.offline_at() <= start)..];
                closed = &closed[..closed.partition_point(|closed| closed.online_at() < end)];
            }
            for closed in closed {
                concurrency.add(closed.online_at(), closed.offline_at());
            }
        });
    }
}

fn is_online_at(known: &User, at: UnixSeconds) -> bool {
    if let Some(Live { online_at, deadline }) = known.live.load()
        && online_at <= at
    {
        return at < deadline;
    }
    // No two overlap, so it can only be in the last that had opened by then.
    known.closed.around(at).0.is_some_and(|closed: Closed| at < closed.offline_at())
}

/// So many sessions of a user are added without a look at which of them touch the range: a processor that guesses wrong where they
/// begin has done for nothing what it did ahead.
const FEW: usize = 16;

/// How many were online in each second of a range; made by adding sessions.
#[derive(Debug)]
pub struct Concurrency {
    range: Range<UnixSeconds>,
    /// Of each second against the one before it, and of the one after the range.
    differences: Vec<i32>,
}

impl Concurrency {
    /// Of nobody yet. Takes 4 bytes a second of the range, whose end must not be in the future. One that ends before it begins is
    /// empty.
    pub fn of(range: Range<UnixSeconds>) -> Self {
        let range = range.start..range.end.max(range.start);
        let seconds = range.end.since(range.start) as usize;
        Self { range, differences: vec![0; seconds + 1] }
    }

    #[inline]
    fn add(&mut self, online_at: UnixSeconds, offline_at: UnixSeconds) {
        // Outside the range it begins and ends in the same second, and changes nothing.
        let [begin, end] = [online_at, offline_at]
            .map(|at| at.clamp(self.range.start, self.range.end).since(self.range.start) as usize);
        self.differences[begin] += 1;
        self.differences[end] -= 1;
    }

    /// The curve, in steps of so many seconds, at least 1; the last may be shorter.
    pub fn curve(&self, step: u32) -> Curve {
        let mut peak = Peak { online: 0, at: self.range.start };
        let (mut online, mut second) = (0_i64, self.range.start);
        let mut points = Vec::new();
        let within = &self.differences[..self.differences.len() - 1];
        for differences in within.chunks(step.max(1) as usize) {
            let (t, mut min, mut max, mut sum) = (second, i64::MAX, 0, 0);
            for &difference in differences {
                online += i64::from(difference);
                (min, max, sum) = (online.min(min), online.max(max), sum + online);
                if online.cast_unsigned() > peak.online {
                    peak = Peak { online: online.cast_unsigned(), at: second };
                }
                second = second.plus(1);
            }
            let seconds = differences.len() as u64;
            points.push(Point {
                t,
                min: min.cast_unsigned(),
                max: max.cast_unsigned(),
                sum: sum.cast_unsigned(),
                seconds,
            });
        }
        Curve { points, peak }
    }
}

/// How many were online over a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// One for each step.
    pub points: Vec<Point>,
    /// When most were.
    pub peak: Peak,
}

/// How many were online in the seconds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its first second.
    pub t: UnixSeconds,
    /// In the second with the fewest.
    pub min: u64,
    /// In the second with the most.
    pub max: u64,
    /// Over all its seconds.
    pub sum: u64,
    /// How many those are.
    pub seconds: u64,
}

/// The most who were online at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// How many.
    pub online: u64,
    /// The first second with so many.
    pub at: UnixSeconds,
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const fn second(second: u32) -> UnixSeconds {
        UnixSeconds::new(second)
    }

    #[test]
    fn a_curve_has_every_second_in_it_once() {
        let mut concurrency = Concurrency::of(second(100)..second(107));
        for (online_at, offline_at) in
            [(90, 100), (90, 101), (101, 104), (103, 300), (106, 107), (107, 110), (5, 5)]
        {
            concurrency.add(second(online_at), second(offline_at));
        }
        // 100 to 106: 1 1 1 2 1 1 2
        let point = |t, min, max, sum, seconds| Point { t: second(t), min, max, sum, seconds };
        let peak = Peak { online: 2, at: second(103) };
        let points = vec![point(100, 1, 1, 3, 3), point(103, 1, 2, 4, 3), point(106, 2, 2, 2, 1)];
        assert_eq!(concurrency.curve(3), Curve { points, peak });
        assert_eq!(concurrency.curve(7), Curve { points: vec![point(100, 1, 2, 9, 7)], peak });
        assert_eq!(concurrency.curve(1_000).points, concurrency.curve(7).points);
    }

    #[test]
    fn nobody_is_nobody() {
        let curve = Concurrency::of(second(5)..second(7)).curve(2);
        let points = vec![Point { t: second(5), min: 0, max: 0, sum: 0, seconds: 2 }];
        assert_eq!(curve, Curve { points, peak: Peak { online: 0, at: second(5) } });

        let mut backwards = Concurrency::of(second(7)..second(5));
        backwards.add(second(1), second(9));
        let curve = backwards.curve(1);
        assert_eq!(curve, Curve { points: vec![], peak: Peak { online: 0, at: second(7) } });
    }
}
