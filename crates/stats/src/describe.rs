//! Mean, variance, quantiles, and a bootstrap interval for any statistic.

use crate::interval::Interval;
use crate::rng::SplitMix64;
use crate::{Result, StatsError, all_finite, closed_unit, open_unit};

/// Arithmetic mean.
///
/// # Errors
/// An empty slice; NaN or infinities.
pub fn mean(xs: &[f64]) -> Result<f64> {
    not_empty(xs)?;
    Ok(plain_mean(xs))
}

/// Sample variance (divisor n - 1), two passes. One value has variance 0.
///
/// # Errors
/// An empty slice; NaN or infinities.
pub fn variance(xs: &[f64]) -> Result<f64> {
    not_empty(xs)?;
    if xs.len() == 1 {
        return Ok(0.0);
    }
    let m = plain_mean(xs);
    let squares: f64 = xs.iter().map(|x| (x - m) * (x - m)).sum();
    // The second term takes back the rounding of the mean (Chan, Golub and LeVeque 1983).
    let drift: f64 = xs.iter().map(|x| x - m).sum();
    Ok((squares - drift * drift / xs.len() as f64) / (xs.len() as f64 - 1.0))
}

/// Quantile of type 7 (Hyndman and Fan 1996): linear between order statistics, the default of R and NumPy.
///
/// # Errors
/// An empty slice; NaN or infinities; `p` outside of [0, 1].
pub fn quantile(xs: &[f64], p: f64) -> Result<f64> {
    not_empty(xs)?;
    let p = closed_unit("quantile", p)?;
    let mut sorted = xs.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(quantile_of_sorted(&sorted, p))
}

/// The middle value (mean of the two middle ones when n is even).
///
/// # Errors
/// An empty slice; NaN or infinities.
pub fn median(xs: &[f64]) -> Result<f64> {
    quantile(xs, 0.5)
}

/// Percentile bootstrap (Efron 1979): resamples with replacement, recomputes the statistic, cuts the tails.
/// The same seed gives the same interval.
///
/// # Errors
/// An empty slice; NaN or infinities in the data or in the statistic; `draws` = 0; `confidence` outside of
/// (0, 1).
pub fn bootstrap<F>(xs: &[f64], statistic: F, draws: usize, confidence: f64, seed: u64) -> Result<Interval>
where
    F: Fn(&[f64]) -> f64,
{
    not_empty(xs)?;
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    if draws == 0 {
        return Err(StatsError::Empty { what: "bootstrap draws" });
    }
    let mut rng = SplitMix64::new(seed);
    let mut resample = vec![0.0; xs.len()];
    let mut statistics = Vec::with_capacity(draws);
    for _ in 0..draws {
        for slot in &mut resample {
            *slot = xs[rng.below(xs.len())];
        }
        statistics.push(statistic(&resample));
    }
    all_finite("bootstrap statistic", &statistics)?;
    statistics.sort_by(f64::total_cmp);
    Ok(Interval {
        low: quantile_of_sorted(&statistics, alpha / 2.0),
        high: quantile_of_sorted(&statistics, 1.0 - alpha / 2.0),
    })
}

fn plain_mean(xs: &[f64]) -> f64 {
    xs.iter().sum::<f64>() / xs.len() as f64
}

pub(crate) fn quantile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let part = at - below as f64;
    sorted[below] + part * (sorted[above] - sorted[below])
}

fn not_empty(xs: &[f64]) -> Result<()> {
    if xs.is_empty() {
        return Err(StatsError::Empty { what: "values" });
    }
    all_finite("values", xs)
}
