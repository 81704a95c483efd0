//! The names of metrics: each that is named is exported, and each that is exported is used or explained.

use std::collections::BTreeSet;
use std::fs;

use crate::alerts::RULES;
use crate::parts::*;

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
