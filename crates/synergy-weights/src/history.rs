//! `history`: the log of changes, as text, in the terminal, as a picture.

use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::synergy::METRICS;
use nightshift_core::synergy::log::{self, Entry};
use nightshift_core::{Ctx, Failure, Outcome, files};
use serde_json::json;

use crate::place::log_file;
use crate::{picture, raster};

/// Columns of a line in the terminal.
const COLUMNS: usize = 46;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The log of changes [default: synergy_weights.log in the data folder]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Draw in the terminal, and synergy_weights.svg beside the log
    #[arg(long)]
    plot: bool,
    /// Draw into this file instead (.svg or .png)
    #[arg(long, value_name = "FILE")]
    plot_out: Option<PathBuf>,
}

/// Shows the log.
pub(crate) fn run(ctx: &Ctx, arguments: &Arguments) -> Result<Outcome, Failure> {
    let path = arguments.log.clone().unwrap_or_else(|| log_file(ctx));
    let log = log::read(&path)?;
    if log.entries.is_empty() {
        return Err(Failure::nothing(format!("no change is logged in {}", path.display())));
    }
    if log.bad > 0 {
        ctx.printer.note(&format!("note: {} lines of {} cannot be read", log.bad, path.display()));
    }
    let drawn = if arguments.plot || arguments.plot_out.is_some() {
        Some(draw(ctx, &path, &log.entries, arguments.plot_out.as_deref())?)
    } else {
        None
    };
    let text = match &drawn {
        Some(file) => format!("{}\n{}", terminal(&log.entries), file.display()),
        None => String::from_utf8_lossy(&files::read(&path)?).into_owned(),
    };
    let report = json!({"log": path, "entries": entries(&log.entries), "bad_lines": log.bad, "plot": drawn});
    Ok(Outcome::done(&report, text))
}

fn entries(entries: &[Entry]) -> Vec<serde_json::Value> {
    let one = |entry: &Entry| {
        let weights = nightshift_core::synergy::object(&entry.weights);
        json!({"timestamp": entry.timestamp, "weights": weights, "reason": entry.reason})
    };
    entries.iter().map(one).collect()
}

fn draw(ctx: &Ctx, log: &Path, entries: &[Entry], out: Option<&Path>) -> Result<PathBuf, Failure> {
    let file = out.map_or_else(|| log.with_file_name("synergy_weights.svg"), Path::to_owned);
    raster::check(&file)?;
    let bytes = raster::bytes(&file, &picture::svg(entries))?;
    if !ctx.dry_run {
        files::write_atomic(&file, &bytes)?;
    }
    Ok(file)
}

/// A line of bars for each weight, all on one scale from 0.
fn terminal(entries: &[Entry]) -> String {
    let top = entries.iter().flat_map(|entry| entry.weights).fold(1.0, f64::max);
    let columns = entries.len().min(COLUMNS);
    let mut lines = vec![format!("{} changes, 0 to {top:.2}", entries.len())];
    for (index, name) in METRICS.iter().enumerate() {
        let bar = |column: usize| {
            // The newest value of each column's share of the log.
            let last = (column + 1) * entries.len() / columns - 1;
            let level = (entries[last].weights[index] / top * 7.0).round() as usize;
            ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][level.min(7)]
        };
        let bars: String = (0..columns).map(bar).collect();
        let (first, last) = (entries[0].weights[index], entries[entries.len() - 1].weights[index]);
        lines.push(format!("{name:<16}{first:>7.3}  {bars}  {last:.3}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_shows_first_and_last_and_never_more_than_its_columns() {
        let entry = |at: usize| Entry {
            timestamp: at as f64,
            weights: std::array::from_fn(|index| if index == 0 { at as f64 / 500.0 } else { 1.0 }),
            reason: None,
        };
        let text = terminal(&(0..=1000).map(entry).collect::<Vec<_>>());
        let roi = text.lines().nth(1).unwrap();
        assert!(roi.contains("0.000  ▁") && roi.ends_with("█  2.000"), "{roi}");
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        assert!(terminal(&[entry(1)]).contains("1.000  █  1.000"));
    }
}
