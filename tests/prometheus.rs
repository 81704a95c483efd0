//! The dashboards and rules in `grafana/` against the real thing: Prometheus scrapes the service under load, and every
//! expression of every panel and rule is asked for.
//!
//! Needs `prometheus` and `promtool` (`tests/all` installs them), and two thirds of a minute, in which Prometheus gathers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod process;
mod wire;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process::{BINARY, Service};
use serde_json::Value;
use wire::Client;

/// Scrapes before anything is asked: rates over 10 s must have seen load, snapshots, and sessions that ended.
const SCRAPES: u64 = 30;

/// Expressions that rightly give nothing for a service that is well, each with the reason.
const EMPTY: [(&str, &str); 2] = [
    ("-deriv((heartbeat_disk_free_bytes", "the disk is not filling up: there is no time until it is full"),
    ("absent(up", "something is scraped"),
];

/// Alerts that rightly have something to say of this load, each with the reason.
const TRUE: [(&str, &str); 1] = [(
    "HeartbeatFlappingClients",
    "the simulated users come back 7 to 15 s after a heal, and the ttl is 5 s",
)];

fn grafana(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(path)
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(grafana(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// Runs promtool, which must find nothing to complain of. Gives what it printed.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: see tests/all");
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].map(|printed| String::from_utf8(printed).unwrap()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
    printed
}

#[test]
fn promtool_checks_the_configuration_the_rules_and_their_tests() {
    for config in ["prometheus/prometheus.yml", "prometheus/prometheus.compose.yml"] {
        promtool(&["check", "config", grafana(config).to_str().unwrap()], "");
    }
    for rules in files("prometheus/rules", "yml") {
        promtool(&["check", "rules", "--lint-fatal", rules.to_str().unwrap()], "");
    }
    for tests in files("prometheus/tests", "yml") {
        promtool(&["test", "rules", tests.to_str().unwrap()], "");
    }
}

/// A Prometheus that scrapes one service every second; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(service: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(grafana("prometheus/prometheus.yml")).unwrap();
        let config = text
            .replace("127.0.0.1:3519", &service.to_string())
            .replace("rules/*.yml", grafana("prometheus/rules/*.yml").to_str().unwrap())
            .replace("scrape_interval: 5s", "scrape_interval: 1s")
            .replace("evaluation_interval: 15s", "evaluation_interval: 1s");
        assert_eq!(config.matches("interval: 1s").count(), 2, "{config}");
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        // Free now, and most probably in a moment.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("prometheus is installed: see tests/all");
        Self { child, address, folder }
    }

    fn try_get(&self, target: &str) -> Option<Value> {
        let mut client = Client::try_connect(self.address).ok()?;
        let response = client.call("GET", target);
        (response.status != 503).then(|| serde_json::from_str(&response.body).unwrap())
    }

    fn get(&self, target: &str) -> Value {
        let answer = self.try_get(target).unwrap();
        assert_eq!(answer["status"], "success", "{target}: {answer}");
        answer["data"].clone()
    }

    /// The samples that an expression gives now.
    fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.get(&format!("/api/v1/query?query={}", encode(expression)));
        match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().unwrap().clone(),
            _ => vec![data["result"].clone()],
        }
    }

    /// Waits until it has scraped often enough.
    fn gather(&mut self) {
        let scrapes = format!("/api/v1/query?query={}", encode("count_over_time(up{job=\"heartbeat\"}[2m])"));
        loop {
            let answer = self.try_get(&scrapes);
            let count =
                answer.and_then(|answer| answer["data"]["result"][0]["value"][1].as_str()?.parse().ok());
            if count.is_some_and(|count: u64| count >= SCRAPES) {
                return;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(self.child.try_wait().unwrap().is_none(), "Prometheus has ended: {}", log());
            // A second passes until there is another.
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For the query of a URL.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

/// `heartbeat bench` beside the test; killed when dropped.
struct Load(Child);

impl Load {
    fn on(service: SocketAddr, arguments: &[&str]) -> Self {
        let command = ["bench", "--url", &format!("http://{service}"), "--duration", "2m"];
        let child = Command::new(BINARY)
            .args(command)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What clients do beside healing, so that every kind of series moves.
fn ask_for_everything(service: SocketAddr) {
    let mut client = Client::connect(service);
    for user in 0..20 {
        client.call("PUT", &format!("/heal/9{user}"));
        client.call("GET", &format!("/checkup/9{user}"));
        client.call("DELETE", &format!("/heal/9{user}"));
    }
    for (method, target) in [("PUT", "/heal/abc"), ("GET", "/heart_rhythm/1"), ("GET", "/nothing")] {
        client.call(method, target);
    }
    for target in ["/v1/heal", "/v1/checkup", "/v1/leave"] {
        client.send("POST", target, "text/plain", b"91\n92\n93");
    }
}

/// Every expression of a dashboard with the title of its panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let panels = dashboard["panels"].as_array().unwrap();
    let nested = panels.iter().filter_map(|panel| panel["panels"].as_array()).flatten();
    for panel in panels.iter().chain(nested) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap().to_owned();
            found.push((title, target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        if let Some(expression) = annotation["expr"].as_str() {
            found.push((annotation["name"].as_str().unwrap().to_owned(), expression.to_owned()));
        }
    }
    found
}

fn filled_in(expression: &str) -> String {
    [
        ("$job", "heartbeat"),
        ("$instance", ".*"),
        ("$__rate_interval", "10s"),
        ("$__interval", "1s"),
        ("$__range", "30s"),
    ]
    .iter()
    .fold(expression.to_owned(), |expression, (variable, value)| expression.replace(variable, value))
}

/// The names of metrics in an expression: ours and the process's.
fn names(expression: &str) -> BTreeSet<&str> {
    let words =
        expression.split(|character: char| !character.is_ascii_alphanumeric() && !"_:".contains(character));
    words
        .filter(|word| ["heartbeat_", "heartbeat:", "process_"].iter().any(|start| word.starts_with(start)))
        .collect()
}

/// What the rules of Prometheus's answer say: each one's name, kind and expression.
fn rules(prometheus: &Prometheus) -> Vec<(String, bool, String)> {
    let data = prometheus.get("/api/v1/rules");
    let groups = data["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| {
            assert_eq!(rule["health"], "ok", "{rule}");
            let text = |key: &str| rule[key].as_str().unwrap().to_owned();
            (text("name"), rule["type"] == "alerting", text("query"))
        })
        .collect()
}

fn gives_nothing_rightly(expression: &str) -> bool {
    EMPTY.iter().any(|(part, _)| expression.contains(part))
}

#[test]
fn every_panel_and_every_rule_has_data_of_a_service_under_load() {
    let arguments = ["--snapshot-interval", "2s", "--ttl", "5s"];
    let mut service = Service::start(&arguments, |_| {});
    let address = service.listening();
    let metrics = Client::connect(address).call("GET", "/metrics").body;
    let complaints = promtool(&["check", "metrics"], &metrics);
    assert_eq!(complaints, "", "promtool complains");

    let mut prometheus = Prometheus::scraping(address);
    // Users who stay; of those who come back too late, the ones with higher ids than any of the others; and bulk.
    let _load = [
        Load::on(address, &["--rate", "300", "--users", "200"]),
        Load::on(address, &["--users", "700"]),
        Load::on(address, &["--rate", "500", "--batch", "50", "--users", "500"]),
    ];
    ask_for_everything(address);
    prometheus.gather();
    // Again, so that it lies in the last 10 s.
    ask_for_everything(address);
    prometheus.query("up");
    std::thread::park_timeout(Duration::from_secs(2));

    let mut without = Vec::new();
    for file in files("dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for (title, expression) in expressions(&dashboard) {
            if prometheus.query(&filled_in(&expression)).is_empty() && !gives_nothing_rightly(&expression) {
                without.push(format!("{title}: {expression}"));
            }
        }
    }
    let mut alerts = 0;
    for (name, is_alert, expression) in rules(&prometheus) {
        alerts += u32::from(is_alert);
        let found = prometheus.query(&expression);
        match (is_alert, found.is_empty()) {
            // An alert rightly gives nothing while all is well, and then what it compares must be there.
            (true, true) => {
                for metric in names(&expression) {
                    if prometheus.query(metric).is_empty() {
                        without.push(format!("{name}: {metric}"));
                    }
                }
            }
            (true, false) if TRUE.iter().any(|(alert, _)| *alert == name) => {}
            (true, false) => without.push(format!("{name} would fire for a service that is well: {found:?}")),
            (false, true) if !gives_nothing_rightly(&expression) => {
                without.push(format!("{name}: {expression}"));
            }
            (false, _) => {}
        }
    }
    assert!(without.is_empty(), "without data:\n{}", without.join("\n"));
    assert!(alerts >= 18, "{alerts} alerts");
}

/// The check itself must be able to fail.
#[test]
fn an_expression_about_nothing_is_noticed() {
    assert_eq!(
        names("sum by (le) (rate(heartbeat_heals_total{job=\"x\"}[5m])) > heartbeat:flaps:rate10m"),
        BTreeSet::from(["heartbeat_heals_total", "heartbeat:flaps:rate10m"])
    );
    let mut service = Service::start(&[], |_| {});
    let mut prometheus = Prometheus::scraping(service.listening());
    prometheus.gather();
    assert!(prometheus.query("heartbeat_heals_totals").is_empty());
    assert!(!prometheus.query("heartbeat_heals_total").is_empty());
    assert!(!gives_nothing_rightly("heartbeat_heals_totals"));
    assert_eq!(filled_in("rate(a{job=~\"$job\"}[$__rate_interval])"), "rate(a{job=~\"heartbeat\"}[10s])");
}
