//! The `--json` object of `deploy`.

use std::collections::BTreeMap;

use nightshift_core::exchange::Snapshot;
use nightshift_stats::paired::GateDecision;
use serde::Serialize;

/// What a deployment did.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// UUIDv7, key of the row in `deployments`.
    pub(crate) deployment_id: String,
    /// The adapter.
    pub(crate) candidate: String,
    /// Its content digest.
    pub(crate) digest: String,
    /// What was live before; absent for the base model.
    pub(crate) previous_adapter_id: Option<String>,
    /// Generation of the pointer at the end.
    pub(crate) generation: i64,
    /// The gate, once it was asked.
    pub(crate) gate: Option<GateReport>,
    /// Seconds from the switch to the first answer that names the candidate.
    pub(crate) switch_seconds: Option<f64>,
    /// The watch, once the candidate was live.
    pub(crate) watch: Option<WatchReport>,
    /// The incumbent over its newest exchanges.
    pub(crate) before: Snapshot,
    /// The candidate over the watch.
    pub(crate) after: Snapshot,
    /// What ended it, in a sentence.
    pub(crate) reason: String,
    /// The alarm that took the candidate back.
    pub(crate) alarm: Option<Raised>,
    /// What is live again after a revert; `none` for the base model.
    pub(crate) restored: Option<String>,
    /// Seconds from the observation that crossed the alarm to the first answer of the old state.
    pub(crate) revert_seconds: Option<f64>,
    /// The log file.
    pub(crate) log: String,
}

/// The gate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GateReport {
    /// Verdict, counts, p-value, missing items and the reason.
    #[serde(flatten)]
    pub(crate) decision: GateDecision,
    /// The registered set.
    pub(crate) set: String,
    /// Its version.
    pub(crate) set_version: i64,
    /// Items that the candidate answered right.
    pub(crate) candidate_right: u64,
    /// Items that the incumbent answered right.
    pub(crate) incumbent_right: u64,
    /// Seconds it took.
    pub(crate) seconds: f64,
}

/// An alarm that rang.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Raised {
    /// failures, tag_failures, latency, success_floor, latency_ceiling, server, not_following,
    /// fixed_success or fixed_latency.
    pub(crate) alarm: &'static str,
    /// The request tag: of `tag_failures`, and of `failures` where one tag stands out.
    pub(crate) tag: Option<String>,
    /// Evidence, for the alarms that count it.
    pub(crate) e_value: Option<f64>,
    /// The evidence that rings (1 / alpha).
    pub(crate) threshold: Option<f64>,
    /// Requests it has seen.
    pub(crate) observed: u64,
    /// How many of them were the event it watches for.
    pub(crate) events: u64,
    /// In a sentence.
    pub(crate) text: String,
}

/// What was watched.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct WatchReport {
    /// Seconds.
    pub(crate) seconds: f64,
    /// Requests seen, probes included.
    pub(crate) requests: u64,
    /// Probes among them.
    pub(crate) probes: u64,
    /// Failed ones.
    pub(crate) failures: u64,
    /// Requests of the incumbent that they are held against.
    pub(crate) history_requests: usize,
    /// Evidence of the alarm over all requests.
    pub(crate) e_value: f64,
    /// Evidence of the latency alarm (the stronger of its two halves).
    pub(crate) latency_e_value: Option<f64>,
    /// Counts for each request tag.
    pub(crate) tags: BTreeMap<String, TagReport>,
    /// What else a reader should know.
    pub(crate) notes: Vec<String>,
}

/// One request tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TagReport {
    /// Requests seen.
    pub(crate) requests: u64,
    /// Failed ones.
    pub(crate) failures: u64,
    /// Evidence.
    pub(crate) e_value: f64,
    /// The evidence that rings.
    pub(crate) threshold: f64,
}
