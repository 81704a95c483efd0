//! How a report reads.

use std::fmt;

use super::report::{Latency, Report, ServiceFigures};
use super::units::{self, or_unknown};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, mode, pipeline, heals, .. } = self;
        let early = if self.interrupted { ", ended early" } else { "" };
        let (users, connections) = (units::count(self.users), units::count(self.connections));
        let batch = self.batch.map(|ids| format!(", {} ids a request", units::count(ids.into())));
        writeln!(f, "{target}: {mode}, {:.1} s{early}", self.seconds)?;
        writeln!(
            f,
            "{users} users, {connections} connections, pipeline {pipeline}{}",
            batch.unwrap_or_default()
        )?;
        writeln!(f)?;
        let [sent, acknowledged, failed] = [heals.sent, heals.acknowledged, heals.failed].map(units::count);
        writeln!(f, "heals    {sent} sent, {acknowledged} acknowledged, {failed} failed")?;
        for (kind, heals) in &heals.failed_by_kind {
            writeln!(f, "         {} failed: {kind}", units::count(*heals))?;
        }
        if heals.unsent > 0 {
            writeln!(f, "         {} due and never sent", units::count(heals.unsent))?;
        }
        if self.connects_failed + self.connections_lost > 0 {
            let [lost, failed] = [self.connections_lost, self.connects_failed].map(units::count);
            writeln!(f, "         {lost} connections lost, {failed} attempts to connect failed")?;
        }
        let asked = self.rate.asked.map(|asked| format!(", {} asked for", units::count(asked)));
        writeln!(f, "rate     {} heals/s{}", units::rate(self.rate.reached), asked.unwrap_or_default())?;
        match &self.latency_seconds {
            Some(latency) => writeln!(f, "latency  {latency}")?,
            None => writeln!(f, "latency  {}", units::UNKNOWN)?,
        }
        writeln!(f, "service  {}", self.service)?;
        for sentence in &self.complaints {
            writeln!(f, "\nFailed: {sentence}")?;
        }
        match self.shortfall() {
            Some(sentence) if !self.complaints.contains(&sentence) => writeln!(f, "\n{sentence}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p999, max] =
            [self.p50, self.p90, self.p99, self.p999, self.max].map(units::seconds);
        write!(f, "p50 {p50} · p90 {p90} · p99 {p99} · p99.9 {p999} · max {max}")
    }
}

impl fmt::Display for ServiceFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = or_unknown(self.cpu_percent, units::percent);
        let per_heal = or_unknown(self.cpu_seconds_per_heal, units::seconds);
        let [memory, disk] =
            [self.resident_bytes, self.disk_bytes].map(|figure| or_unknown(figure, units::bytes));
        let [online, sessions] = [self.online, self.sessions].map(|figure| or_unknown(figure, units::count));
        write!(f, "cpu {cpu} of a core, {per_heal} a heal · memory {memory} · disk {disk} · ")?;
        write!(f, "{online} online, {sessions} sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{acknowledged, report};
    use super::super::tally::Failure;

    #[test]
    fn a_report_reads_like_this() {
        let report = report(&["--rate", "100", "--pipeline", "4"], |tally| {
            acknowledged(1_000)(tally);
            tally.sent = 1_005;
            tally.fail(Failure::Status(503), 3);
            tally.fail(Failure::Closed, 2);
            tally.connections_lost = 1;
        });
        assert_eq!(
            report.to_string(),
            "\
http://localhost:3519: throughput, 10.0 s
100,000 users, 64 connections, pipeline 4

heals    1,005 sent, 1,000 acknowledged, 5 failed
         2 failed: connection closed
         3 failed: status 503
         1 connections lost, 0 attempts to connect failed
rate     100.0 heals/s, 100 asked for
latency  p50 2.00 ms · p90 2.00 ms · p99 2.00 ms · p99.9 2.00 ms · max 2.00 ms
service  cpu 20% of a core, 2.00 ms a heal · memory 1.00 MiB · disk 0 B · 9 online, 20 sessions

Failed: 5 heals failed.
"
        );
    }
}
