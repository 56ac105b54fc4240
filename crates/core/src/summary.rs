//! `deployment_summary.json` and `rollback_summary.json`: what the documents put beside the live adapter.
//!
//! The documents' keys with their meaning, and a few more. Rates are numbers from 0 to 1, and null
//! where nothing was seen (the documents wrote the strings ".990" and "unknown").

use serde::Serialize;
use serde_json::Value;

use crate::exchange::Snapshot;

/// Name of the file beside a deployed adapter.
pub const DEPLOYMENT: &str = "deployment_summary.json";
/// Name of the file beside what a rollback restored.
pub const ROLLBACK: &str = "rollback_summary.json";

/// The limits that count as a regression.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thresholds {
    /// Mean latency; absent when not limited.
    pub max_latency_ms: Option<f64>,
    /// Success rate (0-1); absent when not limited.
    pub min_success_rate: Option<f64>,
}

/// `deployment_summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentSummary {
    /// When it was written (RFC 3339).
    pub deployment_timestamp: String,
    /// The deployment's id.
    pub deployment_id: String,
    /// The release folder, below the home.
    pub lora_directory: String,
    /// The adapter.
    pub adapter_id: String,
    /// What was live before; absent for the base model.
    pub previous_adapter_id: Option<String>,
    /// Generation of the pointer.
    pub generation: i64,
    /// What was live before, over its newest exchanges.
    pub pre_deployment: Snapshot,
    /// The adapter, over the watch.
    pub post_deployment: Snapshot,
    /// Seconds of watching.
    pub monitoring_duration_s: f64,
    /// Limits set by the user.
    pub rollback_thresholds: Thresholds,
    /// The gate's verdict and counts.
    pub gate: Value,
    /// monitoring, deployed, provisional or rolled_back.
    pub deployment_status: String,
    /// The reason, for a person.
    pub reason: String,
}

/// `rollback_summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RollbackSummary {
    /// When it was written (RFC 3339).
    pub rollback_timestamp: String,
    /// What is live again; `none` for the base model.
    pub rollback_target: String,
    /// What was taken back; `none` for the base model.
    pub failed_deployment: String,
    /// Generation of the pointer.
    pub generation: i64,
    /// The generation that first brought what is live again; 0 is the time before the first deployment.
    pub restores_generation: i64,
    /// What was taken back, over its newest exchanges.
    pub pre_rollback: Snapshot,
    /// What is live again, over its newest exchanges before it was replaced.
    pub post_rollback: Snapshot,
    /// The reason, for a person.
    pub rollback_reason: String,
    /// healthy, not_following, unreachable or unknown.
    pub service_health: String,
    /// completed, or why it is not.
    pub rollback_status: String,
}
