//! Two sides compared stratum by stratum: is a quantity higher after than before, hour for hour?
//!
//! Within a stratum (an hour of the week, say) the two sides are exchangeable under the null hypothesis, so
//! that the sum of the scores on one side is a draw without replacement: the stratified linear rank test (van
//! Elteren 1960; Cochran-Mantel-Haenszel for scores 0 and 1). What differs between strata, a daily wave for
//! instance, cancels. What the draws do not explain (hours that are good or bad as a whole, one after the other)
//! widens the test: it is estimated from a long side before ([`Levels`]), or else from how the strata scatter.

mod levels;

pub use levels::Levels;

use crate::special::{beta_cdf, ln_choose, normal_cdf, normal_quantile};

/// Events beyond this are judged by the normal approximation, which is exact enough there.
const MOST_EXACT: u64 = 4000;
/// Fewer strata say nothing of how they scatter.
const FEWEST_STRATA: usize = 8;
/// How much of an hour's level the next hour keeps, where only the strata tell.
const PERSISTENCE: f64 = 0.6;
/// Standard errors that are added to what the strata scatter: too little costs false alarms, too much power.
const CAUTION: f64 = 0.7;
/// Neighbouring strata, or hours, that tell as much of how they scatter as one that is independent would.
const STRATA_PIECE: f64 = 8.0;
/// Strata farther apart are taken to be independent.
const REACH: usize = 20;

/// The scores of one side in one hour; larger is worse.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Block {
    /// The hour, counted from anywhere.
    pub time: i64,
    /// Which stratum it belongs to, from 0 in the order of time; `None` when nothing on the other side answers for it.
    pub stratum: Option<usize>,
    /// The side.
    pub after: bool,
    /// Calls.
    pub count: f64,
    /// Sum of their scores.
    pub sum: f64,
    /// Sum of the squares.
    pub squares: f64,
    /// Sum of the cubes.
    pub cubes: f64,
}

impl Block {
    /// Adds a score that was there so many times.
    pub fn add(&mut self, score: f64, times: f64) {
        self.count += times;
        self.sum += score * times;
        self.squares += score * score * times;
        self.cubes += score.powi(3) * times;
    }

    fn absorb(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.cubes += other.cubes;
    }
}

/// How a comparison came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Standard score, positive when higher after; already shrunk by the overdispersion.
    pub z: f64,
    /// One-sided probability of this or more under the null.
    pub p: f64,
    /// By how much the standard score rises when every score after rises by 1: what the test could see.
    pub sight: f64,
    /// Variance in units of what the draws within strata explain, at least 1.
    pub overdispersion: f64,
    /// Strata that have both sides and any difference to show.
    pub strata: usize,
}

/// Both sides of a stratum.
#[derive(Debug, Clone, Copy, Default)]
struct Stratum {
    before: Block,
    after: Block,
}

impl Stratum {
    fn all(blocks: &[Block]) -> Vec<Self> {
        let mut strata = Vec::new();
        for block in blocks {
            let Some(number) = block.stratum else { continue };
            if strata.len() <= number {
                strata.resize(number + 1, Self::default());
            }
            let side = if block.after { &mut strata[number].after } else { &mut strata[number].before };
            side.absorb(block);
        }
        strata
    }

    fn count(&self) -> f64 {
        self.before.count + self.after.count
    }

    /// What a shift of the scores after by 1 adds to the excess.
    fn pull(&self) -> f64 {
        if self.count() > 0.0 { self.before.count * self.after.count / self.count() } else { 0.0 }
    }

    /// By how much the scores after exceed their expectation, and variance and third moment of that when sides are
    /// exchanged at random (a draw without replacement). Zero with a side empty, or with all scores equal.
    fn excess(&self) -> Excess {
        let (b, a, n) = (self.before.count, self.after.count, self.count());
        if b == 0.0 || a == 0.0 || n < 2.0 {
            return Excess::default();
        }
        let mut all = self.before;
        all.absorb(&self.after);
        let mean = all.sum / n;
        let squares = all.squares - n * mean * mean;
        let excess = self.after.sum - a * mean;
        // Equal scores leave what rounding leaves.
        if squares <= 1e-12 * all.squares {
            return Excess { excess, ..Excess::default() };
        }
        let cubes = all.cubes - 3.0 * mean * all.squares + 2.0 * n * mean.powi(3);
        let third = if n > 2.0 { self.pull() * (b - a) * cubes / ((n - 1.0) * (n - 2.0)) } else { 0.0 };
        Excess { excess, variance: self.pull() * squares / (n - 1.0), third }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Excess {
    excess: f64,
    variance: f64,
    third: f64,
}

/// Compares any scores; blocks in the order of time. Without `levels` the strata themselves say how much they scatter.
pub fn compare(blocks: &[Block], levels: Option<Levels>) -> Compared {
    let strata = Stratum::all(blocks);
    let excesses: Vec<Excess> = strata.iter().map(Stratum::excess).collect();
    let excess: f64 = excesses.iter().map(|s| s.excess).sum();
    let variance: f64 = excesses.iter().map(|s| s.variance).sum();
    let z =
        if variance > 0.0 { unskewed(excess, variance, excesses.iter().map(|s| s.third).sum()) } else { 0.0 };
    finish(z, &strata, &excesses, wider(blocks, &strata, &excesses, levels))
}

/// The standard score that a normal variable of the same tail has: first term of Cornish and Fisher (1938). Where one
/// side is longer, few large scores on the short one are no rarity.
fn unskewed(excess: f64, variance: f64, third: f64) -> f64 {
    let z = excess / variance.sqrt();
    let skewness = third / variance.powf(1.5);
    z - skewness * (z * z - 1.0) / 6.0
}

/// Compares rates (scores 0 and 1) exactly: given the events of each stratum, those after are hypergeometric, and their
/// sum's distribution is the convolution. The observed value counts half (mid-p, Lancaster 1961).
pub fn compare_rates(blocks: &[Block], levels: Option<Levels>) -> Compared {
    let strata = Stratum::all(blocks);
    let useful =
        |s: &&Stratum| s.before.count > 0.0 && s.after.count > 0.0 && s.before.sum + s.after.sum > 0.0;
    let events: f64 = strata.iter().filter(useful).map(|s| s.before.sum + s.after.sum).sum();
    if events == 0.0 || events > MOST_EXACT as f64 {
        return compare(blocks, levels);
    }
    // distribution[i]: probability of `least + i` events after, over the strata so far.
    let (mut distribution, mut least, mut observed) = (vec![1.0], 0, 0);
    for stratum in strata.iter().filter(useful) {
        let (from, probabilities) = hypergeometric(stratum);
        let mut next = vec![0.0; distribution.len() + probabilities.len() - 1];
        for (i, left) in distribution.iter().enumerate() {
            for (j, right) in probabilities.iter().enumerate() {
                next[i + j] += left * right;
            }
        }
        distribution = next;
        least += from;
        observed += stratum.after.sum as u64;
    }
    let at = (observed - least) as usize;
    let above: f64 = distribution[at + 1..].iter().sum();
    let p = above + distribution[at] / 2.0;
    // Beyond the reach of f64 the normal form says the same: certain.
    let Ok(quantile) = normal_quantile(p) else { return compare(blocks, levels) };
    let excesses: Vec<Excess> = strata.iter().map(Stratum::excess).collect();
    finish(-quantile, &strata, &excesses, wider(blocks, &strata, &excesses, levels))
}

/// The least number of events after, and the probabilities from there on.
fn hypergeometric(stratum: &Stratum) -> (u64, Vec<f64>) {
    let (before, after) = (stratum.before.count as u64, stratum.after.count as u64);
    let events = (stratum.before.sum + stratum.after.sum) as u64;
    let least = events.saturating_sub(before);
    let ln_all = ln_choose(before + after, events);
    let probability = |k| (ln_choose(after, k) + ln_choose(before, events - k) - ln_all).exp();
    (least, (least..=events.min(after)).map(probability).collect())
}

fn finish(z: f64, strata: &[Stratum], excesses: &[Excess], wider: Wider) -> Compared {
    let Wider { overdispersion, freedom } = wider;
    let z = z / overdispersion.sqrt();
    // Only the part of the variance that was estimated is unsure (Satterthwaite 1946).
    let unsure = 1.0 - 1.0 / overdispersion;
    let p = if unsure > 0.0 { student_tail(z, freedom / (unsure * unsure)) } else { normal_cdf(-z) };
    let deviation = (excesses.iter().map(|s| s.variance).sum::<f64>() * overdispersion).sqrt();
    let pull: f64 = strata.iter().map(Stratum::pull).sum();
    let sight = if pull > 0.0 { pull / deviation } else { 0.0 };
    let used = excesses.iter().filter(|excess| excess.variance > 0.0).count();
    Compared { z, p, sight, overdispersion, strata: used }
}

/// By how much the variance is larger than draws within strata explain (at least 1), and how well that is known.
struct Wider {
    overdispersion: f64,
    freedom: f64,
}

fn wider(blocks: &[Block], strata: &[Stratum], excesses: &[Excess], levels: Option<Levels>) -> Wider {
    let variance: f64 = excesses.iter().map(|s| s.variance).sum();
    match levels {
        _ if variance <= 0.0 => Wider { overdispersion: 1.0, freedom: 1.0 },
        Some(levels) => {
            let pull = levels_pull(blocks, strata, levels.persistence);
            // A few hours that go together are a few draws, and no sum that must be normal.
            let hours = blocks.iter().filter(|block| block.after && block.stratum.is_some()).count() as f64;
            Wider {
                overdispersion: 1.0 + levels.variance * pull / variance,
                freedom: levels.freedom.min((hours / STRATA_PIECE).max(1.0)),
            }
        }
        None => Wider { overdispersion: from_strata(excesses), freedom: strata.len() as f64 / STRATA_PIECE },
    }
}

/// P(T >= t) of Student's distribution.
fn student_tail(t: f64, freedom: f64) -> f64 {
    let outside = beta_cdf(0.5 * freedom, 0.5, freedom / (freedom + t * t)).unwrap_or(1.0) / 2.0;
    if t > 0.0 { outside } else { 1.0 - outside }
}

/// Variance of the sum of the excesses when hours have levels of variance 1: the sum over all pairs of hours of what
/// they pull, times their correlation.
fn levels_pull(blocks: &[Block], strata: &[Stratum], persistence: f64) -> f64 {
    let (mut sum, mut carried, mut last) = (0.0, 0.0, None);
    for block in blocks {
        let Some(stratum) = block.stratum.map(|number| &strata[number]) else { continue };
        let other = if block.after { stratum.before.count } else { -stratum.after.count };
        let pull = block.count * other / stratum.count();
        let gap = last.map_or(0, |last| block.time - last);
        carried *= persistence.powi(i32::try_from(gap).unwrap_or(i32::MAX));
        sum += pull * pull + 2.0 * pull * carried;
        carried += pull;
        last = Some(block.time);
    }
    sum.max(0.0)
}

/// From how the strata scatter; 1 with fewer than eight.
///
/// A stratum's own level adds `t^2 V^2` to its variance `V`, and levels of strata `d` apart go together by
/// `PERSISTENCE^d`: one number `t^2`, estimated by least squares from the products of the excesses' rests around
/// the common effect, each weighted by how much it says (moments as in Liang and Zeger 1986), and `CAUTION` of its
/// standard error is added. A free choice of the persistence, or Newey and West's sums, scatter so much at fifty
/// strata that they let more false alarms through (`scripts/sim-judging`).
fn from_strata(strata: &[Excess]) -> f64 {
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
    let sight = (count / variance).sqrt();
    let z = mean * sight;
    Some(Compared {
        z,
        p: normal_cdf(-z),
        sight,
        overdispersion: variance / plain,
        strata: differences.len(),
    })
}
