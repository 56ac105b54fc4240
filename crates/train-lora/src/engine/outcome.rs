//! What comes back: `out/result.json`, `out/metrics.jsonl` and `out/adapter`, believed only after every check
//! that our own output passes.

use std::path::{Path, PathBuf};

use nightshift_core::random::sha256_hex;
use nightshift_core::release::{ADAPTER_CONFIG, ADAPTER_MODEL};
use nightshift_core::{Failure, files};
use nightshift_model::{Adapter, ModelConfig};
use serde::Deserialize;

use crate::base::refused;
use crate::engine::job::{Places, SCHEMA};
use crate::settings::Settings;
use crate::variant;

/// Largest text file that is read.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// How far the program's count of scored tokens may be from ours: beyond it the masks differ.
const TOKEN_TOLERANCE: f64 = 0.005;

/// What the job asked for.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) shape: &'a ModelConfig,
    pub(crate) settings: &'a Settings,
    /// Scored tokens of one pass over the rows.
    pub(crate) scored_tokens: u64,
    /// Passes over the rows.
    pub(crate) epochs: usize,
}

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct RunResult {
    schema: u64,
    status: String,
    /// Optimiser steps done.
    pub(crate) steps: usize,
    /// Learned tokens of one pass over the rows, or of all passes.
    pub(crate) scored_tokens: u64,
    /// Seconds.
    #[serde(default)]
    pub(crate) wall_s: f64,
    #[serde(default)]
    pub(crate) best_step: Option<usize>,
    /// Name and version.
    #[serde(default)]
    pub(crate) trainer: String,
    adapter_sha256: String,
    #[serde(default)]
    message: Option<String>,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Metric {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) loss: f64,
    #[serde(default)]
    pub(crate) lr: Option<f64>,
    #[serde(default)]
    pub(crate) grad_norm: Option<f64>,
    #[serde(default)]
    pub(crate) tokens: Option<usize>,
    #[serde(default)]
    pub(crate) answer_tokens: Option<usize>,
}

/// A result that passed.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) adapter: Adapter,
    pub(crate) result: RunResult,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) warnings: Vec<String>,
}

/// Reads and checks; whatever is wrong is exit 4 by name.
pub(crate) fn read(places: &Places, asked: &Asked<'_>) -> Result<Returned, Failure> {
    let result = read_result(&places.result())?;
    let mut warnings = Vec::new();
    check_tokens(&result, asked, &mut warnings)?;
    let dir = places.out.join("adapter");
    for name in [ADAPTER_CONFIG, ADAPTER_MODEL] {
        check_plain_file(&dir.join(name))?;
    }
    let path = dir.join(ADAPTER_MODEL);
    let found = sha256_hex(&files::read(&path)?);
    if found != result.adapter_sha256.to_lowercase() {
        let message = format!(
            "{} is not the file that result.json names: sha256 {found}, not {}",
            path.display(),
            result.adapter_sha256
        );
        return Err(
            Failure::refused(message).hint("result.json must be written last, after the adapter is complete")
        );
    }
    let adapter = Adapter::load(&dir, asked.shape).map_err(refused)?;
    check_form(&adapter, &dir, asked, &mut warnings)?;
    let metrics = read_metrics(&places.out.join("metrics.jsonl"), &mut warnings)?;
    Ok(Returned { adapter, result, metrics, warnings })
}

fn read_result(path: &Path) -> Result<RunResult, Failure> {
    let refuse = |problem: String| {
        Failure::refused(format!("{}: {problem}", path.display()))
            .hint("docs/engines.md says what a trainer must write; an exit code of 0 alone is no success")
    };
    if !path.exists() {
        return Err(refuse("the trainer ended without writing it".into()));
    }
    let text = read_text(path)?;
    let result: RunResult =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a result: {error}")))?;
    if result.schema != SCHEMA {
        return Err(refuse(format!("schema {} is not known; {SCHEMA} is", result.schema)));
    }
    if result.status != "done" {
        let why = result.message.as_deref().unwrap_or("no message");
        return Err(refuse(format!("status `{}`: {why}", result.status)));
    }
    if result.steps == 0 || !result.wall_s.is_finite() || result.wall_s < 0.0 {
        return Err(refuse(format!("{} steps in {} s are no training", result.steps, result.wall_s)));
    }
    Ok(result)
}

/// The masks must be ours: the loss of other tokens is another training.
fn check_tokens(result: &RunResult, asked: &Asked<'_>, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let one = asked.scored_tokens as f64;
    let near = |expected: f64| (result.scored_tokens as f64 - expected).abs() <= TOKEN_TOLERANCE * expected;
    let all = one * asked.epochs as f64;
    if !near(one) && !near(all) {
        let message = format!(
            "the trainer scored {} tokens, we score {} in one pass over the rows: it masks, cuts or drops them otherwise",
            result.scored_tokens, asked.scored_tokens
        );
        return Err(Failure::refused(message)
            .hint("train on tokens.safetensors of the job, whose labels are ours, or correct the template and the mask"));
    }
    if result.scored_tokens != asked.scored_tokens && result.scored_tokens as f64 != all {
        warnings
            .push(format!("the trainer scored {} tokens, we {}", result.scored_tokens, asked.scored_tokens));
    }
    Ok(())
}

/// A folder, pipe or device under this name would block or lie.
fn check_plain_file(path: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    if found {
        return Ok(());
    }
    let failure = Failure::refused(format!("{} is not there, or is no plain file", path.display()));
    let pickled = path.with_file_name("adapter_model.bin").exists();
    Err(failure.hint(if pickled {
        "adapter_model.bin is a pickle and never opened: save with safe_serialization"
    } else {
        "the trainer must save a PEFT folder as out/adapter"
    }))
}

/// Rank, targets and form as asked, and an adapter that does something.
fn check_form(
    adapter: &Adapter,
    dir: &Path,
    asked: &Asked<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let train = &asked.settings.train;
    let refuse = |problem: String| {
        Err(Failure::refused(format!("{}: {problem}", dir.display()))
            .hint("the job's `lora` says what was asked for"))
    };
    let forms = variant::rules(train)?.resolve(asked.shape, train.rank, train.alpha).map_err(refused)?;
    for (key, module) in &adapter.modules {
        let name = format!("layer {} {}", key.0, key.1.name());
        match forms.get(key) {
            None => return refuse(format!("carries LoRA on {name}, which was not asked for")),
            Some(form) if module.rank > form.rank => {
                return refuse(format!("rank {} on {name}, but {} was asked for", module.rank, form.rank));
            }
            Some(_) => {}
        }
    }
    if adapter.config.dora && !train.dora {
        return refuse("is a DoRA adapter, which was not asked for".into());
    }
    if adapter.modules.values().all(|module| module.b.iter().all(|value| *value == 0.0)) {
        return refuse("every B is zero: nothing was trained".into());
    }
    let mut missing: Vec<&str> = forms
        .keys()
        .filter(|key| !adapter.modules.contains_key(key))
        .map(|(_, target)| target.name())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        warnings.push(format!("the adapter leaves out {}", missing.join(", ")));
    }
    if train.dora && !adapter.config.dora {
        warnings.push("the adapter is no DoRA adapter, but one was asked for".into());
    }
    if adapter.config.alpha != train.alpha || adapter.config.rslora != train.rslora {
        warnings
            .push(format!("the adapter has alpha {}, {} was asked for", adapter.config.alpha, train.alpha));
    }
    Ok(())
}

/// The curve; a line that is none is counted, not fatal: the adapter is what matters.
fn read_metrics(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<Metric>, Failure> {
    if !path.exists() {
        warnings.push("the trainer wrote no metrics.jsonl: there is no loss curve".into());
        return Ok(Vec::new());
    }
    let (mut metrics, mut bad): (Vec<Metric>, usize) = (Vec::new(), 0);
    for line in read_text(path)?.lines().filter(|line| !line.trim().is_empty()) {
        let metric: Option<Metric> = serde_json::from_str(line).ok();
        match metric.filter(|metric| {
            metric.loss.is_finite() && metrics.last().is_none_or(|last| last.step < metric.step)
        }) {
            Some(metric) => metrics.push(metric),
            None => bad += 1,
        }
    }
    if bad > 0 {
        warnings.push(format!("{bad} lines of metrics.jsonl are no steps and were passed over"));
    }
    Ok(metrics)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    check_plain_file(path)?;
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if length > MAX_TEXT_BYTES {
        return Err(Failure::refused(format!("{}: {length} bytes are too many", path.display())));
    }
    let bytes: Vec<u8> = files::read(&PathBuf::from(path))?;
    String::from_utf8(bytes).map_err(|_| Failure::refused(format!("{}: not UTF-8", path.display())))
}
