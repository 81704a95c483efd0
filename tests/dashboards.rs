//! What `grafana/` promises: dashboards that follow the usual rules, alerts that somebody can act on, and no name of a metric
//! that the service does not export.
//!
//! Each rule is a function from a dashboard, or from the text of the rules, to what it complains of. So it is shown of every
//! one that it is silent about our files and notices when something is broken in them.
//!
//! Expressions are only skimmed here, for selectors and what stands around them: whether they are sound, and give anything, is
//! asked of Prometheus in `tests/prometheus.rs`. YAML is read by line, as far as our own few files need it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// File, uid, and the uid of the other one, which it links to.
const DASHBOARDS: [(&str, &str, &str); 2] = [
    ("overview", "heartbeat-overview", "heartbeat-durability"),
    ("durability", "heartbeat-durability", "heartbeat-overview"),
];

const FILTER: &str = r#"job=~"$job",instance=~"$instance""#;

/// Grafana's names of the units that we use; one that it does not know is shown as it is written.
const UNITS: [&str; 14] = [
    "Bps",
    "bool_yes_no",
    "bytes",
    "cps",
    "dtdurations",
    "ops",
    "percentunit",
    "reqps",
    "s",
    "short",
    "string",
    "wps",
    "none",
    "dateTimeAsIso",
];

/// A counter that is set once at a start, to what the data directory remembers: its height is what matters.
const COUNTERS_SHOWN_AS_THEY_ARE: [&str; 1] = ["heartbeat_outages_total"];

/// Where a panel shows what an alert compares, it is coloured at the same value: alert, how its expression or that of a
/// recorded one says it, panel, value.
const THRESHOLDS: [(&str, &str, &str, f64); 17] = [
    ("HeartbeatNotReady", "heartbeat_ready == 0", "Ready", 1.0),
    ("HeartbeatHealsRefused", "ratio_rate2m > 0.01 ", "Error ratio", 0.01),
    ("HeartbeatJournalNotAccepting", "heartbeat_journal_accepting == 0", "Journal accepts", 1.0),
    ("HeartbeatSyncSlow", "p99_rate5m > 1\n", "Duration of a sync", 1.0),
    ("HeartbeatUnsyncedTooLong", "limit_seconds - 2.5\n", "Left until writes are refused", 2.5),
    (
        "HeartbeatSnapshotStale",
        "> clamp_min(3 * heartbeat_snapshot_interval_seconds, 900)",
        "Snapshot age of the limit",
        1.0,
    ),
    ("HeartbeatDiskFilling", "ratio < 0.05\n", "Disk free", 0.05),
    ("HeartbeatDiskFilling", "[6h], 86400) < 0", "Time to full", 86_400.0),
    ("HeartbeatDiskFilling", "[6h], 86400) < 0", "Predicted time to full", 86_400.0),
    ("HeartbeatExpiryLag", "p99_rate5m > 2\n", "Expiry lag", 2.0),
    ("HeartbeatExpiryLag", "p99_rate5m > 2\n", "Lag of expiries", 2.0),
    ("HeartbeatLatencyHigh", "p99_rate5m > 0.1 ", "p99 of heals", 0.1),
    ("HeartbeatLatencyHigh", "p99_rate5m > 0.1 ", "Latency of single heals", 0.1),
    ("HeartbeatFlappingClients", "ratio_rate10m > 0.25 ", "Flaps of the opened sessions", 0.25),
    ("HeartbeatMemoryHigh", "resident:ratio > 0.8\n", "Memory of the limit", 0.8),
    ("HeartbeatFileDescriptorsLow", "open:ratio > 0.85\n", "File descriptors of the limit", 0.85),
    ("HeartbeatConnectionsNearLimit", "open:ratio > 0.9\n", "Connections of the most allowed", 0.9),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboard_text(name: &str) -> String {
    text(&format!("grafana/dashboards/{name}.json"))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&dashboard_text(name)).unwrap()
}

// --- what a dashboard is made of ---

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// Without the rows, which only head the others.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// Each expression, with the title of its panel.
fn expressions(dashboard: &Value) -> impl Iterator<Item = (&str, &str)> {
    panels(dashboard).flat_map(|panel| {
        list(panel, "targets").iter().map(|target| (string(panel, "title"), string(target, "expr")))
    })
}

fn variable<'a>(dashboard: &'a Value, name: &str) -> &'a Value {
    list(&dashboard["templating"], "list")
        .iter()
        .find(|variable| variable["name"] == name)
        .unwrap_or(&Value::Null)
}

fn is_ours(datasource: &Value) -> bool {
    *datasource == json!({"type": "prometheus", "uid": "${datasource}"})
}

/// What occurs more than once.
fn repeated<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for item in items {
        if let Some(item) = seen.replace(item) {
            twice.push(item);
        }
    }
    twice
}

// --- what an expression is made of ---

#[derive(Debug, PartialEq, Eq)]
struct Selector<'a> {
    metric: &'a str,
    matchers: &'a str,
    is_range: bool,
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == ':'
}

fn is_metric(word: &str) -> bool {
    let is_prefixed =
        ["heartbeat_", "process_"].iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len());
    is_prefixed || word == "up"
}

/// Where the text inside a bracket that has just been opened ends; brackets within quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted) = (1, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' | ']' | '}' if !is_quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Every metric that is asked for, with what stands behind it.
fn selectors(expression: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_of_name) {
        rest = &rest[start..];
        let end = rest.find(|character| !is_of_name(character)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind;
        let mut matchers = "";
        if let Some(inside) = behind.strip_prefix('{') {
            let end = closing(inside).unwrap_or(inside.len());
            matchers = &inside[..end];
            rest = inside.get(end + 1..).unwrap_or("");
        }
        if is_metric(word) {
            found.push(Selector { metric: word, matchers, is_range: rest.starts_with('[') });
        }
    }
    found
}

/// What stands within the brackets of each call of `function`.
fn arguments<'a>(expression: &'a str, function: &str) -> Vec<&'a str> {
    let call = format!("{function}(");
    expression
        .match_indices(&call)
        .filter(|(at, _)| !expression[..*at].ends_with(is_of_name))
        .filter_map(|(at, call)| {
            let inside = &expression[at + call.len()..];
            closing(inside).map(|end| &inside[..end])
        })
        .collect()
}

// --- the rules for dashboards ---

type Lint = fn(&Value) -> Vec<String>;
type Breakage = fn(&mut Value);

/// The rules, and for each what breaks it.
const LINTS: [(Lint, Breakage); 30] = [
    (settings, |it| it["editable"] = json!(true)),
    (settings, |it| it["schemaVersion"] = json!(40)),
    (settings, |it| it["graphTooltip"] = json!(0)),
    (settings, |it| it["refresh"] = json!("1m")),
    (settings, |it| it["timezone"] = json!("utc")),
    (settings, |it| it["tags"] = json!([])),
    (data_source_variable, |it| it["templating"]["list"][0]["query"] = json!("loki")),
    (filter_variables, |it| drop(it["templating"]["list"].as_array_mut().unwrap().remove(1))),
    (filter_variables, |it| it["templating"]["list"][2]["multi"] = json!(false)),
    (filter_variables, |it| it["templating"]["list"][1]["allValue"] = json!("")),
    (filter_variables, |it| it["templating"]["list"][1]["refresh"] = json!(1)),
    (link_to_the_other, |it| it["links"][0]["keepTime"] = json!(false)),
    (marks_of_restarts, |it| it["annotations"]["list"] = json!([])),
    (titles, |it| it["panels"][1]["title"] = it["panels"][2]["title"].clone()),
    (titles, |it| it["panels"][1]["title"] = json!("")),
    (descriptions, |it| it["panels"][1]["description"] = json!("")),
    (units, |it| it["panels"][1]["fieldConfig"]["defaults"]["unit"] = json!("second")),
    (data_sources, |it| it["panels"][1]["datasource"]["uid"] = json!("prometheus")),
    (data_sources, |it| it["panels"][1]["targets"][0]["datasource"] = Value::Null),
    (targets, |it| it["panels"][1]["targets"] = json!([])),
    (targets, |it| it["panels"][1]["targets"][0]["legendFormat"] = json!("")),
    (targets, |it| it["panels"][1]["targets"][0]["refId"] = json!("")),
    (targets, |it| {
        let target = it["panels"][1]["targets"][0].clone();
        it["panels"][1]["targets"].as_array_mut().unwrap().push(target);
    }),
    (thresholds, |it| it["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"] = json!([])),
    (ids, |it| it["panels"][1]["id"] = it["panels"][2]["id"].clone()),
    (grid, |it| it["panels"][2]["gridPos"]["x"] = json!(1)),
    (filtered, |it| it["panels"][1]["targets"][0]["expr"] = json!("up{job=~\"$job\"}")),
    (rate_intervals, |it| {
        it["panels"][1]["targets"][0]["expr"] = json!("sum(rate(heartbeat_heals_total[5m]))");
    }),
    (counters_as_rates, |it| {
        it["panels"][1]["targets"][0]["expr"] = json!("sum(heartbeat_heals_total)");
    }),
    (quantiles_by_le, |it| {
        it["panels"][1]["targets"][0]["expr"] =
            json!("histogram_quantile(0.9, sum(rate(heartbeat_batch_ids_bucket[$__rate_interval])))");
    }),
];

/// What holds for a dashboard as a whole.
fn settings(dashboard: &Value) -> Vec<String> {
    let known = DASHBOARDS.iter().any(|(_, uid, _)| dashboard["uid"] == *uid);
    [
        (known, "a uid that links can rely on"),
        (dashboard["id"].is_null(), "no id, which belongs to one Grafana"),
        (
            dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 41),
            "schemaVersion 41 or later",
        ),
        (dashboard["editable"] == false, "editable: false, for the file is what counts"),
        (dashboard["graphTooltip"] == 1, "a crosshair that all panels share"),
        (dashboard["refresh"] == "10s", "a refresh every 10s"),
        (dashboard["timezone"] == "browser", "the browser's time zone"),
        (list(dashboard, "tags").contains(&json!("heartbeat")), "the tag heartbeat"),
        (!string(dashboard, "title").is_empty() && !string(dashboard, "description").is_empty(), "a title"),
    ]
    .into_iter()
    .filter(|(is_kept, _)| !is_kept)
    .map(|(_, wanted)| format!("{wanted} is missing"))
    .collect()
}

fn data_source_variable(dashboard: &Value) -> Vec<String> {
    let found = variable(dashboard, "datasource");
    let is_good =
        found["type"] == "datasource" && found["query"] == "prometheus" && found["label"] == "Data source";
    if is_good { vec![] } else { vec!["no variable for the data source".into()] }
}

fn filter_variables(dashboard: &Value) -> Vec<String> {
    let queries = [
        ("job", "Job", "label_values(heartbeat_ready, job)"),
        ("instance", "Instance", r#"label_values(heartbeat_ready{job=~"$job"}, instance)"#),
    ];
    let is_good = |name: &str, label: &str, query: &str| {
        let found = variable(dashboard, name);
        found["type"] == "query"
            && is_ours(&found["datasource"])
            && found["query"]["query"] == query
            && found["label"] == label
            && found["multi"] == true
            && found["includeAll"] == true
            && found["allValue"] == ".+"
            // When the range of time changes.
            && found["refresh"] == 2
    };
    queries
        .into_iter()
        .filter(|(name, label, query)| !is_good(name, label, query))
        .map(|(name, ..)| format!("the variable {name} is missing, or not as it should be"))
        .collect()
}

fn link_to_the_other(dashboard: &Value) -> Vec<String> {
    let other = DASHBOARDS.iter().find(|(_, uid, _)| dashboard["uid"] == *uid).map(|(.., other)| *other);
    let is_linked = list(dashboard, "links").iter().any(|link| {
        other.is_some_and(|other| link["url"] == format!("/d/{other}"))
            && link["keepTime"] == true
            && link["includeVars"] == true
    });
    if is_linked { vec![] } else { vec!["no link to the other dashboard with time and variables".into()] }
}

fn marks_of_restarts(dashboard: &Value) -> Vec<String> {
    let is_marked = list(&dashboard["annotations"], "list").iter().any(|annotation| {
        is_ours(&annotation["datasource"])
            && string(annotation, "expr").contains(&format!("process_start_time_seconds{{{FILTER}}}"))
            && annotation["enable"] == true
    });
    if is_marked { vec![] } else { vec!["restarts are not marked".into()] }
}

fn titles(dashboard: &Value) -> Vec<String> {
    let titles = || list(dashboard, "panels").iter().map(|panel| string(panel, "title"));
    let empty = titles().filter(|title| title.is_empty()).map(|_| "a panel without a title".into());
    let twice = repeated(titles()).into_iter().map(|title| format!("{title}: more than once"));
    empty.chain(twice).collect()
}

fn descriptions(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|panel| {
            !(string(panel, "description").len() > 40 && string(panel, "description").ends_with('.'))
        })
        .map(|panel| format!("{}: no sentence that says what it means", panel["title"]))
        .collect()
}

fn units(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|panel| !UNITS.contains(&string(&panel["fieldConfig"]["defaults"], "unit")))
        .map(|panel| format!("{}: no unit, or an unknown one", panel["title"]))
        .collect()
}

fn data_sources(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|panel| {
            let targets = list(panel, "targets").iter().map(|target| &target["datasource"]);
            !targets.chain([&panel["datasource"]]).all(is_ours)
        })
        .map(|panel| format!("{}: another data source than the chosen one", panel["title"]))
        .collect()
}

fn targets(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|panel| {
            let all = list(panel, "targets");
            let is_whole = |target: &Value| {
                ["expr", "refId", "legendFormat"].iter().all(|key| !string(target, key).is_empty())
            };
            all.is_empty()
                || !all.iter().all(is_whole)
                || !repeated(all.iter().map(|target| string(target, "refId"))).is_empty()
        })
        .map(|panel| format!("{}: no target, or one without refId and legend of its own", panel["title"]))
        .collect()
}

fn thresholds(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        // Its colours say how many, not how good.
        .filter(|panel| panel["type"] != "heatmap")
        .filter(|panel| list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps").is_empty())
        .map(|panel| format!("{}: no thresholds", panel["title"]))
        .collect()
}

fn ids(dashboard: &Value) -> Vec<String> {
    let ids = || list(dashboard, "panels").iter().map(|panel| panel["id"].as_u64());
    let missing = ids().filter(|id| id.is_none_or(|id| id == 0)).map(|_| "a panel without an id".into());
    missing.chain(repeated(ids()).into_iter().map(|id| format!("{id:?}: more than once"))).collect()
}

/// 24 columns, and no two in one place.
fn grid(dashboard: &Value) -> Vec<String> {
    let side = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX / 4);
    let all = list(dashboard, "panels");
    let mut found = Vec::new();
    for (at, panel) in all.iter().enumerate() {
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| side(panel, key));
        if width == 0 || height == 0 || x + width > 24 {
            found.push(format!("{}: does not fit into 24 columns", panel["title"]));
        }
        for other in &all[..at] {
            let [left, top, wide, high] = ["x", "y", "w", "h"].map(|key| side(other, key));
            if x < left + wide && left < x + width && y < top + high && top < y + height {
                found.push(format!("{} and {} overlap", panel["title"], other["title"]));
            }
        }
    }
    found
}

fn complaints(dashboard: &Value, is_good: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    expressions(dashboard)
        .filter(|(_, expression)| !is_good(expression))
        .map(|(title, expression)| format!("{title}: {what}: {expression}"))
        .collect()
}

fn filtered(dashboard: &Value) -> Vec<String> {
    let is_good = |expression: &str| {
        let selectors = selectors(expression);
        !selectors.is_empty() && selectors.iter().all(|selector| selector.matchers.starts_with(FILTER))
    };
    complaints(dashboard, is_good, "not filtered by job and instance")
}

fn rate_intervals(dashboard: &Value) -> Vec<String> {
    let is_good = |expression: &str| {
        let mut ranges =
            ["rate", "irate", "increase"].into_iter().flat_map(|function| arguments(expression, function));
        ranges.all(|argument| argument.ends_with("[$__rate_interval]"))
    };
    complaints(dashboard, is_good, "a rate over another range than $__rate_interval")
}

fn counters_as_rates(dashboard: &Value) -> Vec<String> {
    let is_counter = |metric: &str| {
        ["_total", "_bucket", "_sum", "_count"].iter().any(|suffix| metric.ends_with(suffix))
            && !COUNTERS_SHOWN_AS_THEY_ARE.contains(&metric)
    };
    let is_good = |expression: &str| {
        selectors(expression).iter().all(|selector| selector.is_range || !is_counter(selector.metric))
    };
    complaints(dashboard, is_good, "a counter that is no rate")
}

fn quantiles_by_le(dashboard: &Value) -> Vec<String> {
    let is_good = |expression: &str| {
        arguments(expression, "histogram_quantile").iter().all(|argument| {
            let inner = argument.split_once(", ").map_or("", |(_, inner)| inner);
            inner.starts_with("sum by (le") && inner.contains(" (rate(") && inner.contains("_bucket{")
        })
    };
    complaints(dashboard, is_good, "a quantile of something else than the rates of buckets by le")
}

#[test]
fn the_dashboards_keep_every_rule() {
    for (name, uid, _) in DASHBOARDS {
        let dashboard = dashboard(name);
        assert_eq!(dashboard["uid"], uid);
        assert!(panels(&dashboard).count() > 20, "{name}");
        for (lint, _) in LINTS {
            assert_eq!(lint(&dashboard), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn each_rule_notices_a_dashboard_that_breaks_it() {
    for (name, ..) in DASHBOARDS {
        for (at, (lint, break_it)) in LINTS.into_iter().enumerate() {
            let mut dashboard = dashboard(name);
            break_it(&mut dashboard);
            assert!(!lint(&dashboard).is_empty(), "{name}: the rule at {at} notices nothing");
        }
    }
}

#[test]
fn expressions_are_skimmed_as_they_are_meant() {
    let selector = |metric, matchers, is_range| Selector { metric, matchers, is_range };
    assert_eq!(
        selectors(
            r#"sum by (up) (rate(heartbeat_a_total{route="/heal/{user_id}"}[5m])) / process_b and x{c="up"}"#
        ),
        [
            selector("up", "", false),
            selector("heartbeat_a_total", r#"route="/heal/{user_id}""#, true),
            selector("process_b", "", false),
        ]
    );
    assert_eq!(arguments("irate(a[1m]) + rate(b{c=\")\"}[2m])", "rate"), ["b{c=\")\"}[2m]"]);
}

/// As Grafana writes it, but for the order: keys are sorted, so that a change shows as what it is.
#[test]
fn the_files_are_written_so_that_changes_can_be_read() {
    for (name, ..) in DASHBOARDS {
        let written = serde_json::to_string_pretty(&dashboard(name)).unwrap() + "\n";
        assert!(written == dashboard_text(name), "{name}: two spaces, keys sorted, one line feed at the end");
    }
}

// --- the rules for alerts ---

const RULES: &str = "grafana/prometheus/rules/alerts.yml";

/// Name and text of each alert.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    rules
        .split("- alert: ")
        .skip(1)
        .map(|block| block.split_once('\n').map_or((block, ""), |(name, body)| (name.trim(), body)))
        .collect()
}

/// What stands behind `key:`, on that line or, folded, on the next.
fn field<'a>(block: &'a str, key: &str) -> &'a str {
    let mut lines = block.lines().map(str::trim);
    let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("").trim();
    if found == ">-" { lines.next().unwrap_or("") } else { found }
}

/// As GitHub makes anchors of headings of one word.
fn anchors(runbook: &str) -> BTreeSet<String> {
    runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.trim().to_lowercase())
        .collect()
}

fn alerts_that_nobody_can_act_on(rules: &str, runbook: &str) -> Vec<String> {
    let anchors = anchors(runbook);
    let mut found = Vec::new();
    for (name, block) in alerts(rules) {
        let anchor = field(block, "runbook_url").strip_prefix("RUNBOOK.md#").unwrap_or("");
        let description = block.split("description:").nth(1).unwrap_or("");
        // Whether it is up has no value worth telling.
        let has_value = name == "HeartbeatDown" || description.contains("$value");
        let kept = [
            (["page", "ticket"].contains(&field(block, "severity")), "severity"),
            (field(block, "summary").len() > 10, "summary"),
            (field(block, "description").len() > 40 && has_value, "description with a value"),
            (anchor == name.to_lowercase() && anchors.contains(anchor), "section in the runbook"),
        ];
        found.extend(
            kept.iter().filter(|(is_kept, _)| !is_kept).map(|(_, what)| format!("{name}: no {what}")),
        );
    }
    found
}

#[test]
fn every_alert_says_what_it_means_and_where_to_read_on() {
    let (rules, runbook) = (text(RULES), text("grafana/RUNBOOK.md"));
    assert_eq!(alerts(&rules).len(), 19);
    assert_eq!(alerts_that_nobody_can_act_on(&rules, &runbook), [""; 0]);
    // And no section is about an alert that is gone.
    let names: BTreeSet<_> = alerts(&rules).iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(anchors(&runbook), names);
}

#[test]
fn an_alert_that_nobody_can_act_on_is_noticed() {
    let (rules, runbook) = (text(RULES), text("grafana/RUNBOOK.md"));
    for (whole, broken) in [
        ("severity: page", "severity: critical"),
        ("summary: Heals are being refused", "summary: Heals"),
        ("{{ $value | humanizePercentage }} of the heals", "some of the heals"),
        ("RUNBOOK.md#heartbeatnotready", "RUNBOOK.md#not-ready"),
    ] {
        let changed = rules.replacen(whole, broken, 1);
        assert_ne!(changed, rules, "{whole}");
        assert_eq!(alerts_that_nobody_can_act_on(&changed, &runbook).len(), 1, "{broken}");
    }
    let shorter = runbook.replace("## HeartbeatClockStep", "");
    assert_eq!(
        alerts_that_nobody_can_act_on(&rules, &shorter),
        ["HeartbeatClockStep: no section in the runbook"]
    );
}

fn tests_of_alerts() -> String {
    let folder = root("grafana/prometheus/tests");
    fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

/// Alerts without a test in which they fire, or without one in which they do not.
fn untested(rules: &str, tests: &str) -> Vec<String> {
    let checks: Vec<(&str, bool)> = tests
        .split("alertname: ")
        .skip(1)
        .filter_map(|check| check.split_once('\n'))
        .map(|(name, rest)| (name.trim(), !rest.trim_start().starts_with("exp_alerts: []")))
        .collect();
    alerts(rules)
        .into_iter()
        .flat_map(|(name, _)| [(name, true), (name, false)])
        .filter(|check| !checks.contains(check))
        .map(|(name, fires)| format!("{name}: {}", if fires { "never fires" } else { "is never silent" }))
        .collect()
}

#[test]
fn every_alert_is_tested_both_ways() {
    let (rules, tests) = (text(RULES), tests_of_alerts());
    assert_eq!(untested(&rules, &tests), [""; 0]);
    assert_eq!(untested("- alert: New\n", &tests), ["New: never fires", "New: is never silent"]);
}

/// What of [`THRESHOLDS`] is not so.
fn different_thresholds(rules: &str, dashboards: &[Value]) -> Vec<&'static str> {
    let alerts = alerts(rules);
    let has_step = |panel: &Value, value: f64| {
        list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps")
            .iter()
            .any(|step| step["value"].as_f64() == Some(value))
    };
    THRESHOLDS
        .into_iter()
        .filter(|(alert, expression, title, value)| {
            let is_said = alerts.iter().any(|(name, block)| name == alert && block.contains(expression));
            let is_shown = dashboards
                .iter()
                .flat_map(panels)
                .any(|panel| string(panel, "title") == *title && has_step(panel, *value));
            !(is_said && is_shown)
        })
        .map(|(_, _, title, _)| title)
        .collect()
}

#[test]
fn panels_turn_red_where_alerts_fire() {
    let rules = text(RULES);
    let dashboards = DASHBOARDS.map(|(name, ..)| dashboard(name));
    assert_eq!(different_thresholds(&rules, &dashboards), [""; 0]);

    let changed = rules.replace("resident:ratio > 0.8\n", "resident:ratio > 0.7\n");
    assert_eq!(different_thresholds(&changed, &dashboards), ["Memory of the limit"]);
    let mut one = dashboards.clone();
    one[0]["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] = json!(2);
    assert_eq!(different_thresholds(&rules, &one), ["Ready"]);
}

// --- names ---

/// The names in string literals of the only file that names metrics.
fn exported(source: &str) -> BTreeSet<&str> {
    let is_name = |literal: &str| {
        is_metric(literal)
            && literal.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    source.split('"').skip(1).step_by(2).filter(|literal| is_name(literal)).collect()
}

/// The metrics of which a text speaks; of a histogram, its own name.
fn named<'a>(text: &'a str, exported: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    text.split(|character| !is_of_name(character))
        .filter(|word| is_metric(word) && *word != "up")
        .map(|word| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            base.filter(|base| exported.contains(base)).unwrap_or(word)
        })
        .collect()
}

/// The names of recorded series of which a text speaks, but for what only looks like one: `heartbeat:3519`.
fn recorded(text: &str) -> BTreeSet<&str> {
    text.split(|character| !is_of_name(character))
        .filter(|word| {
            word.strip_prefix("heartbeat:")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        })
        .collect()
}

/// Everything that people and machines read about our metrics.
fn all_texts() -> String {
    let folders = [
        "dashboards",
        "prometheus",
        "prometheus/rules",
        "prometheus/tests",
        "provisioning/dashboards",
        "provisioning/datasources",
    ];
    let files = folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(root("grafana").join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .chain(["README.md", "RUNBOOK.md", "compose.yaml"].map(|file| root("grafana").join(file)))
        .filter(|path| path.is_file());
    files.map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_metric_that_is_named_is_exported_and_every_exported_one_is_used_or_explained() {
    let (source, texts) = (text("src/metrics.rs"), all_texts());
    let exported = exported(&source);
    assert!(exported.len() > 50, "{exported:?}");
    let named = named(&texts, &exported);
    assert_eq!(named.difference(&exported).collect::<Vec<_>>(), [&""; 0], "named and not exported");
    assert_eq!(exported.difference(&named).collect::<Vec<_>>(), [&""; 0], "exported and not named");
}

/// A test's own series name a metric, but nobody looks at them.
#[test]
fn a_metric_that_is_in_no_panel_and_no_rule_is_explained() {
    let source = text("src/metrics.rs");
    let exported = exported(&source);
    let shown = [dashboard_text("overview"), dashboard_text("durability"), text(RULES)].join("\n")
        + &text("grafana/prometheus/rules/recording.yml");
    let readme = text("grafana/README.md");
    let explained = named(readme.split_once("## Exported and not shown").unwrap().1, &exported);
    let hidden: BTreeSet<_> = exported.difference(&named(&shown, &exported)).copied().collect();
    assert_eq!(hidden, explained);
}

#[test]
fn names_are_found_where_they_stand() {
    let source = r#"describe users: Gauge = "heartbeat_users", "Those in heartbeat_users."; const CPU: &str = "process_cpu"; "heartbeat_""#;
    let exported = exported(source);
    assert_eq!(exported, BTreeSet::from(["heartbeat_users", "process_cpu"]));
    assert_eq!(
        named(
            "rate(heartbeat_users_count[5m]) + `heartbeat_gone_count`, heartbeat:3519, heartbeat:a:b",
            &exported
        ),
        BTreeSet::from(["heartbeat_users", "heartbeat_gone_count"])
    );
    assert_eq!(recorded("heartbeat:3519 heartbeat:a:b"), BTreeSet::from(["heartbeat:a:b"]));
}

#[test]
fn what_is_recorded_is_used_and_what_is_used_is_recorded() {
    let recording = text("grafana/prometheus/rules/recording.yml");
    let records = |line: &str| line.trim().strip_prefix("- record: ").map(str::to_owned);
    let made: BTreeSet<_> = recording.lines().filter_map(records).collect();
    let expressions: String =
        recording.lines().filter(|line| records(line).is_none()).collect::<Vec<_>>().join("\n");
    let everything = [expressions, text(RULES)].join("\n");
    let used: BTreeSet<_> = recorded(&everything).into_iter().map(str::to_owned).collect();
    assert!(made.len() > 10);
    assert_eq!(made, used);
}
