//! Why settings are refused.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::origin::Origin;
use super::text::show_size;

/// Why settings are refused: one sentence that names the setting, its value, where it came from, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The text is not a value of this setting.
    #[error("{name} {} ({origin}): write {expected}", Refused(value))]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given; empty if nothing was.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What to write, to follow the word "write".
        expected: &'static str,
    },
    /// There is no such setting.
    #[error("{} is not a setting ({origin}): {}", Quoted(name), Nearest(nearest.as_deref()))]
    Unknown {
        /// What was given.
        name: String,
        /// Where.
        origin: Origin,
        /// What may have been meant, written as it would be there.
        nearest: Option<String>,
    },
    /// Listening there would serve strangers, and nobody said that it may.
    #[error(
        "{name} cannot be `{address}` ({origin}), which others can reach: add --no-auth to serve them all, or write a loopback address such as 127.0.0.1:3519"
    )]
    OffLoopback {
        /// The setting.
        name: &'static str,
        /// The first such address.
        address: SocketAddr,
        /// Where it came from.
        origin: Origin,
    },
    /// Metrics cannot have an address of their own where everything else is served.
    #[error(
        "metrics-listen cannot be `{address}` ({origin}), which is an address of listen: write another, or leave it out to read metrics there"
    )]
    SameAddress {
        /// The address.
        address: SocketAddr,
        /// Where it came from.
        origin: Origin,
    },
    /// The journal grows by whole segments, so a snapshot would be due again as soon as one had been taken.
    #[error(
        "snapshot-journal-bytes cannot be `{given}` ({origin}), which is less than one segment, `{segment}` ({segment_origin}): write at least {segment}, or a smaller segment-bytes",
        given = show_size(*bytes), segment = show_size(*segment_bytes)
    )]
    BelowOneSegment {
        /// What `snapshot-journal-bytes` is.
        bytes: u64,
        /// Where it came from.
        origin: Origin,
        /// What `segment-bytes` is.
        segment_bytes: u64,
        /// Where that came from.
        segment_origin: Origin,
    },
    /// The settings file cannot be read.
    #[error("config cannot be {} ({origin}), {source}: write the path of a readable TOML file", Quoted(path))]
    Unreadable {
        /// The file.
        path: String,
        /// Where its name came from.
        origin: Origin,
        /// What the operating system says.
        source: io::Error,
    },
    /// The settings file is not TOML.
    #[error("config cannot be {} ({origin}), line {line} is not TOML ({}): write lines such as ttl = \"7s\"",
        Quoted(path), OneLine(source.message()))]
    Toml {
        /// The file.
        path: String,
        /// Where its name came from.
        origin: Origin,
        /// Which line, from 1.
        line: usize,
        /// What the parser says.
        source: Box<toml::de::Error>,
    },
}

/// Text from outside, so that it stays on one line and does not go on for ever.
struct Quoted<'a>(&'a str);

const QUOTED_CHARS_MAX: usize = 100;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.0.chars().nth(QUOTED_CHARS_MAX).is_some() { "…" } else { "" };
        let shown: String = self.0.chars().take(QUOTED_CHARS_MAX).flat_map(escape).collect();
        write!(f, "`{shown}{more}`")
    }
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = if c.is_control() { None } else { Some(c) };
    escaped.into_iter().flatten().chain(plain)
}

struct Refused<'a>(&'a str);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("has no value")
        } else {
            write!(f, "cannot be {}", Quoted(self.0))
        }
    }
}

struct Nearest<'a>(Option<&'a str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, "write {nearest}, or remove it"),
            None => f.write_str("remove it; `heartbeat config` lists those there are"),
        }
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lines().collect::<Vec<_>>().join(", "))
    }
}
