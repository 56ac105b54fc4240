//! What `--json` prints. Shares are 0-1, `lost_points` are percentage points.

use serde::Serialize;

/// The whole result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The random seed of the world, the models and the traffic.
    pub seed: u64,
    /// The folder with everything the demo made.
    pub dir: String,
    /// Night by night.
    pub nights: Vec<Night>,
    /// The poisoned nights.
    pub poisoned: Poisoned,
    /// The adapter that failed in live traffic; absent when that incident was not run.
    pub live_regression: Option<LiveRegression>,
    /// The night that was killed; absent when that incident was not run.
    pub killed_night: Option<KilledNight>,
    /// Requests while adapters were switched.
    pub switch: Option<Switching>,
    /// Area under the ROC curve of the smallest token probability, right against wrong answers of the first day.
    pub confidence_auc: Option<f64>,
    /// Success on the report set before the first night.
    pub heldout_before: f64,
    /// Success on the report set after the last night.
    pub heldout_after: f64,
    /// Seconds for the whole demo.
    pub seconds: f64,
    /// Largest resident memory of any process of the demo, in MB (10^6 bytes).
    pub peak_rss_mb: f64,
}

/// One night.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Night {
    /// From 1.
    pub night: usize,
    /// Requests of the day before.
    pub requests: usize,
    /// Wrong answers among them, by the key that the loop does not have.
    pub failures: usize,
    /// Answers that harvest took to the council (failed, thumbed down or unsure).
    pub harvested: usize,
    /// Rows accepted.
    pub accepted: usize,
    /// Share of the accepted rows that are right, by the key.
    pub accepted_precision: Option<f64>,
    /// The training; absent when none ran.
    pub trained: Option<Trained>,
    /// The gate; absent when none ran.
    pub gate: Option<Gate>,
    /// Whether the new adapter is live after the night.
    pub deployed: bool,
    /// Success on the report set after the night.
    pub heldout_success: f64,
    /// Share of the report questions that the base answered right and the live model does not, in points.
    pub lost_points: f64,
}

/// A training.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trained {
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens.
    pub tokens: u64,
    /// Loss of the first step.
    pub loss_first: f64,
    /// Loss of the last step.
    pub loss_last: f64,
    /// Seconds.
    pub seconds: f64,
}

/// A gate.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Gate {
    /// PASS, FAIL or INCONCLUSIVE.
    pub verdict: String,
    /// Items.
    pub n: u64,
    /// Items that the incumbent had right and the candidate has wrong.
    pub lost: u64,
    /// Items that only the candidate has right.
    pub won: u64,
    /// Exact one-sided p of McNemar's test.
    pub p_value: f64,
}

/// The poisoned nights.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Poisoned {
    /// How many poisoned adapters went live.
    pub deployed: usize,
    /// Each of them.
    pub variants: Vec<Variant>,
}

/// One poisoned night.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Variant {
    /// What was done.
    pub name: String,
    /// harvest_scan, gate, or nothing.
    pub stopped_by: String,
    /// Whether an adapter with the poison went live.
    pub deployed: bool,
}

/// The adapter that failed in live traffic.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LiveRegression {
    /// Whether deploy took it back by itself.
    pub rolled_back: bool,
    /// Whether the incumbent answers again.
    pub restored: bool,
    /// From the observation that crossed the alarm to the incumbent's answers.
    pub seconds: f64,
}

/// The killed night.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KilledNight {
    /// The moments in one line.
    pub killed_after: String,
    /// When the night was killed, in order; each time it was started again.
    pub moments: Vec<String>,
    /// Invariants of the home that did not hold after a kill or at the end.
    pub violations: Vec<String>,
    /// Whether the last start finished the night.
    pub resumed: bool,
    /// Whether its adapter is, byte for byte, that of the night that nobody disturbed.
    pub same_adapter: Option<bool>,
    /// Council calls that were sent again although their answer had been received.
    pub repeated_council_calls: u64,
}

/// Requests while adapters were switched.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Switching {
    /// Requests sent.
    pub requests: usize,
    /// Requests without a whole answer.
    pub failed: usize,
    /// Answers that differ from what the adapter named in the header answers alone.
    pub mixed: usize,
}
