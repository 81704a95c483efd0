//! One user's timeline in pages and in numbers, over a real socket, against the same worked out by brute force from an export.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::collections::BTreeMap;

use heartbeat::{Durability, End, UnixSeconds, UserId};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use wire::{Client, NOON, Service};

const DAY: u32 = 86_400;

fn get(client: &mut Client, target: &str) -> Value {
    let response = client.call("GET", target);
    assert_eq!(response.status, 200, "{target}: {response:?}");
    serde_json::from_str(&response.body).unwrap()
}

/// Brings a session in.
fn import(service: &Service, user: i64, online_at: u32, offline_at: u32) {
    let line = format!(r#"{{"id":{user},"online_at":{online_at},"offline_at":{offline_at}}}"#);
    let reply = service.send("POST", "/v1/import", "application/x-ndjson", line.as_bytes());
    assert_eq!(reply.brief(), (200, r#"{"imported":1,"unchanged":0,"rejected":0,"first_errors":[]}"#));
}

/// User 7 lapsed, left, lapsed without having been swept, and is online. It is NOON + 63.
fn four_ends() -> Service {
    let service = Service::start();
    service.call("PUT", "/heal/7");
    service.clock.advance(20);
    service.engine.sweep();
    service.call("PUT", "/heal/7");
    service.clock.advance(2);
    service.call("DELETE", "/heal/7");
    service.clock.advance(18);
    service.call("PUT", "/heal/7");
    service.clock.advance(20);
    service
}

#[test]
fn a_history_says_how_each_session_ended() {
    let service = four_ends();
    let three = concat!(
        r#"{"online_at":1638360000,"offline_at":1638360007,"end":"lapsed"},"#,
        r#"{"online_at":1638360020,"offline_at":1638360022,"end":"left"},"#,
        r#"{"online_at":1638360040,"offline_at":1638360047,"end":"lapsed"}"#
    );
    assert_eq!(
        service.get("/v1/users/7/history"),
        format!(r#"{{"id":7,"history":[{three}],"outages":[],"next":null}}"#),
        "the third one has not been swept"
    );
    // Also in the very second in which it opens.
    service.call("PUT", "/heal/7");
    let live = r#"{"online_at":1638360060,"offline_at":1638360067,"end":"live"}"#;
    let all = format!(r#"{{"id":"7","history":[{three},{live}],"outages":[],"next":null}}"#);
    assert_eq!(service.get("/v1/users/7/history?id_format=string"), all);
    service.engine.sweep();
    assert_eq!(service.get("/v1/users/7/history?id_format=string"), all);
    let response = service.call("GET", "/v1/users/7/history");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[rstest]
#[case::touching_neither_end("from=1638360007&to=1638360020", &[])]
#[case::a_second_of_the_first("from=1638360006&to=1638360020", &[0])]
#[case::a_second_of_the_next("from=1638360007&to=1638360021", &[20])]
#[case::within_one("from=1638360042&to=1638360043", &[40])]
#[case::from_the_beginning("to=1638360040", &[0, 20])]
#[case::to_now("from=1638360022", &[40])]
#[case::ahead_of_now("from=1638360046&to=1700000000", &[40])]
#[case::all("from=0&to=4294967295", &[0, 20, 40])]
fn sessions_that_overlap_the_range_are_given_whole(#[case] range: &str, #[case] opened: &[u32]) {
    let service = four_ends();
    let history = get(&mut service.connect(), &format!("/v1/users/7/history?{range}"));
    let history: Vec<_> =
        history["history"].as_array().unwrap().iter().map(|entry| &entry["online_at"]).collect();
    assert_eq!(history, opened.iter().map(|after| NOON + after).collect::<Vec<_>>());
}

#[rstest]
#[case(0, &[(0, 7), (20, 22), (40, 47)])]
#[case(12, &[(0, 7), (20, 22), (40, 47)])]
#[case(13, &[(0, 22), (40, 47)])]
#[case(18, &[(0, 47)])]
#[case(u32::MAX, &[(0, 47)])]
fn sessions_with_a_gap_of_at_most_that_are_joined(#[case] gap: u32, #[case] joined: &[(u32, u32)]) {
    let service = four_ends();
    let expected: Vec<_> = joined
        .iter()
        .map(|(on, off)| {
            // A joined one ends as its last one does.
            let end = if *off == 22 { "left" } else { "lapsed" };
            json!({"online_at": NOON + on, "offline_at": NOON + off, "end": end})
        })
        .collect();
    let history = get(&mut service.connect(), &format!("/v1/users/7/history?merge_gap={gap}"));
    assert_eq!(history["history"], json!(expected));
    assert_eq!(service.get("/heart_rhythm/7").matches("online_at").count(), 3, "what is kept stays as it is");
}

/// The range lies in the gap between two sessions that are joined over it.
#[test]
fn a_joined_session_overlaps_what_lies_between_its_parts() {
    let service = four_ends();
    for order in ["asc", "desc"] {
        let target =
            format!("/v1/users/7/history?from={}&to={}&merge_gap=13&order={order}", NOON + 10, NOON + 12);
        let history = get(&mut service.connect(), &target);
        let expected = json!([{"online_at": NOON, "offline_at": NOON + 22, "end": "left"}]);
        assert_eq!(history["history"], expected, "{order}");
    }
}

#[test]
fn of_a_user_never_seen_there_is_nothing_to_tell() {
    let service = Service::start();
    assert_eq!(service.get("/v1/users/8/history"), r#"{"id":8,"history":[],"outages":[],"next":null}"#);
    assert_eq!(
        service.get("/v1/users/8/stats"),
        concat!(
            r#"{"sessions":0,"online_seconds":0,"longest_seconds":0,"mean_seconds":null,"#,
            r#""observed_seconds":0,"uptime_ratio":null}"#
        )
    );
    assert_eq!(service.engine.figures().users, 0);
}

#[test]
fn stats_are_of_what_lies_in_the_range_and_has_passed() {
    let service = four_ends();
    service.call("PUT", "/heal/7");
    service.clock.advance(3);
    let of = |from: u32, to: u32| {
        get(&mut service.connect(), &format!("/v1/users/7/stats?from={}&to={}", NOON + from, NOON + to))
    };
    let stats = |sessions, online: u32, longest, mean: f64, observed: u32| {
        json!({"sessions": sessions, "online_seconds": online, "longest_seconds": longest,
               "mean_seconds": mean, "observed_seconds": observed,
               "uptime_ratio": f64::from(online) / f64::from(observed)})
    };
    assert_eq!(get(&mut service.connect(), "/v1/users/7/stats"), stats(4, 19, 7, 4.75, 63));
    assert_eq!(of(0, 1_000), stats(4, 19, 7, 4.75, 63), "up to now");
    assert_eq!(of(3, 21), stats(2, 5, 4, 2.5, 18), "clipped at both ends");
    assert_eq!(of(41, 43), stats(1, 2, 2, 2.0, 2));
    let idle = json!({"sessions": 0, "online_seconds": 0, "longest_seconds": 0, "mean_seconds": null,
                      "observed_seconds": 13, "uptime_ratio": 0.0});
    assert_eq!(of(7, 20), idle);
    let unseen = json!({"sessions": 0, "online_seconds": 0, "longest_seconds": 0, "mean_seconds": null,
                        "observed_seconds": 0, "uptime_ratio": null});
    let before = format!("/v1/users/7/stats?from={}&to={NOON}", NOON - 50);
    assert_eq!(get(&mut service.connect(), &before), unseen, "before the first session");
    assert_eq!(of(100, 200), unseen, "what has not passed");
}

/// A session of no length is kept and not shown: what it is before has begun with the next one.
#[test]
fn stats_may_end_before_the_user_was_first_seen() {
    let service = Service::start();
    service.call("PUT", "/heal/7");
    service.call("DELETE", "/heal/7");
    service.clock.advance(10);
    service.call("PUT", "/heal/7");
    service.clock.advance(3);
    for (from, to) in [(NOON - 50, NOON - 40), (NOON - 50, NOON), (NOON, NOON + 10)] {
        let stats = get(&mut service.connect(), &format!("/v1/users/7/stats?from={from}&to={to}"));
        assert_eq!(
            (&stats["sessions"], &stats["observed_seconds"]),
            (&json!(0), &json!(0)),
            "{from} to {to}"
        );
    }
}

/// A session that is continued over our absence is one session, and the absence was not observed.
#[test]
fn an_outage_of_ours_is_told_and_is_no_observed_time() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path(), Durability::Always, NOON);
    service.call("PUT", "/heal/7");
    drop(service);
    let service = Service::open(folder.path(), Durability::Always, NOON + 100);
    service.call("PUT", "/heal/7");
    service.clock.advance(3);

    let session = r#"{"online_at":1638360000,"offline_at":1638360107,"end":"live"}"#;
    let outage = r#"{"from":1638360000,"to":1638360100}"#;
    for (range, outages) in [("", outage), ("?to=1638360001", outage), ("?from=1638360100", "")] {
        assert_eq!(
            service.get(&format!("/v1/users/7/history{range}")),
            format!(r#"{{"id":7,"history":[{session}],"outages":[{outages}],"next":null}}"#),
            "{range}"
        );
    }
    assert_eq!(
        service.get("/v1/users/7/stats"),
        concat!(
            r#"{"sessions":1,"online_seconds":103,"longest_seconds":103,"mean_seconds":103.0,"#,
            r#""observed_seconds":3,"uptime_ratio":1.0}"#
        )
    );
    assert_eq!(
        get(&mut service.connect(), "/v1/users/7/stats?from=1638360010&to=1638360020"),
        json!({"sessions": 1, "online_seconds": 10, "longest_seconds": 10, "mean_seconds": 10.0,
               "observed_seconds": 0, "uptime_ratio": null})
    );
}

/// Sessions of 5 s each, opened so many seconds after NOON; it is a day later.
fn fives(opened: &[u32]) -> Service {
    let service = Service::start();
    service.clock.advance(DAY);
    for after in opened {
        import(&service, 7, NOON + after, NOON + after + 5);
    }
    service
}

/// The pages' sessions as seconds after NOON; `between` is called after the first page.
fn pages(service: &Service, query: &str, between: impl FnOnce()) -> Vec<Vec<(u64, u64)>> {
    let (mut between, mut pages, mut after) = (Some(between), Vec::new(), String::new());
    loop {
        let page = get(&mut service.connect(), &format!("/v1/users/7/history?{query}{after}"));
        let second = |value: &Value| value.as_u64().unwrap() - u64::from(NOON);
        let sessions = page["history"].as_array().unwrap().iter();
        pages.push(sessions.map(|s| (second(&s["online_at"]), second(&s["offline_at"]))).collect());
        let Some(next) = page["next"].as_str() else { return pages };
        assert!(next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{next}");
        after = format!("&after={next}");
        if let Some(between) = between.take() {
            between();
        }
    }
}

#[test]
fn what_is_added_between_two_pages_is_shown_once_or_not_at_all() {
    let opened = [0, 10, 30, 40, 60];
    let service = fives(&opened);
    let added = || {
        import(&service, 7, NOON + 20, NOON + 25);
        import(&service, 7, NOON + 35, NOON + 40);
        import(&service, 7, NOON + 80, NOON + 85);
    };
    assert_eq!(
        pages(&service, "limit=2", added),
        [
            vec![(0, 5), (10, 15)],
            vec![(20, 25), (30, 35)],
            vec![(35, 40), (40, 45)],
            vec![(60, 65), (80, 85)]
        ]
    );
    let service = fives(&opened);
    let added = || {
        import(&service, 7, NOON + 20, NOON + 25);
        import(&service, 7, NOON + 80, NOON + 85);
    };
    assert_eq!(
        pages(&service, "limit=2&order=desc", added),
        [vec![(60, 65), (40, 45)], vec![(30, 35), (20, 25)], vec![(10, 15), (0, 5)]]
    );
    let service = fives(&opened);
    let bridge = || import(&service, 7, NOON + 16, NOON + 29);
    assert_eq!(
        pages(&service, "limit=1&merge_gap=5", bridge),
        [vec![(0, 15)], vec![(16, 45)], vec![(60, 65)]],
        "what bridges the page's end belongs to the next page"
    );
}

#[test]
fn a_timeline_of_a_hundred_thousand_sessions_comes_in_ten_pages() {
    let service = Service::start();
    service.clock.advance(10 * DAY);
    for n in 0..100_000 {
        let online_at = UnixSeconds::new(NOON + 8 * n);
        service.engine.import(UserId::new(7), online_at, online_at.plus(5)).unwrap();
    }
    for (order, first) in [("asc", (0, 5)), ("desc", (799_992, 799_997))] {
        let pages = pages(&service, &format!("limit=10000&order={order}"), || {});
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10_000; 10]);
        assert_eq!(pages[0][0], first);
    }
    let whole = get(&mut service.connect(), "/v1/users/7/history?merge_gap=3&limit=1");
    let joined = json!([{"online_at": NOON, "offline_at": NOON + 799_997, "end": "lapsed"}]);
    assert_eq!((&whole["history"], &whole["next"]), (&joined, &Value::Null));
    assert_eq!(get(&mut service.connect(), "/v1/users/7/stats")["sessions"], 100_000);
}

#[rstest]
#[case("from=x", "from: write a number from 0 to 4294967295")]
#[case("from=-1", "from: write a number from 0 to 4294967295")]
#[case("from=4294967296", "from: write a number from 0 to 4294967295")]
#[case("from=1&from=1", "from: given more than once")]
#[case("to=", "to: write a number from 0 to 4294967295")]
#[case("to=0", "from: write a second before that of to")]
#[case("from=7&to=7", "from: write a second before that of to")]
#[case("from=8&to=7", "from: write a second before that of to")]
#[case("from=1700000000", "from: write a second before now, or a later one for to")]
#[case("id_format=hex", "id_format: write number or string")]
#[case("step=1", "step: no such parameter here")]
fn a_range_that_is_none_is_refused_by_name(
    #[case] query: &str,
    #[case] error: &str,
    #[values("history", "stats")] call: &str,
) {
    let refused = Service::start().call("GET", &format!("/v1/users/7/{call}?{query}"));
    assert_eq!((refused.status, refused.body), (400, json!({"error": error}).to_string()));
}

#[rstest]
#[case("limit=0", "limit: write a number from 1 to 10000")]
#[case("limit=10001", "limit: write a number from 1 to 10000")]
#[case("limit=ten", "limit: write a number from 1 to 10000")]
#[case("order=up", "order: write asc or desc")]
#[case("order=", "order: write asc or desc")]
#[case("merge_gap=-1", "merge_gap: write a number from 0 to 4294967295")]
#[case("merge_gap=1.5", "merge_gap: write a number from 0 to 4294967295")]
#[case("after=", "after: write what `next` said in the page before")]
#[case("after=61a76a80", "after: write what `next` said in the page before")]
#[case("after=h1&order=desc", "after: write what `next` said in the page before")]
#[case("after=r1", "after: write what `next` said in the page before")]
fn a_page_that_is_none_is_refused_by_name(#[case] query: &str, #[case] error: &str) {
    let service = Service::start();
    let refused = service.call("GET", &format!("/v1/users/7/history?{query}"));
    assert_eq!((refused.status, refused.body), (400, json!({"error": error}).to_string()));
    let name = query.split('=').next().unwrap();
    let refused = service.call("GET", &format!("/v1/users/7/stats?{query}"));
    assert_eq!(refused.status, 400, "stats have no pages");
    assert_eq!(refused.body, json!({"error": format!("{name}: no such parameter here")}).to_string());
}

/// A cursor that was made up names a place like any other.
#[rstest]
fn any_cursor_is_stood(#[values("h0", "hffffffff", "hffffffffffffffff", "h61a76a96")] cursor: &str) {
    let service = four_ends();
    for query in ["", "&merge_gap=100", "&from=1638360021"] {
        let page = get(&mut service.connect(), &format!("/v1/users/7/history?after={cursor}{query}"));
        assert!(page["history"].as_array().unwrap().len() <= 3);
    }
}

#[test]
fn an_id_in_the_middle_of_a_path_is_read_as_one_at_its_end() {
    let service = Service::start();
    assert!(service.get("/v1/users/%2B007/history").starts_with(r#"{"id":7,"#));
    for call in ["history", "stats"] {
        let refused = service.call("GET", &format!("/v1/users/x/{call}"));
        assert_eq!(refused.brief(), (400, r#"{"error":"invalid user_id format"}"#));
        let refused = service.call("POST", &format!("/v1/users/7/{call}"));
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET,HEAD")));
        let head = service.call("HEAD", &format!("/v1/users/7/{call}"));
        assert_eq!(head.brief(), (200, ""));
        assert_ne!(head.header("content-length"), Some("0"));
    }
}

/// Something that happens to a user, or to all.
#[derive(Debug, Clone, Copy)]
enum Step {
    Heal,
    Leave,
    Pass(u32),
    Sweep,
    /// So many seconds long we are not there.
    Restart(u32),
    /// Begun so many seconds ago, so long.
    Import(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Heal),
        2 => Just(Step::Leave),
        6 => (1..12_u32).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => (0..25_u32).prop_map(Step::Restart),
        2 => (1..80_u32, 1..9_u32).prop_map(|(ago, seconds)| Step::Import(ago, seconds)),
    ]
}

const USERS: std::ops::Range<i64> = 1..3;

/// Lives through the steps; gives the service as it then is.
fn live_through(folder: &std::path::Path, steps: &[(Step, i64)]) -> Service {
    let open = |now| Service::open(folder, Durability::Process, now);
    let mut service = open(NOON);
    for &(step, user) in steps {
        let id = UserId::new(user);
        let now = service.engine.now();
        match step {
            Step::Heal => drop(service.engine.heal(id).unwrap()),
            Step::Leave => drop(service.engine.leave(id).unwrap()),
            Step::Pass(seconds) => service.clock.advance(seconds),
            Step::Sweep => drop(service.engine.sweep()),
            Step::Import(ago, seconds) => {
                service.engine.import(id, now.minus(ago), now.minus(ago).plus(seconds)).unwrap();
            }
            Step::Restart(seconds) => {
                drop(service);
                service = open(now.plus(seconds).as_u32());
            }
        }
    }
    service
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    online_at: u32,
    offline_at: u32,
    end: End,
}

/// Everybody's sessions as an export has them; it does not say how they ended.
fn exported(service: &Service) -> BTreeMap<i64, Vec<Entry>> {
    let mut all: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
    for line in service.get("/v1/export").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let second = |name: &str| u32::try_from(line[name].as_u64().unwrap()).unwrap();
        let (online_at, offline_at) = (second("online_at"), second("offline_at"));
        let user = line["id"].as_i64().unwrap();
        let timeline = service.engine.timeline(UserId::new(user));
        let same = timeline.iter().find(|session| session.online_at.as_u32() == online_at).unwrap();
        all.entry(user).or_default().push(Entry { online_at, offline_at, end: same.end });
    }
    all
}

fn joined(timeline: &[Entry], gap: Option<u32>) -> Vec<Entry> {
    let mut joined: Vec<Entry> = Vec::new();
    for &entry in timeline {
        match (joined.last_mut(), gap) {
            (Some(last), Some(gap)) if entry.online_at - last.offline_at <= gap => {
                (last.offline_at, last.end) = (entry.offline_at, entry.end);
            }
            _ => joined.push(entry),
        }
    }
    joined
}

fn written(entry: &Entry) -> Value {
    let end = match entry.end {
        End::Live => "live",
        End::Lapsed => "lapsed",
        End::Left => "left",
    };
    json!({"online_at": entry.online_at, "offline_at": entry.offline_at, "end": end})
}

/// All pages of so many, which must be full but for the last.
fn all_pages(client: &mut Client, target: &str, limit: usize) -> (Vec<Value>, Value) {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let mut page = get(client, &format!("{target}&limit={limit}{after}"));
        let entries = page["history"].as_array().unwrap();
        all.extend(entries.iter().cloned());
        let Some(next) = page["next"].as_str() else { return (all, page["outages"].take()) };
        assert_eq!(entries.len(), limit, "{target}");
        after = format!("&after={next}");
    }
}

fn assert_history(
    client: &mut Client,
    user: i64,
    timeline: &[Entry],
    outages: &[(u32, u32)],
    (from, to): (u32, u32),
) {
    for gap in [None, Some(0), Some(1), Some(4), Some(15), Some(1_000)] {
        let overlap = |on: u32, off: u32| on < to && off > from;
        let mut expected = joined(timeline, gap);
        expected.retain(|entry| overlap(entry.online_at, entry.offline_at));
        let mut expected: Vec<_> = expected.iter().map(written).collect();
        let outages: Vec<_> = outages
            .iter()
            .filter(|outage| overlap(outage.0, outage.1))
            .map(|(from, to)| json!({"from": from, "to": to}))
            .collect();
        for order in ["asc", "desc"] {
            let gap = gap.map_or(String::new(), |gap| format!("&merge_gap={gap}"));
            let target = format!("/v1/users/{user}/history?from={from}&to={to}&order={order}{gap}");
            for limit in 1..=expected.len() + 1 {
                let got = all_pages(client, &target, limit);
                assert_eq!(got, (expected.clone(), json!(outages)), "{target}&limit={limit}");
            }
            expected.reverse();
        }
    }
}

/// Second by second.
fn assert_stats(
    client: &mut Client,
    user: i64,
    timeline: &[Entry],
    outages: &[(u32, u32)],
    (from, to): (u32, u32),
    now: u32,
) {
    let is_up = |second: &u32| !outages.iter().any(|outage| (outage.0..outage.1).contains(second));
    let first = timeline.first().map_or(u32::MAX, |entry| entry.online_at);
    let passed = from.max(first)..to.min(now);
    let observed = passed.clone().filter(is_up).count();
    let seconds = |entry: &Entry| {
        let session = entry.online_at..entry.offline_at;
        passed.clone().filter(move |second| session.contains(second))
    };
    let lengths: Vec<_> = timeline.iter().map(|entry| seconds(entry).count()).filter(|&n| n > 0).collect();
    let up: usize = timeline.iter().map(|entry| seconds(entry).filter(is_up).count()).sum();
    let online: usize = lengths.iter().sum();
    #[allow(clippy::cast_precision_loss)]
    let ratio = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    let expected = json!({
        "sessions": lengths.len(), "online_seconds": online,
        "longest_seconds": lengths.iter().max().unwrap_or(&0), "mean_seconds": ratio(online, lengths.len()),
        "observed_seconds": observed, "uptime_ratio": ratio(up, observed),
    });
    let target = format!("/v1/users/{user}/stats?from={from}&to={to}");
    assert_eq!(get(client, &target), expected, "{target}");
}

fn is_as_by_brute_force(steps: &[(Step, i64)], ranges: &[(u32, u32)]) {
    let folder = tempfile::tempdir().unwrap();
    let service = live_through(folder.path(), steps);
    let now = service.engine.now().as_u32();
    let all = exported(&service);
    let mut client = service.connect();
    let outages = get(&mut client, "/v1/status")["outages"].take();
    let second = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let outages: Vec<_> =
        outages.as_array().unwrap().iter().map(|o| (second(&o["from"]), second(&o["to"]))).collect();
    let ranges = ranges.iter().map(|(from, length)| (NOON - 80 + from, NOON - 80 + from + length));
    for range in ranges.chain([(0, NOON + DAY)]) {
        for user in USERS {
            let timeline = all.get(&user).map_or(&[][..], Vec::as_slice);
            assert_history(&mut client, user, timeline, &outages, range);
            assert_stats(&mut client, user, timeline, &outages, range, now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn history_and_stats_are_what_brute_force_makes_of_an_export(
        steps in prop::collection::vec((step(), USERS), 1..60),
        ranges in prop::collection::vec((0..260_u32, 1..120_u32), 2),
    ) {
        is_as_by_brute_force(&steps, &ranges);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "long: more timelines, and longer ones"]
    fn history_and_stats_are_what_brute_force_makes_of_an_export_at_length(
        steps in prop::collection::vec((step(), USERS), 1..120),
        ranges in prop::collection::vec((0..400_u32, 1..200_u32), 4),
    ) {
        is_as_by_brute_force(&steps, &ranges);
    }
}
