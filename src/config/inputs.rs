//! What a process was given: arguments, environment, a file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::effective::Effective;
use super::error::SettingError;
use super::kind::Shape;
use super::nearest::{misspelt, nearest};
use super::origin::Origin;
use super::settings::Setting;

/// The variable that names the settings file.
pub(crate) const CONFIG_VARIABLE: &str = "HEARTBEAT_CONFIG";
/// What to write for the settings file.
pub(crate) const CONFIG_EXPECTED: &str = "the path of a TOML file, such as /etc/heartbeat.toml";

/// A settings file is a page or two.
const FILE_BYTES_MAX: u64 = 1 << 20;

const PREFIX: &str = "HEARTBEAT_";
/// What Kubernetes puts into the environment of every pod beside a service called `heartbeat`.
const FOREIGN: [&str; 2] = ["HEARTBEAT_PORT", "HEARTBEAT_SERVICE_"];

/// What a process was given. [`Inputs::load`] may be called again: it reads the file again.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The value of `--config`.
    pub config: Option<PathBuf>,
    /// Names of settings and the text of their flags; several values are separated by commas.
    pub flags: Vec<(String, String)>,
    /// The environment; only names that begin with `HEARTBEAT_` matter.
    pub environment: Vec<(OsString, OsString)>,
}

impl Inputs {
    /// Lays defaults, file, environment and flags one over the other, and checks each.
    ///
    /// # Errors
    /// The first value that is not one, in that order; or a name that is none.
    pub fn load(&self) -> Result<Effective, SettingError> {
        let variables = self.variables();
        let mut effective = Effective::default();
        if let Some((path, origin)) = self.file(&variables)? {
            lay_file(&mut effective, path, origin)?;
        }
        for (name, text) in &variables {
            lay_variable(&mut effective, name, text)?;
        }
        for (name, text) in &self.flags {
            let setting = known(name, &Origin::Flag(format!("--{name}")))?;
            effective.set(setting, text, Origin::Flag(setting.flag()))?;
        }
        effective.check()
    }

    /// Ours, sorted, so that of two mistakes the same one is reported each time.
    fn variables(&self) -> Vec<(String, String)> {
        let texts = self
            .environment
            .iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let mut ours: Vec<_> = texts.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        ours.sort();
        ours
    }

    fn file(&self, variables: &[(String, String)]) -> Result<Option<(PathBuf, Origin)>, SettingError> {
        let flag = self.config.as_ref().map(|path| (path.clone(), Origin::Flag("--config".into())));
        let variable = || {
            let (name, path) = variables.iter().find(|(name, _)| name == CONFIG_VARIABLE)?;
            Some((PathBuf::from(path), Origin::Variable(name.clone())))
        };
        match flag.or_else(variable) {
            Some((path, origin)) if path.as_os_str().is_empty() => Err(SettingError::Value {
                name: "config",
                value: String::new(),
                origin,
                expected: CONFIG_EXPECTED,
            }),
            given => Ok(given),
        }
    }
}

fn lay_variable(effective: &mut Effective, name: &str, text: &str) -> Result<(), SettingError> {
    let is_foreign = FOREIGN.iter().any(|foreign| name.starts_with(foreign));
    if name == CONFIG_VARIABLE || is_foreign {
        return Ok(());
    }
    let origin = Origin::Variable(name.to_owned());
    if let Some(setting) = Setting::all().iter().find(|setting| setting.variable() == name) {
        return effective.set(setting, text, origin);
    }
    let variables: Vec<_> = Setting::all().iter().map(Setting::variable).collect();
    let known = variables.iter().map(String::as_str).chain([CONFIG_VARIABLE]);
    let meant = misspelt(&name[PREFIX.len()..].to_uppercase(), known.map(|name| &name[PREFIX.len()..]));
    match meant {
        Some(meant) => Err(SettingError::Unknown {
            name: name.to_owned(),
            origin: Origin::Variable(name.to_owned()),
            nearest: Some(format!("{PREFIX}{meant}")),
        }),
        None => Ok(()),
    }
}

fn lay_file(effective: &mut Effective, path: PathBuf, origin: Origin) -> Result<(), SettingError> {
    let name = path.display().to_string();
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(source) => return Err(SettingError::Unreadable { path: name, origin, source }),
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(source) => return Err(not_toml(name, origin, &text, source)),
    };
    let origin = Origin::File(path);
    for (key, value) in table {
        let setting = known(&key, &origin)?;
        let text = value_text(setting, &value).ok_or_else(|| SettingError::Value {
            name: setting.name,
            value: value.to_string(),
            origin: origin.clone(),
            expected: setting.expected,
        })?;
        effective.set(setting, &text, origin.clone())?;
    }
    Ok(())
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

fn not_toml(path: String, origin: Origin, text: &str, source: toml::de::Error) -> SettingError {
    let end = source.span().map_or(0, |span| span.start.min(text.len()));
    let before = String::from_utf8_lossy(&text.as_bytes()[..end]);
    let line = 1 + before.matches('\n').count();
    SettingError::Toml { path, origin, line, source: Box::new(source) }
}

/// The value as a flag would give it; none if it has a type that no flag could give.
fn value_text(setting: &Setting, value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) if setting.shape == Shape::Switch => Some(switch.to_string()),
        toml::Value::Array(values) if setting.shape == Shape::List => {
            let texts: Option<Vec<_>> = values.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn known(name: &str, origin: &Origin) -> Result<&'static Setting, SettingError> {
    Setting::find(name).ok_or_else(|| SettingError::Unknown {
        name: name.to_owned(),
        origin: origin.clone(),
        nearest: nearest(name, Setting::all().iter().map(|setting| setting.name)).map(Into::into),
    })
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
