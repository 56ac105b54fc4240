//! What works: tasks that succeed, and tools and models with which a task succeeds more often. The lower bound
//! decides, not the rate: five of five are no proof.

use serde_json::json;

use super::{CONFIDENCE, Draft, Look, Loss, Use, bounds, numbers, percent, share, usd};
use crate::detect::{Runs, Span};
use crate::line::Kind;
use crate::pattern::{Pattern, PatternType};
use crate::read::NONE;

/// Least rate, and the least that its lower bound must be.
const RATE: f64 = 0.9;
const LOWER: f64 = 0.7;
/// Confidence when a tool is compared with its absence: there are many pairs of tasks and tools.
const STRICT: f64 = 0.9973;

pub(super) fn find(look: &Look<'_>) -> Vec<Pattern> {
    let tasks = look.operations().filter(|(_, kind, ..)| *kind == Kind::Task);
    let mut found: Vec<Pattern> =
        tasks.filter_map(|(op, _, name, total)| task(look, op, &name, total.calls, total.errors)).collect();
    let mut uses: Vec<(String, String, &Use, &Runs)> = Vec::new();
    for ((task, op), of) in &look.outcomes.uses {
        if *task != NONE
            && let Some(runs) = look.outcomes.runs.get(task)
        {
            uses.push((look.ops.full_name(*task), look.ops.full_name(*op), of, runs));
        }
    }
    uses.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    found.extend(uses.into_iter().filter_map(|(task, name, of, runs)| with(look, &task, &name, of, runs)));
    found
}

/// Good news weigh half of what their loss would.
fn impact(look: &Look<'_>, successes: f64) -> f64 {
    look.impact(Loss { failures: successes, ..Loss::default() }, look.days) / 2.0
}

fn task(look: &Look<'_>, op: usize, name: &str, runs: u64, errors: u64) -> Option<Pattern> {
    let well = runs - errors.min(runs);
    let (lower, upper) = bounds(well, runs, CONFIDENCE);
    if share(well, runs) < RATE || lower < LOWER {
        return None;
    }
    let total = &look.totals[op];
    let series = &look.findings.tally.series[op];
    let draft = Draft {
        kind: PatternType::SuccessfulPattern,
        operation: Some(name.to_owned()),
        template: None,
        occurrences: well,
        impact: impact(look, lower * runs as f64),
        span: Span(series.span),
        description: format!(
            "{name} succeeds: {well} of {runs} runs ({}), at least {} with 95 % confidence.",
            percent(share(well, runs)),
            percent(lower)
        ),
        metadata: {
            let mut metadata = numbers([
                ("rate", share(well, runs)),
                ("rate_lower", lower),
                ("rate_upper", upper),
                ("mean_s", total.duration_us as f64 / 1e6 / runs as f64),
                ("p95_ms", total.quantile_ms(0.95).unwrap_or(0.0)),
                ("total_usd", usd(total.cost_nano)),
            ]);
            metadata.insert("runs".into(), json!(runs));
            metadata
        },
    };
    Some(draft.pattern(&[name], Vec::new()))
}

fn with(look: &Look<'_>, task: &str, name: &str, of: &Use, runs: &Runs) -> Option<Pattern> {
    let (others, others_well) = (runs.ended.checked_sub(of.ended)?, runs.well.checked_sub(of.well)?);
    if of.ended == 0 || others == 0 {
        return None;
    }
    let (lower, upper) = bounds(of.well, of.ended, STRICT);
    let (other_lower, other_upper) = bounds(others_well, others, STRICT);
    if lower <= other_upper {
        return None;
    }
    let more = (share(of.well, of.ended) - share(others_well, others)) * of.ended as f64;
    let mut metadata = numbers([
        ("rate", share(of.well, of.ended)),
        ("rate_lower", lower),
        ("rate_upper", upper),
        ("other_rate", share(others_well, others)),
        ("other_rate_lower", other_lower),
        ("other_rate_upper", other_upper),
    ]);
    metadata.extend([
        ("runs".to_owned(), json!(of.ended)),
        ("other_runs".to_owned(), json!(others)),
        ("with".to_owned(), json!(name)),
    ]);
    let draft = Draft {
        kind: PatternType::SuccessfulPattern,
        operation: Some(task.to_owned()),
        template: None,
        occurrences: of.well,
        impact: impact(look, more),
        span: Span(None),
        description: format!(
            "{task} succeeds with {name} in {} of {} runs ({}), without it in {} of {others} ({}).",
            of.well,
            of.ended,
            percent(share(of.well, of.ended)),
            others_well,
            percent(share(others_well, others)),
        ),
        metadata,
    };
    Some(draft.pattern(&[task, name], Vec::new()))
}
