//! How a setting is written and what it may be.
//!
//! A [`Kind`] is the pair of functions between text and value, with the sentence that says what the text must look like. Where
//! a setting takes several values they come as one text, separated by commas, whichever way they were given.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::cors::CorsOrigins;
use super::settings::LogFormat;
use super::text::{parse_count, parse_duration, parse_seconds, parse_size, show_duration, show_size};
use crate::durability::Durability;
use crate::time::Ttl;

/// How many values a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One.
    One,
    /// Any number: a repeated flag, an array in a file, commas in a variable.
    List,
    /// Yes or no: a flag that needs no value.
    Switch,
}

/// A way to write a value of type `T`.
pub(super) struct Kind<T> {
    pub placeholder: &'static str,
    pub expected: &'static str,
    pub shape: Shape,
    pub parse: fn(&str) -> Option<T>,
    pub show: fn(&T) -> String,
}

/// More than this many threads is a misprint.
pub(super) const THREADS_MAX: usize = 1_024;
/// The kernel's default ceiling of open files is 1,048,576, and no machine of ours holds ten times as many sockets.
const CONNECTIONS_MAX: u64 = 10_000_000;
/// 24 bytes each: 2.4 GB. None is for those whom nobody follows.
const EVENTS_HELD: RangeInclusive<u64> = 0..=100_000_000;
/// A body is held in memory while it is read.
const BODY_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 30;
/// Grace and timeouts, like the ttl, are at most a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A sync takes some milliseconds: whoever wants one more often than every 10 ms wants `always`, which shares them. The kernel
/// writes back by itself after half a minute: whoever wants one less often than every hour wants `process`.
const SYNC_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60 * 60);
/// Under a second there would hardly be a time without one. A forgotten user is on the disk until the next one: at most a day.
const SNAPSHOT_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
/// The memory's and the file system's page, for segments.
const PAGE_BYTES: u64 = 4 << 10;
/// Two pages of header and two of slots, 341 of 24 bytes, up to what is reserved and zeroed in a few seconds.
const SEGMENT_BYTES: RangeInclusive<u64> = 4 * PAGE_BYTES..=1 << 30;
/// At least one segment of the smallest size; at most what a start replays in some minutes, from a disk that reads 1 GiB/s.
const SNAPSHOT_JOURNAL_BYTES: RangeInclusive<u64> = *SEGMENT_BYTES.start()..=256 << 30;
/// 100 years of 365.25 days, which still are a number of seconds in 32 bits.
const RETAIN_SECONDS: RangeInclusive<u32> = 1..=100 * 31_557_600;

pub(super) const ADDRESSES: Kind<Vec<SocketAddr>> = Kind {
    placeholder: "ADDRESS",
    expected: "an IP address with a port, such as 127.0.0.1:3519 or [::1]:3519",
    shape: Shape::List,
    parse: |text| text.split(',').map(|address| address.trim().parse().ok()).collect(),
    show: |addresses| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(","),
};

/// None is the port that everything else is served on.
pub(super) const METRICS_ADDRESSES: Kind<Vec<SocketAddr>> = Kind {
    expected: "an IP address with a port, such as 127.0.0.1:9519, or `same port`",
    parse: |text| if text == SAME_PORT { Some(Vec::new()) } else { (ADDRESSES.parse)(text) },
    show: |addresses| if addresses.is_empty() { SAME_PORT.into() } else { (ADDRESSES.show)(addresses) },
    ..ADDRESSES
};
const SAME_PORT: &str = "same port";

/// `none` is nobody.
pub(super) const CORS_ORIGINS: Kind<Option<CorsOrigins>> = Kind {
    placeholder: "ORIGIN",
    expected: "origins as browsers write them, such as https://app.example.com, or `*`, or `none`",
    shape: Shape::List,
    parse: |text| if text == NONE { Some(None) } else { CorsOrigins::parse(text).map(Some) },
    show: |origins| origins.as_ref().map_or_else(|| NONE.into(), CorsOrigins::show),
};
const NONE: &str = "none";

pub(super) const TTL: Kind<Ttl> = Kind {
    placeholder: "DURATION",
    expected: "whole seconds with a unit, from 1s to 1day, such as 7s",
    shape: Shape::One,
    parse: |text| Ttl::from_seconds(parse_seconds(text)?).ok(),
    show: |ttl| format!("{}s", ttl.as_seconds()),
};

pub(super) const GRACE: Kind<u32> = Kind {
    placeholder: "DURATION",
    expected: "whole seconds with a unit, from 0s to 1day, such as 3s",
    shape: Shape::One,
    parse: |text| parse_seconds(text).filter(|seconds| u64::from(*seconds) <= DAY.as_secs()),
    show: |seconds| format!("{seconds}s"),
};

pub(super) const TIMEOUT: Kind<Duration> = Kind {
    placeholder: "DURATION",
    expected: "a duration with a unit, from 1ms to 1day, such as 5s",
    shape: Shape::One,
    parse: |text| duration_within(text, Duration::from_millis(1)..=DAY),
    show: |duration| show_duration(*duration),
};

/// A timeout that may be nothing.
pub(super) const PATIENCE: Kind<Duration> = Kind {
    expected: "a duration with a unit, from 0s to 1day, such as 10s",
    parse: |text| duration_within(text, Duration::ZERO..=DAY),
    ..TIMEOUT
};

pub(super) const SYNC: Kind<Duration> = Kind {
    expected: "a duration with a unit, from 10ms to 1h, such as 1s",
    parse: |text| duration_within(text, SYNC_INTERVAL),
    ..TIMEOUT
};

pub(super) const SNAPSHOT: Kind<Duration> = Kind {
    expected: "a duration with a unit, from 1s to 1day, such as 5m",
    parse: |text| duration_within(text, SNAPSHOT_INTERVAL),
    ..TIMEOUT
};

/// An age in whole seconds; none is for ever.
pub(super) const RETAIN: Kind<Option<u32>> = Kind {
    placeholder: "DURATION",
    expected: "whole seconds with a unit, from 1s to 100years, such as 30days, or forever",
    shape: Shape::One,
    parse: |text| match text {
        "forever" => Some(None),
        age => parse_seconds(age).filter(|seconds| RETAIN_SECONDS.contains(seconds)).map(Some),
    },
    show: |age| age.map_or_else(|| "forever".into(), |seconds| format!("{seconds}s")),
};

pub(super) const USERS: Kind<Option<u64>> = Kind {
    placeholder: "COUNT",
    expected: "a number from 1 up, such as 1,000,000, or unlimited",
    shape: Shape::One,
    parse: |text| match text {
        "unlimited" => Some(None),
        count => parse_count(count).filter(|count| *count > 0).map(Some),
    },
    show: |users| users.map_or_else(|| "unlimited".into(), |count| count.to_string()),
};

pub(super) const SESSIONS: Kind<Option<usize>> = Kind {
    placeholder: "COUNT",
    expected: "a number from 1 up, such as 1,000, or unlimited",
    shape: Shape::One,
    parse: |text| match text {
        "unlimited" => Some(None),
        count => count_within(count, 1..=u64::MAX).map(Some),
    },
    show: |sessions| sessions.map_or_else(|| "unlimited".into(), |count| count.to_string()),
};

pub(super) const THREADS: Kind<usize> = Kind {
    placeholder: "COUNT",
    expected: "a number from 1 to 1024",
    shape: Shape::One,
    parse: |text| count_within(text, 1..=THREADS_MAX as u64),
    show: usize::to_string,
};

pub(super) const CONNECTIONS: Kind<usize> = Kind {
    placeholder: "COUNT",
    expected: "a number from 1 to 10,000,000, such as 100,000",
    shape: Shape::One,
    parse: |text| count_within(text, 1..=CONNECTIONS_MAX),
    show: usize::to_string,
};

pub(super) const EVENTS: Kind<usize> = Kind {
    placeholder: "COUNT",
    expected: "a number from 0 to 100,000,000, such as 1,048,576",
    shape: Shape::One,
    parse: |text| count_within(text, EVENTS_HELD),
    show: usize::to_string,
};

pub(super) const BODY: Kind<usize> = Kind {
    placeholder: "SIZE",
    expected: "a size from 1KiB to 1GiB, such as 4MiB or 4194304",
    shape: Shape::One,
    parse: |text| size_within(text, BODY_BYTES)?.try_into().ok(),
    show: |bytes| show_size(*bytes as u64),
};

pub(super) const SEGMENT: Kind<u64> = Kind {
    placeholder: "SIZE",
    expected: "a multiple of 4KiB from 16KiB to 1GiB, such as 64MiB",
    shape: Shape::One,
    parse: |text| size_within(text, SEGMENT_BYTES).filter(|bytes| bytes.is_multiple_of(PAGE_BYTES)),
    show: |bytes| show_size(*bytes),
};

pub(super) const JOURNAL: Kind<u64> = Kind {
    expected: "a size from 16KiB to 256GiB, such as 1GiB",
    parse: |text| size_within(text, SNAPSHOT_JOURNAL_BYTES),
    ..SEGMENT
};

pub(super) const DIRECTORY: Kind<PathBuf> = Kind {
    placeholder: "DIRECTORY",
    expected: "the path of a directory, in UTF-8 and without control characters, such as /var/lib/heartbeat",
    shape: Shape::One,
    parse: |text| is_path(text).then(|| text.into()),
    show: |path| path.display().to_string(),
};

pub(super) const DURABILITY: Kind<Durability> = Kind {
    placeholder: "MODE",
    expected: "process, interval or always",
    shape: Shape::One,
    parse: |text| match text {
        "process" => Some(Durability::Process),
        "interval" => Some(Durability::Interval),
        "always" => Some(Durability::Always),
        _ => None,
    },
    show: Durability::to_string,
};

pub(super) const SWITCH: Kind<bool> = Kind {
    placeholder: "BOOL",
    expected: "true or false",
    shape: Shape::Switch,
    parse: |text| text.parse().ok(),
    show: bool::to_string,
};

pub(super) const LOG: Kind<String> = Kind {
    placeholder: "FILTER",
    expected: "a level (off, error, warn, info, debug or trace) or directives such as info,heartbeat=debug",
    shape: Shape::One,
    parse: |text| is_filter(text).then(|| text.to_owned()),
    show: Clone::clone,
};

pub(super) const LOG_FORMAT: Kind<LogFormat> = Kind {
    placeholder: "FORMAT",
    expected: "pretty or json",
    shape: Shape::One,
    parse: |text| match text {
        "pretty" => Some(LogFormat::Pretty),
        "json" => Some(LogFormat::Json),
        _ => None,
    },
    show: |format| match format {
        LogFormat::Pretty => "pretty".into(),
        LogFormat::Json => "json".into(),
    },
};

fn count_within(text: &str, range: RangeInclusive<u64>) -> Option<usize> {
    parse_count(text).filter(|count| range.contains(count))?.try_into().ok()
}

fn size_within(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    parse_size(text).filter(|bytes| range.contains(bytes))
}

fn duration_within(text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    parse_duration(text).filter(|duration| range.contains(duration))
}

/// A flag or variable that is not UTF-8 comes with replacement characters in it: that would be another directory than the one
/// that was named.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

/// `EnvFilter` takes any bare word for the name of a module and then writes nothing: `--log inof` would be silence. So a bare
/// word has to be a level here. Spans' directives (`[…]`) contain commas of their own and are left to it.
fn is_filter(text: &str) -> bool {
    let is_plain = |directive: &str| directive.contains('=') || directive.parse::<LevelFilter>().is_ok();
    let is_sensible = text.contains('[') || text.split(',').all(is_plain);
    !text.is_empty() && is_sensible && EnvFilter::builder().parse(text).is_ok()
}
