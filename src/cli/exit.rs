//! Exit codes, and which failure has which.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output;
use crate::config::{CONFIG_EXPECTED, Origin, Setting, SettingError};
use crate::damage::ReadError;
use crate::directory::{DirectoryError, FileError};
use crate::engine::{ChainError, OpenError};
use crate::http::StartError;
use crate::repair::RepairError;
use crate::restore::RestoreError;

/// How the process ends. The numbers from 64 are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, also after a signal.
    Done = 0,
    /// 1: a check or a threshold failed, or something went wrong while running.
    Failed = 1,
    /// 2: an unknown flag or subcommand.
    Usage = 2,
    /// 65: the data directory holds something that is damaged.
    Corrupt = 65,
    /// 74: an I/O error, also a port in use.
    Io = 74,
    /// 75: the data directory is in use by another process.
    Locked = 75,
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
    #[error("{0}{hint}", hint = hint(.0))]
    Open(#[from] Box<OpenError>),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("{0}{hint}", hint = repair_hint(.0))]
    Repair(#[from] RepairError),
    #[error("cannot {doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error("{0}")]
    Check(String),
    #[error("{0:#}")]
    Other(anyhow::Error),
}

/// What to do about it.
fn hint(error: &OpenError) -> String {
    let file = match error {
        OpenError::Read(ReadError::Damaged(damage)) => &damage.file,
        OpenError::Chain(
            ChainError::Missing { missing: file, .. }
            | ChainError::Foreign { file, .. }
            | ChainError::Misnamed { file, .. }
            | ChainError::Unlinked { file },
        ) => file,
        OpenError::FileSystem { .. } => {
            return "; --allow-unsafe-filesystem starts all the same, and then a full disk kills the service"
                .into();
        }
        OpenError::Future { .. } => return "; set the clock, or start with --allow-future-journal".into(),
        _ => return String::new(),
    };
    let directory = quoted(file.parent().unwrap_or(Path::new(".")));
    format!(
        "; nothing was changed: `heartbeat verify {directory}` says what is intact, `heartbeat repair {directory}` what can be \
         mended and what would be lost"
    )
}

fn repair_hint(error: &RepairError) -> &'static str {
    match error {
        RepairError::File(error)
            if matches!(
                error.source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            "; --quarantine names another place, on another disk, for what is copied"
        }
        _ => "",
    }
}

/// For a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=@:,".contains(c);
    if text.chars().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl Failure {
    /// For `map_err`: what we were doing, to follow the word "cannot".
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Setting(_) => Exit::Setting,
            Self::Start(_) | Self::Io { .. } | Self::File(_) => Exit::Io,
            Self::Read(error) => of_read(error),
            Self::Restore(error) => match error {
                RestoreError::Read(error) => of_read(error),
                RestoreError::NotEmpty { .. } => Exit::Failed,
                RestoreError::Directory(DirectoryError::Locked { .. }) => Exit::Locked,
                RestoreError::Directory(_) | RestoreError::File(_) | RestoreError::System(_) => Exit::Io,
            },
            Self::Repair(error) => of_repair(error),
            Self::Open(error) => of_open(error),
            Self::Check(_) | Self::Other(_) => Exit::Failed,
        }
    }

    /// The error and its causes in one line. A bad setting's sentence is whole as it is.
    pub fn sentence(&self) -> String {
        if matches!(self, Self::Setting(_)) { self.to_string() } else { sentence(self) }
    }
}

/// An error and its causes in one line; a cause already told is not repeated.
pub(super) fn sentence(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !sentence.contains(&told) {
            sentence = format!("{sentence}: {told}");
        }
        cause = error.source();
    }
    sentence
}

fn of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::Directory(DirectoryError::Locked { .. }) => Exit::Locked,
        OpenError::Read(error) => of_read(error),
        OpenError::Chain(_) => Exit::Corrupt,
        OpenError::FileSystem { .. } | OpenError::Future { .. } => Exit::Setting,
        OpenError::Directory(_) | OpenError::File(_) | OpenError::System(_) => Exit::Io,
    }
}

fn of_repair(error: &RepairError) -> Exit {
    match error {
        RepairError::Directory(DirectoryError::Locked { .. }) => Exit::Locked,
        RepairError::Directory(_)
        | RepairError::File(_)
        | RepairError::InTheWay(_)
        | RepairError::System(_) => Exit::Io,
        RepairError::Read(error) => of_read(error),
        RepairError::Beyond(error) => of_open(error),
        RepairError::Mixed { .. } => Exit::Corrupt,
        #[cfg(test)]
        RepairError::Stopped => Exit::Failed,
    }
}

fn of_read(error: &ReadError) -> Exit {
    match error {
        ReadError::Io { .. } => Exit::Io,
        ReadError::Damaged(_) | ReadError::NewerVersion { .. } => Exit::Corrupt,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts and service managers know the numbers.
    #[test]
    fn the_numbers_are_those_of_the_documentation() {
        let exits = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Corrupt, 65),
            (Exit::Io, 74),
            (Exit::Locked, 75),
            (Exit::Setting, 78),
        ];
        for (exit, number) in exits {
            assert_eq!(ExitCode::from(exit), ExitCode::from(number), "{exit:?}");
        }
    }
}
