//! What happens together: errors by model, tool and task, tools of tasks, and operations that fail or slow
//! down in the same hours.

use std::collections::BTreeMap;

use nightshift_stats::count::{TwoByTwo, fisher, poisson_tail};
use nightshift_stats::multiple::benjamini_hochberg;
use nightshift_stats::special::normal_cdf;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::errors::Failures;
use super::finding::{Finding, Tested, impact, percent, short};
use super::latency::Latency;
use super::track::{Hours, Track};
use crate::line::Kind;
use crate::pattern::PatternType;
use crate::tally::{Findings, Outcome};

/// A row of the store's table `correlations`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Correlation {
    /// `error_model`, `error_tool`, `error_task` (an operation fails more in a task), `task_tool` (a task uses an
    /// operation more than others do), `errors_together`, `latency_together`.
    pub correlation_type: String,
    /// The one.
    pub entity_a: String,
    /// The other.
    pub entity_b: String,
    /// Lift: how many times as often as without the other; of `latency_together` a correlation from -1 to 1.
    pub score: f64,
    /// Calls, or hours, that it rests on.
    pub sample_size: u64,
    /// Numbers by name, with `p_value` and `q_value`.
    pub metadata: Map<String, Value>,
}

/// Fewest calls on each side of a comparison.
const FEWEST: u64 = 20;
/// Least lift of a row, and of one that a person is told about.
const LIFT: f64 = 1.5;
const TOLD: f64 = 2.0;
/// Least correlation of latencies.
const TOGETHER: f64 = 0.4;
/// Fewest common hours.
const FEWEST_HOURS: usize = 24;
/// Fewest hours in which both fail above the usual.
const FEWEST_TOGETHER: u64 = 4;

/// A row with its p-value, and whether it is news to a person.
#[derive(Debug)]
pub(crate) struct Candidate {
    row: Correlation,
    p: f64,
    told: Option<Finding>,
}

/// All candidates; operations by their number.
pub(crate) fn candidates(
    findings: &Findings,
    hours: Hours,
    tracks: &[Track<'_>],
    of: &[(Option<Latency>, Failures)],
) -> Vec<Candidate> {
    let mut rows = by_kind(tracks, hours);
    rows.extend(by_task(findings, hours));
    rows.extend(errors_together(tracks, hours, of));
    rows.extend(latency_together(tracks, of));
    rows
}

/// The rows that stand at this rate of false findings, most striking first.
pub(crate) fn rows(candidates: &[Candidate], rate: f64) -> Vec<Correlation> {
    let qs = benjamini_hochberg(&candidates.iter().map(|c| c.p).collect::<Vec<_>>());
    let standing = candidates.iter().zip(qs).filter(|(candidate, q)| {
        let together = candidate.row.correlation_type == "latency_together";
        *q <= rate && (together || candidate.row.score >= LIFT)
    });
    let mut rows: Vec<Correlation> = standing
        .map(|(candidate, q)| {
            let mut row = candidate.row.clone();
            row.metadata.insert("p_value".into(), json!(candidate.p));
            row.metadata.insert("q_value".into(), json!(q));
            row
        })
        .collect();
    rows.sort_by(|a, b| {
        let key =
            |row: &Correlation| (row.correlation_type.clone(), row.entity_a.clone(), row.entity_b.clone());
        b.score.total_cmp(&a.score).then_with(|| key(a).cmp(&key(b)))
    });
    rows
}

/// The tests among them whose outcome a person is told.
pub(crate) fn tests(candidates: Vec<Candidate>) -> Vec<Tested> {
    candidates.into_iter().map(|candidate| Tested { p: candidate.p, finding: candidate.told }).collect()
}

fn row(kind: &str, (a, b): (&str, &str), score: f64, size: u64, numbers: &[(&str, f64)]) -> Correlation {
    let metadata = numbers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    Correlation {
        correlation_type: kind.into(),
        entity_a: a.into(),
        entity_b: b.into(),
        score,
        sample_size: size,
        metadata,
    }
}

/// The lift of a table, and its one-sided p-value; `None` with too few calls.
fn lift(table: TwoByTwo) -> Option<(f64, f64)> {
    let TwoByTwo { hits, of, other_hits, other_of } = table;
    if of < FEWEST || other_of < FEWEST || hits == 0 {
        return None;
    }
    // Half a hit more, so that "never before" has a number.
    let others = (other_hits as f64).max(0.5) / other_of as f64;
    Some((hits as f64 / of as f64 / others, fisher(table).ok()?.greater))
}

/// Errors of a model (tool) beside those of the other models (tools).
fn by_kind(tracks: &[Track<'_>], hours: Hours) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (kind, name) in [(Kind::Llm, "error_model"), (Kind::Tool, "error_tool")] {
        let counts: Vec<(&str, u64, u64)> = tracks
            .iter()
            .filter(|track| track.kind == kind)
            .map(|track| {
                let sum = |of: fn(&crate::tally::Cell) -> u64| track.sum(0, hours.count, of);
                (track.name.as_str(), sum(|cell| cell.errors), sum(|cell| cell.calls))
            })
            .collect();
        let (errors, calls) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.1, sum.1 + one.2));
        for (operation, hits, of) in counts {
            let table = TwoByTwo { hits, of, other_hits: errors - hits, other_of: calls - of };
            if let Some((score, p)) = lift(table) {
                let rate = hits as f64 / of as f64;
                let others = table.other_hits as f64 / table.other_of as f64;
                let numbers = [("error_rate", rate), ("error_rate_of_others", others)];
                found.push(Candidate {
                    row: row(name, ("error", operation), score, of, &numbers),
                    p,
                    told: None,
                });
            }
        }
    }
    found
}

/// Operations that fail more in one task than in others, and tasks that use an operation more.
fn by_task(findings: &Findings, hours: Hours) -> Vec<Candidate> {
    let outcomes = &findings.tally.outcomes;
    let (mut of_op, mut of_task) = (BTreeMap::<u32, Outcome>::new(), BTreeMap::<u32, u64>::new());
    let mut all = 0;
    for (&(task, op), outcome) in outcomes {
        of_op.entry(op).or_default().absorb(outcome);
        *of_task.entry(task).or_default() += outcome.calls;
        all += outcome.calls;
    }
    let mut found = Vec::new();
    for (&(task, op), here) in outcomes {
        let (task_name, op_name) = (findings.ops.full_name(task), findings.ops.full_name(op));
        let (total, of_task) = (of_op[&op], of_task[&task]);
        let failing = TwoByTwo {
            hits: here.errors,
            of: here.calls,
            other_hits: total.errors - here.errors,
            other_of: total.calls - here.calls,
        };
        if let Some((score, p)) = lift(failing) {
            let rate = here.errors as f64 / here.calls as f64;
            let others = failing.other_hits as f64 / failing.other_of as f64;
            let numbers =
                [("error_rate", rate), ("error_rate_elsewhere", others), ("errors", here.errors as f64)];
            let row = row("error_task", (&op_name, &task_name), score, here.calls, &numbers);
            let told = (score >= TOLD && rate - others >= 0.03).then(|| Finding {
                kind: PatternType::Correlation,
                operation: Some(op_name.clone()),
                about: task_name.clone(),
                text: format!(
                    "{op_name} fails {} times as often in {task_name} as elsewhere: {} of {} calls, elsewhere {}",
                    short(score),
                    percent(rate),
                    here.calls,
                    percent(others)
                ),
                occurrences: here.errors,
                impact: impact(score, here.calls as f64 / all as f64) * 0.8,
                from: hours.first,
                until: hours.first + hours.count as i32,
                metadata: row.metadata.clone(),
            });
            found.push(Candidate { row, p, told });
        }
        let using = TwoByTwo {
            hits: here.calls,
            of: of_task,
            other_hits: total.calls - here.calls,
            other_of: all - of_task,
        };
        if let Some((score, p)) = lift(using) {
            let numbers = [("share", here.calls as f64 / of_task as f64)];
            let row = row("task_tool", (&task_name, &op_name), score, of_task, &numbers);
            found.push(Candidate { row, p, told: None });
        }
    }
    found
}

/// Pairs of operations whose failures lie in the same hours more often than chance has it.
fn errors_together(tracks: &[Track<'_>], hours: Hours, of: &[(Option<Latency>, Failures)]) -> Vec<Candidate> {
    let above: Vec<Vec<Option<bool>>> =
        tracks.iter().zip(of).map(|(track, (_, failures))| unusual(track, failures)).collect();
    let mut found = Vec::new();
    for (i, a) in tracks.iter().enumerate() {
        for (j, b) in tracks.iter().enumerate().take(i) {
            let (mut both, mut first, mut second, mut common) = (0, 0, 0, 0);
            for (x, y) in above[i].iter().zip(&above[j]) {
                if let (Some(x), Some(y)) = (*x, *y) {
                    common += 1;
                    first += u64::from(x);
                    second += u64::from(y);
                    both += u64::from(x && y);
                }
            }
            if both < FEWEST_TOGETHER {
                continue;
            }
            let table =
                TwoByTwo { hits: both, of: first, other_hits: second - both, other_of: common - first };
            let Ok(test) = fisher(table) else { continue };
            let lift = both as f64 * common as f64 / (first as f64 * second as f64);
            let (low, high) = (&b.name, &a.name);
            let numbers = [
                ("hours_together", both as f64),
                ("hours_first", second as f64),
                ("hours_second", first as f64),
            ];
            let row = row("errors_together", (low, high), lift, common, &numbers);
            let text = format!(
                "{low} and {high} fail in the same hours: {both} hours with failures of both above the usual, {} times as many as by chance ({second} and {first} of {common} hours)",
                short(lift)
            );
            let told = (lift >= TOLD).then(|| Finding {
                kind: PatternType::Correlation,
                operation: Some(low.clone()),
                about: high.clone(),
                text,
                occurrences: both,
                impact: impact(lift, both as f64 / common as f64) * 0.8,
                from: hours.first,
                until: hours.first + hours.count as i32,
                metadata: row.metadata.clone(),
            });
            found.push(Candidate { row, p: test.greater, told });
        }
    }
    found
}

/// Of each hour with calls: are its failures above the usual (one in twenty by chance)?
fn unusual(track: &Track<'_>, failures: &Failures) -> Vec<Option<bool>> {
    let level =
        |hour: usize| failures.unusual.iter().find(|segment| (segment.start..segment.end).contains(&hour));
    let all: Vec<usize> =
        (0..track.cells.len()).filter(|hour| level(*hour).is_none_or(|s| s.length() <= 24)).collect();
    let sum = |of: fn(&crate::tally::Cell) -> u64| {
        all.iter().filter_map(|hour| track.cells[*hour]).map(of).sum::<u64>() as f64
    };
    let rate = sum(|cell| cell.errors) / sum(|cell| cell.calls).max(1.0);
    let mut hours = vec![None; track.cells.len()];
    for hour in all {
        if let Some(cell) = track.cells[hour] {
            let p = poisson_tail(cell.errors, rate * cell.calls as f64).unwrap_or(1.0);
            hours[hour] = Some(cell.errors > 0 && p < 0.05);
        }
    }
    hours
}

/// Pairs of operations whose hourly ranks of latency move together (Pearson's correlation of what levels and
/// hours of the day leave over, Fisher's transform).
fn latency_together(tracks: &[Track<'_>], of: &[(Option<Latency>, Failures)]) -> Vec<Candidate> {
    let rest: Vec<Option<Vec<f64>>> = of.iter().map(|(latency, _)| latency.as_ref().map(rest)).collect();
    let mut found = Vec::new();
    for i in 0..tracks.len() {
        for j in 0..i {
            let (Some(a), Some(b)) = (&rest[i], &rest[j]) else { continue };
            // A task lasts as long as the calls that it is made of.
            if (tracks[i].kind == Kind::Task) != (tracks[j].kind == Kind::Task) {
                continue;
            }
            let pairs: Vec<(f64, f64)> =
                a.iter().zip(b).filter(|(x, y)| !x.is_nan() && !y.is_nan()).map(|(x, y)| (*x, *y)).collect();
            if pairs.len() < FEWEST_HOURS {
                continue;
            }
            let r = pearson(&pairs);
            let z = r.clamp(-0.999_999, 0.999_999).atanh() * (pairs.len() as f64 - 3.0).sqrt();
            let p = 2.0 * normal_cdf(-z.abs());
            if r.abs() >= TOGETHER {
                let names = (tracks[j].name.as_str(), tracks[i].name.as_str());
                let row = row("latency_together", names, r, pairs.len() as u64, &[]);
                found.push(Candidate { row, p, told: None });
            }
        }
    }
    found
}

/// Ranks of the hours without the level of the segment that each lies in, scaled by their weights.
fn rest(latency: &Latency) -> Vec<f64> {
    let ranks = &latency.ranks;
    let mut rest = vec![f64::NAN; ranks.values.len()];
    for segment in &latency.levels {
        let level = ranks.mean(*segment);
        for (hour, rest) in rest.iter_mut().enumerate().take(segment.end).skip(segment.start) {
            if ranks.weights[hour] > 0.0 {
                *rest = (ranks.values[hour] - level) * ranks.weights[hour].sqrt();
            }
        }
    }
    rest
}

fn pearson(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0 / n, sum.1 + pair.1 / n));
    let sum = |of: fn((f64, f64)) -> f64| pairs.iter().map(|(a, b)| of((a - x, b - y))).sum::<f64>();
    let scale = (sum(|(a, _)| a * a) * sum(|(_, b)| b * b)).sqrt();
    if scale > 0.0 { sum(|(a, b)| a * b) / scale } else { 0.0 }
}
