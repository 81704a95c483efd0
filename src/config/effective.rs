//! The settings a service runs with, and where each came from.

use std::net::SocketAddr;

use super::error::SettingError;
use super::origin::Origin;
use super::settings::{Setting, Settings};

/// The settings a service runs with, and where each came from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The values.
    pub settings: Settings,
    /// In the order of the table.
    origins: Vec<Origin>,
}

impl Default for Effective {
    fn default() -> Self {
        Self { settings: Settings::default(), origins: vec![Origin::Default; Setting::all().len()] }
    }
}

impl Effective {
    /// Name, value as it could be written in a file, and origin of every setting.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String, &Origin)> {
        Setting::all()
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| (setting.name, (setting.show)(&self.settings), origin))
    }

    /// The names of the settings that are different in `other`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.iter().zip(other.iter());
        pairs.filter(|((_, mine, _), (_, others, _))| mine != others).map(|((name, ..), _)| name).collect()
    }

    /// Lays one value over what is there.
    pub(super) fn set(
        &mut self,
        setting: &'static Setting,
        text: &str,
        origin: Origin,
    ) -> Result<(), SettingError> {
        if !(setting.take)(&mut self.settings, text) {
            return Err(SettingError::Value {
                name: setting.name,
                value: text.to_owned(),
                origin,
                expected: setting.expected,
            });
        }
        for (known, place) in Setting::all().iter().zip(&mut self.origins) {
            if known.name == setting.name {
                place.clone_from(&origin);
            }
        }
        Ok(())
    }

    /// What no value alone can be checked for.
    pub(super) fn check(self) -> Result<Self, SettingError> {
        self.check_addresses("listen", &self.settings.listen)?;
        self.check_addresses("metrics-listen", &self.settings.metrics_listen)?;
        self.check_distinct()?;
        self.check_journal()?;
        Ok(self)
    }

    fn check_addresses(&self, name: &'static str, addresses: &[SocketAddr]) -> Result<(), SettingError> {
        let reachable = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        match reachable {
            Some(address) if !self.settings.no_auth => {
                Err(SettingError::OffLoopback { name, address: *address, origin: self.origin(name) })
            }
            _ => Ok(()),
        }
    }

    /// Port 0 is another one each time.
    fn check_distinct(&self) -> Result<(), SettingError> {
        let Settings { listen, metrics_listen, .. } = &self.settings;
        let twice = metrics_listen.iter().find(|address| address.port() != 0 && listen.contains(address));
        twice.map_or(Ok(()), |&address| {
            Err(SettingError::SameAddress { address, origin: self.origin("metrics-listen") })
        })
    }

    fn check_journal(&self) -> Result<(), SettingError> {
        let (bytes, segment_bytes) = (self.settings.snapshot_journal_bytes, self.settings.segment_bytes);
        if bytes >= segment_bytes {
            return Ok(());
        }
        Err(SettingError::BelowOneSegment {
            bytes,
            origin: self.origin("snapshot-journal-bytes"),
            segment_bytes,
            segment_origin: self.origin("segment-bytes"),
        })
    }

    fn origin(&self, name: &str) -> Origin {
        let mut known = Setting::all().iter().zip(&self.origins);
        known.find(|(setting, _)| setting.name == name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}
