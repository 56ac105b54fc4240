//! From what was kept to findings.

mod chains;
mod errors;
mod operations;
mod success;

use nightshift_core::clock::rfc3339;
use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::Timestamp;
use nightshift_stats::interval::wilson;
use serde_json::{Map, Value, json};

use super::evidence::{Evidence, Span};
use super::{Outcomes, Use};
use crate::line::Kind;
use crate::pattern::{Pattern, PatternType};
use crate::read::{NONE, Ops};
use crate::tally::{Cell, Findings};

/// Confidence of the bounds that decide.
const CONFIDENCE: f64 = 0.95;
/// Fewest slow, late or expensive calls, and the least that the lower bound of their share must be: two calls
/// of fifty thousand are chance.
const FEWEST: u64 = 2;
const LEAST_SHARE: f64 = 0.005;

/// The findings of the six kinds of the documents, and new and vanished errors.
pub fn patterns(findings: &Findings, settings: &AnalyzeLogs) -> Vec<Pattern> {
    let look = Look::new(findings, settings);
    let mut found = errors::find(&look);
    found.extend(operations::find(&look));
    found.extend(chains::find(&look));
    found.extend(success::find(&look));
    found
}

/// What the finders look at.
struct Look<'a> {
    findings: &'a Findings,
    settings: &'a AnalyzeLogs,
    ops: &'a Ops,
    /// Each operation's calls over the whole time, by number.
    totals: Vec<Cell>,
    outcomes: Outcomes,
    /// Days that the log spans, at least one.
    days: f64,
}

/// What something costs: failed calls, seconds and dollars.
#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    failures: f64,
    seconds: f64,
    usd: f64,
}

impl<'a> Look<'a> {
    fn new(findings: &'a Findings, settings: &'a AnalyzeLogs) -> Self {
        let tally = &findings.tally;
        let days = tally.span.map_or(1.0, |(first, last)| (last.saturating_sub(first)) as f64 / 86_400e6);
        Self {
            findings,
            settings,
            ops: &findings.ops,
            totals: tally.series.iter().map(crate::tally::Series::total).collect(),
            outcomes: findings.detected.sessions.outcomes(tally.limits),
            days: days.max(1.0),
        }
    }

    fn name(&self, op: u32) -> Option<String> {
        (op != NONE).then(|| self.ops.full_name(op))
    }

    /// Operations with calls: number, kind, full name, and all their calls.
    fn operations(&self) -> impl Iterator<Item = (usize, Kind, String, &Cell)> {
        self.totals
            .iter()
            .enumerate()
            .filter(|(_, total)| total.calls > 0)
            .map(|(op, total)| (op, self.ops.get(op as u32).0, self.ops.full_name(op as u32), total))
    }

    /// 0 to 10: what is lost in a day, on a scale on which ten times as much is 2.5 more. A failed call, the
    /// time of one call at the limit of slowness and the money of one call at the limit of cost weigh the same.
    fn impact(&self, loss: Loss, days: f64) -> f64 {
        let slow = self.settings.slow_operation_threshold.max(1e-6);
        let dear = self.settings.high_cost_threshold.max(1e-9);
        let points = loss.failures + loss.seconds.max(0.0) / slow + loss.usd.max(0.0) / dear;
        round((2.5 * (1.0 + points / days).log10()).clamp(0.0, 10.0))
    }
}

/// What every finding has, and its numbers by name.
struct Draft {
    kind: PatternType,
    operation: Option<String>,
    template: Option<String>,
    occurrences: u64,
    impact: f64,
    span: Span,
    description: String,
    metadata: Map<String, Value>,
}

impl Draft {
    fn pattern(mut self, about: &[&str], evidence: Vec<Value>) -> Pattern {
        self.metadata.insert("evidence".into(), evidence.into());
        let (first, last) = self.span.0.unzip();
        let time = |us: Option<i64>| Timestamp::from_microsecond(us?).ok().map(rfc3339);
        Pattern {
            pattern_id: Pattern::id(self.kind, about),
            pattern_type: self.kind,
            description: self.description,
            occurrences: self.occurrences,
            impact_score: self.impact,
            first_seen: time(first),
            last_seen: time(last),
            operation: self.operation,
            template: self.template,
            metadata: self.metadata,
        }
    }
}

/// Lines as they are reported.
fn lines(evidence: &[Evidence], excerpt: impl Fn(&Evidence) -> String) -> Vec<Value> {
    evidence
        .iter()
        .map(|line| json!({"file": line.file, "offset": line.offset, "excerpt": excerpt(line)}))
        .collect()
}

fn excerpts(evidence: &[Evidence]) -> Vec<Value> {
    lines(evidence, |line| line.excerpt.to_string())
}

/// Numbers by name.
fn numbers<const N: usize>(pairs: [(&str, f64); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(round(value)))).collect()
}

/// To a millionth: what is behind is noise of the arithmetic.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The lower and upper bound of a share.
fn bounds(part: u64, all: u64, confidence: f64) -> (f64, f64) {
    wilson(part.min(all), all, confidence).map_or((0.0, 1.0), |bounds| (bounds.low, bounds.high))
}

/// Whether some calls of all are a pattern, and the lower bound of their share.
fn material(part: u64, all: u64) -> Option<f64> {
    let (low, _) = bounds(part, all, CONFIDENCE);
    (part >= FEWEST && low >= LEAST_SHARE).then_some(low)
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn usd(nano: i64) -> f64 {
    nano as f64 / 1e9
}

/// `12.5 s`, `3.2 min`, `4.1 h`.
fn time_text(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn percent(share: f64) -> String {
    if share >= 0.1 || share == 0.0 {
        format!("{:.0} %", share * 100.0)
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

fn usd_text(usd: f64) -> String {
    if usd.abs() < 0.1 { format!("{usd:.4} USD") } else { format!("{usd:.2} USD") }
}

/// `once`, `3 times`.
fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}
