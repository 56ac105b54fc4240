//! Weights before anything was learned, and the overrides of the environment.
//!
//! Start: the mapping `synergy_weights` of the file named by `ALIGNMENT_BASELINE_METRICS_PATH`, else
//! `default_synergy_weights` of the settings file (`SANDBOX_SETTINGS_PATH`, `SANDBOX_SETTINGS_YAML`), else
//! `DEFAULT_SYNERGY_WEIGHTS` (JSON), else ones. A source that is missing or unreadable is passed over with a
//! note; a metric that a mapping lacks comes from the next source.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::env::{self, Env};
use crate::error::{Failure, OrFail};
use crate::files;
use crate::synergy::{METRICS, RANGE, UNIT, Values, number, parse};

/// Where a weight comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The weights file.
    File,
    /// The copy beside a weights file that could not be read.
    Backup,
    /// This environment variable.
    Environment(String),
    /// The baseline metrics file.
    Baseline,
    /// The settings file.
    Settings,
    /// Nothing says otherwise.
    Unit,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "weights file",
            Self::Backup => "backup of the weights file",
            Self::Environment(name) => name,
            Self::Baseline => "baseline metrics",
            Self::Settings => "settings",
            Self::Unit => "default",
        })
    }
}

/// Seven weights and where each comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The weights.
    pub weights: Values,
    /// Where each comes from.
    pub sources: [Source; 7],
    /// What was passed over, and why.
    pub notes: Vec<String>,
}

impl Start {
    /// Ones.
    pub fn unit() -> Self {
        Self { weights: UNIT, sources: [const { Source::Unit }; 7], notes: Vec::new() }
    }

    /// As the environment and the files that it names say.
    pub fn from_env(environment: &Env) -> Self {
        let mut start = Self::unit();
        // The last source is laid down first.
        if let Some(text) = environment.get(env::DEFAULT_SYNERGY_WEIGHTS) {
            match mapping(text, true) {
                Ok(map) => start.overlay(
                    &map,
                    &Source::Environment(env::DEFAULT_SYNERGY_WEIGHTS.into()),
                    env::DEFAULT_SYNERGY_WEIGHTS,
                ),
                Err(why) => {
                    start.notes.push(format!("{} is passed over: {why}", env::DEFAULT_SYNERGY_WEIGHTS));
                }
            }
        }
        for (variable, key, source) in [
            (env::SANDBOX_SETTINGS_YAML, "default_synergy_weights", Source::Settings),
            (env::SANDBOX_SETTINGS_PATH, "default_synergy_weights", Source::Settings),
            (env::ALIGNMENT_BASELINE_METRICS_PATH, "synergy_weights", Source::Baseline),
        ] {
            let Some(path) = environment.get(variable) else { continue };
            match read_mapping(Path::new(path), key) {
                Ok(map) => start.overlay(&map, &source, path),
                Err(failure) => start.notes.push(format!("{variable} is passed over: {}", failure.chain())),
            }
        }
        start
    }

    fn overlay(&mut self, map: &Map<String, Value>, source: &Source, place: &str) {
        let (mut missing, mut bad) = (Vec::new(), Vec::new());
        for (index, name) in METRICS.into_iter().enumerate() {
            match map.get(name).map(number) {
                None => missing.push(name),
                Some(None) => bad.push(name),
                Some(Some(weight)) => {
                    let clipped = weight.clamp(*RANGE.start(), *RANGE.end());
                    if clipped != weight {
                        self.notes.push(format!(
                            "{place}: {name} is {weight}; {clipped} is used, weights are 0 to 10"
                        ));
                    }
                    (self.weights[index], self.sources[index]) = (clipped, source.clone());
                }
            }
        }
        for (what, names) in [("missing synergy weight(s)", missing), ("not a number", bad)] {
            if !names.is_empty() {
                self.notes.push(format!("{place}: {what}: {}", names.join(", ")));
            }
        }
    }
}

/// The seven `SYNERGY_WEIGHT_<NAME>`: an override each, or exit 9 with its name.
pub fn overrides(environment: &Env) -> Result<[Option<f64>; 7], Failure> {
    let mut found = [None; 7];
    for (slot, variable) in found.iter_mut().zip(env::SYNERGY_WEIGHTS) {
        let Some(text) = environment.get(variable) else { continue };
        let weight = text.trim().parse().ok().filter(|weight| RANGE.contains(weight));
        *slot = Some(weight.ok_or_else(|| {
            Failure::config(format!("environment variable {variable}: `{text}` is not a number from 0 to 10"))
                .hint(format!("unset {variable} or correct it"))
        })?);
    }
    Ok(found)
}

/// The mapping `key` of a YAML or JSON file.
fn read_mapping(path: &Path, key: &str) -> Result<Map<String, Value>, Failure> {
    let text = files::read_text(path)?;
    let yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    let whole = mapping(&text, !yaml).map_err(|why| Failure::failed(format!("{}: {why}", path.display())))?;
    match whole.get(key) {
        Some(Value::Object(map)) => Ok(map.clone()),
        _ => Err(Failure::failed(format!("{} has no mapping `{key}`", path.display()))),
    }
}

fn mapping(text: &str, json: bool) -> Result<Map<String, Value>, String> {
    let value = if json {
        parse(text).map_err(|error| error.to_string())
    } else {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    };
    match value? {
        Value::Object(map) => Ok(map),
        _ => Err("it is not a mapping".into()),
    }
}

/// A mapping of metrics to weights from a file that a person wrote: `{"roi": 1.2, ...}`, any subset; every
/// value must be a number from `range`, and its key is named if it is not.
pub fn read_weights(path: &Path, range: std::ops::RangeInclusive<f64>) -> Result<[Option<f64>; 7], Failure> {
    let text = files::read_text(path)?;
    let value = parse(&text).or_fail(|| format!("{} is not JSON", path.display()))?;
    let Value::Object(map) = value else {
        return Err(Failure::refused(format!("{} is not a JSON object of weights", path.display())));
    };
    let mut weights = [None; 7];
    for (slot, name) in weights.iter_mut().zip(METRICS) {
        let Some(value) = map.get(name) else { continue };
        let weight = number(value).ok_or_else(|| {
            Failure::refused(format!("{}: {name} is {value}, which is not a number", path.display()))
        })?;
        if !range.contains(&weight) {
            return Err(Failure::refused(format!(
                "{}: {name} is {weight}, but weights are {} to {}",
                path.display(),
                range.start(),
                range.end()
            )));
        }
        *slot = Some(weight);
    }
    if weights.iter().all(Option::is_none) {
        return Err(Failure::refused(format!("{} names none of the seven weights", path.display()))
            .hint(format!("they are {}", METRICS.join(", "))));
    }
    Ok(weights)
}
