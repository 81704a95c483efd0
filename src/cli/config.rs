//! `heartbeat config`: the effective settings and where each came from.

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::flags::SettingFlags;
use super::output;
use crate::config::Effective;

/// Arguments of `heartbeat config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Print nothing; exit 78 with one sentence if a setting has a bad value
    #[arg(long)]
    check: bool,
    /// Print a JSON array of {setting, value, source}
    #[arg(long, conflicts_with = "check")]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: &ConfigArgs) -> Result<Exit, Failure> {
    let effective = args.settings.inputs().load()?;
    if args.json {
        output::print(json_text(&effective).as_bytes())?;
    } else if !args.check {
        output::print(table(&effective).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn json_text(effective: &Effective) -> String {
    let row = |(name, value, origin)| json!({"setting": name, "value": value, "source": format!("{origin}")});
    let rows: Vec<_> =
        effective.iter().map(|(name, value, origin)| row((name, value, origin.to_string()))).collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}

fn table(effective: &Effective) -> String {
    let rows = effective.iter().map(|(name, value, origin)| [name.to_owned(), value, origin.to_string()]);
    let head = ["setting", "value", "source"].map(str::to_owned);
    let rows: Vec<[String; 3]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (names, values) = (width(0), width(1));
    let line = |[name, value, source]: &[String; 3]| format!("{name:names$}  {value:values$}  {source}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"
}
