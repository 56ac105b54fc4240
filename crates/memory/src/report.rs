//! What `--json` prints.

use nightshift_core::interaction::{Feedback, Interaction};
use serde::Serialize;

/// Of `import`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ImportReport {
    /// Interactions added.
    pub(crate) added: usize,
    /// Interactions that were there already.
    pub(crate) known: usize,
    /// Feedback rows added.
    pub(crate) feedback: usize,
    /// Interactions that match an evaluation item and must not train.
    pub(crate) sealed: usize,
    /// Exchanges that are not a user's (probes, gates).
    pub(crate) not_live: usize,
    /// Lines that could not be used, as `file:line: why`.
    pub(crate) bad_lines: Vec<String>,
}

/// Of `list` and `search`.
#[derive(Debug, Serialize)]
pub(crate) struct ListReport {
    pub(crate) interactions: Vec<JudgedRow>,
}

/// An interaction and what is known of its success.
#[derive(Debug, Serialize)]
pub(crate) struct JudgedRow {
    /// After errors and feedback.
    pub(crate) succeeded: Option<bool>,
    /// The newest feedback.
    pub(crate) feedback: Option<f64>,
    /// The row as recorded.
    pub(crate) interaction: Interaction,
}

/// Of `show`.
#[derive(Debug, Serialize)]
pub(crate) struct ShowReport {
    #[serde(flatten)]
    pub(crate) row: JudgedRow,
    /// Every opinion, oldest first.
    pub(crate) opinions: Vec<Feedback>,
}

/// Of `stats`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StatsReport {
    pub(crate) interactions: usize,
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    pub(crate) unknown: usize,
    /// Of those whose success is known.
    pub(crate) success_rate: Option<f64>,
    pub(crate) with_feedback: usize,
    pub(crate) no_train: usize,
    pub(crate) latency_p50_ms: Option<f64>,
    pub(crate) latency_p95_ms: Option<f64>,
    /// By tag.
    pub(crate) tags: Vec<GroupReport>,
    /// By adapter; `none` is the base.
    pub(crate) adapters: Vec<GroupReport>,
}

/// One line of `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct GroupReport {
    pub(crate) name: String,
    pub(crate) interactions: usize,
    pub(crate) success_rate: Option<f64>,
}

/// Of `calibrate`.
#[derive(Debug, Serialize)]
pub(crate) struct CalibrateReport {
    pub(crate) target: String,
    pub(crate) rows: usize,
    pub(crate) intercept: f64,
    pub(crate) slope: f64,
    pub(crate) auc: f64,
    pub(crate) brier: f64,
    pub(crate) ece: f64,
}
