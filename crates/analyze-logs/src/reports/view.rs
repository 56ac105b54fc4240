//! What the charts show, counted once: the timeline, the hours of the day, templates, waste.

use std::collections::BTreeMap;

use nightshift_core::jiff::Timestamp;
use serde_json::Value;

use crate::pattern::{Pattern, PatternType};
use crate::report::AnalyzeReport;
use crate::tally::{Cell, Findings, NO_HOUR, Sketch};

/// Most columns of the timeline.
const COLUMNS: i64 = 168;
/// Hours beyond which a few early or late calls are taken for a wrong clock.
const YEARS: i64 = 2 * 366 * 24;
/// Most rows of the heat map.
const ROWS: usize = 16;
/// Most templates and chains.
const BARS: usize = 12;
/// Fewer calls in an hour of the day than this have no colour.
const FEWEST: u64 = 3;

/// Calls and errors of some hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) calls: u64,
    pub(super) errors: u64,
}

/// Calls and errors over time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The first hour since 1970.
    pub(super) first_hour: i64,
    /// Hours of a step.
    pub(super) hours: i64,
    pub(super) steps: Vec<Step>,
}

impl Timeline {
    /// When a step begins.
    pub(super) fn starts(&self, step: usize) -> Option<Timestamp> {
        let hour = self.first_hour + self.hours * step as i64;
        Timestamp::from_second(hour * 3600).ok()
    }
}

/// One operation by hour of the day (UTC).
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) hours: [Hour; 24],
}

/// One hour of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hour {
    pub(super) calls: u64,
    pub(super) errors: u64,
    /// Of enough calls.
    pub(super) p95_ms: Option<f64>,
}

impl Hour {
    /// Share of calls that failed, of enough calls.
    pub(super) fn error_rate(&self) -> Option<f64> {
        (self.calls >= FEWEST).then(|| self.errors as f64 / self.calls as f64)
    }
}

/// An amount and what it is of.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) note: String,
    pub(super) amount: f64,
    pub(super) usd: f64,
}

/// Everything that the charts show.
#[derive(Debug)]
pub(super) struct View {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) timeouts: u64,
    pub(super) cost_usd: f64,
    pub(super) wasted_s: f64,
    pub(super) wasted_usd: f64,
    pub(super) timeline: Timeline,
    pub(super) heat: Vec<Row>,
    pub(super) templates: Vec<Bar>,
    pub(super) waste: Vec<Bar>,
}

impl View {
    pub(super) fn of(report: &AnalyzeReport, findings: &Findings) -> Self {
        let sum = |of: fn(&crate::report::Operation) -> u64| report.operations.iter().map(of).sum();
        let waste = waste(&report.patterns);
        Self {
            calls: sum(|op| op.calls),
            errors: sum(|op| op.errors),
            timeouts: sum(|op| op.timeouts),
            cost_usd: report.operations.iter().map(|op| op.cost_usd).sum::<f64>() + 0.0,
            wasted_s: waste.iter().map(|bar| bar.amount).sum::<f64>() + 0.0,
            // A sum of nothing is -0.
            wasted_usd: waste.iter().map(|bar| bar.usd).sum::<f64>() + 0.0,
            timeline: timeline(findings),
            heat: heat(findings),
            templates: templates(&report.patterns),
            waste: waste.into_iter().take(BARS).collect(),
        }
    }
}

/// Calls and errors by hour, without what a wrong clock put years away.
fn hourly(findings: &Findings) -> BTreeMap<i32, Step> {
    let mut hours: BTreeMap<i32, Step> = BTreeMap::new();
    let cells = findings.tally.series.iter().flat_map(|series| &series.cells);
    for cell in cells.filter(|cell| cell.hour != NO_HOUR) {
        let step = hours.entry(cell.hour).or_default();
        step.calls += cell.calls;
        step.errors += cell.errors;
    }
    let few = hours.values().map(|step| step.calls).sum::<u64>() / 1000;
    let far = |hours: &BTreeMap<i32, Step>| {
        let (first, last) = (*hours.keys().next()?, *hours.keys().next_back()?);
        (i64::from(last) - i64::from(first) > YEARS).then_some((first, last))
    };
    // From each end, at most a thousandth of the calls.
    let mut left = [few; 2];
    while let Some((first, last)) = far(&hours) {
        let cut = [first, last].into_iter().zip(&mut left).find_map(|(hour, left)| {
            *left = left.checked_sub(hours[&hour].calls)?;
            Some(hour)
        });
        let Some(cut) = cut else { break };
        hours.remove(&cut);
    }
    hours
}

fn timeline(findings: &Findings) -> Timeline {
    let counts = hourly(findings);
    let Some((&first, &last)) = counts.keys().next().zip(counts.keys().next_back()) else {
        return Timeline::default();
    };
    let (first, last) = (i64::from(first), i64::from(last));
    let wanted = (last - first + COLUMNS) / COLUMNS;
    // Whole divisions of a day, or whole days.
    let hours = [1, 2, 3, 6, 12]
        .into_iter()
        .find(|hours| *hours >= wanted)
        .unwrap_or_else(|| (wanted + 23) / 24 * 24);
    let first_hour = first.div_euclid(hours) * hours;
    let mut steps = vec![Step::default(); ((last - first_hour) / hours + 1) as usize];
    for (hour, count) in counts {
        let step = &mut steps[((i64::from(hour) - first_hour) / hours) as usize];
        step.calls += count.calls;
        step.errors += count.errors;
    }
    Timeline { first_hour, hours, steps }
}

/// The operations with the most calls. Hours that were joined to days count for no hour of the day.
fn heat(findings: &Findings) -> Vec<Row> {
    let mut order: Vec<(u64, usize)> = (findings.tally.series.iter().enumerate())
        .map(|(number, series)| (series.cells.iter().map(|cell| cell.calls).sum(), number))
        .filter(|(calls, _)| *calls > 0)
        .collect();
    order.sort_by(|a, b| b.cmp(a));
    order.truncate(ROWS);
    let row = |number: usize| {
        let mut parts: BTreeMap<usize, Vec<&Cell>> = BTreeMap::new();
        for cell in
            findings.tally.series[number].cells.iter().filter(|cell| findings.tally.is_hour(cell.hour))
        {
            parts.entry(cell.hour.rem_euclid(24) as usize).or_default().push(cell);
        }
        let mut hours = [Hour::default(); 24];
        for (hour, cells) in parts {
            let extremes = cells.iter().filter_map(|cell| cell.extremes);
            let extremes = extremes.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            let sketch = Sketch::sum(cells.iter().map(|cell| &cell.sketch));
            let p95 = extremes.filter(|_| sketch.count() >= FEWEST);
            hours[hour] = Hour {
                calls: cells.iter().map(|cell| cell.calls).sum(),
                errors: cells.iter().map(|cell| cell.errors).sum(),
                p95_ms: p95
                    .and_then(|(least, most)| sketch.quantile(0.95, least, most))
                    .map(|us| us / 1000.0),
            };
        }
        Row { name: findings.ops.full_name(number as u32), hours }
    };
    order.into_iter().map(|(_, number)| row(number)).collect()
}

fn number(pattern: &Pattern, name: &str) -> f64 {
    pattern.metadata.get(name).and_then(Value::as_f64).filter(|n| n.is_finite()).unwrap_or(0.0)
}

fn templates(patterns: &[Pattern]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = patterns
        .iter()
        .filter(|pattern| pattern.pattern_type == PatternType::RecurringError)
        .map(|pattern| Bar {
            label: pattern.template.as_ref().unwrap_or(&pattern.description).clone(),
            note: pattern.operation.clone().unwrap_or_default(),
            amount: pattern.occurrences as f64,
            usd: 0.0,
        })
        .collect();
    bars.sort_by(|a, b| b.amount.total_cmp(&a.amount).then_with(|| a.label.cmp(&b.label)));
    bars.truncate(BARS);
    bars
}

/// The operations of a chain.
fn chain(pattern: &Pattern) -> String {
    let first = pattern.operation.as_ref().unwrap_or(&pattern.description);
    match pattern.metadata.get("with").and_then(Value::as_str) {
        Some(second) => format!("{first}, {second}"),
        None => first.clone(),
    }
}

/// What is wrong with a chain, and in which task.
fn told(pattern: &Pattern) -> String {
    let text = |name: &str| pattern.metadata.get(name).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default().replace('_', " ");
    text("task").map_or(kind.clone(), |task| format!("{kind} in {task}"))
}

fn waste(patterns: &[Pattern]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = patterns
        .iter()
        .filter(|pattern| pattern.pattern_type == PatternType::InefficientChain)
        .map(|pattern| Bar {
            label: chain(pattern),
            note: told(pattern),
            amount: number(pattern, "wasted_s"),
            usd: number(pattern, "wasted_usd"),
        })
        .collect();
    bars.sort_by(|a, b| {
        b.amount.total_cmp(&a.amount).then(b.usd.total_cmp(&a.usd)).then_with(|| a.label.cmp(&b.label))
    });
    bars
}
