//! The settings as flags, made from their table.
//!
//! Values are taken as they are; [`Inputs::load`] checks them, so that a bad one is told in the same words whichever way it came.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::{CONFIG_VARIABLE, Inputs, Setting, Shape};

/// The flags of all settings, and `--config`.
#[derive(Debug, Clone, Default)]
pub(super) struct SettingFlags {
    config: Option<PathBuf>,
    given: Vec<(String, String)>,
}

const CONFIG: &str = "config";

impl SettingFlags {
    /// These flags, with the environment of this process.
    pub fn inputs(&self) -> Inputs {
        Inputs {
            config: self.config.clone(),
            flags: self.given.clone(),
            environment: std::env::vars_os().collect(),
        }
    }
}

/// Puts `--ttl -7s` together as `--ttl=-7s`: clap takes `-7s` for an unknown flag, and it is a bad value.
pub(super) fn join_negative(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            Some(flag) if is_negative(&argument) && takes_value(flag) => {
                flag.push("=");
                flag.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

fn is_negative(argument: &OsStr) -> bool {
    matches!(argument.as_encoded_bytes(), [b'-', b'0'..=b'9', ..])
}

fn takes_value(flag: &OsStr) -> bool {
    let name = flag.to_str().and_then(|flag| flag.strip_prefix("--"));
    name.and_then(Setting::find).is_some_and(|setting| setting.shape != Shape::Switch)
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        let given = Setting::all().iter().filter_map(|setting| {
            let values = matches.get_many::<OsString>(setting.name)?;
            let texts: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            Some((setting.name.to_owned(), texts.join(",")))
        });
        Ok(Self { config, given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("TOML file with settings\n[default: none] [env: {CONFIG_VARIABLE}]"));
        command.arg(config).args(Setting::all().iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &Setting) -> Arg {
    let doc = setting.doc.trim().trim_end_matches('.');
    let (default, variable) = (setting.default_text(), setting.variable());
    let way_off = way_off(setting);
    let flag = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.placeholder)
        .value_parser(value_parser!(OsString))
        .help_heading(setting.group)
        .help(format!("{doc}{way_off}\n[default: {default}] [env: {variable}]"));
    match setting.shape {
        Shape::One => flag,
        Shape::List => flag.action(ArgAction::Append),
        Shape::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
    }
}

/// Leaving the flag out does not switch off what is on by default: its help says what does.
fn way_off(setting: &Setting) -> String {
    let is_on = setting.shape == Shape::Switch && setting.default_text() == "true";
    if is_on { format!("; {}=false switches it off", setting.flag()) } else { String::new() }
}
