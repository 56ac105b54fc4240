//! What could be done about a finding: the type between the detectors and whoever changes a config.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionType {
    /// A number or switch of a config: limits, sizes, intervals.
    ConfigUpdate,
    /// Which model answers what.
    ModelRouting,
    /// Which tool is used, how often, whether its answers are kept.
    ToolStrategy,
    /// Retries, back-off, circuit breakers.
    ErrorHandling,
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    /// 1 in the original.
    Info,
    /// 2.
    Low,
    /// 3.
    Medium,
    /// 4.
    High,
    /// 5.
    Critical,
}

/// What a change is expected to save in a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Saving {
    /// Seconds of calls.
    pub seconds_per_day: f64,
    /// US dollars.
    pub usd_per_day: f64,
    /// Failed calls.
    pub failures_per_day: f64,
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The same proposal in another run has the same id.
    pub id: String,
    /// A line.
    pub title: String,
    /// Why, with the numbers.
    pub description: String,
    /// The findings that it follows from.
    pub pattern_ids: Vec<String>,
    /// What kind of change it is.
    pub action_type: ActionType,
    /// What to do, as the rules file names it: `raise_timeout`, `add_retry`, `route_to_cheaper_model`,
    /// `limit_repeats`, `cache_calls`, `break_circuit`, `prefer_tool`, ...
    pub action: String,
    /// `tool:<name>`, `llm:<model>`, `task:<name>`.
    pub operation: Option<String>,
    /// Numbers and names that the rules may use, for example `suggested_timeout_s`, `error_type`, `alternative`.
    pub parameters: Map<String, Value>,
    /// Probability that it is about a real problem, 0 to 1.
    pub confidence: f64,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is expected to save.
    pub saving: Saving,
    /// What it is ranked by: the weighted saving, times the confidence.
    pub score: f64,
}
