//! The rules for dashboards: those of Grafana's own linter, and some of ours.

use serde_json::{Value, json};

use crate::parts::*;

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
    let is_counter =
        |metric: &str| ["_total", "_bucket", "_sum", "_count"].iter().any(|suffix| metric.ends_with(suffix));
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
