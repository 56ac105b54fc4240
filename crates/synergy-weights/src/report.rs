//! The `--json` objects of `synergy-weights`.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

/// Of `show`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    /// The weights file.
    pub(crate) path: PathBuf,
    /// Metric to weight.
    pub(crate) weights: Map<String, Value>,
    /// Metric to where its weight comes from: file, backup, baseline, settings, unit, or the variable.
    pub(crate) sources: Map<String, Value>,
    /// What was wrong with the file.
    pub(crate) notes: Vec<String>,
}

/// Of `import` and `reset`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Changed {
    /// The weights file.
    pub(crate) path: PathBuf,
    /// Metric to weight before.
    pub(crate) before: Map<String, Value>,
    /// Metric to weight now.
    pub(crate) weights: Map<String, Value>,
    /// Why.
    pub(crate) reason: String,
    /// The log of changes.
    pub(crate) log: PathBuf,
}

/// Of `train` and `explain`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trained {
    /// The weights file.
    pub(crate) path: PathBuf,
    /// Name of the learner.
    pub(crate) learner: &'static str,
    /// Metric to weight, 0 to 10.
    pub(crate) weights: Map<String, Value>,
    /// Metric to weight before.
    pub(crate) before: Map<String, Value>,
    /// Metric to change of ROI for a change of 1.
    pub(crate) signed: Map<String, Value>,
    /// Metric to standard error of `signed`.
    pub(crate) stderr: Map<String, Value>,
    /// Metric to `signed` over `stderr`.
    pub(crate) z: Map<String, Value>,
    /// Metric to what the rows say, in words.
    pub(crate) evidence: Map<String, Value>,
    /// Whether the rows say anything at all.
    pub(crate) enough: bool,
    /// Chance of such rows if no metric mattered.
    pub(crate) p: f64,
    /// What `p` has to fall to.
    pub(crate) p_needed: f64,
    /// For the networks: whether their weights were taken.
    pub(crate) adopted: Option<bool>,
    /// Rows from which on other rules hold, from 1.
    pub(crate) changes: Vec<u64>,
    /// Rows learned from.
    pub(crate) rows: u64,
    /// Rows in the history.
    pub(crate) rows_read: usize,
    /// Rows that nothing can be learned from.
    pub(crate) skipped_rows: usize,
    /// Values of known metrics that are no numbers.
    pub(crate) skipped_values: usize,
    /// Rows whose reward is the change of their own `synergy_roi`.
    pub(crate) own_reward: usize,
    /// What the entries were taken for.
    pub(crate) entries_are: crate::learn::EntriesAre,
    /// Seconds, reading included.
    pub(crate) seconds: f64,
}
