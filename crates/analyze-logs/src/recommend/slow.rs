//! Slow operations: repeat less, overlap more, or let another model do it. A slow call never gets more time by this.

use serde_json::json;

use super::context::{Context, error_rate};
use super::draft::Draft;
use super::facts::Facts;
use super::say::{percent, seconds, short};
use super::tools::models_like;
use crate::pattern::PatternType;
use crate::recommendation::{ActionType, Saving};

/// Of the seconds above the usual time, the share that overlapping or another model saves.
const HALF: f64 = 0.5;

pub(super) fn drafts(facts: Facts<'_>, all: &[Facts<'_>], context: &Context<'_>) -> Vec<Draft> {
    let operation = facts.operation();
    let Some(name) = operation else { return Vec::new() };
    let totals = context.totals(operation);
    let usual_s = facts
        .seconds(&["p50", "median"])
        .or_else(|| totals.and_then(|totals| totals.quantile_ms(0.5)).map(|ms| ms / 1000.0));
    let mean_s = facts.seconds(&["mean_slow", "mean", "avg_duration"]);
    let daily = context.daily(facts.occurrences());
    // What goes beyond the usual time; a call that always takes long has the threshold as its usual time.
    let threshold_s = context.settings.slow_operation_threshold;
    let excess_s = match (mean_s, usual_s) {
        (Some(mean), Some(usual)) => (mean - usual.min(threshold_s)).max(0.0),
        (Some(mean), None) => (mean - threshold_s).max(0.0),
        (None, _) => 0.0,
    };
    let what = format!(
        "{name} took more than {} {} times a day{}.",
        seconds(threshold_s),
        short(daily),
        mean_s.map_or(String::new(), |mean| format!(", {} on average", seconds(mean)))
    );
    let saving = |share: f64| Saving { seconds_per_day: share * daily * excess_s, ..Saving::default() };
    let repeats = all.iter().find(|other| {
        other.is(PatternType::InefficientChain, operation)
            && other.text(&["kind"]).is_some_and(|kind| kind.contains("repeat"))
    });
    let mut draft = if let Some(repeats) = repeats {
        let wasted = repeats.seconds(&["wasted"]).map_or(0.0, |s| context.daily(s));
        let mut draft = Draft::new(ActionType::ToolStrategy, "cache_calls", operation)
            .with(json!({"ttl_s": 300}))
            .saying(
                format!("Keep the answers of {name}"),
                format!(
                    "{what} Some of these calls repeat an earlier one word for word: its answer can be kept."
                ),
            );
        draft.saving = Saving { seconds_per_day: wasted, ..Saving::default() };
        draft
    } else if name.starts_with("llm:") {
        model(facts, context, &what, saving(HALF))
    } else {
        let mut draft = Draft::new(ActionType::ConfigUpdate, "raise_concurrency", operation).saying(
            format!("Let other work go on while {name} runs"),
            format!(
                "{what} More time does not make it faster: run its calls side by side, cache what repeats, or send them elsewhere."
            ),
        );
        draft.saving = saving(HALF);
        draft.certainty = 0.9;
        draft
    };
    if mean_s.is_none() {
        draft.certainty *= 0.8;
    }
    draft = draft.with(json!({"mean_s": mean_s, "usual_s": usual_s}));
    vec![draft]
}

/// A faster model that fails no more often, or none.
fn model(facts: Facts<'_>, context: &Context<'_>, what: &str, saving: Saving) -> Draft {
    let operation = facts.operation();
    let own = context.totals(operation);
    let p95 = |cell: &crate::tally::Cell| cell.quantile_ms(0.95);
    let faster = own.and_then(|own| {
        models_like(operation?, own, context)
            .into_iter()
            .filter(|(_, cell)| p95(cell).zip(p95(own)).is_some_and(|(theirs, ours)| theirs < 0.8 * ours))
            .min_by(|a, b| p95(a.1).unwrap_or(f64::MAX).total_cmp(&p95(b.1).unwrap_or(f64::MAX)))
    });
    let name = operation.unwrap_or("the model");
    if let (Some((alternative, cell)), Some(own)) = (faster, own) {
        let mut draft = Draft::new(ActionType::ModelRouting, "route_to_faster_model", operation).saying(
                format!("Send simple work from {name} to llm:{alternative}"),
                format!(
                    "{what} llm:{alternative} is faster (95 % within {}) and failed in {} of its calls against {}.",
                    seconds(p95(cell).unwrap_or(0.0) / 1000.0),
                    percent(error_rate(cell)),
                    percent(error_rate(own))
                ),
            );
        draft.saving = saving;
        // They may have had easier tasks.
        draft.certainty = 0.8;
        draft.with(json!({"alternative": alternative}))
    } else {
        let mut draft = Draft::new(ActionType::ConfigUpdate, "limit_tokens", operation).saying(
            format!("Ask {name} for shorter answers"),
            format!("{what} No other model in these logs is faster and fails as rarely."),
        );
        draft.saving = Saving { seconds_per_day: saving.seconds_per_day / 2.0, ..saving };
        draft.certainty = 0.8;
        draft
    }
}
