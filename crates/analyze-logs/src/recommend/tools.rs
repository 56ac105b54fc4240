//! Which tool or model does a task well: prefer it.

use nightshift_stats::interval::wilson_lower;
use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use super::say::{bare, percent, seconds, usd};
use crate::recommendation::{ActionType, Saving};
use crate::tally::Cell;

/// Confidence of the bounds that are compared.
pub(super) const CONFIDENCE: f64 = 0.9;
/// Another model may fail this much more often before it stops being comparable.
pub(super) const MARGIN: f64 = 0.02;
/// Fewer calls than this say nothing.
pub(super) const FEWEST: u64 = 30;

/// The lower bound of the success of so many calls; `None` for too few of them.
pub(super) fn success(calls: u64, errors: u64) -> Option<f64> {
    if calls < FEWEST {
        return None;
    }
    wilson_lower(calls - errors.min(calls), calls, CONFIDENCE).ok()
}

/// Other models whose success is not shown to be lower by more than the margin.
pub(super) fn models_like<'a>(
    operation: &str,
    own: &Cell,
    context: &'a Context<'_>,
) -> Vec<(&'a str, &'a Cell)> {
    let Ok(ours) = wilson_lower(own.calls - own.errors.min(own.calls), own.calls, CONFIDENCE) else {
        return Vec::new();
    };
    (context.operations.iter())
        .filter(|(name, _)| name.starts_with("llm:") && *name != operation)
        .filter(|(_, cell)| success(cell.calls, cell.errors).is_some_and(|theirs| theirs >= ours - MARGIN))
        .map(|(name, cell)| (bare(name), cell))
        .collect()
}

/// A finding names what does better than the rest (`better` than its operation, or `with` it than without), and
/// for which task. One that compares nothing asks for nothing: what works stays as it is.
pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let task = facts
        .text(&["task"])
        .or_else(|| facts.operation().filter(|operation| operation.starts_with("task:")))
        .map(bare);
    let Some(better) = facts.text(&["better", "with", "preferred"]) else { return Vec::new() };
    let worse = facts.operation().filter(|operation| !operation.starts_with("task:"));
    let of = facts.number(&["better_success_rate", "rate"]);
    let against = facts.number(&["success_rate", "other_rate"]);
    // Calls that the better one would have taken over.
    let calls = facts.number(&["other_runs"]).unwrap_or_else(|| facts.occurrences());
    let calls = context.daily(calls);
    let more = |ours: Option<f64>, theirs: Option<f64>| ours.zip(theirs).map(|(ours, theirs)| ours - theirs);
    let failures = more(of, against).unwrap_or(0.0).max(0.0);
    let time = more(facts.seconds(&["mean"]), facts.seconds(&["better_mean"])).unwrap_or(0.0);
    let money = more(facts.number(&["cost_usd_per_call"]), facts.number(&["better_cost_usd_per_call"]))
        .unwrap_or(0.0);
    let for_task = task.map_or(String::new(), |task| format!(" for task {task}"));
    let reason = match (of, against) {
        (Some(of), Some(against)) => {
            let than = worse.unwrap_or("other ways");
            let mut reason = format!(
                "{better} succeeds in {} of its runs{for_task}, {than} in {}.",
                percent(of),
                percent(against)
            );
            for (word, cost) in [(seconds(time.abs()), time), (usd(money.abs()), money)]
                .iter()
                .filter(|(_, cost)| *cost != 0.0)
            {
                let comparison = if *cost > 0.0 { "less" } else { "more" };
                reason.push_str(&format!(" A run takes {word} {comparison}."));
            }
            reason
        }
        _ => format!("{better} does best{for_task}."),
    };
    let (kind, action) = if better.starts_with("llm:") {
        (ActionType::ModelRouting, "prefer_model")
    } else {
        (ActionType::ToolStrategy, "prefer_tool")
    };
    let operation = task.map(|task| format!("task:{task}"));
    let mut draft = Draft::new(kind, action, operation.as_deref())
        .saying(format!("Prefer {better}{for_task}"), reason)
        .with(json!({"alternative": bare(better), "instead_of": worse.map(bare)}));
    better.clone_into(&mut draft.about);
    draft.saving = Saving {
        failures_per_day: failures * calls,
        seconds_per_day: time * calls,
        usd_per_day: money * calls,
    };
    if of.is_none() || against.is_none() {
        draft.certainty = 0.8;
    }
    vec![draft]
}
