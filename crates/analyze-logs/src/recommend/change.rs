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
        .saying(title, format!("{}. {advice}", facts.pattern.description.trim_end_matches([' ', '.'])));
    if matches!(action, "investigate_trend" | "investigate_correlation") {
        draft.about = format!("{kind:?}\0{}", facts.text(&["metric"]).unwrap_or_default());
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
    vec![draft.with(json!({"since": since, "metric": facts.text(&["metric"])}))]
}

/// A change for the better asks for nothing.
fn improves(facts: Facts<'_>) -> bool {
    // Fewer or more calls than expected may both be bad.
    if facts.text(&["metric"]) == Some("calls") {
        return false;
    }
    let falls = change(facts).is_some_and(|change| change.after < change.before);
    falls || facts.text(&["direction"]) == Some("down")
}

/// What a measure was before and is after, and over how many calls.
struct Change {
    before: f64,
    after: f64,
    /// What so much more of it costs.
    each: fn(f64) -> Saving,
    calls: Option<f64>,
}

fn change(facts: Facts<'_>) -> Option<Change> {
    let calls = facts.number(&["calls_after", "calls"]);
    let pair = |before: &str, after: &str| facts.number(&[before]).zip(facts.number(&[after]));
    let failures: fn(f64) -> Saving = |n| Saving { failures_per_day: n, ..Saving::default() };
    let time: fn(f64) -> Saving = |ms| Saving { seconds_per_day: ms / 1000.0, ..Saving::default() };
    let money: fn(f64) -> Saving = |usd| Saving { usd_per_day: usd, ..Saving::default() };
    if let Some((before, after)) = pair("error_rate_otherwise", "error_rate") {
        return Some(Change { before, after, each: failures, calls });
    }
    if let Some((before, after)) = pair("before_cost_usd_per_call", "cost_usd_per_call") {
        return Some(Change { before, after, each: money, calls });
    }
    if facts.pattern.pattern_type == PatternType::TailGrowth
        && let Some(((p95, p95_now), (p99, p99_now))) =
            pair("before_p95_ms", "after_p95_ms").zip(pair("before_p99_ms", "after_p99_ms"))
    {
        // What the slowest calls add to the mean of all, from two steps of their distribution.
        let tail = |p95: f64, p99: f64| 0.04 * p95 + 0.01 * p99;
        return Some(Change { before: tail(p95, p99), after: tail(p95_now, p99_now), each: time, calls });
    }
    if let Some((before, after)) = pair("before_p50_ms", "after_p50_ms") {
        return Some(Change { before, after, each: time, calls });
    }
    let (before, after) = pair("from", "to")?;
    let each = match facts.text(&["unit", "metric"])? {
        "ms" | "latency" => time,
        "usd" | "cost" => money,
        "share" | "error_rate" => failures,
        _ => return None,
    };
    Some(Change { before, after, each, calls })
}

/// What the change costs a day, and how sure that is.
fn excess(facts: Facts<'_>, context: &Context<'_>) -> (Saving, f64) {
    if let Some(usd) = facts.number(&["extra_cost_usd"]) {
        return (Saving { usd_per_day: context.daily(usd), ..Saving::default() }, 1.0);
    }
    let Some(change) = change(facts).filter(|change| change.after > change.before) else {
        return (Saving::default(), 0.95);
    };
    let all = || context.totals(facts.operation()).map(|totals| totals.calls as f64);
    match change.calls.or_else(all) {
        Some(calls) => ((change.each)((change.after - change.before) * context.daily(calls)), 1.0),
        None => (Saving::default(), 0.9),
    }
}
