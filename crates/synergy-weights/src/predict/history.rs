//! The metrics of a synergy history as series.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nightshift_core::synergy::history::{Row, Scope, read};
use nightshift_core::{Ctx, Failure};
use serde_json::Value;

use super::input::Series;
use crate::place::history_file;

/// The file and one series a metric, a row without a number being a missing value.
pub(crate) fn series(
    ctx: &Ctx,
    file: Option<&Path>,
    metric: &str,
    scope: &str,
) -> Result<(PathBuf, Vec<Series>), Failure> {
    let file = file.map_or_else(|| history_file(ctx), Path::to_owned);
    let Ok(scope) = scope.parse::<Scope>();
    let rows = read(&file, &scope, &ctx.clock, &ctx.stop)?;
    let names: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| {
            row.entry.iter().filter(|(_, value)| value.is_number()).map(|(name, _)| name.as_str())
        })
        .collect();
    let prefixed = format!("synergy_{metric}");
    let chosen: Vec<&str> = match metric {
        "all" => names.iter().copied().collect(),
        name => names.iter().copied().filter(|known| *known == name || *known == prefixed).collect(),
    };
    if chosen.is_empty() {
        let known: Vec<&str> = names.into_iter().collect();
        let hint = if known.is_empty() {
            "record at least one row first".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        let what = if metric == "all" { "numbers".to_owned() } else { format!("values of `{metric}`") };
        return Err(Failure::nothing(format!("{} holds no {what}", file.display())).hint(hint));
    }
    Ok((file, chosen.into_iter().map(|name| one(name, &rows)).collect()))
}

fn one(name: &str, rows: &[Row]) -> Series {
    let number = |row: &Row| row.entry.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    Series {
        name: name.to_owned(),
        values: rows.iter().map(number).collect(),
        places: rows.iter().map(|row| row.id).collect(),
    }
}
