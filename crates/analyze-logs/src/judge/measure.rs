//! Each guarded figure on both sides: how large, how sure that it is worse, how sure that it is not.

use nightshift_core::config::{Guard, Judge};
use nightshift_stats::interval::newcombe;
use nightshift_stats::special::normal_quantile;
use nightshift_stats::stratified::{
    Compared, Excess, Rates, Scored, compare, compare_rates, mean_above_zero,
};
use serde::{Deserialize, Serialize};

use super::hours::{Calls, Sides};
use super::pairs::{Pairs, Period};
use crate::tally::Sketch;

/// Ranks from here on count for the general test of durations.
const UPPER: f64 = 0.5;
/// The quantile that is guarded.
const GUARDED: f64 = 0.95;
/// Costs above this quantile of both sides count as this: one huge prompt is no trend.
const WINSOR: f64 = 0.99;

/// One figure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub figure: Guard,
    /// Before: a share, milliseconds, US dollars, or calls in an hour.
    pub before: f64,
    /// After.
    pub after: f64,
    /// After over before; absent when it was 0 before.
    pub ratio: Option<f64>,
    /// Interval of the difference (of rates) or of the ratio, at the confidence of a keep.
    pub low: f64,
    /// Its other end.
    pub high: f64,
    /// Chance of this or worse if nothing changed.
    pub p: f64,
    /// Hours that are good or bad as a whole make the variance so many times larger.
    pub overdispersion: f64,
    /// Worse by more than the least effect that counts.
    pub worse: bool,
    /// Shown to be no worse than the margin.
    pub no_worse: bool,
}

/// Measures the guarded figures that the calls have; `confidence` is that of a keep.
pub fn measure(pairs: &Pairs, rules: &Judge, guards: &[Guard], confidence: f64) -> Vec<Measured> {
    let before = pairs.total(|sides| &sides.before);
    let after = pairs.total(|sides| &sides.after);
    let measure = |guard: &Guard| match guard {
        Guard::ErrorRate => error_rate(pairs, rules, [&before, &after], confidence),
        Guard::P95Latency => latency(pairs, rules, [&before, &after], confidence),
        Guard::CostPerCall => cost(pairs, rules, [&before, &after], confidence),
        Guard::Throughput => throughput(pairs, rules, confidence),
    };
    guards.iter().filter_map(measure).collect()
}

/// The standard score of a one-sided confidence.
fn score(confidence: f64) -> f64 {
    normal_quantile(confidence).unwrap_or(1.645)
}

fn error_rate(
    pairs: &Pairs,
    rules: &Judge,
    [before, after]: [&Calls; 2],
    confidence: f64,
) -> Option<Measured> {
    let counts = |calls: &Calls| (calls.cell.errors, calls.cell.calls);
    let rates =
        |period: &Period| Rates { before: counts(&period.sides.before), after: counts(&period.sides.after) };
    let strata: Vec<Rates> = pairs.periods.iter().map(rates).collect();
    let compared = compare_rates(&strata);
    // The sides as they would be with the hours of the side after: a baseline of more night is no excuse.
    let expected = |calls: fn(&Sides) -> &Calls| {
        let shares = pairs.periods.iter().map(|period| {
            let side = &calls(&period.sides).cell;
            period.sides.after.cell.calls as f64 * side.errors as f64 / side.calls as f64
        });
        shares.sum::<f64>() / after.cell.calls.max(1) as f64
    };
    let (old, new) = (expected(|sides| &sides.before), expected(|sides| &sides.after));
    let size = |calls: &Calls| calls.cell.calls as f64 / compared.overdispersion;
    let (n_before, n_after) = (size(before), size(after));
    let two_sided = 1.0 - 2.0 * (1.0 - confidence);
    let interval = newcombe((old * n_before, n_before), (new * n_after, n_after), two_sided).ok()?;
    let margin = rules.error_margin.max((rules.error_ratio - 1.0) * old);
    Some(Measured {
        figure: Guard::ErrorRate,
        before: old,
        after: new,
        ratio: (old > 0.0).then(|| new / old),
        low: interval.low,
        high: interval.high,
        p: compared.p,
        overdispersion: compared.overdispersion,
        worse: new > old * rules.min_effect,
        no_worse: interval.high <= margin,
    })
}

/// The score of each bucket of both sides together, from its middle rank.
fn rank_scores(all: &Sketch, score: impl Fn(f64) -> f64) -> impl Fn(u64) -> f64 {
    let count = all.count() as f64;
    let mut below = 0.0;
    let scores: Vec<(u64, f64)> = all
        .buckets()
        .map(|(first, _, times)| {
            let rank = (below + f64::from(times) / 2.0) / count;
            below += f64::from(times);
            (first, score(rank))
        })
        .collect();
    move |first| scores.binary_search_by_key(&first, |(first, _)| *first).map_or(0.0, |at| scores[at].1)
}

/// Compares two sketches in every period by the scores of their buckets.
fn compare_sketches(pairs: &Pairs, sketch: fn(&Calls) -> &Sketch, score: impl Fn(u64) -> f64) -> Compared {
    let strata: Vec<Excess> = pairs
        .periods
        .iter()
        .map(|period| {
            let values = |calls, before: bool| {
                let times = move |times: u32| if before { (times.into(), 0) } else { (0, times.into()) };
                sketch(calls).buckets().map(move |(first, _, count)| (first, times(count)))
            };
            let both = values(&period.sides.before, true).chain(values(&period.sides.after, false));
            let scored: Vec<Scored> =
                both.map(|(first, (before, after))| Scored { score: score(first), before, after }).collect();
            Excess::of(scored.iter().copied())
        })
        .collect();
    compare(&strata)
}

/// Two tests, each with half of the error: how many calls lie beyond the 95th percentile of both sides together
/// (a sign test; sees a few calls that became very slow), and Savage's scores of the upper half (sees that all became
/// slower, where the sign test needs three times the calls). The percentiles themselves must point the same way.
fn latency(pairs: &Pairs, rules: &Judge, [before, after]: [&Calls; 2], confidence: f64) -> Option<Measured> {
    let (old, new) = (before.cell.quantile_ms(GUARDED)?, after.cell.quantile_ms(GUARDED)?);
    let mut all = before.cell.sketch.clone();
    all.absorb(&after.cell.sketch);
    let test = |scores: fn(f64) -> f64| {
        compare_sketches(pairs, |calls| &calls.cell.sketch, rank_scores(&all, scores))
    };
    let beyond = test(|rank| f64::from(u8::from(rank > GUARDED)));
    let upper = test(|rank| ((1.0 - UPPER) / (1.0 - rank)).ln().max(0.0));
    let surer = if upper.p < beyond.p { upper } else { beyond };
    let compared = Compared {
        p: (2.0 * surer.p).min(1.0),
        overdispersion: upper.overdispersion.max(beyond.overdispersion),
        ..surer
    };
    let z = score(confidence);
    // Woodruff 1952: the quantiles at the ends of the interval of the rank.
    let ends = |calls: &Calls| {
        let n = calls.cell.sketch.count() as f64 / compared.overdispersion;
        let half = z * (GUARDED * (1.0 - GUARDED) / n).sqrt();
        let at = |rank: f64| calls.cell.quantile_ms(rank.clamp(0.0, 1.0)).unwrap_or(f64::NAN).max(1e-6).ln();
        // A rank beyond the last value is not bounded by it.
        let high = if GUARDED + half < 1.0 - 0.5 / n { at(GUARDED + half) } else { f64::INFINITY };
        (at(GUARDED - half), at(GUARDED), high)
    };
    let ((l1, q1, u1), (l2, q2, u2)) = (ends(before), ends(after));
    let low = (q2 - q1 - (q2 - l2).hypot(u1 - q1)).exp();
    let high = (q2 - q1 + (u2 - q2).hypot(q1 - l1)).exp();
    Some(ratio(Guard::P95Latency, (old, new), (low, high), compared, (rules.min_effect, rules.latency_ratio)))
}

fn cost(pairs: &Pairs, rules: &Judge, [before, after]: [&Calls; 2], confidence: f64) -> Option<Measured> {
    let mut all = before.costs.clone();
    all.absorb(&after.costs);
    let most = all.quantile(WINSOR, 0, u64::MAX)?;
    if most <= 0.0 || before.costs.count() == 0 || after.costs.count() == 0 {
        return None;
    }
    let compared = compare_sketches(pairs, |calls| &calls.costs, |first| (first as f64).min(most));
    let moments = |calls: &Calls| {
        let n = calls.costs.count() as f64;
        let values = || {
            calls.costs.buckets().map(|(first, next, count)| {
                (f64::midpoint(first as f64, (next - 1) as f64).min(most), f64::from(count))
            })
        };
        let mean = values().map(|(value, count)| value * count).sum::<f64>() / n;
        let variance = values().map(|(value, count)| (value - mean).powi(2) * count).sum::<f64>() / n;
        (mean, variance / n * compared.overdispersion)
    };
    let ((old, old_variance), (new, new_variance)) = (moments(before), moments(after));
    // The delta method on the logarithm of the ratio of the means.
    let half = score(confidence) * (old_variance / (old * old) + new_variance / (new * new)).sqrt();
    let ends = ((new / old).ln() - half, (new / old).ln() + half);
    let (low, high) = (ends.0.exp(), ends.1.exp());
    let usd = |nano: f64| nano / 1e9;
    let limits = (rules.min_effect, rules.cost_ratio);
    Some(ratio(Guard::CostPerCall, (usd(old), usd(new)), (low, high), compared, limits))
}

fn ratio(
    figure: Guard,
    (before, after): (f64, f64),
    (low, high): (f64, f64),
    compared: Compared,
    (least, margin): (f64, f64),
) -> Measured {
    Measured {
        figure,
        before,
        after,
        ratio: (before > 0.0).then(|| after / before),
        low,
        high,
        p: compared.p,
        overdispersion: compared.overdispersion,
        worse: after > before * least,
        no_worse: high <= margin,
    }
}

/// Calls in an hour, period by period: arms share the hours, so there is nothing to compare for them.
fn throughput(pairs: &Pairs, rules: &Judge, confidence: f64) -> Option<Measured> {
    let watched = |period: &&Period| period.watched.0 > 0.0 && period.watched.1 > 0.0;
    let rates: Vec<(f64, f64)> = pairs
        .periods
        .iter()
        .filter(watched)
        .map(|period| {
            let Sides { before, after } = &period.sides;
            (before.cell.calls as f64 / period.watched.0, after.cell.calls as f64 / period.watched.1)
        })
        .collect();
    let fewer: Vec<f64> = rates.iter().map(|(before, after)| before - after).collect();
    let compared = mean_above_zero(&fewer)?;
    let count = rates.len() as f64;
    let mean = |side: fn(&(f64, f64)) -> f64| rates.iter().map(side).sum::<f64>() / count;
    let (old, new) = (mean(|rate| rate.0), mean(|rate| rate.1));
    let error = if compared.z == 0.0 { 0.0 } else { ((old - new) / compared.z).abs() };
    let half = score(confidence) * error;
    let (low, high) = ((new - half) / old, (new + half) / old);
    Some(Measured {
        figure: Guard::Throughput,
        before: old,
        after: new,
        ratio: Some(new / old),
        low,
        high,
        p: compared.p,
        overdispersion: compared.overdispersion,
        worse: new * rules.min_effect < old,
        no_worse: low >= rules.throughput_ratio,
    })
}
