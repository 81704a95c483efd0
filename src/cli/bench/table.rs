//! The table that a run with simulated users prints, a line every 5 s.

use std::time::{Duration, Instant};

use super::status::Status;
use super::tally::Tally;
use super::units::{self, float, or_unknown};

/// The header is repeated after this many lines, about a screen.
const HEADER_EVERY: u32 = 20;

/// Columns with their widths, right-aligned.
const COLUMNS: [(&str, usize); 10] = [
    ("time", 7),
    ("online", 9),
    ("sessions", 11),
    ("heals/s", 9),
    ("p50", 8),
    ("p99", 8),
    ("failed", 7),
    ("cpu", 6),
    ("memory", 9),
    ("disk", 9),
];

/// Remembers what the next line is compared with.
#[derive(Debug)]
pub struct Table {
    lines: u32,
    started: Instant,
    last: Instant,
    cpu_seconds: Option<f64>,
}

impl Table {
    /// A table of a run that started at `started`, when the service said `status`.
    pub fn new(started: Instant, status: &Status) -> Self {
        Self { lines: 0, started, last: started, cpu_seconds: status.cpu_seconds() }
    }

    /// How long ago the last line was; the start of the run before the first.
    pub fn since_last(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    /// The line for what happened up to `now` since the last one, with the header above it when that is due.
    pub fn line(&mut self, now: Instant, tally: &Tally, status: &Status) -> String {
        let passed = self.since_last(now).as_secs_f64().max(f64::MIN_POSITIVE);
        let cpu = cpu_percent(self.cpu_seconds, status.cpu_seconds(), passed);
        let cells = [
            time(now.saturating_duration_since(self.started)),
            or_unknown(status.online, units::count),
            or_unknown(status.sessions, units::count),
            units::rate(float(tally.acknowledged) / passed),
            or_unknown(tally.latency(0.5), units::latency),
            or_unknown(tally.latency(0.99), units::latency),
            // A user who finds nobody to connect to has failed as well.
            units::count(tally.failures() + tally.connects_failed),
            or_unknown(cpu, units::percent),
            or_unknown(status.resident_bytes(), units::bytes),
            or_unknown(status.disk_bytes, units::bytes),
        ];
        let line = aligned(cells);
        let with_header = self.lines.is_multiple_of(HEADER_EVERY);
        self.lines += 1;
        self.last = now;
        self.cpu_seconds = status.cpu_seconds();
        if with_header { format!("{}\n{line}", aligned(COLUMNS.map(|(name, _)| name.into()))) } else { line }
    }
}

/// Percentage of a core between two readings that lie `passed` seconds apart.
pub fn cpu_percent(before: Option<f64>, after: Option<f64>, passed: f64) -> Option<f64> {
    Some((after? - before?).max(0.0) / passed * 100.0)
}

fn time(passed: Duration) -> String {
    let seconds = passed.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, s) => format!("{h}h{m:02}m{s:02}"),
    }
}

fn aligned(cells: [String; COLUMNS.len()]) -> String {
    let cells: Vec<_> =
        cells.into_iter().zip(COLUMNS).map(|(cell, (_, width))| format!("{cell:>width$}")).collect();
    cells.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::moment;

    fn status(cpu_seconds: f64) -> Status {
        let json = format!(
            r#"{{"online":1234,"sessions":98765,"disk_bytes":0,"process":{{"cpu_seconds":{cpu_seconds},"resident_bytes":12897485}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_line_says_what_happened_since_the_last() {
        let start = moment::now();
        let mut table = Table::new(start, &status(1.0));
        let mut tally = Tally::default();
        tally.acknowledged = 99;
        tally.acknowledge(1, Duration::from_micros(210));

        let first = table.line(start + Duration::from_secs(5), &tally, &status(1.25));
        assert_eq!(
            first,
            "   time     online     sessions    heals/s       p50       p99   failed     cpu     memory       disk\n     5s      1,234       98,765       20.0    210 µs    210 µs        0    5.0%   12.3 MiB        0 B"
        );
        let second = table.line(start + Duration::from_secs(65), &Tally::default(), &Status::default());
        assert_eq!(
            second,
            "  1m05s          -            -        0.0         -         -        0       -          -          -"
        );
    }

    #[test]
    fn the_header_comes_back() {
        let start = moment::now();
        let mut table = Table::new(start, &Status::default());
        let headers = (1..=41)
            .filter(|&second| {
                let now = start + Duration::from_secs(second);
                table.line(now, &Tally::default(), &Status::default()).contains("online")
            })
            .collect::<Vec<_>>();
        assert_eq!(headers, [1, 21, 41]);
    }
}
