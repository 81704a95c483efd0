//! Exit codes, and which failure has which.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output;
use crate::config::{CONFIG_EXPECTED, Origin, Setting, SettingError};
use crate::http::StartError;

/// How the process ends. The numbers from 64 are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, also after a signal.
    Done = 0,
    /// 1: a check or a threshold failed, or something went wrong while running.
    Failed = 1,
    /// 2: an unknown flag or subcommand.
    Usage = 2,
    /// 74: an I/O error, also a port in use.
    Io = 74,
    /// 78: a setting with a bad value, whichever way it came.
    Setting = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a subcommand ends with when it cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot {doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error("{0}")]
    Check(String),
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Failure {
    /// For `map_err`: what we were doing, to follow the word "cannot".
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Setting(_) => Exit::Setting,
            Self::Start(_) | Self::Io { .. } => Exit::Io,
            Self::Check(_) | Self::Other(_) => Exit::Failed,
        }
    }

    /// The error and its causes in one line. A bad setting's sentence is whole as it is; a cause already told is not repeated.
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = if matches!(self, Self::Setting(_)) { None } else { self.source() };
        while let Some(error) = cause {
            let told = error.to_string();
            if !sentence.contains(&told) {
                sentence = format!("{sentence}: {told}");
            }
            cause = error.source();
        }
        sentence
    }
}

/// Prints why clap refused the arguments, or the help it was asked for. A setting without a value is a bad setting.
pub(super) fn refused(refusal: &clap::Error) -> Exit {
    if let Some(error) = bad_setting(refusal) {
        output::complain(&error.to_string());
        return Exit::Setting;
    }
    // Whoever closed the other end of the pipe has read enough.
    let _ = refusal.print();
    if refusal.exit_code() == 0 { Exit::Done } else { Exit::Usage }
}

fn bad_setting(refusal: &clap::Error) -> Option<SettingError> {
    let is_about_a_value =
        matches!(refusal.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::NoEquals);
    let Some(ContextValue::String(argument)) = refusal.get(ContextKind::InvalidArg) else { return None };
    // "--ttl <DURATION>", "--no-auth[=<BOOL>]"
    let end = argument.find([' ', '[', '=']).unwrap_or(argument.len());
    let flag = &argument[..end];
    let (name, expected) = match flag.strip_prefix("--")? {
        "config" => ("config", CONFIG_EXPECTED),
        name => Setting::find(name).map(|setting| (setting.name, setting.expected))?,
    };
    let value = match refusal.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.clone(),
        _ => String::new(),
    };
    is_about_a_value.then(|| SettingError::Value {
        name,
        value,
        origin: Origin::Flag(flag.to_owned()),
        expected,
    })
}
