//! `score`: ranks candidate patches.

mod formula;

use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::rusqlite::types::ValueRef;
use nightshift_core::rusqlite::{Connection, OpenFlags, Row};
use nightshift_core::synergy::start::read_weights;
use nightshift_core::synergy::{UNIT, object, parse};
use nightshift_core::{Ctx, Failure, OrFail, Outcome, files};
use serde_json::{Map, Value, json};

use crate::place::Place;

use formula::{Scale, Scored};

/// Arguments of `score`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Candidates, one JSON object a line: coverage_delta, error_delta, roi_delta, complexity, flakiness,
    /// runtime_delta, entropy_delta, synergy_NAME; id or description names it
    file: PathBuf,
    /// Weights instead of those that count; any subset of the seven, any sign, 1 where it says nothing
    #[arg(long, value_name = "MAPPING.json")]
    weights: Option<PathBuf>,
    /// Earlier patches that means, deviations and factors come from: .jsonl, or a database with composite_history
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Rank by legacy_score
    #[arg(long)]
    legacy: bool,
}

/// Ranks.
pub(crate) fn run(ctx: &Ctx, place: &Place, arguments: &Arguments) -> Result<Outcome, Failure> {
    let candidates = lines(&arguments.file)?;
    if candidates.is_empty() {
        return Err(Failure::nothing(format!("{} has no candidates", arguments.file.display())));
    }
    let weights = match &arguments.weights {
        None => place.load(ctx)?.weights,
        Some(mapping) => {
            let given = read_weights(mapping, f64::MIN..=f64::MAX)?;
            std::array::from_fn(|index| given[index].unwrap_or(UNIT[index]))
        }
    };
    let scale = match &arguments.records {
        None => Scale::default(),
        Some(file) => Scale::from_records(&records(file)?),
    };
    let mut ranked: Vec<(usize, &Map<String, Value>, Scored)> = candidates
        .iter()
        .map(|(line, candidate)| (*line, candidate, scale.score(candidate, &weights)))
        .collect();
    let key = |scored: &Scored| if arguments.legacy { scored.legacy_score } else { scored.score };
    // Equal scores keep the order of the file.
    ranked.sort_by(|a, b| key(&b.2).total_cmp(&key(&a.2)));
    let text: Vec<String> = (1..)
        .zip(&ranked)
        .map(|(rank, (line, candidate, scored))| {
            format!("{rank:>3}  {:.6}  {}\n     {}", key(scored), name(*line, candidate), parts(scored))
        })
        .collect();
    let report: Vec<Value> = (1..)
        .zip(&ranked)
        .map(|(rank, (line, candidate, scored))| {
            let contributions: Map<String, Value> =
                scored.contributions.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "rank": rank, "line": line, "name": name(*line, candidate), "score": scored.score,
                "legacy_score": scored.legacy_score, "contributions": contributions,
            })
        })
        .collect();
    let report = json!({
        "candidates": report, "weights": object(&weights), "factors": scale.factors, "records": scale.records,
    });
    Ok(Outcome::done(&report, text.join("\n")))
}

fn name(line: usize, candidate: &Map<String, Value>) -> String {
    let named = ["id", "name", "description"].iter().find_map(|key| candidate.get(*key));
    match named {
        Some(Value::String(name)) => name.clone(),
        Some(value) => value.to_string(),
        None => format!("line {line}"),
    }
}

/// What moved the score, the largest first.
fn parts(scored: &Scored) -> String {
    let mut parts: Vec<&(String, f64)> =
        scored.contributions.iter().filter(|(_, value)| *value != 0.0).collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    parts.iter().map(|(name, value)| format!("{name} {value:+.3}")).collect::<Vec<_>>().join(", ")
}

/// A candidate and its line.
type Candidate = (usize, Map<String, Value>);

/// Objects of a JSON Lines file; a line that is none is named and stops the ranking: a candidate must not be missed.
fn lines(file: &Path) -> Result<Vec<Candidate>, Failure> {
    let text = files::read_text(file)?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Ok(Value::Object(object)) => found.push((number, object)),
            Ok(_) => {
                return Err(Failure::refused(format!(
                    "{}:{number}: it is not a JSON object",
                    file.display()
                )));
            }
            Err(error) => return Err(Failure::refused(format!("{}:{number}: {error}", file.display()))),
        }
    }
    Ok(found)
}

fn records(file: &Path) -> Result<Vec<Map<String, Value>>, Failure> {
    if file.extension().is_some_and(|extension| extension == "jsonl") {
        return Ok(lines(file)?.into_iter().map(|(_, object)| object).collect());
    }
    if !file.is_file() {
        return Err(Failure::failed(format!("there is no file {}", file.display())));
    }
    let from_database = || {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = connection.prepare("SELECT * FROM composite_history ORDER BY id")?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let object = |row: &Row<'_>| -> nightshift_core::rusqlite::Result<Map<String, Value>> {
            let mut object = Map::new();
            for (index, name) in names.iter().enumerate() {
                let value = match row.get_ref(index)? {
                    ValueRef::Integer(value) => json!(value),
                    ValueRef::Real(value) => json!(value),
                    _ => continue,
                };
                object.insert(name.clone(), value);
            }
            Ok(object)
        };
        statement.query_map([], object)?.collect::<nightshift_core::rusqlite::Result<Vec<_>>>()
    };
    from_database().or_fail(|| format!("{} is no database with composite_history", file.display()))
}
