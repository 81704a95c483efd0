//! A part of one user's timeline: its sessions page by page, and what they come to.
//!
//! ```text
//!   timeline        ├──┤   ├─────┤ ├──┤        ├────┤       ├──▶ live
//!   from … to               ╎                     ╎
//!   history                ├─────┤ ├──┤        ├────┤          each session that overlaps the range, whole
//!   merged (gap)           ├──────────┤        ├────┤          joined as they are read; what is kept stays as it is
//!   stats                   ├────┤ ├──┤        ├──┤            clipped to the range
//! ```
//!
//! Sessions are found by bisection and copied under the shared guard: a page costs what it holds, however long the timeline is.
//!
//! A page ends at a second between two sessions, and the next one goes on from there. So a session that is added meanwhile
//! is on a later page or on none, and none is on two.

use std::ops::Range;

use super::roster::User;
use super::{Engine, timeline::Closed};
use crate::session::Session;
use crate::time::UnixSeconds;
use crate::user_id::UserId;

/// From which end a timeline is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The earliest session first.
    Ascending,
    /// The latest session first.
    Descending,
}

/// Which part of a timeline to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extract {
    /// Sessions that overlap this range.
    pub range: Range<UnixSeconds>,
    /// Sessions with a gap of at most so many seconds between them count as one, which ends as the last of them does. It is
    /// joined before it is looked at whether it overlaps the range.
    pub merge_gap: Option<u32>,
    /// From which end.
    pub order: Order,
    /// The `next` of the page before: ascending, nothing that opened before it; descending, nothing that ended after it.
    pub after: Option<UnixSeconds>,
    /// Most sessions to give.
    pub limit: usize,
}

impl Extract {
    /// Everything that overlaps `range`, as it was, ascending.
    pub fn of(range: Range<UnixSeconds>) -> Self {
        Self { range, merge_gap: None, order: Order::Ascending, after: None, limit: usize::MAX }
    }
}

/// A part of a timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order that was asked for.
    pub sessions: Vec<Session>,
    /// Where the next page begins; `None` if there are no more.
    pub next: Option<UnixSeconds>,
}

/// What a range of one user's time comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserStats {
    /// Sessions with a second in the range that has passed.
    pub sessions: u64,
    /// Their seconds in the range, up to now.
    pub online_seconds: u64,
    /// Of the longest of them, the seconds in the range.
    pub longest_seconds: u32,
    /// The seconds of the range from the user's first session on, up to now, without those in which the service was not there.
    pub observed_seconds: u64,
    /// Of these, the seconds in which the user was online. A session that was continued over an outage counts without it.
    pub observed_online_seconds: u64,
}

impl UserStats {
    /// The part of the observed time in which the user was online, from 0 to 1; `None` if nothing was observed.
    #[allow(clippy::cast_precision_loss)] // 2^53 seconds are more than there are
    pub fn uptime_ratio(&self) -> Option<f64> {
        (self.observed_seconds > 0)
            .then(|| self.observed_online_seconds as f64 / self.observed_seconds as f64)
    }

    /// Of the sessions' seconds in the range; `None` without a session.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.sessions > 0).then(|| self.online_seconds as f64 / self.sessions as f64)
    }
}

impl Engine {
    /// A part of `user`'s timeline; empty for an unknown one.
    ///
    /// Costs a bisection and what is given. Where sessions are joined, those joined are gone through, too.
    pub fn history(&self, user: UserId, extract: &Extract) -> History {
        self.roster.view(user, |known| self.timeline_of(known).extract(extract)).unwrap_or_default()
    }

    /// What `range` comes to for `user`; nothing for an unknown one. Goes through the sessions in it.
    pub fn user_stats(&self, user: UserId, range: Range<UnixSeconds>) -> UserStats {
        let outages = apart(&self.outages());
        self.roster.view(user, |known| self.timeline_of(known).stats(range, &outages)).unwrap_or_default()
    }

    fn timeline_of<'a>(&self, known: &'a User) -> View<'a> {
        let now = self.clock.now();
        let live = known.live.load().map(|live| self.rules.show(live, self.recent_outages(), now));
        View { closed: known.closed.sessions(), live, now }
    }
}

/// A timeline while its guard is held.
struct View<'a> {
    closed: &'a [Closed],
    live: Option<Session>,
    now: UnixSeconds,
}

impl View<'_> {
    /// How many sessions lie before the first of which `is_before` is false; it is true of those at the beginning only.
    fn bisect(&self, is_before: impl Fn(Session) -> bool) -> usize {
        let closed = self.closed.partition_point(|closed| is_before(closed.session()));
        let all_closed = closed == self.closed.len();
        closed + usize::from(all_closed && self.live.is_some_and(is_before))
    }

    /// The sessions at these places that are to be seen.
    fn at(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = Session> {
        let (from, to) = (places.start.min(self.closed.len()), places.end.min(self.closed.len()));
        let live = self.live.filter(|_| places.contains(&self.closed.len()));
        let closed = self.closed[from..to].iter().map(|closed| closed.session());
        closed.chain(live).filter(|session| !session.is_empty())
    }

    fn len(&self) -> usize {
        self.closed.len() + usize::from(self.live.is_some())
    }

    fn extract(&self, extract: &Extract) -> History {
        match extract.order {
            Order::Ascending => self.ascending(extract),
            Order::Descending => self.descending(extract),
        }
    }

    fn ascending(&self, extract: &Extract) -> History {
        let Range { start: from, end: to } = extract.range;
        let in_range = self.bisect(|session| session.offline_at <= from);
        let of_page = extract.after.map_or(0, |after| self.bisect(|session| session.online_at < after));
        let first = in_range.max(of_page);
        // The first one may have begun before the range, joined. Before the page is what earlier pages have shown.
        let before = if extract.after.is_none() { first } else { 0 };
        let sessions = self.at(first..self.len());
        let sessions = Joined::new(sessions, self.at(0..before).rev(), extract.merge_gap);
        page(sessions.take_while(|session| session.online_at < to), extract.limit, |last| last.offline_at)
    }

    fn descending(&self, extract: &Extract) -> History {
        let Range { start: from, end: to } = extract.range;
        let in_range = self.bisect(|session| session.online_at < to);
        let of_page =
            extract.after.map_or(self.len(), |after| self.bisect(|session| session.offline_at <= after));
        let end = in_range.min(of_page);
        let behind = if extract.after.is_none() { end } else { self.len() };
        let sessions = self.at(0..end).rev();
        let sessions = Joined::new(sessions, self.at(behind..self.len()), extract.merge_gap);
        page(sessions.take_while(|session| session.offline_at > from), extract.limit, |last| last.online_at)
    }

    fn stats(&self, range: Range<UnixSeconds>, outages: &[Range<UnixSeconds>]) -> UserStats {
        let Some(first) = self.at(0..self.len()).next() else { return UserStats::default() };
        let observed = range.start.max(first.online_at)..range.end.min(self.now);
        if observed.is_empty() {
            return UserStats::default();
        }
        let mut stats =
            UserStats { observed_seconds: seconds_up(&observed, outages), ..UserStats::default() };
        let begin = self.bisect(|session| session.offline_at <= observed.start);
        let end = self.bisect(|session| session.online_at < observed.end);
        for session in self.at(begin..end) {
            let clipped = session.online_at.max(observed.start)..session.offline_at.min(observed.end);
            let seconds = clipped.end.since(clipped.start);
            stats.sessions += 1;
            stats.online_seconds += u64::from(seconds);
            stats.longest_seconds = stats.longest_seconds.max(seconds);
            stats.observed_online_seconds += seconds_up(&clipped, outages);
        }
        stats
    }
}

/// The sessions of a timeline, in either direction, those that are near enough to one another joined.
struct Joined<I: Iterator<Item = Session>> {
    sessions: std::iter::Peekable<I>,
    /// What has been joined to the first one already.
    begun: Option<Session>,
    gap: Option<u32>,
}

impl<I: Iterator<Item = Session>> Joined<I> {
    /// `beside` are those that stand before the first of `sessions`, the nearest one first.
    fn new(sessions: I, beside: impl Iterator<Item = Session>, gap: Option<u32>) -> Self {
        let mut joined = Self { sessions: sessions.peekable(), begun: None, gap };
        if let Some(mut first) = joined.sessions.next() {
            for other in beside {
                let Some(both) = joined.join(first, other) else { break };
                first = both;
            }
            joined.begun = Some(first);
        }
        joined
    }

    fn join(&self, one: Session, other: Session) -> Option<Session> {
        let (earlier, later) = if one.online_at < other.online_at { (one, other) } else { (other, one) };
        let is_near = self.gap.is_some_and(|gap| later.online_at.since(earlier.offline_at) <= gap);
        is_near.then_some(Session { online_at: earlier.online_at, ..later })
    }
}

impl<I: Iterator<Item = Session>> Iterator for Joined<I> {
    type Item = Session;

    fn next(&mut self) -> Option<Session> {
        let mut begun = self.begun.take().or_else(|| self.sessions.next())?;
        while let Some(&next) = self.sessions.peek() {
            let Some(both) = self.join(begun, next) else { break };
            begun = both;
            self.sessions.next();
        }
        Some(begun)
    }
}

/// At most `limit` of them; `end` gives the second between one and the next.
fn page(
    mut sessions: impl Iterator<Item = Session>,
    limit: usize,
    end: impl Fn(&Session) -> UnixSeconds,
) -> History {
    let taken: Vec<_> = sessions.by_ref().take(limit).collect();
    let next = sessions.next().and_then(|_| taken.last().map(end));
    History { sessions: taken, next }
}

/// The same times, in order and apart from one another.
fn apart(outages: &[(UnixSeconds, UnixSeconds)]) -> Vec<Range<UnixSeconds>> {
    let mut sorted = outages.to_vec();
    sorted.sort_unstable();
    let mut apart: Vec<Range<UnixSeconds>> = Vec::new();
    for (from, to) in sorted {
        match apart.last_mut() {
            Some(last) if from <= last.end => last.end = last.end.max(to),
            _ => apart.push(from..to),
        }
    }
    apart
}

/// The seconds of `range` in which the service was there.
fn seconds_up(range: &Range<UnixSeconds>, outages: &[Range<UnixSeconds>]) -> u64 {
    let first = outages.partition_point(|outage| outage.end <= range.start);
    let within = outages[first..].iter().take_while(|outage| outage.start < range.end);
    let down: u64 =
        within.map(|outage| u64::from(outage.end.min(range.end).since(outage.start.max(range.start)))).sum();
    u64::from(range.end.since(range.start)) - down
}
