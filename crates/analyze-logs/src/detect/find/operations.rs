//! Operations that are slow, time out, or are expensive.

use serde_json::json;

use super::{
    Draft, Look, Loss, excerpts, material, numbers, percent, seconds, share, time_text, usd, usd_text,
};
use crate::detect::{Mark, Span};
use crate::line::Kind;
use crate::pattern::{Pattern, PatternType};
use crate::tally::Cell;

/// The 95 % quantile is this many times the median: a tail, not a spread.
const TAIL: f64 = 4.0;

pub(super) fn find(look: &Look<'_>) -> Vec<Pattern> {
    let mut found = Vec::new();
    for (op, kind, name, total) in look.operations() {
        let marks = look.findings.detected.marks.of(op);
        if let Some(marks) = marks {
            found.extend(slow(look, &name, total, &marks.slow));
            found.extend(late(look, &name, total, &marks.late));
            found.extend(dear(look, &name, total, &marks.dear));
        }
        if kind == Kind::Task && !found.iter().any(|one| is_dear(one, &name)) {
            found.extend(dear_runs(look, op as u32, &name));
        }
    }
    found
}

fn is_dear(pattern: &Pattern, name: &str) -> bool {
    pattern.pattern_type == PatternType::HighCostOperation && pattern.operation.as_deref() == Some(name)
}

fn draft(kind: PatternType, name: &str, (mark, impact): (&Mark, f64), description: String) -> Draft {
    Draft {
        kind,
        operation: Some(name.to_owned()),
        template: None,
        occurrences: mark.count,
        impact,
        span: mark.span,
        description,
        metadata: serde_json::Map::new(),
    }
}

fn milliseconds(total: &Cell) -> [f64; 4] {
    let quantile = |q| total.quantile_ms(q).unwrap_or(0.0);
    [quantile(0.5), quantile(0.95), quantile(0.99), total.extremes.map_or(0.0, |(_, most)| most as f64 / 1e3)]
}

fn slow(look: &Look<'_>, name: &str, total: &Cell, mark: &Mark) -> Option<Pattern> {
    let lower = material(mark.count, total.calls)?;
    let limit = look.settings.slow_operation_threshold;
    let wasted = seconds(mark.us) - mark.count as f64 * limit;
    let [p50, p95, p99, max] = milliseconds(total);
    let shape = if p50 > limit * 1e3 {
        "steady"
    } else if p95 >= TAIL * p50 {
        "tail"
    } else {
        "spread"
    };
    let described = match shape {
        "steady" => "is slow as a rule",
        "tail" => "has a slow tail",
        _ => "is slow at times",
    };
    let description = format!(
        "{name} {described}: {} of {} calls ({}) took longer than {}; median {}, 95 % quantile {}, longest {}.",
        mark.count,
        total.calls,
        percent(share(mark.count, total.calls)),
        time_text(limit),
        time_text(p50 / 1e3),
        time_text(p95 / 1e3),
        time_text(max / 1e3),
    );
    let impact = look.impact(Loss { seconds: wasted, ..Loss::default() }, look.days);
    let mut draft = draft(PatternType::SlowOperation, name, (mark, impact), description);
    draft.metadata = numbers([
        ("rate", share(mark.count, total.calls)),
        ("rate_lower", lower),
        ("threshold_s", limit),
        ("mean_s", seconds(mark.us) / mark.count as f64),
        ("mean_all_s", seconds(total.duration_us) / total.calls as f64),
        ("p50_ms", p50),
        ("p95_ms", p95),
        ("p99_ms", p99),
        ("max_ms", max),
        ("wasted_s", wasted),
    ]);
    draft.metadata.insert("calls".into(), json!(total.calls));
    draft.metadata.insert("shape".into(), json!(shape));
    Some(draft.pattern(&[name], excerpts(mark.worst.lines())))
}

fn late(look: &Look<'_>, name: &str, total: &Cell, mark: &Mark) -> Option<Pattern> {
    let lower = material(mark.count, total.calls)?;
    let mean = seconds(mark.us) / mark.count as f64;
    let [p50, p95, p99, max] = milliseconds(total);
    let mut description = format!(
        "{name} timed out in {} of {} calls ({})",
        mark.count,
        total.calls,
        percent(share(mark.count, total.calls))
    );
    if mark.us > 0 {
        description += &format!(
            ", after {} on average; {} were spent waiting",
            time_text(mean),
            time_text(seconds(mark.us))
        );
    }
    description.push('.');
    let loss = Loss { failures: mark.count as f64, seconds: seconds(mark.us), usd: usd(mark.nano) };
    let impact = look.impact(loss, look.days);
    let mut draft = draft(PatternType::TimeoutPattern, name, (mark, impact), description);
    draft.metadata = numbers([
        ("rate", share(mark.count, total.calls)),
        ("rate_lower", lower),
        ("threshold_s", look.settings.timeout_threshold),
        ("mean_s", mean),
        ("p50_ms", p50),
        ("p95_ms", p95),
        ("p99_ms", p99),
        ("max_ms", max),
        ("wasted_s", seconds(mark.us)),
        ("wasted_usd", usd(mark.nano)),
    ]);
    draft.metadata.insert("calls".into(), json!(total.calls));
    draft.metadata.insert("calls_above_threshold".into(), json!(total.long));
    Some(draft.pattern(&[name], excerpts(mark.worst.lines())))
}

fn dear(look: &Look<'_>, name: &str, total: &Cell, mark: &Mark) -> Option<Pattern> {
    let lower = material(mark.count, total.calls)?;
    let limit = look.settings.high_cost_threshold;
    let all: i64 = look.totals.iter().map(|cell| cell.cost_nano).sum();
    let of_all = usd(mark.nano) / usd(all).max(1e-9);
    let description = format!(
        "{name} is expensive: {} of {} calls ({}) cost more than {}, {} together, {} of all cost.",
        mark.count,
        total.calls,
        percent(share(mark.count, total.calls)),
        usd_text(limit),
        usd_text(usd(mark.nano)),
        percent(of_all),
    );
    let impact = look.impact(Loss { usd: usd(mark.nano), ..Loss::default() }, look.days);
    let mut draft = draft(PatternType::HighCostOperation, name, (mark, impact), description);
    draft.metadata = numbers([
        ("rate", share(mark.count, total.calls)),
        ("rate_lower", lower),
        ("threshold_usd", limit),
        ("mean_usd", usd(mark.nano) / mark.count as f64),
        ("total_usd", usd(total.cost_nano)),
        ("dear_usd", usd(mark.nano)),
        ("usd_per_day", usd(mark.nano) / look.days),
        ("wasted_usd", usd(mark.nano) - mark.count as f64 * limit),
        ("share_of_cost", of_all),
    ]);
    draft.metadata.extend([
        ("calls".to_owned(), json!(total.calls)),
        ("prompt_tokens".to_owned(), json!(total.tokens.0)),
        ("completion_tokens".to_owned(), json!(total.tokens.1)),
    ]);
    Some(draft.pattern(&[name], excerpts(mark.worst.lines())))
}

/// Tasks whose runs are expensive by the number of their calls.
fn dear_runs(look: &Look<'_>, op: u32, name: &str) -> Option<Pattern> {
    let runs = look.outcomes.runs.get(&op)?;
    let lower = material(runs.dear, runs.all.sessions)?;
    let limit = look.settings.high_cost_threshold;
    let total = usd(runs.dear_nano);
    let description = format!(
        "{} of {} runs of {name} cost more than {} although none of their calls does: {} together.",
        runs.dear,
        runs.all.sessions,
        usd_text(limit),
        usd_text(total)
    );
    let series = &look.findings.tally.series[op as usize];
    let mut draft = Draft {
        kind: PatternType::HighCostOperation,
        operation: Some(name.to_owned()),
        template: None,
        occurrences: runs.dear,
        impact: look.impact(Loss { usd: total, ..Loss::default() }, look.days),
        span: Span(series.span),
        description,
        metadata: numbers([
            ("rate", runs.dear as f64 / runs.all.sessions as f64),
            ("rate_lower", lower),
            ("threshold_usd", limit),
            ("mean_usd", total / runs.dear as f64),
            ("total_usd", usd(runs.all.nano)),
            ("dear_usd", total),
            ("usd_per_day", total / look.days),
            ("wasted_usd", total - runs.dear as f64 * limit),
        ]),
    };
    draft.metadata.insert("runs".into(), json!(runs.all.sessions));
    Some(draft.pattern(&[name], Vec::new()))
}
