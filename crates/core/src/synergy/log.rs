//! `synergy_weights.log`: JSON Lines, `timestamp` (epoch seconds) first, then the seven weights.
//!
//! Other programs take the names to draw from the *first* line and turn each of its values into a number. A
//! log of ours therefore begins with the weights before the first change, and the `reason` of a change comes
//! last, from the second line on, where those programs do not look at it.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::files;
use crate::synergy::{METRICS, Values, number, object, parse};

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Epoch seconds.
    pub timestamp: f64,
    /// The weights after it; a name that the line lacks is the value before, or 0 in the first line.
    pub weights: Values,
    /// Why; lines of other programs have none.
    pub reason: Option<String>,
}

/// What a log holds.
#[derive(Debug, Default)]
pub struct Log {
    /// The lines that can be read, oldest first.
    pub entries: Vec<Entry>,
    /// Lines that cannot.
    pub bad: usize,
}

/// Reads a log; one that is missing is empty.
pub fn read(path: &Path) -> Result<Log, Failure> {
    let mut log = Log::default();
    if !path.exists() {
        return Ok(log);
    }
    let bytes = files::read(path)?;
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
        let before = log.entries.last().map_or([0.0; 7], |entry: &Entry| entry.weights);
        match parse(line).ok().and_then(|value| entry(&value, &before)) {
            Some(entry) => log.entries.push(entry),
            None => log.bad += 1,
        }
    }
    Ok(log)
}

fn entry(value: &Value, before: &Values) -> Option<Entry> {
    let value = value.as_object()?;
    let mut weights = *before;
    for (weight, name) in weights.iter_mut().zip(METRICS) {
        *weight = value.get(name).and_then(number).unwrap_or(*weight);
    }
    METRICS.iter().any(|name| value.contains_key(*name)).then(|| Entry {
        timestamp: value.get("timestamp").and_then(number).unwrap_or_default(),
        weights,
        reason: value.get("reason").and_then(Value::as_str).map(str::to_owned),
    })
}

/// The lines to append for a change: its own, behind the weights before it when the log is new.
pub fn lines(
    path: &Path,
    before: &Values,
    after: &Values,
    at: Timestamp,
    reason: &str,
) -> Result<Vec<String>, Failure> {
    let timestamp = Value::from(at.as_microsecond() as f64 / 1e6);
    let line = |weights: &Values, reason: Option<&str>| {
        let mut line = Map::new();
        line.insert("timestamp".into(), timestamp.clone());
        line.extend(object(weights));
        if let Some(reason) = reason {
            line.insert("reason".into(), reason.into());
        }
        Value::Object(line).to_string()
    };
    let mut lines = Vec::new();
    if read(path)?.entries.is_empty() {
        lines.push(line(before, None));
    }
    lines.push(line(after, Some(reason)));
    Ok(lines)
}
