//! What `--json` prints, and the same for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use nightshift_core::clock::rfc3339;
use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::beside::beside;
use crate::detect;
use crate::incremental::New;
use crate::learning::Stored;
use crate::pattern::Pattern;
use crate::read::Problem;
use crate::recommend::{Context, recommend};
use crate::recommendation::Recommendation;
use crate::series::{self, Correlation, Skill};
use crate::tally::{Example, Findings};

/// Of `analyze` and `merge`.
#[derive(Debug, Serialize)]
pub(crate) struct AnalyzeReport {
    /// Lines (spans, in OTLP batches) that were used.
    pub(crate) entries: u64,
    /// Plain bytes read.
    pub(crate) bytes: u64,
    /// Wall time.
    pub(crate) seconds: f64,
    /// Lines that could not be used, by class.
    pub(crate) bad_lines: BTreeMap<&'static str, u64>,
    /// Some of them.
    pub(crate) bad_examples: Vec<Example>,
    /// Lines that were used although something was wrong with them, by kind.
    pub(crate) repaired_lines: BTreeMap<&'static str, u64>,
    /// Entries outside the time asked for.
    pub(crate) entries_outside: u64,
    /// Sessions that were judged before they were over: too many, or too long ones.
    pub(crate) sessions_cut: u64,
    /// Rare shapes of errors that were too many to be told apart.
    pub(crate) errors_forgotten: u64,
    /// Under `--incremental`, what was new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) incremental: Option<New>,
    /// Files that could not be read, or not to their end.
    pub(crate) problems: Vec<Problem>,
    /// Time of the first and the last entry.
    pub(crate) first_seen: Option<String>,
    pub(crate) last_seen: Option<String>,
    /// By name.
    pub(crate) operations: Vec<Operation>,
    /// What stands out.
    pub(crate) patterns: Vec<Pattern>,
    /// What happens together.
    pub(crate) correlations: Vec<Correlation>,
    /// How each tool and model did by ISO week.
    pub(crate) skills: Vec<Skill>,
    /// What to do about it.
    pub(crate) recommendations: Vec<Recommendation>,
    /// What went to the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<Stored>,
    /// Files that hold this as reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reports: Vec<PathBuf>,
    /// Under `--dry-run`, the files that would have been written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) would_write: Vec<PathBuf>,
}

/// One tool, model or task.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) timeouts: u64,
    /// Quantiles of the durations; absent without any.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// Sum of the durations.
    pub(crate) duration_s: f64,
    pub(crate) cost_usd: f64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) first_seen: Option<String>,
    pub(crate) last_seen: Option<String>,
}

/// Findings and lines of each that a terminal gets.
const MOST_SENTENCES: usize = 20;
const MOST_LINES: usize = 2;

/// A character of a log as a terminal may see it.
fn plain(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// A time in microseconds as text; what no calendar holds is left out.
fn time(us: i64) -> Option<String> {
    Timestamp::from_microsecond(us).ok().map(rfc3339)
}

/// Nano-dollars as dollars.
fn usd(nano: i64) -> f64 {
    nano as f64 / 1e9
}

/// The findings of all detectors, the gravest first.
fn by_impact<const N: usize>(found: [Vec<Pattern>; N]) -> Vec<Pattern> {
    let mut patterns: Vec<Pattern> = found.into_iter().flatten().collect();
    patterns.sort_by(|a, b| {
        let rank = |one: &Pattern| (one.pattern_type, one.pattern_id.clone());
        b.impact_score.total_cmp(&a.impact_score).then_with(|| rank(a).cmp(&rank(b)))
    });
    patterns
}

impl AnalyzeReport {
    /// The report, short of the time that it took.
    pub(crate) fn of(findings: &Findings, settings: &AnalyzeLogs) -> Self {
        let Findings { ops, tally, detected, problems } = findings;
        let (found, told) =
            beside(|| detect::patterns(findings, settings), || series::tell(findings, settings));
        let patterns = by_impact([found, told.patterns]);
        let recommendations = recommend(&patterns, &Context::of(findings, settings));
        let mut operations: Vec<Operation> = tally
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.cells.is_empty())
            .map(|(number, series)| {
                let total = series.total();
                Operation {
                    name: ops.full_name(number as u32),
                    calls: total.calls,
                    errors: total.errors,
                    timeouts: total.timeouts,
                    p50_ms: total.quantile_ms(0.50),
                    p95_ms: total.quantile_ms(0.95),
                    p99_ms: total.quantile_ms(0.99),
                    max_ms: total.extremes.map(|(_, most)| most as f64 / 1000.0),
                    duration_s: total.duration_us as f64 / 1e6,
                    cost_usd: usd(total.cost_nano),
                    prompt_tokens: total.tokens.0,
                    completion_tokens: total.tokens.1,
                    first_seen: series.span.and_then(|(first, _)| time(first)),
                    last_seen: series.span.and_then(|(_, last)| time(last)),
                }
            })
            .collect();
        operations.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            entries: tally.entries,
            bytes: tally.bytes,
            seconds: 0.0,
            bad_lines: tally.bad.iter().map(|(class, count)| (class.name(), *count)).collect(),
            bad_examples: tally.examples.clone(),
            repaired_lines: tally.repaired.iter().map(|(repair, count)| (repair.name(), *count)).collect(),
            entries_outside: tally.outside,
            sessions_cut: detected.sessions.cut,
            errors_forgotten: detected.errors.forgotten,
            incremental: None,
            problems: problems.clone(),
            first_seen: tally.span.and_then(|(first, _)| time(first)),
            last_seen: tally.span.and_then(|(_, last)| time(last)),
            operations,
            patterns,
            correlations: told.correlations,
            skills: told.skills,
            recommendations,
            stored: None,
            reports: Vec::new(),
            would_write: Vec::new(),
        }
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let megabytes = self.bytes as f64 / 1e6;
        let _ = writeln!(
            text,
            "{} entries, {megabytes:.1} MB in {:.2} s ({:.0} MB/s)",
            self.entries,
            self.seconds,
            megabytes / self.seconds.max(1e-9)
        );
        if let (Some(first), Some(last)) = (&self.first_seen, &self.last_seen) {
            let _ = writeln!(text, "from {first} to {last}");
        }
        if self.entries_outside > 0 {
            let _ = writeln!(text, "{} entries outside the time asked for", self.entries_outside);
        }
        for (title, counts) in [("bad lines", &self.bad_lines), ("repaired lines", &self.repaired_lines)] {
            if !counts.is_empty() {
                let counts: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                let _ = writeln!(text, "{title}: {}", counts.join(", "));
            }
        }
        for example in &self.bad_examples {
            let _ = writeln!(
                text,
                "  {}:{}: {}: {}",
                example.file,
                example.offset,
                example.class.name(),
                example.excerpt
            );
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  {}: {}", problem.file, problem.reason);
        }
        self.table(&mut text);
        self.sentences(&mut text);
        text
    }

    /// What stands out, the gravest first, with lines that show it.
    fn sentences(&self, text: &mut String) {
        if self.patterns.is_empty() {
            return;
        }
        let _ =
            writeln!(text, "\nwhat stands out ({}, the gravest first; impact 0 to 10)", self.patterns.len());
        for pattern in self.patterns.iter().take(MOST_SENTENCES) {
            let sentence: String = pattern.description.chars().map(plain).collect();
            let _ = writeln!(text, "{:5.1}  {sentence}", pattern.impact_score);
            let evidence = pattern.metadata.get("evidence").and_then(Value::as_array);
            for line in evidence.into_iter().flatten().take(MOST_LINES) {
                let field = |name: &str| line[name].as_str().unwrap_or_default();
                let excerpt: String = field("excerpt").chars().map(plain).collect();
                let _ = writeln!(text, "         {}:{}: {excerpt}", field("file"), line["offset"]);
            }
        }
        if self.patterns.len() > MOST_SENTENCES {
            let _ = writeln!(
                text,
                "       and {} more: --json has them all",
                self.patterns.len() - MOST_SENTENCES
            );
        }
        if self.sessions_cut > 0 {
            let _ = writeln!(text, "{} sessions were judged before they were over", self.sessions_cut);
        }
        if self.errors_forgotten > 0 {
            let _ = writeln!(text, "{} rare shapes of errors were not told apart", self.errors_forgotten);
        }
    }

    /// The operations that took the most time first.
    fn table(&self, text: &mut String) {
        if self.operations.is_empty() {
            return;
        }
        let mut rows: Vec<&Operation> = self.operations.iter().collect();
        rows.sort_by(|a, b| b.duration_s.total_cmp(&a.duration_s).then_with(|| a.name.cmp(&b.name)));
        let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(9, 48);
        let _ = writeln!(
            text,
            "\n{:width$} {:>9} {:>8} {:>8} {:>10} {:>10} {:>10} {:>11}",
            "operation", "calls", "errors", "timeouts", "p50 ms", "p95 ms", "p99 ms", "cost USD"
        );
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        for row in rows {
            let _ = writeln!(
                text,
                "{:width$} {:>9} {:>8} {:>8} {:>10} {:>10} {:>10} {:>11.4}",
                row.name.chars().map(plain).collect::<String>(),
                row.calls,
                row.errors,
                row.timeouts,
                ms(row.p50_ms),
                ms(row.p95_ms),
                ms(row.p99_ms),
                row.cost_usd
            );
        }
    }
}
