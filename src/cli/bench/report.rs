//! What came out of a run, as figures, and whether it passed. How that reads is in [`report_text`](super::report_text).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::args::{Plan, Work};
use super::status::Status;
use super::table::cpu_percent;
use super::tally::Tally;
use super::units::{self, float};

/// A rate below this part of the one asked for was not reached.
const RATE_REACHED: f64 = 0.99;

/// Whether a run passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every heal was acknowledged, and within the threshold if there was one.
    Passed,
    /// Something failed or a threshold was exceeded; the report says what.
    Failed,
}

/// What was measured around the run.
#[derive(Debug)]
pub struct Outcome {
    /// Everything counted.
    pub tally: Tally,
    /// How long the load ran.
    pub elapsed: Duration,
    /// Whether somebody ended it early.
    pub interrupted: bool,
    /// The service before the run.
    pub before: Status,
    /// The service after the run.
    pub after: Status,
}

/// The report of a run; its JSON form is what `--json` prints. Times are in seconds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) mode: &'static str,
    pub(super) target: String,
    pub(super) connections: u64,
    pub(super) pipeline: u32,
    /// Ids in a request; absent when heals went one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<u32>,
    pub(super) users: u64,
    pub(super) seconds: f64,
    pub(super) interrupted: bool,
    pub(super) rate: RateFigures,
    pub(super) heals: HealFigures,
    pub(super) connects_failed: u64,
    pub(super) connections_lost: u64,
    pub(super) latency_seconds: Option<Latency>,
    pub(super) service: ServiceFigures,
    /// Why it did not pass.
    pub(super) complaints: Vec<String>,
    pub(super) passed: bool,
}

/// Heals a second.
#[derive(Debug, Serialize)]
pub(super) struct RateFigures {
    pub(super) asked: Option<u64>,
    pub(super) reached: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct HealFigures {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) failed: u64,
    pub(super) failed_by_kind: BTreeMap<String, u64>,
    /// Due, and never sent.
    pub(super) unsent: u64,
}

/// Of requests, from when they were due.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct ServiceFigures {
    pub(super) version: Option<String>,
    /// Of one core, over the run.
    pub(super) cpu_percent: Option<f64>,
    pub(super) cpu_seconds_per_heal: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) disk_bytes: Option<u64>,
    pub(super) users: Option<u64>,
    pub(super) online: Option<u64>,
    pub(super) sessions: Option<u64>,
}

impl Report {
    /// The report of what came out of `plan` against `target`.
    pub fn new(plan: &Plan, target: String, outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        let seconds = outcome.elapsed.as_secs_f64();
        let (mode, users, pipeline, batch, asked) = match &plan.work {
            Work::Users(users) => ("users", users.users, 1, None, None),
            Work::Load(load) => ("throughput", load.users, load.pipeline, load.batch, load.rate),
        };
        let mut report = Self {
            mode,
            target,
            connections: plan.connections,
            pipeline,
            batch,
            users,
            seconds,
            interrupted: outcome.interrupted,
            rate: RateFigures { asked, reached: float(tally.acknowledged) / seconds.max(f64::MIN_POSITIVE) },
            heals: HealFigures::of(tally),
            connects_failed: tally.connects_failed,
            connections_lost: tally.connections_lost,
            latency_seconds: Latency::of(tally),
            service: ServiceFigures::of(outcome),
            complaints: Vec::new(),
            passed: false,
        };
        report.complaints = report.complain(plan.max_p99);
        report.passed = report.complaints.is_empty();
        report
    }

    /// Whether it passed.
    pub fn verdict(&self) -> Verdict {
        if self.passed { Verdict::Passed } else { Verdict::Failed }
    }

    fn complain(&self, max_p99: Option<Duration>) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.heals.failed > 0 {
            complaints.push(format!("{} heals failed.", units::count(self.heals.failed)));
        }
        if self.connects_failed > 0 {
            complaints.push(format!("{} attempts to connect failed.", units::count(self.connects_failed)));
        }
        if self.heals.acknowledged == 0 && !self.interrupted {
            complaints.push("No heal was acknowledged.".into());
        }
        let p99 = self.latency_seconds.as_ref().map(|latency| latency.p99);
        if let (Some(p99), Some(max)) = (p99, max_p99)
            && p99 > max.as_secs_f64()
        {
            let (p99, max) = (units::seconds(p99), units::latency(max));
            complaints.push(format!("p99 is {p99}, above the {max} allowed."));
        }
        // Without a threshold, asking for more than there is is a way to find out how much there is.
        if max_p99.is_some() {
            complaints.extend(self.shortfall());
        }
        complaints
    }

    /// A sentence, if the rate asked for was not reached.
    pub(super) fn shortfall(&self) -> Option<String> {
        let asked = self.rate.asked?;
        if self.rate.reached >= float(asked) * RATE_REACHED {
            return None;
        }
        let (reached, asked) = (units::rate(self.rate.reached), units::count(asked));
        let unsent = units::count(self.heals.unsent);
        Some(format!(
            "The rate asked for was not reached: {reached} of {asked} heals/s; {unsent} heals were due and never sent."
        ))
    }
}

impl HealFigures {
    fn of(tally: &Tally) -> Self {
        Self {
            sent: tally.sent,
            acknowledged: tally.acknowledged,
            failed: tally.failures(),
            failed_by_kind: tally
                .failed
                .iter()
                .map(|(failure, &heals)| (failure.to_string(), heals))
                .collect(),
            unsent: tally.unsent,
        }
    }
}

impl Latency {
    fn of(tally: &Tally) -> Option<Self> {
        let seconds = |quantile| tally.latency(quantile).map(|latency| latency.as_secs_f64());
        Some(Self {
            p50: seconds(0.5)?,
            p90: seconds(0.9)?,
            p99: seconds(0.99)?,
            p999: seconds(0.999)?,
            max: seconds(1.0)?,
        })
    }
}

impl ServiceFigures {
    fn of(outcome: &Outcome) -> Self {
        let Outcome { tally, before, after, .. } = outcome;
        let seconds = outcome.elapsed.as_secs_f64();
        let cpu_percent = cpu_percent(before.cpu_seconds(), after.cpu_seconds(), seconds);
        let heals = (tally.acknowledged > 0).then(|| float(tally.acknowledged));
        Self {
            version: after.version.clone(),
            cpu_percent,
            cpu_seconds_per_heal: cpu_percent
                .zip(heals)
                .map(|(percent, heals)| percent / 100.0 * seconds / heals),
            resident_bytes: after.resident_bytes(),
            disk_bytes: after.disk_bytes,
            users: after.users,
            online: after.online,
            sessions: after.sessions,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tally::Failure;
    use super::super::tests::BenchLine;
    use super::*;
    use clap::Parser as _;

    pub fn report(args: &[&str], count: impl FnOnce(&mut Tally)) -> Report {
        let plan = BenchLine::parse_from([&["bench"], args].concat()).bench.plan("localhost:3519");
        let mut outcome = Outcome {
            tally: Tally::default(),
            elapsed: Duration::from_secs(10),
            interrupted: false,
            before: serde_json::from_str(r#"{"process":{"cpu_seconds":1.0}}"#).unwrap(),
            after: serde_json::from_str(
                r#"{"version":"0.1.0","online":9,"sessions":20,"disk_bytes":0,"process":{"cpu_seconds":3.0,"resident_bytes":1048576}}"#,
            )
            .unwrap(),
        };
        count(&mut outcome.tally);
        Report::new(&plan, "http://localhost:3519".into(), &outcome)
    }

    /// So many heals, each answered after 2 ms.
    pub fn acknowledged(heals: u64) -> impl FnOnce(&mut Tally) {
        move |tally| {
            tally.sent = heals;
            (0..heals).for_each(|_| tally.acknowledge(1, Duration::from_millis(2)));
        }
    }

    #[test]
    fn the_json_form_has_everything_by_name() {
        let report = report(&["--rate", "100", "--batch", "10"], acknowledged(1_000));
        let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(json["mode"], "throughput");
        assert_eq!(json["batch"], 10);
        assert_eq!(json["rate"], serde_json::json!({"asked": 100, "reached": 100.0}));
        assert_eq!(json["heals"]["acknowledged"], 1_000);
        let p999 = json["latency_seconds"]["p99.9"].as_f64().unwrap();
        assert!((0.002..0.002_01).contains(&p999), "{p999}");
        assert_eq!(json["service"]["version"], "0.1.0");
        assert_eq!(json["passed"], true);
    }

    #[test]
    fn a_p99_above_the_threshold_fails() {
        let args = ["--rate", "100", "--max-p99"];
        assert_eq!(report(&[&args[..], &["3ms"]].concat(), acknowledged(1_000)).verdict(), Verdict::Passed);
        let failed = report(&[&args[..], &["1ms"]].concat(), acknowledged(1_000));
        assert_eq!(failed.verdict(), Verdict::Failed);
        assert_eq!(failed.complaints, ["p99 is 2.00 ms, above the 1.00 ms allowed."]);
    }

    #[test]
    fn a_failed_heal_fails_and_so_does_none_at_all() {
        let one_failed = report(&[], |tally| {
            acknowledged(1_000)(tally);
            tally.fail(Failure::TimedOut, 1);
        });
        assert_eq!(one_failed.verdict(), Verdict::Failed);
        assert_eq!(report(&[], |_| {}).verdict(), Verdict::Failed);
        assert_eq!(report(&[], acknowledged(1)).verdict(), Verdict::Passed);
        let unreachable = |tally: &mut Tally| {
            acknowledged(1)(tally);
            tally.connects_failed = 1;
        };
        assert_eq!(report(&[], unreachable).verdict(), Verdict::Failed);
    }

    #[test]
    fn a_rate_that_was_not_reached_is_said_and_fails_only_with_a_threshold() {
        let half = |tally: &mut Tally| {
            acknowledged(500)(tally);
            tally.unsent = 500;
        };
        let sentence =
            "The rate asked for was not reached: 50.0 of 100 heals/s; 500 heals were due and never sent.";
        let free = report(&["--rate", "100"], half);
        assert_eq!(free.verdict(), Verdict::Passed);
        assert!(free.to_string().contains(sentence), "{free}");

        let bound = report(&["--rate", "100", "--max-p99", "1s"], half);
        assert_eq!(bound.verdict(), Verdict::Failed);
        assert_eq!(bound.to_string().matches(sentence).count(), 1, "{bound}");
    }
}
