//! Keep, revert or wait, with errors that do not grow with the number of looks.
//!
//! The plan is done when every guarded figure is measured well enough: harm, twice what still counts as none, would be
//! found with the wanted power (information-based monitoring, Mehta and Tsiatis 2001), by no fewer than the wanted
//! calls and hours. Looks are planned at a tenth, a quarter, a half and all of that, and at the deadline. Each may
//! spend a part of `alpha` (the third power of its share of the plan, Kim and DeMets 1987), so that together they
//! take a change that does nothing back with a probability of at most `alpha`, whatever the dependence between
//! looks (union bound). Between planned looks the answer is to wait, however often somebody asks. Figures
//! share what a look may spend by their weights.
//!
//! Where earlier changes of the same calls were kept, each may have done harm too small to be seen. The calls are
//! compared with those before the first of them as well, and each comparison spends half: what adds up is seen.

use nightshift_core::config::{Guard, Judge, Unproven};
use serde::{Deserialize, Serialize};

use super::hours::{Calls, Late};
use super::measure::{Measured, measure};
use super::pairs::{Baseline, Pairs};
use crate::recommendation::Saving;
use crate::tally::Cell;

/// Shares of the plan at which is looked.
const PLAN: [f64; 4] = [0.1, 0.25, 0.5, 1.0];
/// From this share on a change may be kept.
const KEEP_FROM: f64 = 0.5;

/// What to do with the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It stays.
    Keep,
    /// It is taken back.
    Revert,
    /// Nobody knows yet.
    Wait,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Every guarded figure is shown to be no worse.
    NonInferior,
    /// The plan is done: harm would have been found with the wanted power, and was not.
    NoHarm,
    /// The deadline has passed and no harm was seen, though it would have been found less surely than wanted.
    NoHarmByDeadline,
    /// The deadline has passed with too few calls to tell.
    Unproven,
    /// A guarded figure is worse.
    Worse,
    /// A guarded figure is worse than before the changes that were kept before this one.
    WorseTogether,
    /// The raised limit made calls wait longer than it won.
    DidNotPay,
    /// Not enough was seen since the last look.
    TooEarly,
    /// It was looked, and nothing is sure yet.
    Undecided,
}

/// The looks at one change so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// Planned looks taken.
    pub taken: usize,
    /// Part of alpha that they may have spent.
    pub spent: f64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// What it rests on.
    pub basis: Basis,
    /// For a person.
    pub why: String,
    /// Share of the plan that is there, by calls, hours and what the figures' tests could find.
    pub fraction: f64,
    /// About how many more calls the plan needs.
    pub calls_needed: u64,
    /// Calls before and after, matched.
    pub calls: [u64; 2],
    /// What the side before is.
    pub baseline: Baseline,
    /// The guarded figures.
    pub figures: Vec<Measured>,
    /// The same against the time before the first of the changes that were kept before this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<Measured>,
    /// Where a limit was raised: what the calls beyond the old one brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Paid>,
    /// What the change saves in a day, measured.
    pub saving: Saving,
    /// The looks, this one included.
    pub looks: Looks,
}

/// What raising a limit won and cost, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paid {
    /// Calls beyond the old limit.
    pub calls: u64,
    /// Of those, how many succeeded.
    pub succeeded: u64,
    /// Seconds that would have been thrown away with them.
    pub won_s: f64,
    /// Seconds beyond the old limit, of all of them.
    pub cost_s: f64,
}

impl Paid {
    fn of(late: Late, limit_us: u64) -> Self {
        Self {
            calls: late.calls,
            succeeded: late.succeeded,
            won_s: late.succeeded as f64 * limit_us as f64 / 1e6,
            cost_s: late.extra_us as f64 / 1e6,
        }
    }

    /// Whether it was worth it.
    pub fn paid(&self) -> bool {
        self.won_s > 0.0 && self.won_s >= self.cost_s
    }
}

/// When, and about what, a verdict is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Hours since the change.
    pub hours_gone: f64,
    /// There will be no further look, deadline or not.
    pub last: bool,
    /// The limit that was raised, in microseconds.
    pub late_us: Option<u64>,
    /// The looks so far.
    pub looks: Looks,
    /// The calls against those before earlier changes that were kept, where there were any.
    pub anchor: Option<&'a Pairs<'a>>,
}

/// Judges matched calls.
pub fn decide(pairs: &Pairs<'_>, rules: &Judge, asked: Asked<'_>) -> Verdict {
    let Asked { hours_gone, last, late_us, looks, anchor } = asked;
    let calls = [pairs.total(|s| &s.before), pairs.total(|s| &s.after)];
    let counts = [calls[0].cell.calls, calls[1].cell.calls];
    let deadline = last || hours_gone >= rules.deadline_hours;
    let late = late_us.map(|limit| Paid::of(calls[1].late, limit));
    // Whoever may take longer does: with a raised limit, what it won is asked instead.
    let mut guards = rules.guard.clone();
    guards.retain(|guard| late.is_none() || *guard != Guard::P95Latency);
    let alpha = if anchor.is_some() { rules.alpha / 2.0 } else { rules.alpha };
    let figures = measure(pairs, rules, &guards, alpha);
    let together = anchor.map_or(Vec::new(), |anchor| measure(anchor, rules, &guards, alpha));
    let seen = counts[1] + pairs.unmatched;
    let (fraction, calls_needed) = plan(seen, pairs.hours, [&figures, &together], rules, alpha);
    let due = PLAN.iter().filter(|share| **share <= fraction).count();
    let mut verdict = Verdict {
        decision: Decision::Wait,
        basis: Basis::TooEarly,
        why: String::new(),
        fraction,
        calls_needed,
        calls: counts,
        baseline: pairs.baseline,
        figures,
        together,
        late,
        saving: saving(&calls, hours_gone),
        looks,
    };
    if counts.iter().any(|count| *count < rules.min_observations.max(1)) {
        if deadline {
            verdict.basis = Basis::Unproven;
            verdict.decision = by_policy(rules);
        }
    } else if due > looks.taken || deadline {
        // Nothing comes after the end of the plan or the deadline: all may be spent.
        let share = if deadline { 1.0 } else { PLAN.get(due - 1).copied().unwrap_or(1.0) };
        let may_spend = alpha * share.powi(3);
        verdict.looks = Looks { taken: due.max(looks.taken), spent: may_spend.max(looks.spent) };
        look(&mut verdict, may_spend - looks.spent, deadline, rules);
    }
    verdict.why = verdict.say(rules);
    verdict
}

/// Share of the plan that is there, and about how many more calls are needed: what a test can find grows with the root
/// of the calls. A figure counts as far as the better of its comparisons sees it.
fn plan(
    seen: u64,
    hours: usize,
    [figures, together]: [&[Measured]; 2],
    rules: &Judge,
    alpha: f64,
) -> (f64, u64) {
    let by_hours = if rules.min_hours > 0.0 { hours as f64 / rules.min_hours } else { 1.0 };
    let information = |figure: &Measured| figure.harm.information(alpha * figure.share, rules.power);
    let by_figures = figures.iter().map(|figure| {
        let other = together.iter().find(|other| other.figure == figure.figure);
        information(figure).max(other.map_or(0.0, information))
    });
    let by_figures = by_figures.fold(f64::INFINITY, f64::min);
    let fraction = (seen as f64 / rules.observations as f64).min(by_hours).min(by_figures).min(1.0);
    let needed = if by_figures < 1.0 { seen as f64 / by_figures.max(1e-6) } else { 0.0 };
    (fraction, (needed.max(rules.observations as f64) as u64).saturating_sub(seen))
}

/// What becomes of a change about which too little is known.
fn by_policy(rules: &Judge) -> Decision {
    match rules.unproven {
        Unproven::Keep => Decision::Keep,
        Unproven::Revert => Decision::Revert,
    }
}

/// Per call before minus per call after, times the calls of a day after.
fn saving([before, after]: &[Calls; 2], hours_gone: f64) -> Saving {
    let daily = after.cell.calls as f64 * 24.0 / hours_gone.max(1.0);
    let fewer = |amount: fn(&Cell) -> f64| {
        let each = |calls: &Calls| amount(&calls.cell) / calls.cell.calls.max(1) as f64;
        (each(before) - each(after)) * daily
    };
    if before.cell.calls == 0 || after.cell.calls == 0 {
        return Saving::default();
    }
    Saving {
        seconds_per_day: fewer(|cell| cell.duration_us as f64 / 1e6),
        usd_per_day: fewer(|cell| cell.cost_nano as f64 / 1e9),
        failures_per_day: fewer(|cell| cell.errors as f64),
    }
}

/// One look with `alpha` to spend.
fn look(verdict: &mut Verdict, alpha: f64, deadline: bool, rules: &Judge) {
    let worse = |figure: &Measured| figure.worse && figure.p <= alpha * figure.share;
    let unpaid = verdict.late.is_some_and(|late| late.calls > 0 && !late.paid());
    let mut all = verdict.figures.iter().chain(&verdict.together);
    (verdict.decision, verdict.basis) = if verdict.figures.iter().any(worse) {
        (Decision::Revert, Basis::Worse)
    } else if verdict.together.iter().any(worse) {
        (Decision::Revert, Basis::WorseTogether)
    } else if deadline && unpaid {
        (Decision::Revert, Basis::DidNotPay)
    } else if verdict.fraction >= KEEP_FROM
        && !verdict.figures.is_empty()
        && all.all(|figure| figure.no_worse)
        && verdict.late.is_none_or(|late| late.paid())
    {
        (Decision::Keep, Basis::NonInferior)
    } else if verdict.fraction >= 1.0 && verdict.late.is_none_or(|late| late.paid()) {
        (Decision::Keep, Basis::NoHarm)
    } else if deadline {
        (by_policy(rules), Basis::NoHarmByDeadline)
    } else {
        (Decision::Wait, Basis::Undecided)
    };
}

/// The name of a figure in a sentence.
pub(super) const fn words(guard: Guard) -> &'static str {
    match guard {
        Guard::ErrorRate => "error rate",
        Guard::P95Latency => "p95 latency",
        Guard::CostPerCall => "cost per call",
        Guard::Throughput => "throughput",
    }
}

/// A figure with its unit.
pub(super) fn amount(guard: Guard, value: f64) -> String {
    match guard {
        Guard::ErrorRate => format!("{:.1} %", 100.0 * value),
        Guard::P95Latency => format!("{value:.0} ms"),
        Guard::CostPerCall => format!("{value:.5} USD"),
        Guard::Throughput => format!("{value:.1}/h"),
    }
}

/// The figures in a sentence.
fn sentence(figures: &[Measured]) -> String {
    let one = |f: &Measured| {
        let (old, new) = (amount(f.figure, f.before), amount(f.figure, f.after));
        format!("{} {old} -> {new} (p {:.2e})", words(f.figure), f.p)
    };
    figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Verdict {
    fn say(&self, rules: &Judge) -> String {
        let [before, after] = self.calls;
        let seen = format!("{after} calls after, {before} in {}", self.baseline.words());
        let figures = sentence(&self.figures);
        let late = self.late.map_or(String::new(), |late| {
            let Paid { calls, succeeded, won_s, cost_s } = late;
            format!("; beyond the old limit {calls} calls, {succeeded} succeeded: {won_s:.0} s won for {cost_s:.0} s")
        });
        let power = self.figures.iter().map(|figure| figure.power).fold(1.0, f64::min);
        let more = match self.calls_needed {
            0 => String::new(),
            calls => format!("; about {calls} more calls are needed"),
        };
        match self.basis {
            Basis::NonInferior => format!("not worse: {figures}{late}; {seen}"),
            Basis::NoHarm => format!("no harm: {figures}{late}; {seen}"),
            Basis::NoHarmByDeadline => {
                format!(
                    "no harm by the deadline, which had a chance of {power:.2} to be seen: {figures}{late}; {seen}"
                )
            }
            Basis::Unproven => {
                format!("unproven at the deadline: {seen}, fewer than {}", rules.min_observations)
            }
            Basis::Worse => format!("worse: {figures}; {seen}"),
            Basis::WorseTogether => format!(
                "worse than before the changes that were kept before it: {}; by itself: {figures}; {seen}",
                sentence(&self.together)
            ),
            Basis::DidNotPay => format!("the higher limit did not pay{late}; {seen}"),
            Basis::TooEarly => format!("too early: {seen}; {:.0} % of the plan{more}", 100.0 * self.fraction),
            Basis::Undecided => format!("undecided: {figures}{late}; {seen}{more}"),
        }
    }
}
