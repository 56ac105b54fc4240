//! Something became different: what changed, and should it be taken back?

use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use crate::pattern::PatternType;
use crate::recommendation::{ActionType, Saving};

pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let kind = facts.pattern.pattern_type;
    let operation = facts.operation();
    let name = operation.unwrap_or("the operations");
    if improves(facts) {
        return Vec::new();
    }
    let (action_type, action, title, advice) = match kind {
        PatternType::LevelShift | PatternType::TailGrowth => (
            ActionType::ConfigUpdate,
            "roll_back_change",
            format!("Look at what changed for {name} at that time, and take it back"),
            "A jump has a moment: compare releases, configs and providers before and after it.",
        ),
        PatternType::Burst => (
            ActionType::ErrorHandling,
            "break_circuit",
            format!("Stop calling {name} for a while when it fails in bursts"),
            "While nearly everything fails, calls only add load: open the circuit and try one call a minute.",
        ),
        PatternType::Anomaly => (
            ActionType::ErrorHandling,
            "investigate_anomaly",
            format!("Look into an unusual hour of {name}"),
            "It differs from the same hours before.",
        ),
        PatternType::Drift | PatternType::Trend => (
            ActionType::ConfigUpdate,
            "investigate_trend",
            format!("Find out why {name} changes slowly"),
            "Slow changes come from growing data, prompts or load rather than from one release.",
        ),
        PatternType::BreachForecast => (
            ActionType::ConfigUpdate,
            "investigate_trend",
            format!("Act before {name} crosses its limit"),
            "If it goes on like this, the limit falls in the time stated.",
        ),
        _ => (
            ActionType::ToolStrategy,
            "investigate_correlation",
            format!("Find out why these go together: {name}"),
            "They come together more often than chance has it; which causes which, the logs do not say.",
        ),
    };
    let mut draft = Draft::new(action_type, action, operation)
        .saying(title, format!("{} {advice}", facts.pattern.description.trim_end()));
    if matches!(action, "investigate_trend" | "investigate_correlation") {
        draft.about =
            format!("{kind:?}\0{}", facts.text(&["metric", "entity_b", "other"]).unwrap_or_default());
    }
    let (saving, certainty) = excess(facts, context);
    // Knowing of a slow change, an odd hour or a pair saves nothing by itself.
    let share = match kind {
        PatternType::LevelShift | PatternType::TailGrowth => 1.0,
        PatternType::Burst => 0.5,
        PatternType::Drift | PatternType::Trend | PatternType::BreachForecast => 0.25,
        _ => 0.1,
    };
    draft.saving = Saving {
        seconds_per_day: share * saving.seconds_per_day,
        usd_per_day: share * saving.usd_per_day,
        failures_per_day: share * saving.failures_per_day,
    };
    draft.certainty = certainty;
    let since = facts.pattern.first_seen.as_deref();
    if action == "break_circuit" {
        draft = draft.with(json!({"failure_threshold": 5, "open_s": 60.0}));
    }
    vec![draft.with(json!({"since": since, "metric": facts.text(&["metric", "measure"])}))]
}

/// A change for the better asks for nothing.
fn improves(facts: Facts<'_>) -> bool {
    let falls = change(facts).is_some_and(|(before, after, _)| after < before)
        || facts.text(&["direction"]).is_some_and(|word| matches!(word, "down" | "better" | "falling"));
    // Fewer calls may be worse than more.
    falls && !facts.text(&["metric", "measure"]).is_some_and(|metric| metric.contains("calls"))
}

/// What a measure was before and is after, and what it measures.
fn change(facts: Facts<'_>) -> Option<(f64, f64, Measure)> {
    let pair = |before: &[&str], after: &[&str]| facts.number(before).zip(facts.number(after));
    if let Some((before, after)) =
        pair(&["from_ms", "before_ms", "p95_before_ms"], &["to_ms", "after_ms", "p95_after_ms"])
    {
        return Some((before / 1000.0, after / 1000.0, Measure::Seconds));
    }
    if let Some((before, after)) = pair(&["from_s", "before_s"], &["to_s", "after_s"]) {
        return Some((before, after, Measure::Seconds));
    }
    if let Some((before, after)) =
        pair(&["from_rate", "before_rate", "rate_before"], &["to_rate", "after_rate", "rate_after"])
    {
        return Some((before, after, Measure::Rate));
    }
    if let Some((before, after)) = pair(&["from_usd", "before_usd"], &["to_usd", "after_usd"]) {
        return Some((before, after, Measure::Usd));
    }
    let (before, after) = pair(&["from", "before"], &["to", "after"])?;
    let metric = facts.text(&["metric", "measure", "unit"]).unwrap_or_default();
    Some(match metric {
        _ if metric.contains("rate") || metric.contains("error") => (before, after, Measure::Rate),
        _ if metric.contains("usd") || metric.contains("cost") => (before, after, Measure::Usd),
        _ if metric.contains("ms") => (before / 1000.0, after / 1000.0, Measure::Seconds),
        _ => (before, after, Measure::Other),
    })
}

/// What a measure measures, per call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Seconds,
    Rate,
    Usd,
    Other,
}

/// What the change costs a day, and how sure that is.
fn excess(facts: Facts<'_>, context: &Context<'_>) -> (Saving, f64) {
    let calls = facts
        .number(&["calls_after", "calls"])
        .or_else(|| context.totals(facts.operation()).map(|totals| totals.calls as f64));
    let calls = context.daily(calls.unwrap_or(0.0));
    let told = Saving {
        seconds_per_day: context.daily(facts.seconds(&["excess", "wasted"]).unwrap_or(0.0)),
        usd_per_day: context.daily(facts.number(&["excess_usd", "wasted_usd"]).unwrap_or(0.0)),
        failures_per_day: context.daily(facts.number(&["excess_errors", "excess_failures"]).unwrap_or(0.0)),
    };
    if told != Saving::default() {
        return (told, 1.0);
    }
    match change(facts) {
        Some((before, after, measure)) if after > before => {
            let more = (after - before) * calls;
            let saving = match measure {
                Measure::Seconds => Saving { seconds_per_day: more, ..Saving::default() },
                Measure::Rate => Saving { failures_per_day: more, ..Saving::default() },
                Measure::Usd => Saving { usd_per_day: more, ..Saving::default() },
                Measure::Other => Saving::default(),
            };
            (saving, if measure == Measure::Other { 0.9 } else { 1.0 })
        }
        _ => (Saving::default(), 0.9),
    }
}
