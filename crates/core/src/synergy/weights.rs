//! `synergy_weights.json`: a flat object of seven numbers, shared with other programs.
//!
//! Reading never fails for what the file holds: empty, `{}` and missing keys fall back to the start weights, a
//! damaged file to `<file>.bak`, values outside 0 to 10 are clipped; each is noted. Writing goes through
//! [`Held`]: under `<file>.lock` (the lock other programs take), the file replaced in place, `_doc` and unknown
//! keys kept, the state before in `<file>.bak`, and with the log one durable step ([`crate::commit`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::commit::{self, Commit, with_suffix};
use crate::crash::CrashPoint;
use crate::error::{Failure, OrFail};
use crate::files;
use crate::lock::Lock;
use crate::signal::Stop;
use crate::synergy::log;
use crate::synergy::start::{Source, Start};
use crate::synergy::{METRICS, RANGE, Values, number, parse};

/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a weights file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The weights, 0 to 10.
    pub weights: Values,
    /// Where each comes from.
    pub sources: [Source; 7],
    /// What was found wrong, and what is used instead.
    pub notes: Vec<String>,
    /// The object in the file, `_doc` and unknown keys included.
    whole: Map<String, Value>,
    /// The file holds something that cannot be read.
    damaged: bool,
}

impl Loaded {
    /// With the overrides of the environment laid over.
    #[must_use]
    pub fn overridden(mut self, overrides: &[Option<f64>; 7]) -> Self {
        for (index, weight) in overrides.iter().enumerate() {
            if let Some(weight) = weight {
                self.weights[index] = *weight;
                self.sources[index] = Source::Environment(crate::env::SYNERGY_WEIGHTS[index].into());
            }
        }
        self
    }
}

/// Reads a weights file; `start` is what a missing one and missing keys mean.
pub fn read(path: &Path, start: &Start) -> Result<Loaded, Failure> {
    let mut notes = start.notes.clone();
    let (whole, source, damaged) = match read_object(path)? {
        Ok(whole) => (whole, Source::File, false),
        Err(why) => {
            let place = path.display();
            if let Some((copy, whole)) = backup(path) {
                notes.push(format!("{place} {why}; {} is used", copy.display()));
                (whole, Source::Backup, true)
            } else {
                notes.push(format!("{place} {why}: invalid synergy weight data, defaults are used"));
                (Map::new(), Source::File, true)
            }
        }
    };
    let (mut weights, mut sources) = (start.weights, start.sources.clone());
    let (mut missing, mut bad) = (Vec::new(), Vec::new());
    for (index, name) in METRICS.into_iter().enumerate() {
        match whole.get(name).map(number) {
            None => missing.push(name),
            Some(None) => bad.push(name),
            Some(Some(weight)) => {
                weights[index] = weight.clamp(*RANGE.start(), *RANGE.end());
                sources[index] = source.clone();
                if weights[index] != weight {
                    notes.push(format!(
                        "{name} is {weight} in {}; {} is used",
                        path.display(),
                        weights[index]
                    ));
                }
            }
        }
    }
    if !bad.is_empty() {
        notes.push(format!("not a number in {}: {}; the default is used", path.display(), bad.join(", ")));
    }
    if !missing.is_empty() && missing.len() < METRICS.len() {
        let names = missing.join(", ");
        notes.push(format!("missing synergy weight(s): {names} in {}; the default is used", path.display()));
    }
    Ok(Loaded { weights, sources, notes, whole, damaged })
}

/// The object in a file: empty when the file is missing or empty, or why it cannot be read.
fn read_object(path: &Path) -> Result<Result<Map<String, Value>, &'static str>, Failure> {
    if !path.exists() {
        return Ok(Ok(Map::new()));
    }
    let Ok(text) = String::from_utf8(files::read(path)?) else { return Ok(Err("is not text")) };
    if text.trim().is_empty() {
        return Ok(Ok(Map::new()));
    }
    Ok(match parse(&text) {
        Ok(Value::Object(whole)) => Ok(whole),
        Ok(_) => Err("is not a JSON object"),
        Err(_) => Err("is not JSON"),
    })
}

/// The newest copy that can be read: `<file>.bak`, or `<name>.bak` of other programs.
fn backup(path: &Path) -> Option<(PathBuf, Map<String, Value>)> {
    let places = [with_suffix(path, ".bak"), path.with_extension("bak")];
    places.into_iter().find_map(|place| match read_object(&place) {
        Ok(Ok(whole)) if !whole.is_empty() => Some((place, whole)),
        _ => None,
    })
}

/// A weights file that nobody else changes meanwhile.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _lock: Lock,
}

impl Held {
    /// Takes the lock, waiting for another holder up to 10 s (then exit 7), and completes a change that a
    /// crash interrupted.
    pub fn take(path: &Path, purpose: &str, clock: &Clock, stop: &Stop) -> Result<Self, Failure> {
        let lock = Lock::wait(&with_suffix(path, ".lock"), purpose, PATIENCE, clock, stop)?;
        if commit::finish(&intent(path))? {
            tracing::info!(path = %path.display(), "a change that was interrupted is complete now");
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    pub fn read(&self, start: &Start) -> Result<Loaded, Failure> {
        read(&self.path, start)
    }

    /// A change to `weights` with its line in the log, to be run; more files may be added. `before` is what
    /// [`Held::read`] gave.
    pub fn change(&self, before: &Loaded, weights: &Values, change: &Change<'_>) -> Result<Commit, Failure> {
        let mut whole = before.whole.clone();
        for (name, weight) in METRICS.iter().zip(weights) {
            whole.insert((*name).to_owned(), Value::from(*weight));
        }
        let mut step = Commit::new(intent(&self.path)).replace(&self.path, text(&whole).into_bytes());
        if let Some(found) =
            files::read_text_if_any(&self.path).ok().flatten().filter(|text| !text.trim().is_empty())
        {
            let copy = if before.damaged { ".damaged" } else { ".bak" };
            step = step.replace(&with_suffix(&self.path, copy), found.into_bytes());
        }
        let lines = log::lines(change.log, &before.weights, weights, change.at, change.reason)?;
        Ok(step.append(change.log, &lines))
    }

    /// As [`Held::change`], at once.
    pub fn write(
        &self,
        before: &Loaded,
        weights: &Values,
        change: &Change<'_>,
        crash: &CrashPoint,
    ) -> Result<(), Failure> {
        self.change(before, weights, change)?
            .run(crash)
            .or_fail(|| format!("{} is as it was", self.path.display()))
    }
}

/// What goes into the log with a change.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The log.
    pub log: &'a Path,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: &'a str,
}

/// Where a change is recorded that is under way.
fn intent(path: &Path) -> PathBuf {
    with_suffix(path, ".intent")
}

/// As other programs write it: on one line, or indented where there is a `_doc`.
fn text(whole: &Map<String, Value>) -> String {
    let value = Value::Object(whole.clone());
    if whole.contains_key("_doc") {
        return format!("{value:#}");
    }
    let pairs = whole.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str())));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}
