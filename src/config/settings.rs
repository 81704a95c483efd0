//! The table of settings.
//!
//! One entry is a doc line, a name, a group for `--help`, a kind (how it is written and checked), the field and its default.
//! The macro makes of it the field of [`Settings`], the default, and the [`Setting`] that flags, environment, file, help and
//! `heartbeat config` are made of.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cors::CorsOrigins;
use super::kind::{self, Shape};
use crate::durability::Durability;
use crate::time::Ttl;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// One entry of the table, without its type.
#[derive(Debug)]
pub(crate) struct Setting {
    /// As in a file; the flag and the environment variable follow from it.
    pub name: &'static str,
    /// One line for `--help`.
    pub doc: &'static str,
    /// Under which heading of `--help`.
    pub group: &'static str,
    /// What stands for a value in `--help`.
    pub placeholder: &'static str,
    /// What to write, to follow the word "write".
    pub expected: &'static str,
    /// How many values it has.
    pub shape: Shape,
    /// The default in words, where it depends on the machine.
    default: Option<&'static str>,
    /// Parses, checks and stores; false if the text is not a value.
    pub take: fn(&mut Settings, &str) -> bool,
    /// The value as it could be written in a file.
    pub show: fn(&Settings) -> String,
}

impl Setting {
    /// The setting called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// All of them, in the order of the documentation.
    pub fn all() -> &'static [Self] {
        TABLE
    }

    /// `--max-users`
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// `HEARTBEAT_MAX_USERS`
    pub fn variable(&self) -> String {
        format!("HEARTBEAT_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The default, for people.
    pub fn default_text(&self) -> String {
        self.default.map_or_else(|| (self.show)(&Settings::default()), Into::into)
    }
}

/// What a macro's optional part came to.
const fn only(words: &[&'static str]) -> Option<&'static str> {
    match words {
        [words, ..] => Some(words),
        [] => None,
    }
}

macro_rules! settings {
    ($(
        #[doc = $doc:literal]
        [$name:literal, $group:literal, $kind:path $(, default: $words:literal)?]
        $field:ident: $type:ty = $default:expr;
    )*) => {
        /// The effective settings of a service.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $(#[doc = $doc] pub $field: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        static TABLE: &[Setting] = &[$(
            Setting {
                name: $name,
                doc: $doc,
                group: $group,
                placeholder: $kind.placeholder,
                expected: $kind.expected,
                shape: $kind.shape,
                default: only(&[$($words)?]),
                take: |settings, text| match ($kind.parse)(text) {
                    Some(value) => {
                        settings.$field = value;
                        true
                    }
                    None => false,
                },
                show: |settings| ($kind.show)(&settings.$field),
            },
        )*];
    };
}

settings! {
    /// Address to listen on; give it several times for several.
    ["listen", "Network", kind::ADDRESSES]
    listen: Vec<SocketAddr> = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 3519))];

    /// Address to read metrics from, with /livez and /readyz beside them, instead of /metrics on the same port.
    ["metrics-listen", "Network", kind::METRICS_ADDRESSES]
    metrics_listen: Vec<SocketAddr> = Vec::new();

    /// Serve everybody who can reach an address other than loopback.
    ["no-auth", "Network", kind::SWITCH]
    no_auth: bool = false;

    /// Most connections open at once; further ones are refused.
    ["max-connections", "Network", kind::CONNECTIONS]
    max_connections: usize = 100_000;

    /// From the first byte of a request head to its last.
    ["header-timeout", "Network", kind::TIMEOUT]
    header_timeout: Duration = Duration::from_secs(5);

    /// How long a connection may be silent between requests.
    ["idle-timeout", "Network", kind::TIMEOUT]
    idle_timeout: Duration = Duration::from_secs(75);

    /// How long requests in flight may take to finish at shutdown.
    ["drain-timeout", "Network", kind::PATIENCE]
    drain_timeout: Duration = Duration::from_secs(10);

    /// Longest request body.
    ["max-body-bytes", "Network", kind::BODY]
    max_body_bytes: usize = 4 * 1024 * 1024;

    /// Pages of this origin may call the service from a browser; several times for several, * for all.
    ["cors-origin", "Network", kind::CORS_ORIGINS]
    cors_origin: Option<CorsOrigins> = None;

    /// How long a heal keeps its user online.
    ["ttl", "Presence", kind::TTL]
    ttl: Ttl = Ttl::DEFAULT;

    /// How long after the deadline a heal still continues the session.
    ["grace", "Presence", kind::GRACE]
    grace: u32 = 0;

    /// A timely heal continues a session whose deadline passed while the service was down.
    ["restart-grace", "Presence", kind::SWITCH]
    restart_grace: bool = true;

    /// Most users known; a heal of a further one is refused.
    ["max-users", "Presence", kind::USERS]
    max_users: Option<u64> = None;

    /// Age beyond which closed sessions are dropped.
    ["retain", "Presence", kind::RETAIN]
    retain: Option<u32> = None;

    /// Most sessions kept per user, the live one included.
    ["retain-sessions", "Presence", kind::SESSIONS]
    retain_sessions: Option<usize> = None;

    /// Transitions held for those who follow them, 24 bytes each.
    ["events-held", "Presence", kind::EVENTS]
    events_held: usize = 1 << 20;

    /// Where journal and snapshots are; a relative path starts at the working directory.
    ["data-dir", "Durability", kind::DIRECTORY]
    data_dir: PathBuf = "snapshots".into();

    /// What survives power loss: what the kernel wrote back (process), all up to the last sync (interval), all (always).
    ["durability", "Durability", kind::DURABILITY]
    durability: Durability = Durability::Interval;

    /// How often the journal is synced where durability is interval.
    ["sync-interval", "Durability", kind::SYNC]
    sync_interval: Duration = Duration::from_secs(1);

    /// How often a snapshot is taken.
    ["snapshot-interval", "Durability", kind::SNAPSHOT]
    snapshot_interval: Duration = Duration::from_secs(5 * 60);

    /// A snapshot is taken earlier when the journal has grown by so much since the last one.
    ["snapshot-journal-bytes", "Durability", kind::JOURNAL]
    snapshot_journal_bytes: u64 = 1 << 30;

    /// Size of one file of the journal; not above snapshot-journal-bytes.
    ["segment-bytes", "Durability", kind::SEGMENT]
    segment_bytes: u64 = 64 << 20;

    /// Start on btrfs, ZFS or a network file system all the same, where a full disk kills the process.
    ["allow-unsafe-filesystem", "Durability", kind::SWITCH]
    allow_unsafe_filesystem: bool = false;

    /// Start although the journal is more than a day ahead of the clock.
    ["allow-future-journal", "Durability", kind::SWITCH]
    allow_future_journal: bool = false;

    /// Worker threads.
    ["threads", "Process", kind::THREADS, default: "number of cores"]
    threads: usize = std::thread::available_parallelism().map_or(1, usize::from).min(kind::THREADS_MAX);

    /// Which log lines are written, as tracing-subscriber's filter.
    ["log", "Process", kind::LOG]
    log: String = "info".into();

    /// How log lines are written.
    ["log-format", "Process", kind::LOG_FORMAT, default: "pretty on a terminal, else json"]
    log_format: LogFormat = if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `config` prints can be written into a file as it stands.
    #[test]
    fn every_default_passes_its_own_check() {
        for setting in Setting::all() {
            let mut settings = Settings::default();
            let shown = (setting.show)(&settings);
            assert!((setting.take)(&mut settings, &shown), "{} shows {shown}", setting.name);
            assert_eq!((setting.show)(&settings), shown, "{}", setting.name);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let shown: Vec<_> =
            Setting::all().iter().map(|setting| (setting.name, setting.default_text())).collect();
        let expected = [
            ("listen", "127.0.0.1:3519"),
            ("metrics-listen", "same port"),
            ("no-auth", "false"),
            ("max-connections", "100000"),
            ("header-timeout", "5s"),
            ("idle-timeout", "75s"),
            ("drain-timeout", "10s"),
            ("max-body-bytes", "4MiB"),
            ("cors-origin", "none"),
            ("ttl", "7s"),
            ("grace", "0s"),
            ("restart-grace", "true"),
            ("max-users", "unlimited"),
            ("retain", "forever"),
            ("retain-sessions", "unlimited"),
            ("events-held", "1048576"),
            ("data-dir", "snapshots"),
            ("durability", "interval"),
            ("sync-interval", "1s"),
            ("snapshot-interval", "300s"),
            ("snapshot-journal-bytes", "1GiB"),
            ("segment-bytes", "64MiB"),
            ("allow-unsafe-filesystem", "false"),
            ("allow-future-journal", "false"),
            ("threads", "number of cores"),
            ("log", "info"),
            ("log-format", "pretty on a terminal, else json"),
        ];
        assert_eq!(shown, expected.map(|(name, default)| (name, default.to_owned())));
    }

    #[test]
    fn flag_and_variable_follow_from_the_name() {
        let setting = Setting::find("max-body-bytes").unwrap();
        assert_eq!(setting.flag(), "--max-body-bytes");
        assert_eq!(setting.variable(), "HEARTBEAT_MAX_BODY_BYTES");
    }
}
