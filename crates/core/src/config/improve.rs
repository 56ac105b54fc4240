//! The sections `analyze_logs.loop` and `analyze_logs.judge`: when changes are made, and when they stay.

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// What the loop may do without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: each change waits for `approve`.
    #[serde(alias = "MANUAL")]
    Manual,
    /// Safe changes; the others wait for `approve`.
    #[serde(alias = "SEMI_AUTO")]
    SemiAuto,
    /// Everything that validates.
    #[serde(alias = "FULL_AUTO")]
    FullAuto,
}

impl Mode {
    /// As the documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::SemiAuto => "semi_auto",
            Self::FullAuto => "full_auto",
        }
    }
}

/// The feedback loop; names of the documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loop {
    /// What it may do without a person.
    pub mode: Mode,
    /// `daily` (02:00), `weekly` (Monday 02:00), or a cron expression, in `time_zone`.
    pub analysis_frequency: String,
    /// Days of logs that a cycle looks at.
    pub analysis_days: u32,
    /// Recommendations below are left out.
    pub min_confidence: f64,
    /// Changes applied in one day (of `time_zone`); counted in the store.
    pub max_daily_improvements: u32,
    /// Changes that do harm are taken back; otherwise it is only said.
    pub enable_rollback: bool,
    /// A change is planned, validated and shown before it is applied.
    pub dry_run_first: bool,
    /// Kinds of change that are safe: config_update, model_routing, tool_strategy, error_handling.
    pub safe_actions: Vec<String>,
    /// Least confidence of a safe change.
    pub safe_confidence: f64,
    /// Files, folders or patterns of logs; `logs` in the home folder when empty.
    pub logs: Vec<String>,
    /// Days for which a change that was taken back is not tried again.
    pub retry_after_days: u32,
    /// Days after which a queued change that nobody approved is dropped.
    pub approval_days: u32,
}

impl Default for Loop {
    fn default() -> Self {
        Self {
            mode: Mode::SemiAuto,
            analysis_frequency: "daily".into(),
            analysis_days: 7,
            min_confidence: 0.7,
            max_daily_improvements: 5,
            enable_rollback: true,
            dry_run_first: true,
            safe_actions: vec!["config_update".into(), "model_routing".into()],
            safe_confidence: 0.8,
            logs: Vec::new(),
            retry_after_days: 30,
            approval_days: 30,
        }
    }
}

/// A figure that a change must not make worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Guard {
    /// Failed calls among all.
    ErrorRate,
    /// 95th percentile of the durations.
    P95Latency,
    /// US dollars for a call.
    CostPerCall,
    /// Calls in an hour.
    Throughput,
}

/// What happens at the deadline to a change that too few calls have tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unproven {
    /// It stays, and the record says that it is unproven.
    Keep,
    /// It is taken back.
    Revert,
}

/// Entries that say which arm of a split they ran in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The key of a log line that holds the arm; `a/b` is key `b` in the object `a`.
    pub field: String,
    /// The arm without the change.
    pub control: String,
    /// The arm with it.
    pub treatment: String,
}

/// When an applied change is kept or taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judge {
    /// Chance that a change that does nothing is taken back, over all looks and figures.
    pub alpha: f64,
    /// One-sided confidence with which it must be shown that a figure is not worse.
    pub confidence: f64,
    /// Figures that must not become worse.
    pub guard: Vec<Guard>,
    /// Chance with which harm is to be found, were it twice what still counts as none; the judge waits until then.
    pub power: f64,
    /// Fewest calls after the change for a verdict that does not come early.
    pub observations: u64,
    /// Fewer calls on either side prove nothing.
    pub min_observations: u64,
    /// Hours that the calls must cover: an hour alone may be a good one or a bad one.
    pub min_hours: f64,
    /// Hours after which there is a verdict, whatever was seen.
    pub deadline_hours: f64,
    /// Weeks before the change whose same hours are the baseline, as far as they are like the last one.
    pub baseline_weeks: u32,
    /// A figure is worse from this ratio on, however sure the test is.
    pub min_effect: f64,
    /// Failures that may be added and still count as none: as a share of all calls,
    pub error_margin: f64,
    /// or as a share of the failures before, whichever is more.
    pub error_ratio: f64,
    /// Ratio of the 95th percentiles that still counts as none.
    pub latency_ratio: f64,
    /// Ratio of the costs that still counts as none.
    pub cost_ratio: f64,
    /// Ratio of the calls in an hour that still counts as none.
    pub throughput_ratio: f64,
    /// What becomes at the deadline of a change about which the calls were too few to tell.
    pub unproven: Unproven,
    /// Compare with the control arm of a split instead of with the hours before.
    pub ab: Option<Split>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            confidence: 0.95,
            guard: vec![Guard::ErrorRate, Guard::P95Latency, Guard::CostPerCall],
            power: 0.97,
            observations: 500,
            min_observations: 30,
            min_hours: 6.0,
            deadline_hours: 168.0,
            baseline_weeks: 4,
            min_effect: 1.05,
            error_margin: 0.01,
            error_ratio: 1.25,
            latency_ratio: 1.25,
            cost_ratio: 1.25,
            throughput_ratio: 0.8,
            unproven: Unproven::Keep,
            ab: None,
        }
    }
}

/// Values that parse and yet make no sense.
pub(super) fn check(cycle: &Loop, judge: &Judge) -> Result<(), Failure> {
    let outside = |name: &str, value: f64, expected: &str| {
        Err(Failure::config(format!("analyze_logs.{name} is {value}, but it {expected}")))
    };
    for (name, value) in
        [("loop.min_confidence", cycle.min_confidence), ("loop.safe_confidence", cycle.safe_confidence)]
    {
        if !(0.0..=1.0).contains(&value) {
            return outside(name, value, "is a share from 0 to 1");
        }
    }
    for (name, value) in
        [("judge.alpha", judge.alpha), ("judge.confidence", judge.confidence), ("judge.power", judge.power)]
    {
        if !(value > 0.0 && value < 1.0) {
            return outside(name, value, "must be strictly between 0 and 1");
        }
    }
    if !(0.0..1.0).contains(&judge.error_margin) {
        return outside("judge.error_margin", judge.error_margin, "is a share from 0 to 1");
    }
    for (name, value) in [
        ("judge.min_effect", judge.min_effect),
        ("judge.error_ratio", judge.error_ratio),
        ("judge.latency_ratio", judge.latency_ratio),
        ("judge.cost_ratio", judge.cost_ratio),
    ] {
        if !(value >= 1.0 && value.is_finite()) {
            return outside(name, value, "is a ratio of 1 or more");
        }
    }
    if !(judge.throughput_ratio > 0.0 && judge.throughput_ratio <= 1.0) {
        return outside("judge.throughput_ratio", judge.throughput_ratio, "is a ratio above 0, at most 1");
    }
    for (name, value) in [
        ("loop.analysis_days", f64::from(cycle.analysis_days)),
        ("judge.observations", judge.observations as f64),
        ("judge.deadline_hours", judge.deadline_hours),
        ("judge.baseline_weeks", f64::from(judge.baseline_weeks)),
    ] {
        if !(value > 0.0 && value.is_finite()) {
            return outside(name, value, "must be above 0");
        }
    }
    if !(judge.min_hours >= 0.0 && judge.min_hours.is_finite()) {
        return outside("judge.min_hours", judge.min_hours, "is a number of hours");
    }
    if judge.guard.is_empty() {
        return Err(Failure::config("analyze_logs.judge.guard is empty: nothing would ever be taken back")
            .hint("name at least error_rate"));
    }
    let known = ["config_update", "model_routing", "tool_strategy", "error_handling"];
    match cycle.safe_actions.iter().find(|action| !known.contains(&action.as_str())) {
        Some(action) => Err(Failure::config(format!(
            "analyze_logs.loop.safe_actions: `{action}` is none of {}",
            known.join(", ")
        ))),
        None => Ok(()),
    }
}
