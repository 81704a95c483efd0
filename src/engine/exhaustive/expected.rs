//! What should be: the rules of a heal, a leave, a sweep and a restart, written down a second time.
//!
//! Nothing of the engine's own arithmetic is used here, on purpose: what is wrong there shall not be wrong here as well.

use crate::engine::retention::Retention;
use crate::engine::rules::Rules;

use super::machine::Operation;
use super::state::{Known, Past};

/// A ttl and a grace, in seconds.
fn seconds(rules: Rules) -> (u8, u8) {
    let short = |seconds| u8::try_from(seconds).expect("the model's times are short");
    (short(rules.ttl.as_seconds()), short(rules.grace))
}

/// The last second in which a heal extends a session.
pub(super) fn extendable_until(deadline: u8, rules: Rules, outages: &[(u8, u8)]) -> u8 {
    let (ttl, grace) = seconds(rules);
    let (mut until, mut end) = (deadline + grace, deadline);
    // An outage in which it ended grants it a ttl and the grace from when the service was back; and so does the next one, if
    // that time was not over.
    for &(from, to) in outages {
        if from <= end && end < to {
            until = until.max(to + ttl + grace);
            end = until;
        }
    }
    until
}

/// With the live session closed if it is over.
pub(super) fn closed(known: &Known, now: u8, rules: Rules, outages: &[(u8, u8)]) -> Known {
    let mut known = *known;
    if let Some((online_at, deadline)) = known.live()
        && now > extendable_until(deadline, rules, outages)
    {
        known.push(Past { online_at, until: deadline, is_left: false });
        known.set_live(None);
    }
    known
}

pub(super) fn retain(known: &mut Known, retention: Retention, now: u8) {
    if let Some(seconds) = retention.seconds {
        let is_old = |past: &&Past| u32::from(now) > u32::from(past.until) + seconds;
        known.drop_oldest(known.closed().iter().take_while(is_old).count());
    }
    if let Some(sessions) = retention.sessions {
        while !known.closed().is_empty() && known.closed().len() + known.live().iter().count() > sessions {
            known.drop_oldest(1);
        }
    }
}

fn healed(known: &Known, now: u8, rules: Rules, outages: &[(u8, u8)]) -> Known {
    let (ttl, _) = seconds(rules);
    let was_live = known.live().is_some();
    let mut known = closed(known, now, rules, outages);
    if let Some((online_at, deadline)) = known.live() {
        known.set_live(Some((online_at, deadline.max(now + ttl))));
        return known;
    }
    let reopened =
        known.closed().last().copied().filter(|last| !was_live && last.is_left && last.until == now);
    if reopened.is_some() {
        known.pop();
    }
    known.set_live(Some((reopened.map_or(now, |last| last.online_at), now + ttl)));
    known
}

fn left(known: &Known, now: u8, rules: Rules, outages: &[(u8, u8)]) -> Known {
    let mut known = closed(known, now, rules, outages);
    if let Some((online_at, deadline)) = known.live() {
        known.push(Past { online_at, until: now.min(deadline).max(online_at), is_left: true });
        known.set_live(None);
    }
    known
}

/// Whether `operation` at `now` makes `after` of `before`.
pub(super) fn judge(
    operation: Operation,
    before: &Known,
    after: &Known,
    now: u8,
    rules: Rules,
    outages: &[(u8, u8)],
) -> Result<(), String> {
    let expected = match operation {
        Operation::Heal => healed(before, now, rules, outages),
        Operation::Leave => left(before, now, rules, outages),
        Operation::Forget => Known::default(),
    };
    same("what was decided", &expected, after)?;
    well_formed(after)?;
    if operation != Operation::Forget {
        only_grows(before, after, now)?;
    }
    Ok(())
}

pub(super) fn same(what: &str, expected: &Known, found: &Known) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

/// Sessions are in order, none overlaps another, and none ends before it begins.
pub(super) fn well_formed(known: &Known) -> Result<(), String> {
    let sessions = known.closed().iter().map(|past| (past.online_at, past.until)).chain(known.live());
    let mut free_from = 0;
    for (online_at, until) in sessions {
        if online_at < free_from || until < online_at {
            return Err(format!("not a timeline: {known:?}"));
        }
        free_from = until;
    }
    Ok(())
}

/// No deadline is lowered, and who has left comes back into that session in that second only.
fn only_grows(before: &Known, after: &Known, now: u8) -> Result<(), String> {
    let Some((online_at, deadline)) = after.live() else { return Ok(()) };
    if before.live().is_some_and(|(same, earlier)| same == online_at && earlier > deadline) {
        return Err(format!("a deadline was lowered: {before:?}, then {after:?}"));
    }
    let left = before.closed().iter().find(|past| past.online_at == online_at && past.is_left);
    if left.is_some_and(|left| left.until != now) {
        return Err(format!("a session that had been left goes on: {before:?}, then {after:?} at {now}"));
    }
    Ok(())
}
