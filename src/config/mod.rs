//! Every setting: its name, its doc line, its default, its check, and where its value came from.
//!
//! ```text
//!   default  <  file (--config)  <  environment (HEARTBEAT_…)  <  flag (--…)
//! ```
//!
//! [`Settings`] is the table: one entry a setting, and nothing about a setting stands anywhere else. [`Inputs`] are what a
//! process was given; [`Inputs::load`] lays one over the other and gives [`Effective`] settings, or the one sentence that says
//! what is wrong and what to write instead.
//!
//! A value is checked where it is given, also if another one takes precedence: a file with a mistake in it is refused before
//! the day on which the flag is taken away.

mod cors;
mod effective;
mod error;
mod inputs;
mod kind;
mod nearest;
mod origin;
mod settings;
mod text;

pub use cors::CorsOrigins;
pub use effective::Effective;
pub use error::SettingError;
pub use inputs::Inputs;
pub use origin::Origin;
pub use settings::{LogFormat, Settings};

pub(crate) use inputs::{CONFIG_EXPECTED, CONFIG_VARIABLE};
pub(crate) use kind::Shape;
pub(crate) use settings::Setting;
