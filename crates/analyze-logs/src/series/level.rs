//! Levels of an hourly series: what an hour of the day usually adds is taken off, then the rest is cut
//! into segments of one level, at the least cost.
//!
//! Two kinds of series. [`Counts`] are hits among an exposure (failed calls among calls) and compared by
//! exact conditional tests; [`Means`] are values with weights. Both estimate from neighbouring hours how
//! much more than chance the series scatters, and demand that much more evidence.

use nightshift_stats::change::{CountSums, Sums, changes};
use nightshift_stats::special::{binomial_tail, normal_cdf};

use super::track::Hours;

/// Penalty of a change, in units of ln(hours): of counts as Schwarz's criterion has it, of means, whose short
/// stretches stand out more, one more. Tests decide later.
const COUNTS: f64 = 2.0;
const MEANS: f64 = 3.0;
/// Segments up to so many hours are not asked whether they rise.
const PASSING: usize = 12;
/// Part of the slope from step to step that a rise within the steps must have.
const WITHIN: f64 = 0.35;
/// Hits that a kind of hour is credited with before any is seen.
const PRIOR: f64 = 5.0;
/// Mean of chi-squared (one degree of freedom) without its highest tenth.
const TRIMMED: f64 = 0.623;

/// Hours `start..end` of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Segment {
    /// Hours.
    pub(crate) fn length(self) -> usize {
        self.end - self.start
    }
}

fn segments(count: usize, changes: &[usize]) -> Vec<Segment> {
    let starts = std::iter::once(0).chain(changes.iter().copied());
    let ends = changes.iter().copied().chain(std::iter::once(count));
    starts.zip(ends).map(|(start, end)| Segment { start, end }).collect()
}

fn ln(hours: usize) -> f64 {
    (hours.max(8) as f64).ln()
}

/// The mean of squares that should be chi-squared, its highest tenth left out; at least 1.
fn scatter(mut squares: Vec<f64>) -> f64 {
    squares.sort_by(f64::total_cmp);
    squares.truncate(squares.len() * 9 / 10);
    if squares.len() < 8 {
        return 1.0;
    }
    (squares.iter().sum::<f64>() / squares.len() as f64 / TRIMMED).max(1.0)
}

/// A level is chi-squared distributed without an effect: is this sum over `slots` beyond that, at the normal
/// deviate `z`?
fn beyond_chance(sum: f64, slots: usize, z: f64) -> bool {
    // Wilson and Hilferty (1931).
    let freedom = slots.saturating_sub(1).max(1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    (sum / freedom).cbrt() > 1.0 - spread + z * spread.sqrt()
}

/// Hits among an exposure.
#[derive(Debug)]
pub(crate) struct Counts {
    hits: Vec<f64>,
    exposure: Vec<f64>,
    sums: CountSums,
}

impl Counts {
    /// The exposure is multiplied by what an hour of its kind usually has.
    pub(crate) fn new(hours: Hours, hits: Vec<f64>, mut exposure: Vec<f64>) -> Self {
        let factors = usual(hours, &hits, &exposure);
        for (index, exposure) in exposure.iter_mut().enumerate() {
            *exposure *= factors[hours.slot(index)];
        }
        let sums = CountSums::of(hits.iter().copied().zip(exposure.iter().copied()));
        Self { hits, exposure, sums }
    }

    /// Hits and exposure of some hours.
    pub(crate) fn part(&self, segment: Segment) -> (f64, f64) {
        self.sums.part(segment.start, segment.end)
    }

    /// Hits and exposure of several segments.
    pub(crate) fn parts(&self, segments: &[Segment]) -> (f64, f64) {
        segments.iter().map(|segment| self.part(*segment)).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// The segments of one rate.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let count = self.hits.len();
        let active: Vec<usize> = (0..count).filter(|i| self.exposure[*i] > 0.0).collect();
        let pairs = active.windows(2).filter_map(|pair| {
            let [(a, e), (b, f)] = [pair[0], pair[1]].map(|i| (self.hits[i], self.exposure[i]));
            let rate = (a + b) / (e + f);
            let square = |hits: f64, expected: f64| (hits - expected) * (hits - expected) / expected;
            (rate > 0.0).then(|| square(a, rate * e) + square(b, rate * f))
        });
        let scatter = scatter(pairs.collect());
        segments(count, &changes(&self.sums, COUNTS * ln(count) * scatter))
    }

    /// By how much some segments scatter more than counts do, at least 1: Pearson's statistic over stretches of
    /// hours that are long enough to expect a hit.
    fn clumping(&self, segments: &[Segment]) -> f64 {
        let (hits, exposure) = self.parts(segments);
        let rate = hits / exposure;
        let (mut sum, mut count) = (0.0, 0.0_f64);
        for segment in segments {
            let (mut seen, mut expected) = (0.0, 0.0);
            for i in segment.start..segment.end {
                seen += self.hits[i];
                expected += rate * self.exposure[i];
                if expected >= 1.0 {
                    sum += (seen - expected) * (seen - expected) / expected;
                    count += 1.0;
                    (seen, expected) = (0.0, 0.0);
                }
            }
        }
        if hits > 0.0 && count > 8.0 { (sum / (count - 1.0)).max(1.0) } else { 1.0 }
    }

    /// Two-sided p-value of a rise or fall of the rate over the hours (Cochran 1954 and Armitage 1955, with Poisson
    /// variance; clumped counts count for so much less).
    pub(crate) fn rise(&self) -> f64 {
        let whole = Segment { start: 0, end: self.hits.len() };
        let (hits, exposure) = self.part(whole);
        if hits <= 0.0 || exposure <= 0.0 {
            return 1.0;
        }
        let sum = |of: &dyn Fn(usize) -> f64| (0..self.hits.len()).map(of).sum::<f64>();
        let middle = sum(&|i| self.exposure[i] * i as f64) / exposure;
        let score = sum(&|i| self.hits[i] * (i as f64 - middle));
        let spread = sum(&|i| self.exposure[i] * (i as f64 - middle).powi(2));
        2.0 * normal_cdf(-score.abs() / (hits / exposure * spread * self.clumping(&[whole])).sqrt())
    }

    /// Whether the rate rises (falls) steadily rather than by these steps, or by the best single step where there
    /// are none: Schwarz's criterion on the Poisson deviances.
    pub(crate) fn is_steady(&self, segments: &[Segment]) -> bool {
        let count = self.hits.len();
        let two = |at: usize| [Segment { start: 0, end: at }, Segment { start: at, end: count }];
        let best = || {
            let cost = |at: usize| self.sums.deviance(0, at) + self.sums.deviance(at, count);
            (1..count)
                .map(|at| (at, cost(at)))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map(|(at, _)| two(at).to_vec())
        };
        let steps = if segments.len() > 1 { Some(segments.to_vec()) } else { best() };
        let Some(steps) = steps else { return false };
        let (hits, exposure) = self.part(Segment { start: 0, end: count });
        let active: Vec<usize> = (0..count).filter(|i| self.exposure[*i] > 0.0).collect();
        let sum = |of: &dyn Fn(usize) -> f64| active.iter().map(|i| of(*i)).sum::<f64>();
        if hits <= 0.0 || active.len() < 4 {
            return false;
        }
        let middle = sum(&|i| self.exposure[i] * i as f64) / exposure;
        let spread = sum(&|i| self.exposure[i] * (i as f64 - middle).powi(2)).max(1e-12);
        let slope = sum(&|i| self.hits[i] * (i as f64 - middle)) / spread;
        let rate = hits / exposure;
        let line = sum(&|i| {
            let expected = (rate + slope * (i as f64 - middle)).max(rate / 50.0) * self.exposure[i];
            // Without what all models share.
            2.0 * (expected - self.hits[i] * (expected / self.exposure[i]).ln())
        });
        let stepped: f64 = steps.iter().map(|s| self.sums.deviance(s.start, s.end)).sum::<f64>() + 2.0 * hits;
        let price = (active.len() as f64).ln();
        let stairs = if steps.len() > 2 { 2.0 } else { 0.0 };
        let clump = steps.iter().map(|s| self.clumping(&[*s])).fold(1.0, f64::max);
        line / clump + 2.0 * price < stepped / clump + ((2 * steps.len() - 1) as f64 + stairs) * price
    }

    /// One-sided p-value of the conditional test of two Poisson rates (Przyborowski and Wilenski 1940): is
    /// the rate of `segment` above (below) that of `base` by chance? For clumped counts by so much fewer.
    pub(crate) fn p(&self, segment: Segment, base: &[Segment], above: bool) -> f64 {
        let clump = self.clumping(base);
        let ((hits, exposure), (others, over)) = (self.part(segment), self.parts(base));
        if exposure <= 0.0 || over <= 0.0 {
            return 1.0;
        }
        let share = exposure / (exposure + over);
        let (ours, all) = (hits / clump, (hits + others) / clump);
        let p = if above {
            binomial_tail(all.ceil() as u64, share, ours.floor() as u64)
        } else {
            binomial_tail(all.ceil() as u64, 1.0 - share, (all.ceil() - ours.ceil()) as u64)
        };
        p.unwrap_or(1.0)
    }
}

/// What an hour of each kind usually has, as a factor of what the day (week) around it has, so that a trend
/// leaves no teeth: the day that is highest there is left out, and few hits say little. All 1 when the kinds
/// do not differ beyond chance.
fn usual(hours: Hours, hits: &[f64], exposure: &[f64]) -> Vec<f64> {
    let slots = hours.slots();
    let sums = CountSums::of(hits.iter().copied().zip(exposure.iter().copied()));
    let mut by_slot: Vec<Vec<(f64, f64)>> = vec![Vec::new(); slots];
    for index in hours.surrounded() {
        let (around, over) = sums.part(index - hours.half_period(), index + hours.half_period());
        if exposure[index] > 0.0 && around > 0.0 {
            by_slot[hours.slot(index)].push((hits[index], around / over * exposure[index]));
        }
    }
    let trimmed: Vec<(f64, f64)> = by_slot
        .iter_mut()
        .map(|days| {
            days.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
            let keep = if days.len() >= 4 { days.len() - 1 } else { days.len() };
            days[..keep].iter().fold((0.0, 0.0), |sum, day| (sum.0 + day.0, sum.1 + day.1))
        })
        .collect();
    let rate = trimmed.iter().map(|t| t.0).sum::<f64>() / trimmed.iter().map(|t| t.1).sum::<f64>();
    let seen = by_slot.iter().map(Vec::len).min().unwrap_or(0);
    if rate.is_nan() || rate <= 0.0 || seen < 2 {
        return vec![1.0; slots];
    }
    let chance: f64 = trimmed
        .iter()
        .map(|(hits, expected)| (hits - rate * expected).powi(2) / (rate * expected).max(1e-9))
        .sum();
    if !beyond_chance(chance, slots, 3.09) {
        return vec![1.0; slots];
    }
    // Few hits say as much as all hours of such a day together.
    let of_day = |slot: usize| {
        let day = &trimmed[slot / 24 * 24..][..24];
        day.iter().map(|t| t.0).sum::<f64>() / (rate * day.iter().map(|t| t.1).sum::<f64>()).max(1e-9)
    };
    let factor = |(slot, (hits, expected)): (usize, &(f64, f64))| {
        (hits + PRIOR * of_day(slot)) / (rate * expected + PRIOR)
    };
    trimmed.iter().enumerate().map(factor).collect()
}

/// Values with weights (1 / variance, up to a common factor).
#[derive(Debug)]
pub(crate) struct Means {
    /// What is left without the usual of its kind of hour; NaN without a value.
    pub(crate) values: Vec<f64>,
    /// Weights; 0 without a value.
    pub(crate) weights: Vec<f64>,
    sums: Sums,
}

impl Means {
    /// Of values from which the usual is already taken off. Weights are scaled so that 1 / weight is the
    /// variance of neighbouring hours; where the caller knows the variance (`known`), only if those
    /// scatter more than it says. Values scatter by `least` at least.
    pub(crate) fn new(values: Vec<f64>, mut weights: Vec<f64>, known: bool, least: f64) -> Self {
        let active: Vec<usize> = (0..values.len()).filter(|i| weights[*i] > 0.0).collect();
        let squares = active.windows(2).map(|pair| {
            let [(x, v), (y, w)] = [pair[0], pair[1]].map(|i| (values[i], weights[i]));
            (x - y) * (x - y) / (1.0 / v + 1.0 / w)
        });
        let squares: Vec<f64> = squares.collect();
        let variance = if known {
            scatter(squares)
        } else {
            let heaviest = weights.iter().copied().fold(0.0, f64::max);
            // The same estimate without the floor of 1, in the values' own units.
            let unit = 1e12;
            scatter(squares.iter().map(|square| square * unit).collect()) / unit + least * least * heaviest
        };
        for weight in &mut weights {
            *weight /= variance;
        }
        let pairs = values.iter().zip(&weights);
        let sums = Sums::of(pairs.map(|(value, weight)| (if *weight > 0.0 { *value } else { 0.0 }, *weight)));
        Self { values, weights, sums }
    }

    /// The segments of one level.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let count = self.values.len();
        segments(count, &changes(&self.sums, MEANS * ln(count)))
    }

    /// Mean of some hours.
    pub(crate) fn mean(&self, segment: Segment) -> f64 {
        self.sums.mean(segment.start, segment.end)
    }

    /// Two-sided p-value of the difference of two segments' means.
    pub(crate) fn p(&self, a: Segment, b: Segment) -> f64 {
        let (v, w) = (self.sums.weight(a.start, a.end), self.sums.weight(b.start, b.end));
        if v <= 0.0 || w <= 0.0 {
            return 1.0;
        }
        2.0 * normal_cdf(-(self.mean(a) - self.mean(b)).abs() / (1.0 / v + 1.0 / w).sqrt())
    }

    /// Whether the hours rise (fall) steadily rather than by these steps: a straight line explains them better
    /// by Schwarz's criterion, or they rise within the steps as well, and most of the way.
    pub(crate) fn is_steady(&self, segments: &[Segment]) -> bool {
        let long: Vec<Segment> = segments.iter().copied().filter(|s| s.length() > PASSING).collect();
        let [first, .., last] = long.as_slice() else { return false };
        let middle = |s: &Segment| (s.start + s.end) as f64 / 2.0;
        let between = (self.mean(*last) - self.mean(*first)) / (middle(last) - middle(first));
        let (mut spread, mut sum) = (0.0, 0.0);
        for segment in &long {
            let level = self.mean(*segment);
            let hours = segment.start..segment.end;
            let weight = self.sums.weight(segment.start, segment.end).max(1e-12);
            let centre = hours.clone().map(|i| self.weights[i] * i as f64).sum::<f64>() / weight;
            for i in hours.filter(|i| self.weights[*i] > 0.0) {
                spread += self.weights[i] * (i as f64 - centre).powi(2);
                sum += self.weights[i] * (i as f64 - centre) * (self.values[i] - level);
            }
        }
        let within = sum / spread.max(1e-12);
        let rises_within = within / between >= WITHIN && within.abs() * spread.sqrt() >= 3.0;
        rises_within || (long.len() == segments.len() && self.line_fits_better(segments))
    }

    fn line_fits_better(&self, segments: &[Segment]) -> bool {
        let active: Vec<usize> = (0..self.values.len()).filter(|i| self.weights[*i] > 0.0).collect();
        let sum = |of: &dyn Fn(usize) -> f64| active.iter().map(|i| self.weights[*i] * of(*i)).sum::<f64>();
        let weight = sum(&|_| 1.0);
        if active.len() < 4 || weight <= 0.0 {
            return false;
        }
        let (x, y) = (sum(&|i| i as f64) / weight, sum(&|i| self.values[i]) / weight);
        let spread = sum(&|i| (i as f64 - x).powi(2));
        let slope = sum(&|i| (i as f64 - x) * (self.values[i] - y)) / spread.max(1e-12);
        let line = sum(&|i| (self.values[i] - y - slope * (i as f64 - x)).powi(2));
        let steps: f64 = segments.iter().map(|s| self.sums.squares(s.start, s.end)).sum();
        let price = (active.len() as f64).ln();
        // A staircase of three levels and more is hardly ever meant as one.
        let stairs = if segments.len() > 2 { 2.0 } else { 0.0 };
        let fit = |squares: f64| active.len() as f64 * squares.max(1e-12).ln();
        fit(line) + 2.0 * price < fit(steps) + ((2 * segments.len() - 1) as f64 + stairs) * price
    }
}

/// What an hour of each kind usually adds to the mean of the day (week) around it: the median over the days; none
/// when the kinds do not differ beyond chance. `spread` is the deviation of a single value.
pub(crate) fn usual_addition(hours: Hours, values: &[f64], weights: &[f64], spread: f64) -> Vec<f64> {
    let slots = hours.slots();
    let sums = Sums::of(values.iter().copied().zip(weights.iter().copied()));
    let mut found: Vec<Vec<(f64, f64)>> = vec![Vec::new(); slots];
    for index in hours.surrounded().filter(|index| weights[*index] > 0.0) {
        let level = sums.mean(index - hours.half_period(), index + hours.half_period());
        found[hours.slot(index)].push((values[index] - level, weights[index]));
    }
    if found.iter().map(Vec::len).max().unwrap_or(0) < 2 {
        return vec![0.0; slots];
    }
    let mut addition: Vec<f64> =
        found.iter_mut().map(|days| if days.len() < 2 { 0.0 } else { weighted_median(days) }).collect();
    let active: Vec<usize> = hours.surrounded().filter(|i| weights[*i] > 0.0).collect();
    let mut by_slot = vec![0.0; slots];
    for &i in &active {
        by_slot[hours.slot(i)] += weights[i];
    }
    // The median of n normal values has 1.57 times the variance of their mean.
    let squares = addition.iter().zip(&by_slot).map(|(a, weight)| a * a * weight / (1.57 * spread * spread));
    if !beyond_chance(squares.sum(), slots, 1.645) {
        return vec![0.0; slots];
    }
    let centre = addition.iter().zip(&by_slot).map(|(a, w)| a * w).sum::<f64>() / by_slot.iter().sum::<f64>();
    for addition in &mut addition {
        *addition -= centre;
    }
    addition
}

/// The value with half of the weight below it; 0 without weight.
pub(crate) fn weighted_median(values: &mut [(f64, f64)]) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (value, weight) in values.iter() {
        below += weight;
        if below >= half {
            return *value;
        }
    }
    0.0
}
