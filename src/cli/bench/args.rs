//! The arguments of `heartbeat bench`, and what they ask for.

use std::str::FromStr;
use std::time::Duration;

use super::load::LoadPlan;
use super::url::ServiceUrl;
use super::users::UsersPlan;

/// Most connections; each costs two file descriptors here.
const CONNECTIONS_MAX: u64 = 20_000;
/// Connections unless told otherwise.
const CONNECTIONS_DEFAULT: u64 = 64;
/// Most users: each simulated one costs some 24 bytes here.
const USERS_MAX: u64 = 1_000_000_000;
/// Users unless told otherwise: simulated ones, and the id space of a throughput run.
const USERS_DEFAULT: u64 = 100;
const IDS_DEFAULT: u64 = 100_000;
/// Most heals a second that can be asked for.
const RATE_MAX: u64 = 1_000_000_000;
/// A run is at least this long and at most a week.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  heartbeat bench --users 1000 --duration 5m
  heartbeat bench --url http://127.0.0.1:3519 --rate 50000 --users 1000000 --max-p99 5ms";

/// Drive a running service, or one it starts itself, and report.
///
/// Without --rate: simulated users, each of whom heals, waits 7 s (five times out of ten) or 11 to 15 s, and heals again.
/// With --rate: throughput, at fixed moments; latency counts from the moment a heal was due, also when it was sent late.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// The service to drive; without it one is started on a free port, and stopped at the end
    #[arg(long, value_name = "http://HOST:PORT")]
    pub(super) url: Option<ServiceUrl>,

    /// How many users; with --rate, how many different ids [default: 100; with --rate 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=USERS_MAX))]
    users: Option<u64>,

    /// For how long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = run_duration)]
    duration: Duration,

    /// Keep-alive connections [default: 64, or as many as users if they are fewer]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: Option<u64>,

    /// Threads that drive the connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,

    /// Exit with 1 if the 99th percentile of latency is above this
    #[arg(long, value_name = "TIME", value_parser = threshold)]
    max_p99: Option<Duration>,

    /// Print the final report as one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    pub(super) json: bool,

    /// Heals a second, or "max" for as many as the pipeline lets through
    #[arg(long, value_name = "N|max", help_heading = "Throughput")]
    rate: Option<Rate>,

    /// Requests in flight on one connection; those due together are written together
    #[arg(long, value_name = "K", default_value_t = 1, requires = "rate", help_heading = "Throughput",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pipeline: u32,

    /// Heal N ids with each request, by POST /v1/heal
    #[arg(long, value_name = "N", requires = "rate", help_heading = "Throughput",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: Option<u32>,

    /// In which order ids are healed
    #[arg(long, value_enum, default_value_t = IdOrder::Cycled, requires = "rate", help_heading = "Throughput")]
    ids: IdOrder,
}

/// In which order a throughput run heals its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IdOrder {
    /// One after the other, and from the beginning again.
    Cycled,
    /// At random; the same ids in every run.
    Random,
}

/// How fast a throughput run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// An open loop: so many heals a second.
    PerSecond(u64),
    /// A closed loop: the next as soon as there is room.
    Max,
}

/// Neither a number of heals a second nor "max".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give heals a second, from 1 to {RATE_MAX}, or \"max\"")]
pub struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(rate: &str) -> Result<Self, InvalidRate> {
        if rate == "max" {
            return Ok(Self::Max);
        }
        match rate.replace('_', "").parse() {
            Ok(rate @ 1..=RATE_MAX) => Ok(Self::PerSecond(rate)),
            _ => Err(InvalidRate),
        }
    }
}

fn run_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = (DURATION_MIN..=DURATION_MAX).contains(&duration);
    if allowed { Ok(duration) } else { Err("a run takes from 100ms to 7days".into()) }
}

fn threshold(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("a latency is never 0".into()) } else { Ok(duration) }
}

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What its connections do.
    pub work: Work,
    /// How many connections.
    pub connections: u64,
    /// How many threads drive them.
    pub threads: u64,
    /// For how long.
    pub duration: Duration,
    /// The latency that 99 % of the requests may take.
    pub max_p99: Option<Duration>,
}

/// What connections do.
#[derive(Debug, Clone)]
pub enum Work {
    /// Be so many users.
    Users(UsersPlan),
    /// Send so many heals.
    Load(LoadPlan),
}

impl BenchArgs {
    /// What to do with the service that clients call `host`.
    pub(super) fn plan(&self, host: &str) -> Plan {
        let Self { duration, max_p99, .. } = *self;
        let users = self.users.unwrap_or(if self.rate.is_some() { IDS_DEFAULT } else { USERS_DEFAULT });
        let connections = self.connections.unwrap_or(users.min(CONNECTIONS_DEFAULT));
        let host = host.to_owned();
        let work = match self.rate {
            None => Work::Users(UsersPlan { host, users, duration }),
            Some(rate) => Work::Load(LoadPlan {
                host,
                rate: match rate {
                    Rate::PerSecond(rate) => Some(rate),
                    Rate::Max => None,
                },
                pipeline: self.pipeline,
                batch: self.batch,
                users,
                order: self.ids,
                duration,
            }),
        };
        Plan { work, connections, threads: self.threads.min(connections), duration, max_p99 }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rstest::rstest;

    use super::super::tests::BenchLine;
    use super::*;

    fn plan(args: &[&str]) -> Plan {
        BenchLine::parse_from(args).bench.plan("localhost:3519")
    }

    #[test]
    fn without_arguments_a_hundred_users_heal_for_a_minute() {
        let plan = plan(&["bench"]);
        let Work::Users(users) = plan.work else { panic!("simulated users") };
        assert_eq!((users.users, plan.connections, plan.threads), (100, 64, 1));
        assert_eq!((users.duration, plan.max_p99), (Duration::from_secs(60), None));
    }

    #[test]
    fn a_rate_asks_for_throughput() {
        let plan = plan(&["bench", "--rate", "50_000", "--pipeline", "8", "--max-p99", "5ms"]);
        let Work::Load(load) = plan.work else { panic!("throughput") };
        assert_eq!((load.rate, load.pipeline, load.batch), (Some(50_000), 8, None));
        assert_eq!((load.users, plan.max_p99), (100_000, Some(Duration::from_millis(5))));
    }

    #[test]
    fn there_are_no_more_connections_than_users_and_no_more_threads_than_connections() {
        let plan = plan(&["bench", "--users", "3", "--threads", "8"]);
        assert_eq!((plan.connections, plan.threads), (3, 3));
    }

    #[rstest]
    #[case(&["bench", "--batch", "10"])]
    #[case(&["bench", "--rate", "0"])]
    #[case(&["bench", "--rate", "fast"])]
    #[case(&["bench", "--rate", "-5"])]
    #[case(&["bench", "--users", "0"])]
    #[case(&["bench", "--duration", "0s"])]
    #[case(&["bench", "--duration", "60"])]
    #[case(&["bench", "--max-p99", "0s"])]
    #[case(&["bench", "--url", "https://localhost"])]
    fn what_cannot_be_done_is_refused(#[case] args: &[&str]) {
        assert!(BenchLine::try_parse_from(args).is_err());
    }
}
