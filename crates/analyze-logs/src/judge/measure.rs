//! Each guarded figure on both sides: how large, how sure that it is worse, how sure that it is not.

use nightshift_core::config::{Guard, Judge};
use nightshift_stats::interval::newcombe;
use nightshift_stats::special::{normal_cdf, normal_quantile};
use nightshift_stats::stratified::{Block, Compared, Levels, compare, compare_rates, mean_above_zero};
use serde::{Deserialize, Serialize};

use super::hours::{Calls, Sides};
use super::pairs::{Baseline, Pairs, Period};
use crate::tally::Sketch;

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
    /// Part of the error that it may spend.
    pub share: f64,
    /// Chance that harm, twice what still counts as none, would have been found by now.
    pub power: f64,
    /// What harm would look like.
    #[serde(skip)]
    pub harm: Harm,
}

/// Harm that is to be found, as the test sees it: twice what still counts as none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Harm {
    /// The standard score to be expected of it.
    pub score: f64,
    /// How much wider scores scatter under it.
    pub spread: f64,
}

impl Harm {
    /// Share of what is needed to find it with a chance of `power` at the error `alpha`; the standard score grows
    /// with the root of the calls.
    pub fn information(self, alpha: f64, power: f64) -> f64 {
        let needed = score(1.0 - alpha) + self.spread * score(power);
        if needed > 0.0 { (self.score / needed).powi(2) } else { 1.0 }
    }

    /// Chance to find it at the error `alpha`.
    pub fn power(self, alpha: f64) -> f64 {
        normal_cdf((self.score - score(1.0 - alpha)) / self.spread)
    }

    /// Of shares: from `old` up by `more`.
    fn of_share(sight: f64, old: f64, more: f64) -> Self {
        let scatter = |share: f64| share * (1.0 - share);
        let (least, new) = (old.max(1e-4), (old + more).min(1.0));
        let spread = (scatter(new).max(1e-4) / scatter(least).max(1e-4)).sqrt();
        Self { score: more * sight, spread }
    }
}

/// Share of the error a figure may spend. Errors are 0 and 1 and need more of it than durations, which say more.
const fn weight(guard: Guard) -> f64 {
    match guard {
        Guard::ErrorRate => 5.0,
        Guard::P95Latency => 3.0,
        Guard::CostPerCall | Guard::Throughput => 1.0,
    }
}

/// Measures the guarded figures that the calls have, with `alpha` to spend on all of them in the end.
pub fn measure(pairs: &Pairs<'_>, rules: &Judge, guards: &[Guard], alpha: f64) -> Vec<Measured> {
    let before = pairs.total(|sides| &sides.before);
    let after = pairs.total(|sides| &sides.after);
    // Both ends of an interval may be wrong.
    let confidence = 1.0 - (1.0 - rules.confidence) / 2.0;
    let measure = |guard: &Guard| match guard {
        Guard::ErrorRate => error_rate(pairs, rules, [&before, &after], confidence),
        Guard::P95Latency => latency(pairs, rules, [&before, &after], confidence),
        Guard::CostPerCall => cost(pairs, rules, [&before, &after], confidence),
        Guard::Throughput => throughput(pairs, rules, confidence),
    };
    let mut figures: Vec<Measured> = guards.iter().filter_map(measure).collect();
    let weights: f64 = figures.iter().map(|figure| weight(figure.figure)).sum();
    for figure in &mut figures {
        figure.share = weight(figure.figure) / weights;
        figure.power = figure.harm.power(alpha * figure.share);
    }
    figures
}

/// The standard score of a one-sided confidence.
fn score(confidence: f64) -> f64 {
    normal_quantile(confidence).unwrap_or(1.645)
}

fn error_rate(
    pairs: &Pairs<'_>,
    rules: &Judge,
    [before, after]: [&Calls; 2],
    confidence: f64,
) -> Option<Measured> {
    let blocks = blocks(pairs, |calls, block| {
        block.add(1.0, calls.cell.errors as f64);
        block.add(0.0, (calls.cell.calls - calls.cell.errors) as f64);
    });
    let compared = compare_rates(&blocks, levels(pairs, &blocks));
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
        share: 0.0,
        power: 0.0,
        harm: Harm::of_share(compared.sight, old, 2.0 * margin),
    })
}

/// The scores of each hour and side, in the order of time.
fn blocks(pairs: &Pairs<'_>, mut add: impl FnMut(&Calls, &mut Block)) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(2 * pairs.by_hour.len());
    for hour in &pairs.by_hour {
        for (calls, after) in [(&hour.sides.before, false), (&hour.sides.after, true)] {
            let mut block = Block { time: hour.time.into(), stratum: hour.period, after, ..Block::default() };
            add(calls, &mut block);
            if block.count > 0.0 {
                blocks.push(block);
            }
        }
    }
    blocks
}

/// Arms share the levels of their hours: what they do not share is in how the hours' differences scatter.
fn levels(pairs: &Pairs<'_>, blocks: &[Block]) -> Option<Levels> {
    if pairs.baseline == Baseline::ControlArm { None } else { Levels::of(blocks) }
}

/// The hours' values by the scores of their buckets.
fn sketch_blocks(pairs: &Pairs<'_>, sketch: fn(&Calls) -> &Sketch, score: impl Fn(u64) -> f64) -> Vec<Block> {
    blocks(pairs, |calls, block| {
        for (first, _, times) in sketch(calls).buckets() {
            block.add(score(first), times.into());
        }
    })
}

/// How many calls lie beyond the 95th percentile of the time before (the control quantile test, Mathisen 1943), all
/// hours of it: a few bad ones must not say by themselves what is far. The percentiles must point the same way.
fn latency(
    pairs: &Pairs<'_>,
    rules: &Judge,
    [before, after]: [&Calls; 2],
    confidence: f64,
) -> Option<Measured> {
    let (old, new) = (before.cell.quantile_ms(GUARDED)?, after.cell.quantile_ms(GUARDED)?);
    let all_before = Sketch::sum(pairs.by_hour.iter().map(|hour| &hour.sides.before.cell.sketch));
    let far = all_before.quantile(GUARDED, 0, u64::MAX)?;
    let beyond =
        sketch_blocks(pairs, |calls| &calls.cell.sketch, |first| f64::from(u8::from(first as f64 > far)));
    let compared = compare_rates(&beyond, levels(pairs, &beyond));
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
    let harmful = 1.0 + 2.0 * (rules.latency_ratio - 1.0);
    let more = share_above(&all_before, far / harmful) - (1.0 - GUARDED);
    // Where all calls become slower that is much; the slowest tenth alone doubles the share beyond.
    let harm = Harm::of_share(compared.sight, 1.0 - GUARDED, more.clamp(0.01, 1.0 - GUARDED));
    Some(ratio(
        (Guard::P95Latency, harm),
        (old, new),
        (low, high),
        compared,
        (rules.min_effect, rules.latency_ratio),
    ))
}

/// Share of the values above a limit; those of its own bucket count as above in part.
fn share_above(sketch: &Sketch, limit: f64) -> f64 {
    let above = |(first, next, count): (u64, u64, u32)| {
        let part = ((next as f64 - limit) / (next - first).max(1) as f64).clamp(0.0, 1.0);
        part * f64::from(count)
    };
    sketch.buckets().map(above).sum::<f64>() / sketch.count().max(1) as f64
}

fn cost(pairs: &Pairs<'_>, rules: &Judge, [before, after]: [&Calls; 2], confidence: f64) -> Option<Measured> {
    let mut all = before.costs.clone();
    all.absorb(&after.costs);
    let most = all.quantile(WINSOR, 0, u64::MAX)?;
    if most <= 0.0 || before.costs.count() == 0 || after.costs.count() == 0 {
        return None;
    }
    let costs = sketch_blocks(pairs, |calls| &calls.costs, |first| (first as f64).min(most));
    let compared = compare(&costs, levels(pairs, &costs));
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
    let more = 2.0 * (rules.cost_ratio - 1.0);
    let harm = Harm { score: more * old * compared.sight, spread: 1.0 + more };
    Some(ratio((Guard::CostPerCall, harm), (usd(old), usd(new)), (low, high), compared, limits))
}

fn ratio(
    (figure, harm): (Guard, Harm),
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
        share: 0.0,
        power: 0.0,
        harm,
    }
}

/// Calls in an hour, period by period: arms share the hours, so there is nothing to compare for them.
fn throughput(pairs: &Pairs<'_>, rules: &Judge, confidence: f64) -> Option<Measured> {
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
    let half = score(confidence) / compared.sight;
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
        share: 0.0,
        power: 0.0,
        harm: Harm { score: 2.0 * (1.0 - rules.throughput_ratio) * old * compared.sight, spread: 1.0 },
    })
}
