//! Two sides compared stratum by stratum: is a quantity higher after than before, hour for hour?
//!
//! Within a stratum (an hour of the week, say) the two sides are exchangeable under the null hypothesis, so
//! that the sum of the scores on one side is a draw without replacement: the stratified linear rank test (van
//! Elteren 1960; Cochran-Mantel-Haenszel for scores 0 and 1). What differs between strata, a daily wave for
//! instance, cancels. What the strata's own draws do not explain (hours that are good or bad as a whole, one
//! after the other) is estimated from how the strata scatter, and widens the test.

use crate::special::{ln_choose, normal_cdf, normal_quantile};

/// Events beyond this are judged by the normal approximation, which is exact enough there.
const MOST_EXACT: u64 = 4000;
/// Fewer strata say nothing of how they scatter.
const FEWEST_STRATA: usize = 8;
/// How much of an hour's level the next hour keeps.
const PERSISTENCE: f64 = 0.6;
/// Standard errors that are added to what the strata scatter: too little costs false alarms, too much power.
const CAUTION: f64 = 0.7;
/// Strata farther apart are taken to be independent.
const REACH: usize = 20;

/// A value with its score, and how often each side of a stratum has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The score, larger for worse.
    pub score: f64,
    /// Times before.
    pub before: u64,
    /// Times after.
    pub after: u64,
}

/// One stratum: by how much the scores after exceed their expectation, and the variance of that under the null.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Excess {
    /// Observed minus expected sum of the scores after.
    pub excess: f64,
    /// Variance of the sum when sides are exchanged at random.
    pub variance: f64,
}

impl Excess {
    /// Of the values of a stratum. Zero with a side empty, or with all scores equal.
    pub fn of(values: impl IntoIterator<Item = Scored> + Clone) -> Self {
        let (mut before, mut after, mut sum, mut sum_after) = (0.0, 0.0, 0.0, 0.0);
        for value in values.clone() {
            let (b, a) = (value.before as f64, value.after as f64);
            before += b;
            after += a;
            sum += value.score * (a + b);
            sum_after += value.score * a;
        }
        let n = before + after;
        if before == 0.0 || after == 0.0 || n < 2.0 {
            return Self::default();
        }
        let mean = sum / n;
        let squares: f64 =
            values.into_iter().map(|v| (v.score - mean).powi(2) * (v.before + v.after) as f64).sum();
        Self { excess: sum_after - after * mean, variance: after * before * squares / (n * (n - 1.0)) }
    }
}

/// Events among trials on both sides of a stratum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// (events, trials) before.
    pub before: (u64, u64),
    /// (events, trials) after.
    pub after: (u64, u64),
}

impl Rates {
    fn excess(self) -> Excess {
        let score = |score, before, after| Scored { score, before, after };
        let others = |(events, trials): (u64, u64)| trials.saturating_sub(events);
        Excess::of([
            score(1.0, self.before.0, self.after.0),
            score(0.0, others(self.before), others(self.after)),
        ])
    }
}

/// How a comparison came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Standard score, positive when higher after; already shrunk by the overdispersion.
    pub z: f64,
    /// One-sided probability of this or more under the null.
    pub p: f64,
    /// Variance in units of what the draws within strata explain, at least 1.
    pub overdispersion: f64,
    /// Strata that have both sides and any difference to show.
    pub strata: usize,
}

/// Compares any scores; strata in the order of time.
pub fn compare(strata: &[Excess]) -> Compared {
    let excess: f64 = strata.iter().map(|s| s.excess).sum();
    let variance: f64 = strata.iter().map(|s| s.variance).sum();
    finish(if variance > 0.0 { excess / variance.sqrt() } else { 0.0 }, strata)
}

/// Compares rates exactly: given the events of each stratum, those after are hypergeometric, and their sum's
/// distribution is the convolution. The observed value counts half (mid-p, Lancaster 1961).
pub fn compare_rates(strata: &[Rates]) -> Compared {
    let excesses: Vec<Excess> = strata.iter().map(|stratum| stratum.excess()).collect();
    let useful = |s: &&Rates| s.before.1 > 0 && s.after.1 > 0 && s.before.0 + s.after.0 > 0;
    let events: u64 = strata.iter().filter(useful).map(|s| s.before.0 + s.after.0).sum();
    if events == 0 || events > MOST_EXACT {
        return compare(&excesses);
    }
    // distribution[i]: probability of `least + i` events after, over the strata so far.
    let (mut distribution, mut least, mut observed) = (vec![1.0], 0, 0);
    for stratum in strata.iter().filter(useful) {
        let (from, probabilities) = hypergeometric(*stratum);
        let mut next = vec![0.0; distribution.len() + probabilities.len() - 1];
        for (i, left) in distribution.iter().enumerate() {
            for (j, right) in probabilities.iter().enumerate() {
                next[i + j] += left * right;
            }
        }
        distribution = next;
        least += from;
        observed += stratum.after.0;
    }
    let at = (observed - least) as usize;
    let above: f64 = distribution[at + 1..].iter().sum();
    let p = above + distribution[at] / 2.0;
    // Beyond the reach of f64 the normal form says the same: certain.
    match normal_quantile(p) {
        Ok(quantile) => finish(-quantile, &excesses),
        Err(_) => compare(&excesses),
    }
}

/// The least number of events after, and the probabilities from there on.
fn hypergeometric(stratum: Rates) -> (u64, Vec<f64>) {
    let (before, after) = (stratum.before.1, stratum.after.1);
    let events = stratum.before.0 + stratum.after.0;
    let least = events.saturating_sub(before);
    let ln_all = ln_choose(before + after, events);
    let probability = |k| (ln_choose(after, k) + ln_choose(before, events - k) - ln_all).exp();
    (least, (least..=events.min(after)).map(probability).collect())
}

fn finish(z: f64, strata: &[Excess]) -> Compared {
    let overdispersion = overdispersion(strata);
    let z = z / overdispersion.sqrt();
    let used = strata.iter().filter(|stratum| stratum.variance > 0.0).count();
    Compared { z, p: normal_cdf(-z), overdispersion, strata: used }
}

/// Variance of the sum of the excesses over what the draws within strata explain; at least 1, and 1 with fewer
/// than eight strata.
///
/// A stratum's own level adds `t^2 V^2` to its variance `V`, and levels of strata `d` apart go together by
/// `PERSISTENCE^d`: one number `t^2`, estimated by least squares from the products of the excesses' rests around
/// the common effect, each weighted by how much it says (moments as in Liang and Zeger 1986), and `CAUTION` of its
/// standard error is added. A free choice of the persistence, or Newey and West's sums, scatter so much at fifty
/// strata that they let more false alarms through (`scripts/sim-judging`).
fn overdispersion(strata: &[Excess]) -> f64 {
    let used: Vec<&Excess> = strata.iter().filter(|stratum| stratum.variance > 0.0).collect();
    if used.len() < FEWEST_STRATA {
        return 1.0;
    }
    let variance: f64 = used.iter().map(|s| s.variance).sum();
    let effect = used.iter().map(|s| s.excess).sum::<f64>() / variance;
    let rest = |s: &Excess| s.excess - effect * s.variance;
    let (mut found, mut scale, mut sum, mut noise) = (0.0, 0.0, 0.0, 0.0);
    for (index, a) in used.iter().enumerate() {
        for (distance, b) in used[index..].iter().take(REACH).enumerate() {
            let together = PERSISTENCE.powi(distance as i32);
            let both = a.variance * b.variance;
            // Fitting the effect takes `both / variance` from every product. A square scatters twice as much
            // as a product of two, and each of those is there twice.
            let own = if distance == 0 { a.variance } else { 0.0 };
            let (weight, times) = if distance == 0 { (0.5, 1.0) } else { (1.0, 2.0) };
            found += times * weight * together * (rest(a) * rest(b) - own + both / variance);
            scale += times * weight * together * together * both;
            sum += times * together * both;
            noise += if distance == 0 { 0.5 * both } else { 4.0 * together * together * both };
        }
    }
    1.0 + ((found + CAUTION * noise.sqrt()) / scale).max(0.0) * sum / variance
}

/// Newey-West estimate of the long-run variance of a series whose mean is taken to be 0, with a correction for
/// the one effect that was fitted.
fn long_run(rests: &[f64]) -> f64 {
    let count = rests.len() as f64;
    let lags = count.cbrt().round() as usize;
    let lagged = |lag: usize| rests.iter().zip(&rests[lag..]).map(|(a, b)| a * b).sum::<f64>();
    let weighted = |lag: usize| 2.0 * (1.0 - lag as f64 / (lags + 1) as f64) * lagged(lag);
    let sum = lagged(0) + (1..=lags).map(weighted).sum::<f64>();
    sum / count * count / (count - 1.0)
}

/// Is the mean of a series above 0? The differences may follow one another's example (an hour and the next): the
/// variance is Newey and West's. `None` with fewer than eight, or without any difference.
pub fn mean_above_zero(differences: &[f64]) -> Option<Compared> {
    if differences.len() < FEWEST_STRATA {
        return None;
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let rests: Vec<f64> = differences.iter().map(|d| d - mean).collect();
    let plain = rests.iter().map(|r| r * r).sum::<f64>() / (count - 1.0);
    let variance = long_run(&rests).max(plain);
    if variance <= 0.0 {
        return None;
    }
    let z = mean / (variance / count).sqrt();
    Some(Compared { z, p: normal_cdf(-z), overdispersion: variance / plain, strata: differences.len() })
}
