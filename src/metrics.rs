//! Every metric: its name, its unit and what it says. Nothing else names one.
//!
//! [`Metrics`] holds a handle for each series, so that nobody looks one up where it is counted, and all of them are there from
//! the start, at 0. What the engine and the workers count for themselves is copied here before it is read (`http::publish`);
//! what happens seldom is counted here at once, by whoever is told of it.
//!
//! Names follow Prometheus's conventions: base units, `_total` for counters, moments rather than ages, labels from closed sets
//! (<https://prometheus.io/docs/practices/naming/>).

use std::fmt::Write;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::engine::SnapshotTaken;
use crate::process;

/// `content-type` of what [`Metrics::render`] gives.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Where the buckets of a histogram end: from `first` on, each `factor` times the one before.
const fn buckets<const N: usize>(first: f64, factor: f64) -> [f64; N] {
    let mut ends = [first; N];
    let mut index = 1;
    while index < N {
        ends[index] = ends[index - 1] * factor;
        index += 1;
    }
    ends
}

/// 10 µs to 10.5 s. The workers' own, finer buckets end at each of these.
const REQUEST: [f64; 21] = buckets(1e-5, 2.0);
/// 1 to 100,000, which is the most there can be.
const IDS: [f64; 6] = buckets(1.0, 10.0);
/// 10 µs to 10.5 s.
const SWEEP: [f64; 11] = buckets(1e-5, 4.0);
/// 1 ms to 65 s.
const LAG: [f64; 17] = buckets(1e-3, 2.0);
/// 50 µs to 6.6 s: beyond 5 s writes are refused.
const SYNC: [f64; 18] = buckets(5e-5, 2.0);
/// 10 ms to 22 minutes.
const SNAPSHOT: [f64; 18] = buckets(1e-2, 2.0);
/// 1 µs to 0.26 s.
const HOLD: [f64; 10] = buckets(1e-6, 4.0);

/// Handles of one metric, one or one for each value of a label.
trait Handles {
    fn register(recorder: &PrometheusRecorder, name: &'static str) -> Self;
}

impl Handles for Counter {
    fn register(recorder: &PrometheusRecorder, name: &'static str) -> Self {
        recorder.register_counter(&Key::from_name(name), &METADATA)
    }
}

impl Handles for Gauge {
    fn register(recorder: &PrometheusRecorder, name: &'static str) -> Self {
        recorder.register_gauge(&Key::from_name(name), &METADATA)
    }
}

impl Handles for Histogram {
    fn register(recorder: &PrometheusRecorder, name: &'static str) -> Self {
        recorder.register_histogram(&Key::from_name(name), &METADATA)
    }
}

fn with_label(name: &'static str, label: &'static str, value: &'static str) -> Key {
    Key::from_parts(name, vec![Label::from_static_parts(label, value)])
}

/// A type with a handle for each value of a label.
macro_rules! by_label {
    ($(#[$doc:meta])* $type:ident, $register:ident -> $handle:ident, $label:literal: $($value:ident)+) => {
        $(#[$doc])*
        #[allow(missing_docs)] // the values say what they are
        pub struct $type {
            $(pub $value: $handle,)+
        }

        impl Handles for $type {
            fn register(recorder: &PrometheusRecorder, name: &'static str) -> Self {
                Self { $($value: recorder.$register(&with_label(name, $label, stringify!($value)), &METADATA),)+ }
            }
        }
    };
}

by_label! {
    /// Heals by what they did.
    HealResults, register_counter -> Counter, "result": opened extended unchanged refused invalid
}
by_label! {
    /// Connections by whether they were served.
    ConnectionResults, register_counter -> Counter, "result": accepted refused
}
by_label! {
    /// Sessions by why they ended.
    CloseReasons, register_counter -> Counter, "reason": lapsed left forgotten
}
by_label! {
    /// What failed about the journal.
    JournalOperations, register_counter -> Counter, "op": prepare sync remove
}
by_label! {
    /// Slots by what replaying them came to.
    SlotVerdicts, register_gauge -> Gauge, "verdict": applied stale torn empty
}
by_label! {
    /// Threads that go on after a panic.
    Threads, register_counter -> Counter, "thread": sweeper syncer preparer snapshotter metrics announcer figures
}
by_label! {
    /// Which way the wall clock was set.
    Directions, register_counter -> Counter, "direction": forward backward
}
by_label! {
    /// What memory is for.
    MemoryParts, register_gauge -> Gauge, "part": roster timelines allocator
}

/// Handles by route: those that were named at the start.
pub struct ByRoute(Vec<(&'static str, Histogram)>);

impl ByRoute {
    fn register(recorder: &PrometheusRecorder, name: &'static str, routes: &[&'static str]) -> Self {
        let register = |route| recorder.register_histogram(&with_label(name, "route", route), &METADATA);
        Self(routes.iter().map(|&route| (route, register(route))).collect())
    }

    /// That of `route`; one that records nothing if it was not named at the start.
    pub fn of(&self, route: &str) -> Histogram {
        let named = self.0.iter().find(|(name, _)| *name == route);
        named.map_or_else(Histogram::noop, |(_, histogram)| histogram.clone())
    }
}

/// The table: handles, name, unit, and what it says; for a histogram also its buckets.
macro_rules! metrics {
    ($($describe:ident $field:ident: $type:ty = $name:literal, $unit:ident, $help:literal $(, $buckets:ident)?;)*) => {
        /// A handle for each series.
        pub struct Metrics {
            recorder: PrometheusRecorder,
            handle: PrometheusHandle,
            routes: Routes,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Metrics {
            fn with_routes(routes: RouteNames<'_>) -> Self {
                let buckets: &[(&'static str, &[f64])] = &[$($(($name, &$buckets),)?)*];
                let recorder = recorder(buckets);
                $(recorder.$describe(KeyName::from($name), Some(Unit::$unit), $help.into());)*
                let handle = recorder.handle();
                Self {
                    routes: Routes::register(&recorder, routes),
                    $($field: <$type as Handles>::register(&recorder, $name),)*
                    recorder,
                    handle,
                }
            }
        }
    };
}

metrics! {
    describe_counter heals: HealResults = "heartbeat_heals_total", Count,
        "Heals, single and in bulk, by what they did. Refused: answered 503; invalid: 400.";
    describe_gauge http_requests_in_flight: Gauge = "heartbeat_http_requests_in_flight", Count,
        "Requests that wait for something: a body, the disk, their turn, a client that reads slowly. A scrape counts itself.";
    describe_gauge connections: Gauge = "heartbeat_connections", Count, "Connections open now.";
    describe_gauge connections_max: Gauge = "heartbeat_connections_max", Count,
        "Most connections that may be open at once, as the setting max-connections and the limit on open files say.";
    describe_counter connections_made: ConnectionResults = "heartbeat_connections_total", Count,
        "Connections by whether they were served. Refused: closed at once, because too many were open.";

    describe_gauge watchers: Gauge = "heartbeat_watchers", Count,
        "Who follows transitions now: streams of /v1/watch, and calls of /v1/events that wait. They are not in flight.";
    describe_counter watch_lagged: Counter = "heartbeat_watch_lagged_total", Count,
        "Watchers that read too slowly, so that what came next was no longer held: told, and closed.";

    describe_gauge users: Gauge = "heartbeat_users", Count, "Users known.";
    describe_gauge online_users: Gauge = "heartbeat_online_users", Count,
        "Live sessions as of the second last swept: one leaves this count in second deadline + grace + 1, or when its user leaves.";
    describe_gauge sessions_stored: Gauge = "heartbeat_sessions_stored", Count, "Sessions in all timelines, live ones included.";
    describe_counter sessions_opened: Counter = "heartbeat_sessions_opened_total", Count,
        "Sessions opened, and reopened in the second of a leave.";
    describe_counter sessions_closed: CloseReasons = "heartbeat_sessions_closed_total", Count, "Sessions ended, by why.";
    describe_counter flaps: Counter = "heartbeat_flaps_total", Count,
        "Sessions that opened within one ttl of their user's previous end: clients heal too seldom for the ttl.";
    describe_counter users_refused: Counter = "heartbeat_users_refused_total", Count,
        "Heals of unknown users refused because of the setting max-users.";
    describe_gauge ttl: Gauge = "heartbeat_ttl_seconds", Seconds, "How long a heal keeps its user online: the setting ttl.";

    describe_histogram sweep_duration: Histogram = "heartbeat_sweep_duration_seconds", Seconds,
        "How long a sweep took; there is one a second.", SWEEP;
    describe_histogram expiry_lag: Histogram = "heartbeat_expiry_lag_seconds", Seconds,
        "How long past its end a session was noticed: the longest of each sweep that closed any.", LAG;
    describe_gauge sweep_last_run: Gauge = "heartbeat_sweep_last_run_timestamp_seconds", Seconds, "The second last swept.";

    describe_counter journal_slots: Counter = "heartbeat_journal_slots_total", Count,
        "Slots written to the journal, of 24 bytes each.";
    describe_gauge journal_bytes: Gauge = "heartbeat_journal_bytes", Bytes,
        "Length of all segments, those that are ready to be written to included.";
    describe_gauge journal_segments: Gauge = "heartbeat_journal_segments", Count, "Files of the journal.";
    describe_gauge journal_replay_bytes: Gauge = "heartbeat_journal_replay_bytes", Bytes,
        "Journal that a restart would have to replay; 0 when nothing was written since the last snapshot.";
    describe_gauge journal_unsynced: Gauge = "heartbeat_journal_unsynced_seconds", Seconds,
        "How long ago the last sync that succeeded began; 0 in the mode process, which has none on a schedule.";
    describe_gauge journal_unsynced_limit: Gauge = "heartbeat_journal_unsynced_limit_seconds", Seconds,
        "Writes are refused once the last sync is longer ago than this; 0 if the mode sets no limit.";
    describe_histogram sync_duration: Histogram = "heartbeat_journal_sync_duration_seconds", Seconds,
        "How long a sync of the journal took.", SYNC;
    describe_counter journal_errors: JournalOperations = "heartbeat_journal_errors_total", Count,
        "What failed about the journal: preparing a segment (told once until it works again), syncing, removing what a snapshot has made needless.";
    describe_gauge journal_accepting: Gauge = "heartbeat_journal_accepting", Count,
        "1 while the journal takes writes, 0 while it refuses them.";

    describe_histogram snapshot_duration: Histogram = "heartbeat_snapshot_duration_seconds", Seconds,
        "How long a snapshot took.", SNAPSHOT;
    describe_histogram snapshot_shard_hold: Histogram = "heartbeat_snapshot_shard_hold_seconds", Seconds,
        "How long a snapshot held up the writes of one shard: the longest of each snapshot.", HOLD;
    describe_gauge snapshot_bytes: Gauge = "heartbeat_snapshot_bytes", Bytes, "Size of the last snapshot since the start.";
    describe_gauge snapshot_last_success: Gauge = "heartbeat_snapshot_last_success_timestamp_seconds", Seconds,
        "When the last snapshot since the start had been taken; 0 before the first.";
    describe_gauge snapshot_interval: Gauge = "heartbeat_snapshot_interval_seconds", Seconds,
        "How often a snapshot is to be taken: the setting snapshot-interval.";
    describe_counter snapshot_failures: Counter = "heartbeat_snapshot_failures_total", Count, "Snapshots that could not be taken.";

    describe_gauge recovery_duration: Gauge = "heartbeat_recovery_duration_seconds", Seconds,
        "How long this start took to bring back what was on disk.";
    describe_gauge recovery_slots: SlotVerdicts = "heartbeat_recovery_slots", Count,
        "Slots of the journal that this start read. Stale: contained in the snapshot, or about nobody; torn: by a power loss; empty: never acknowledged.";
    describe_gauge recovery_quarantined: Gauge = "heartbeat_recovery_quarantined_snapshots", Count,
        "Damaged snapshots that this start put aside.";
    describe_gauge ready: Gauge = "heartbeat_ready", Count, "1 while heals are taken, as /readyz says.";
    describe_counter thread_restarts: Threads = "heartbeat_thread_restarts_total", Count,
        "Panics in threads of ours that then went on: each is a bug.";
    describe_counter clock_steps: Directions = "heartbeat_clock_steps_total", Count,
        "How often the wall clock was set by more than a minute.";
    describe_counter outages: Counter = "heartbeat_outages_total", Count,
        "Times when the service was down: 1 after a start that found it had been.";

    describe_gauge memory: MemoryParts = "heartbeat_memory_bytes", Bytes,
        "Memory by what it is for: the roster's tables, closed sessions, and all other memory that the allocator holds.";
    describe_gauge memory_limit: Gauge = "heartbeat_memory_limit_bytes", Bytes,
        "The lesser of the machine's memory and the control group's limit; 0 if neither can be read.";
    describe_gauge disk_free: Gauge = "heartbeat_disk_free_bytes", Bytes,
        "What the file system of the data directory has left for the service.";
    describe_gauge disk_reserved: Gauge = "heartbeat_disk_reserved_bytes", Bytes,
        "Free bytes below which no further segment of the journal is prepared: a segment, and the room that a snapshot would take.";
    describe_gauge disk_size: Gauge = "heartbeat_disk_size_bytes", Bytes, "What that file system holds.";

    describe_gauge open_files: Gauge = "process_open_fds", Count, "Number of open file descriptors.";
    describe_gauge open_files_max: Gauge = "process_max_fds", Count, "Maximum number of open file descriptors.";
    describe_gauge resident: Gauge = "process_resident_memory_bytes", Bytes, "Resident memory size in bytes.";
    describe_gauge virtual_memory: Gauge = "process_virtual_memory_bytes", Bytes, "Virtual memory size in bytes.";
    describe_gauge start_time: Gauge = "process_start_time_seconds", Seconds,
        "Start time of the process since unix epoch in seconds.";
    describe_gauge os_threads: Gauge = "process_threads", Count, "Number of OS threads in the process.";
}

const HTTP_REQUESTS: &str = "heartbeat_http_requests_total";
const HTTP_DURATION: &str = "heartbeat_http_request_duration_seconds";
const BATCH_IDS: &str = "heartbeat_batch_ids";
const BUILD_INFO: &str = "heartbeat_build_info";
const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// The paths that are values of the label `route`.
#[derive(Clone, Copy)]
pub(crate) struct RouteNames<'a> {
    /// All of them.
    pub all: &'a [&'static str],
    /// Those that take users in bulk.
    pub bulk: &'a [&'static str],
}

/// What has the label `route`.
struct Routes {
    durations: ByRoute,
    batches: ByRoute,
}

impl Routes {
    fn register(recorder: &PrometheusRecorder, names: RouteNames<'_>) -> Self {
        let describe = |name: &'static str, unit, help: &'static str| {
            recorder.describe_histogram(KeyName::from(name), Some(unit), help.into());
        };
        recorder.describe_counter(
            KeyName::from(HTTP_REQUESTS),
            Some(Unit::Count),
            "Requests by route, method and the status they were answered with.".into(),
        );
        describe(
            HTTP_DURATION,
            Unit::Seconds,
            "From reading a request to handing its response, or the first part of one in parts, to the kernel. One read in 16 is timed, so the count is that of a sample.",
        );
        describe(BATCH_IDS, Unit::Count, "Ids in a request about users in bulk.");
        Self {
            durations: ByRoute::register(recorder, HTTP_DURATION, names.all),
            batches: ByRoute::register(recorder, BATCH_IDS, names.bulk),
        }
    }
}

fn recorder(buckets: &[(&'static str, &[f64])]) -> PrometheusRecorder {
    let routes: [(&str, &[f64]); 2] = [(HTTP_DURATION, &REQUEST), (BATCH_IDS, &IDS)];
    buckets
        .iter()
        .chain(&routes)
        .fold(PrometheusBuilder::new().with_recommended_naming(true), |builder, (name, buckets)| {
            builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                .expect("no histogram is without buckets")
        })
        .build_recorder()
}

impl Metrics {
    /// All series, at 0.
    pub(crate) fn new(routes: RouteNames<'_>) -> Self {
        let metrics = Self::with_routes(routes);
        metrics.tell_build();
        metrics
    }

    fn tell_build(&self) {
        let describe = "What runs. Always 1.";
        self.recorder.describe_gauge(KeyName::from(BUILD_INFO), Some(Unit::Count), describe.into());
        let labels = [
            Label::from_static_parts("version", env!("CARGO_PKG_VERSION")),
            Label::from_static_parts("commit", env!("HEARTBEAT_COMMIT")),
            Label::from_static_parts("rustc", env!("HEARTBEAT_RUSTC")),
        ];
        self.recorder.register_gauge(&Key::from_parts(BUILD_INFO, labels.to_vec()), &METADATA).set(1.0);
    }

    /// Requests on `route` with this method that were answered with this status. Looked up: not for the path of a heal.
    pub(crate) fn http_requests(
        &self,
        route: &'static str,
        method: &'static str,
        code: &'static str,
    ) -> Counter {
        let labels = [("route", route), ("method", method), ("code", code)];
        let labels = labels.map(|(label, value)| Label::from_static_parts(label, value));
        self.recorder.register_counter(&Key::from_parts(HTTP_REQUESTS, labels.to_vec()), &METADATA)
    }

    /// How long requests take, by route.
    pub(crate) fn http_durations(&self) -> &ByRoute {
        &self.routes.durations
    }

    /// Ids in requests about users in bulk, by route.
    pub(crate) fn batch_ids(&self) -> &ByRoute {
        &self.routes.batches
    }

    /// A snapshot has been taken.
    pub fn took_snapshot(&self, taken: &SnapshotTaken) {
        self.snapshot_duration.record(taken.elapsed);
        self.snapshot_shard_hold.record(taken.longest_hold);
        self.journal_errors.remove.increment(u64::from(taken.not_removed.is_some()));
    }

    /// Takes the samples of histograms together. Once a second: until then each is kept by itself.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        // By hand: the recorder's counters are whole numbers, and a second of processor time is a lot.
        if let Some(usage) = process::usage() {
            let help = "Total user and system CPU time spent in seconds.";
            let seconds = usage.cpu_seconds;
            // A string takes whatever is written to it.
            let _ = write!(
                text,
                "# HELP {CPU_SECONDS} {help}\n# TYPE {CPU_SECONDS} counter\n{CPU_SECONDS} {seconds}\n"
            );
        }
        text
    }
}

/// For gauges, which are `f64`: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// For gauges of seconds; 0 for none.
pub(crate) fn seconds(duration: Option<Duration>) -> f64 {
    duration.unwrap_or_default().as_secs_f64()
}
