//! `record`: appends entries to a history, as the programs do that it belongs to.

use std::path::PathBuf;

use clap::Args;
use nightshift_core::synergy::history::{self, SOURCE};
use nightshift_core::synergy::{METRICS, parse};
use nightshift_core::{Ctx, Failure, Outcome, env, files};
use serde_json::{Map, Number, Value, json};

use crate::place::history_file;

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Metrics of one entry; one of the seven names stands for synergy_NAME
    #[arg(value_name = "NAME=VALUE", required_unless_present = "file")]
    values: Vec<String>,
    /// Entries to append, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "values")]
    file: Option<PathBuf>,
    /// The database [default: synergy_history.db in the data folder]
    #[arg(long, value_name = "FILE.db")]
    history_file: Option<PathBuf>,
    /// What goes into source_menace_id, where the database has it
    #[arg(long, value_name = "ID", default_value = SOURCE)]
    source: String,
}

/// Appends.
pub(crate) fn run(ctx: &Ctx, arguments: &Arguments) -> Result<Outcome, Failure> {
    if ctx.env.get(env::SAVE_SYNERGY_HISTORY) == Some("0") {
        return Err(Failure::nothing("nothing is recorded: SAVE_SYNERGY_HISTORY is 0"));
    }
    let path = arguments.history_file.clone().unwrap_or_else(|| history_file(ctx));
    let entries = match &arguments.file {
        Some(file) => lines(file)?,
        None => vec![entry(&arguments.values)?],
    };
    if entries.is_empty() {
        return Err(Failure::nothing("the file has no entries"));
    }
    let text = format!("{} entries for {}", entries.len(), path.display());
    if ctx.dry_run {
        return Ok(Outcome::done(&json!({"entries": entries, "history": path}), text).status("planned"));
    }
    let ids = history::record(&path, &arguments.source, &entries, &ctx.clock, &ctx.stop)?;
    Ok(Outcome::done(&json!({"entries": entries.len(), "ids": ids, "history": path}), text))
}

fn entry(pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut entry = Map::new();
    for pair in pairs {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`{pair}` is not NAME=VALUE")).hint("write roi=0.05"))?;
        let number = value.trim().parse().ok().and_then(Number::from_f64);
        let number =
            number.ok_or_else(|| Failure::usage(format!("{name}: `{value}` is not a finite number")))?;
        entry.insert(full(name), Value::Number(number));
    }
    Ok(entry)
}

/// Every line, or none: half a file recorded could not be recorded again.
fn lines(file: &std::path::Path) -> Result<Vec<Map<String, Value>>, Failure> {
    let text = files::read_text(file)?;
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |why: String| Failure::refused(format!("{}:{number}: {why}", file.display()));
        match parse(line) {
            Ok(Value::Object(entry)) => {
                entries.push(entry.into_iter().map(|(name, value)| (full(&name), value)).collect());
            }
            Ok(_) => return Err(bad("it is not a JSON object".into())),
            Err(error) => return Err(bad(error.to_string())),
        }
    }
    Ok(entries)
}

fn full(name: &str) -> String {
    if METRICS.contains(&name) { format!("synergy_{name}") } else { name.to_owned() }
}
