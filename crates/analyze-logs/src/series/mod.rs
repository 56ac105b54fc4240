//! What hourly cells tell beyond counts: level shifts, tails, bursts, anomalies, drifts, trends and the
//! limits that they will cross, what happens together, and how tools do by week.
//!
//! Pure functions of what was counted: the logs are not read again, a run takes milliseconds. One set of
//! parameters holds for all series. Every detector hands over the p-values of all its tests, corrected
//! for the places that it looked at; what becomes a pattern is decided by Benjamini and Hochberg's
//! procedure over all of them (`false_discovery_rate`) and by a least effect.

mod correlate;
mod deviation;
mod errors;
mod finding;
mod latency;
mod level;
mod shape;
mod shift;
mod skill;
mod track;
mod trend;
mod volume;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightshift_core::config::AnalyzeLogs;
use nightshift_stats::multiple::benjamini_hochberg;

pub use correlate::Correlation;
pub use skill::Skill;

use crate::pattern::Pattern;
use crate::tally::Findings;
use errors::Failures;
use finding::Tested;
use latency::{Classes, Latency};
use track::{Hours, Track};
use trend::Metric;

/// Everything that the cells tell.
#[derive(Debug, Default)]
pub struct Told {
    /// By impact, the greatest first.
    pub patterns: Vec<Pattern>,
    /// By lift, the greatest first.
    pub correlations: Vec<Correlation>,
    /// By operation and week.
    pub skills: Vec<Skill>,
}

/// The patterns alone.
pub fn patterns(findings: &Findings, settings: &AnalyzeLogs) -> Vec<Pattern> {
    tell(findings, settings).patterns
}

/// The correlations alone.
pub fn correlations(findings: &Findings, settings: &AnalyzeLogs) -> Vec<Correlation> {
    tell(findings, settings).correlations
}

/// Looks at the cells.
pub fn tell(findings: &Findings, settings: &AnalyzeLogs) -> Told {
    let skills = skill::by_week(findings);
    let Some(hours) = Hours::of(findings) else {
        return Told { skills, ..Told::default() };
    };
    let tracks = Track::all(findings, hours);
    let total =
        |of: fn(&crate::tally::Cell) -> u64| tracks.iter().map(|t| t.sum(0, hours.count, of)).sum::<u64>();
    let (all, all_nano) = (total(|cell| cell.calls), total(|cell| cell.cost_nano.max(0) as u64) as i64);
    let classes = Classes::new();
    let whole = Whole { hours, settings, all, all_nano };
    let next = AtomicUsize::new(0);
    let look = || {
        let next = || tracks.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(next).map(|track| (&*track.name, whole.look_at(track, &classes))).collect()
    };
    // One worker a core; their answers are put together in the order of the operations.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut tests, mut looked) = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(look)).collect();
        let tests = volume::calls(&tracks, hours, all);
        let mut looked: Vec<(&str, Looked)> = look();
        for other in others {
            looked.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        (tests, looked)
    });
    looked.sort_by_key(|(name, _)| *name);
    let mut of = Vec::with_capacity(tracks.len());
    for (_, mut looked) in looked {
        tests.append(&mut looked.tests);
        of.push((looked.latency, looked.failures));
    }
    let candidates = correlate::candidates(findings, hours, &tracks, &of);
    let correlations = correlate::rows(&candidates, settings.false_discovery_rate);
    tests.extend(correlate::tests(candidates));
    tests.extend(skill::choices(findings, hours));
    Told { patterns: standing(tests, settings.false_discovery_rate), correlations, skills }
}

/// What all operations have in common.
#[derive(Debug, Clone, Copy)]
struct Whole<'a> {
    hours: Hours,
    settings: &'a AnalyzeLogs,
    /// Calls and nano-dollars of all operations.
    all: u64,
    all_nano: i64,
}

/// What was seen in one operation.
struct Looked {
    tests: Vec<Tested>,
    latency: Option<Latency>,
    failures: Failures,
}

impl Whole<'_> {
    fn look_at(self, track: &Track<'_>, classes: &Classes) -> Looked {
        let Self { hours, settings, all, all_nano } = self;
        let mut tests = Vec::new();
        let latency = Latency::of(track, hours, classes);
        let share = track.sum(0, hours.count, |cell| cell.calls) as f64 / all.max(1) as f64;
        if let Some(latency) = &latency {
            self.latency(track, latency, share, &mut tests);
        }
        let mut failures = errors::failures(track, hours, settings.error_budget, all);
        tests.append(&mut failures.tests);
        if failures.steady {
            let (blocks, p) = (trend::of_errors(track, hours), failures.counts.rise());
            tests.push(trend::trend(track, Metric::ErrorRate, &blocks, (share, Some(p))));
        }
        if let Some(costs) = volume::costs(track, hours) {
            let mut dear = volume::dear(track, hours, &costs, all_nano);
            let level = dear.iter().any(|test| test.finding.is_some());
            tests.append(&mut dear);
            if !level {
                let blocks = trend::of_costs(hours, &costs);
                tests.push(trend::trend(track, Metric::Cost, &blocks, (share, None)));
                let limit =
                    (Metric::Cost, "cost of a call", settings.high_cost_threshold, "high_cost_threshold");
                tests.push(trend::breach(track, settings, &blocks, limit));
            }
        }
        Looked { tests, latency, failures }
    }

    fn latency(self, track: &Track<'_>, latency: &Latency, share: f64, tests: &mut Vec<Tested>) {
        let Self { hours, settings, all, .. } = self;
        let mut shifts = shift::shifts(track, hours, latency, all);
        tests.append(&mut shifts.tests);
        if shifts.unusual.iter().any(|segment| segment.length() > 24) {
            tests.push(shape::tail(track, hours, latency, &shifts.unusual, all));
            return;
        }
        let [middle, slowest] = trend::of_latency(hours, latency, [0.5, 0.95]);
        let steady = trend::trend(track, Metric::Latency, &middle, (share, None));
        let moves = shifts.line && steady.takes();
        tests.push(steady);
        let slow = settings.slow_operation_threshold * 1000.0;
        let limit = (Metric::Latency, "median duration", slow, "slow_operation_threshold");
        tests.push(trend::breach(track, settings, &middle, limit));
        let late = settings.timeout_threshold * 1000.0;
        let limit = (Metric::Latency, "95th percentile of the duration", late, "timeout_threshold");
        tests.push(trend::breach(track, settings, &slowest, limit));
        if moves {
            return;
        }
        let drift = shape::drift(track, hours, latency, all);
        let drifts = drift.takes();
        tests.push(drift);
        if !drifts {
            tests.push(shape::tail(track, hours, latency, &shifts.unusual, all));
        }
    }
}

/// The findings that stand at this rate of false ones.
fn standing(tests: Vec<Tested>, rate: f64) -> Vec<Pattern> {
    let qs = benjamini_hochberg(&tests.iter().map(|test| test.p).collect::<Vec<_>>());
    let mut twins: HashMap<(String, i32), usize> = HashMap::new();
    let mut patterns = Vec::new();
    for (Tested { p, finding }, q) in tests.into_iter().zip(qs) {
        if let Some(finding) = finding.filter(|_| q <= rate) {
            let about = format!("{:?}\0{:?}\0{}", finding.kind, finding.operation, finding.about);
            let twin = twins.entry((about, finding.from.div_euclid(24))).or_default();
            patterns.push(finding.pattern(p, q, *twin));
            *twin += 1;
        }
    }
    patterns.sort_by(|a, b| {
        b.impact_score.total_cmp(&a.impact_score).then_with(|| a.pattern_id.cmp(&b.pattern_id))
    });
    patterns
}
