//! The rules for alerts: somebody who is woken knows what it means and what to do, and panels turn red where alerts fire.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::parts::*;

/// Where a panel shows what an alert compares, it is coloured at the same value: alert, how its expression or that of a
/// recorded one says it, panel, value.
const THRESHOLDS: [(&str, &str, &str, f64); 18] = [
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
    ("HeartbeatSnapshotQuarantined", "quarantined_snapshots > 0\n", "Quarantined snapshots", 1.0),
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

pub const RULES: &str = "grafana/prometheus/rules/alerts.yml";

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
    assert_eq!(alerts(&rules).len(), 21);
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
