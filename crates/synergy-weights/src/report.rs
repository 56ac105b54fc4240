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
