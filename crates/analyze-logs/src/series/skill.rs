//! How every tool and model does by week, and which of them to use for which task.

use std::collections::BTreeMap;

use nightshift_core::jiff::Timestamp;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_stats::count::{TwoByTwo, fisher};
use nightshift_stats::interval::wilson;
use serde::Serialize;
use serde_json::Map;

use super::finding::{Finding, Tested, impact, length, percent, short};
use super::track::{Hours, has_time};
use crate::line::Kind;
use crate::pattern::PatternType;
use crate::tally::{Cell, Findings, HOUR_US, Outcome, Sketch};

/// One tool or model in one ISO week.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skill {
    /// `tool:<name>` or `llm:<model>`.
    pub operation: String,
    /// `2026-W02`.
    pub week: String,
    /// Calls.
    pub calls: u64,
    /// Share that did not fail.
    pub success_rate: f64,
    /// Wilson's bounds of it, 95 %.
    pub success_low: f64,
    /// The upper one.
    pub success_high: f64,
    /// Median duration in milliseconds; absent without any.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// US dollars a call.
    pub cost_usd_per_call: f64,
}

const CONFIDENCE: f64 = 0.95;
/// Fewest calls of an alternative.
const FEWEST: u64 = 30;
/// Least difference of success that is worth a word.
const LEAST: f64 = 0.05;

/// By operation and week.
pub(crate) fn by_week(findings: &Findings) -> Vec<Skill> {
    let mut rows = Vec::new();
    for (number, series) in findings.tally.hourly().iter().enumerate() {
        let (kind, _) = findings.ops.get(number as u32);
        if kind == Kind::Task {
            continue;
        }
        let mut weeks: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
        for cell in series.cells.iter().filter(|cell| has_time(cell)) {
            if let Some(week) = week(cell.hour) {
                weeks.entry(week).or_default().push(cell);
            }
        }
        let operation = findings.ops.full_name(number as u32);
        rows.extend(weeks.into_iter().map(|(week, cells)| skill(&operation, week, &cells)));
    }
    rows.sort_by(|a, b| (&a.operation, &a.week).cmp(&(&b.operation, &b.week)));
    rows
}

/// ISO 8601 year and week.
fn week(hour: i32) -> Option<String> {
    let at = Timestamp::from_microsecond(i64::from(hour) * HOUR_US).ok()?;
    let date = at.to_zoned(TimeZone::UTC).date().iso_week_date();
    Some(format!("{}-W{:02}", date.year(), date.week()))
}

fn skill(operation: &str, week: String, cells: &[&Cell]) -> Skill {
    let sum = |of: fn(&Cell) -> u64| cells.iter().map(|cell| of(cell)).sum::<u64>();
    let (calls, errors) = (sum(|cell| cell.calls), sum(|cell| cell.errors));
    let bounds = wilson(calls - errors, calls, CONFIDENCE).ok();
    let sketch = Sketch::sum(cells.iter().map(|cell| &cell.sketch));
    let extremes = cells.iter().filter_map(|cell| cell.extremes);
    let extremes = extremes.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let quantile =
        |q| extremes.and_then(|(least, most)| sketch.quantile(q, least, most)).map(|us| us / 1000.0);
    let nano: i64 = cells.iter().map(|cell| cell.cost_nano).sum();
    Skill {
        operation: operation.to_owned(),
        week,
        calls,
        success_rate: (calls - errors) as f64 / calls.max(1) as f64,
        success_low: bounds.map_or(0.0, |bounds| bounds.low),
        success_high: bounds.map_or(1.0, |bounds| bounds.high),
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
        cost_usd_per_call: nano as f64 / 1e9 / calls.max(1) as f64,
    }
}

/// For every task the tool and the model that do best, where the lower bound of its success lies above what
/// another one of the kind reaches there.
pub(crate) fn choices(findings: &Findings, hours: Hours) -> Vec<Tested> {
    let mut groups: BTreeMap<(u32, Kind), Vec<(u32, Outcome)>> = BTreeMap::new();
    for (&(task, op), outcome) in &findings.tally.outcomes {
        if outcome.calls >= FEWEST {
            groups.entry((task, findings.ops.get(op).0)).or_default().push((op, *outcome));
        }
    }
    let mut tests = Vec::new();
    for ((task, kind), mut ops) in groups.into_iter().filter(|(_, ops)| ops.len() > 1) {
        ops.sort_by_key(|(op, _)| findings.ops.full_name(*op));
        let low = |outcome: &Outcome| {
            wilson(outcome.calls - outcome.errors, outcome.calls, CONFIDENCE).map_or(0.0, |b| b.low)
        };
        let rate = |outcome: &Outcome| 1.0 - outcome.errors as f64 / outcome.calls as f64;
        let Some(best) = ops.iter().max_by(|a, b| low(&a.1).total_cmp(&low(&b.1))).copied() else { continue };
        for (op, other) in ops.iter().filter(|(op, _)| *op != best.0) {
            let table = TwoByTwo {
                hits: other.errors,
                of: other.calls,
                other_hits: best.1.errors,
                other_of: best.1.calls,
            };
            let p = fisher(table).map_or(1.0, |test| test.two_sided);
            let enough = rate(&best.1) - rate(other) >= LEAST && low(&best.1) > rate(other);
            // Tools of one task do different things: only models stand in for each other.
            let finding = (enough && kind == Kind::Llm)
                .then(|| told(findings, hours, task, (best.0, &best.1), (*op, other)));
            tests.push(Tested::new(p, 1, finding));
        }
    }
    tests
}

fn told(
    findings: &Findings,
    hours: Hours,
    task: u32,
    (best, good): (u32, &Outcome),
    (op, poor): (u32, &Outcome),
) -> Finding {
    let name = |number: u32| findings.ops.full_name(number);
    let rate = |outcome: &Outcome| 1.0 - outcome.errors as f64 / outcome.calls as f64;
    let mean = |outcome: &Outcome| outcome.duration_us as f64 / 1000.0 / outcome.calls as f64;
    let cost = |outcome: &Outcome| outcome.cost_nano as f64 / 1e9 / outcome.calls as f64;
    let text = format!(
        "For {} use {} rather than {}: {} of {} calls succeed, {} of {}; {} and {} a call, {} and {} USD",
        name(task),
        name(best),
        name(op),
        percent(rate(good)),
        good.calls,
        percent(rate(poor)),
        poor.calls,
        length(mean(good)),
        length(mean(poor)),
        short(cost(good)),
        short(cost(poor)),
    );
    Finding {
        kind: PatternType::Skill,
        operation: Some(name(op)),
        about: name(task),
        text,
        occurrences: poor.calls,
        impact: impact((1.0 - rate(poor)) / (1.0 - rate(good)).max(0.005), 0.05) * 0.5,
        from: hours.first,
        until: hours.first + hours.count as i32,
        metadata: Map::new(),
    }
    .number("success_rate", rate(poor))
    .number("better_success_rate", rate(good))
    .number("mean_ms", mean(poor))
    .number("better_mean_ms", mean(good))
    .number("cost_usd_per_call", cost(poor))
    .number("better_cost_usd_per_call", cost(good))
    .word("task", &name(task))
    .word("better", &name(best))
}
