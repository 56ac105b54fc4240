//! What stands out in logs: the type that detectors make, recommendations start from, and
//! `patterns[]` and the store's `patterns_detected` hold.

use nightshift_core::random::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of finding it is. The first six are the documents'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternType {
    /// The same error again and again.
    RecurringError,
    /// Calls above the limit of time.
    SlowOperation,
    /// Calls of one task that were for nothing: repeats, ping-pong, retry storms.
    #[serde(alias = "inefficient_tool_chain")]
    InefficientChain,
    /// Calls above the limit of cost.
    HighCostOperation,
    /// Tasks that succeed.
    SuccessfulPattern,
    /// Operations whose time runs out.
    TimeoutPattern,
    /// An operation takes longer (or fails more) from an instant on.
    LevelShift,
    /// Its slowest calls became slower while its median stayed.
    TailGrowth,
    /// Many failures in a short time.
    Burst,
    /// An hour unlike the same hours before.
    Anomaly,
    /// A slow change of the whole distribution.
    Drift,
    /// A steady rise or fall.
    Trend,
    /// A limit that the trend will cross.
    BreachForecast,
    /// Two things that happen together more often than chance has it.
    Correlation,
    /// An error never seen before.
    NewTemplate,
    /// An error that is seen no more.
    VanishedTemplate,
    /// How a tool does by week, and which to use for which task.
    Skill,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The same finding in another run has the same id.
    pub pattern_id: String,
    /// What kind of finding it is.
    pub pattern_type: PatternType,
    /// One or two plain sentences with the numbers that matter.
    pub description: String,
    /// Calls, errors or chains that it is made of.
    pub occurrences: u64,
    /// 0 (nothing) to 10.
    pub impact_score: f64,
    /// RFC 3339.
    pub first_seen: Option<String>,
    /// RFC 3339.
    pub last_seen: Option<String>,
    /// `tool:<name>`, `llm:<model>`, `task:<name>`, where it is about one.
    pub operation: Option<String>,
    /// The error's template, where it is about one.
    pub template: Option<String>,
    /// Numbers by name, units in the names; `evidence` is a list of `{file, offset, excerpt}`.
    pub metadata: Map<String, Value>,
}

impl Pattern {
    /// The id of a finding: of its kind and of what tells it from others of its kind.
    pub fn id(kind: PatternType, about: &[&str]) -> String {
        let mut text = serde_json::to_string(&kind).unwrap_or_default();
        for part in about {
            text.push('\0');
            text.push_str(part);
        }
        format!("pat_{}", &sha256_hex(text.as_bytes())[..16])
    }
}
