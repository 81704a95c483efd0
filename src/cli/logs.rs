//! Log lines: to stderr, for people or as JSON, with a level that can be changed while running.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogFormat, Settings};

/// Logs of this process, once started.
#[derive(Debug)]
pub(super) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Writes from now on. If someone else in this process already does, theirs stays.
    pub fn start(settings: &Settings) -> Self {
        let (filter, handle) = reload::Layer::new(filter(settings));
        let lines = fmt::layer().with_writer(io::stderr);
        let lines = match settings.log_format {
            LogFormat::Json => lines.json().boxed(),
            LogFormat::Pretty => {
                let is_colourful = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                lines.compact().with_ansi(is_colourful).boxed()
            }
        };
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { filter: handle }
    }

    /// Takes the filter of `settings`.
    pub fn reload(&self, settings: &Settings) {
        // It fails only when the subscriber is gone, and then there is nobody to tell.
        let _ = self.filter.reload(filter(settings));
    }
}

fn filter(settings: &Settings) -> EnvFilter {
    EnvFilter::builder().parse(&settings.log).expect("the setting was checked by the same parser")
}
