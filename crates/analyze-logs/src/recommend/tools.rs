//! Which tool, skill or model does a task well: prefer it.

use nightshift_stats::interval::{wilson_lower, wilson_upper};
use serde_json::{Value, json};

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use super::say::{bare, percent, short};
use crate::recommendation::{ActionType, Saving};
use crate::tally::Cell;

/// Confidence of the bounds that are compared.
pub(super) const CONFIDENCE: f64 = 0.9;
/// Another model may fail this much more often before it stops being comparable.
pub(super) const MARGIN: f64 = 0.02;
/// Fewer calls than this say nothing.
pub(super) const FEWEST: u64 = 30;

/// Other models whose success is not shown to be lower by more than the margin.
pub(super) fn models_like<'a>(
    operation: &str,
    own: &Cell,
    context: &'a Context<'_>,
) -> Vec<(&'a str, &'a Cell)> {
    let lower = |cell: &Cell| wilson_lower(cell.calls - cell.errors.min(cell.calls), cell.calls, CONFIDENCE);
    let Ok(ours) = lower(own) else { return Vec::new() };
    (context.operations.iter())
        .filter(|(name, cell)| name.starts_with("llm:") && *name != operation && cell.calls >= FEWEST)
        .filter(|(_, cell)| lower(cell).is_ok_and(|theirs| theirs >= ours - MARGIN))
        .map(|(name, cell)| (bare(name), cell))
        .collect()
}

/// One tool or model for one task, as a finding lists it.
struct Choice {
    name: String,
    calls: u64,
    successes: u64,
}

impl Choice {
    fn of(row: &Value) -> Option<Self> {
        let text = |names: [&str; 4]| names.iter().find_map(|name| row.get(*name)?.as_str());
        let count = |names: [&str; 2]| names.iter().find_map(|name| row.get(*name)?.as_u64());
        let calls = count(["calls", "n"])?;
        let successes = count(["successes", "succeeded"])
            .or_else(|| count(["errors", "failures"]).map(|errors| calls.saturating_sub(errors)))?;
        Some(Self {
            name: text(["operation", "tool", "name", "model"])?.to_owned(),
            calls,
            successes: successes.min(calls),
        })
    }
}

pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let rows = ["choices", "alternatives", "tools", "compared"].map(|name| facts.rows(name));
    let choices: Vec<Choice> =
        rows.into_iter().find(|rows| !rows.is_empty()).unwrap_or(&[]).iter().filter_map(Choice::of).collect();
    let named = facts.text(&["preferred", "best", "recommended", "prefer"]);
    let task = facts
        .text(&["task"])
        .or_else(|| facts.operation().filter(|operation| operation.starts_with("task:")))
        .map(bare);
    let lower = |choice: &Choice| wilson_lower(choice.successes, choice.calls, CONFIDENCE).unwrap_or(0.0);
    let upper = |choice: &Choice| wilson_upper(choice.successes, choice.calls, CONFIDENCE).unwrap_or(1.0);
    let best = choices.iter().max_by(|a, b| lower(a).total_cmp(&lower(b)));
    let worse: Vec<&Choice> =
        choices.iter().filter(|other| best.is_some_and(|best| upper(other) < lower(best))).collect();
    let for_task = task.map_or(String::new(), |task| format!(" for task {task}"));
    match (best, named) {
        (Some(best), _) if !worse.is_empty() => {
            let lost: f64 = worse.iter().map(|other| (lower(best) - upper(other)) * other.calls as f64).sum();
            let others: Vec<String> =
                worse.iter().map(|other| format!("{} ({})", other.name, percent(rate(other)))).collect();
            let reason = format!(
                "{} succeeds in {} of {} calls{for_task}, surely more often than {}.",
                best.name,
                percent(rate(best)),
                best.calls,
                others.join(", ")
            );
            let mut draft = prefer(&best.name, task, reason);
            draft.saving = Saving { failures_per_day: context.daily(lost), ..Saving::default() };
            vec![
                draft.with(
                    json!({"instead_of": worse.iter().map(|other| bare(&other.name)).collect::<Vec<_>>()}),
                ),
            ]
        }
        (_, Some(name)) => {
            let bound = facts.number(&["rate_lower", "success_lower", "wilson_lower"]);
            let bound =
                bound.map_or(String::new(), |bound| format!(" (success at least {})", percent(bound)));
            let saving = Saving {
                failures_per_day: facts.number(&["failures_per_day"]).unwrap_or_else(|| {
                    context.daily(facts.number(&["avoidable_failures", "saved_failures"]).unwrap_or(0.0))
                }),
                seconds_per_day: context
                    .daily(facts.seconds(&["saved", "avoidable", "wasted"]).unwrap_or(0.0)),
                usd_per_day: context.daily(facts.number(&["saved_usd", "wasted_usd"]).unwrap_or(0.0)),
            };
            let mut draft = prefer(name, task, format!("{name} does best{for_task}{bound}."));
            draft.saving = saving;
            draft.certainty = 0.9;
            vec![draft]
        }
        // It works well and there is nothing to compare with: keep it as it is.
        _ => keep(facts, task),
    }
}

fn keep(facts: Facts<'_>, task: Option<&str>) -> Vec<Draft> {
    let Some(tool) = facts.text(&["tool", "model", "skill"]) else { return Vec::new() };
    let mut draft = prefer(
        tool,
        task,
        format!("{tool} succeeded {} times here and nothing did better.", short(facts.occurrences())),
    );
    draft.certainty = 0.9;
    vec![draft]
}

fn prefer(name: &str, task: Option<&str>, reason: String) -> Draft {
    let for_task = task.map_or(String::new(), |task| format!(" for task {task}"));
    let operation = task.map(|task| format!("task:{task}"));
    let model = name.starts_with("llm:");
    let (kind, action) = if model {
        (ActionType::ModelRouting, "prefer_model")
    } else {
        (ActionType::ToolStrategy, "prefer_tool")
    };
    let mut draft = Draft::new(kind, action, operation.as_deref())
        .saying(format!("Prefer {name}{for_task}"), reason)
        .with(json!({"alternative": bare(name), "preferred": bare(name)}));
    name.clone_into(&mut draft.about);
    draft
}

fn rate(choice: &Choice) -> f64 {
    choice.successes as f64 / choice.calls.max(1) as f64
}
