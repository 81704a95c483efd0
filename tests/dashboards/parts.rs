//! The files, and what dashboards and expressions are made of, as far as the rules ask.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// File, uid, and the uid of the other one, which it links to.
pub const DASHBOARDS: [(&str, &str, &str); 2] = [
    ("overview", "heartbeat-overview", "heartbeat-durability"),
    ("durability", "heartbeat-durability", "heartbeat-overview"),
];

pub const FILTER: &str = r#"job=~"$job",instance=~"$instance""#;

pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn dashboard_text(name: &str) -> String {
    text(&format!("grafana/dashboards/{name}.json"))
}

pub fn dashboard(name: &str) -> Value {
    serde_json::from_str(&dashboard_text(name)).unwrap()
}

pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// Without the rows, which only head the others.
pub fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// Each expression, with the title of its panel.
pub fn expressions(dashboard: &Value) -> impl Iterator<Item = (&str, &str)> {
    panels(dashboard).flat_map(|panel| {
        list(panel, "targets").iter().map(|target| (string(panel, "title"), string(target, "expr")))
    })
}

pub fn variable<'a>(dashboard: &'a Value, name: &str) -> &'a Value {
    list(&dashboard["templating"], "list")
        .iter()
        .find(|variable| variable["name"] == name)
        .unwrap_or(&Value::Null)
}

pub fn is_ours(datasource: &Value) -> bool {
    *datasource == json!({"type": "prometheus", "uid": "${datasource}"})
}

/// What occurs more than once.
pub fn repeated<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for item in items {
        if let Some(item) = seen.replace(item) {
            twice.push(item);
        }
    }
    twice
}

#[derive(Debug, PartialEq, Eq)]
pub struct Selector<'a> {
    pub metric: &'a str,
    pub matchers: &'a str,
    pub is_range: bool,
}

pub fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == ':'
}

pub fn is_metric(word: &str) -> bool {
    let is_prefixed =
        ["heartbeat_", "process_"].iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len());
    is_prefixed || word == "up"
}

/// Where the text inside a bracket that has just been opened ends; brackets within quotes do not count.
pub fn closing(text: &str) -> Option<usize> {
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
pub fn selectors(expression: &str) -> Vec<Selector<'_>> {
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
pub fn arguments<'a>(expression: &'a str, function: &str) -> Vec<&'a str> {
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
