//! Steady rises and falls: Theil and Sen's slope, Mann and Kendall's test.

use crate::describe::{median, quantile_of_sorted};
use crate::interval::Interval;
use crate::special::{normal_cdf, normal_quantile};
use crate::{Result, StatsError, all_finite, open_unit};

/// A robust line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TheilSen {
    /// Median of the slopes of all pairs.
    pub slope: f64,
    /// Median of the values, less the slope times the median of the places.
    pub intercept: f64,
    /// Of the slope.
    pub interval: Interval,
}

/// Median slope of all pairs with its interval (Theil 1950; Sen 1968, ties in the values allowed for).
///
/// # Errors
/// Different lengths; NaN or infinities; fewer than two different places; `confidence` outside of (0, 1).
pub fn theil_sen(xs: &[f64], ys: &[f64], confidence: f64) -> Result<TheilSen> {
    if xs.len() != ys.len() {
        return Err(StatsError::Length { what: "xs and ys", left: xs.len(), right: ys.len() });
    }
    all_finite("xs", xs)?;
    all_finite("ys", ys)?;
    let z = normal_quantile(0.5 + 0.5 * open_unit("confidence", confidence)?)?;
    let mut slopes = Vec::with_capacity(xs.len() * xs.len() / 2);
    for i in 0..xs.len() {
        for j in 0..i {
            let run = xs[i] - xs[j];
            if run != 0.0 {
                slopes.push((ys[i] - ys[j]) / run);
            }
        }
    }
    if slopes.is_empty() {
        return Err(StatsError::Empty { what: "pairs of different places" });
    }
    slopes.sort_by(f64::total_cmp);
    let count = slopes.len() as f64;
    let reach = z * variance_of_s(ys).sqrt();
    let last = slopes.len() - 1;
    let low = (((count - reach) / 2.0).round_ties_even() - 1.0).max(0.0) as usize;
    let high = (f64::midpoint(count, reach).round_ties_even() as usize).min(last);
    let slope = quantile_of_sorted(&slopes, 0.5);
    Ok(TheilSen {
        slope,
        intercept: median(ys)? - slope * median(xs)?,
        interval: Interval { low: slopes[low.min(last)], high: slopes[high] },
    })
}

/// What Mann and Kendall's test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannKendall {
    /// Rising pairs less falling ones.
    pub s: f64,
    /// `s` over the number of pairs.
    pub tau: f64,
    /// By how much autocorrelation widens the variance of `s`, never below 1.
    pub correction: f64,
    /// With the continuity correction.
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

/// Mann (1945) and Kendall's test for a monotone trend of evenly spaced values, its variance corrected for
/// ties and, after Hamed and Rao (1998), for the significant autocorrelations of the ranks of what the
/// trend leaves over. Fewer than four values are no evidence.
///
/// # Errors
/// NaN or infinities.
pub fn mann_kendall(ys: &[f64]) -> Result<MannKendall> {
    all_finite("ys", ys)?;
    let n = ys.len();
    if n < 4 {
        return Ok(MannKendall { s: 0.0, tau: 0.0, correction: 1.0, z: 0.0, p: 1.0 });
    }
    let mut s = 0.0;
    for i in 0..n {
        for j in 0..i {
            s += f64::from(i8::from(ys[i] > ys[j]) - i8::from(ys[i] < ys[j]));
        }
    }
    let tau = s / (n * (n - 1) / 2) as f64;
    let correction = hamed_rao(ys)?.max(1.0);
    let variance = variance_of_s(ys) * correction;
    let z = if variance > 0.0 && s != 0.0 { (s - s.signum()) / variance.sqrt() } else { 0.0 };
    Ok(MannKendall { s, tau, correction, z, p: (2.0 * normal_cdf(-z.abs())).min(1.0) })
}

/// Variance of Kendall's S under no trend, ties allowed for.
fn variance_of_s(ys: &[f64]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = ys.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|tied| term(tied.len() as f64)).sum();
    (term(ys.len() as f64) - ties) / 18.0
}

/// Their factor n / n* for the variance.
fn hamed_rao(ys: &[f64]) -> Result<f64> {
    let n = ys.len();
    let xs: Vec<f64> = (1..=n).map(|i| i as f64).collect();
    let slope = theil_sen(&xs, ys, 0.95)?.slope;
    let rest: Vec<f64> = ys.iter().zip(&xs).map(|(y, x)| y - slope * x).collect();
    let ranks = ranks(&rest);
    let mean = f64::midpoint(n as f64, 1.0);
    let squares: f64 = ranks.iter().map(|r| (r - mean) * (r - mean)).sum();
    if squares == 0.0 {
        return Ok(1.0);
    }
    let limit = normal_quantile(0.975)? / (n as f64).sqrt();
    let sum: f64 = (1..n)
        .map(|lag| {
            let products: f64 = ranks.iter().zip(&ranks[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
            let correlation = products / squares;
            let left = (n - lag) as f64;
            if correlation.abs() > limit { left * (left - 1.0) * (left - 2.0) * correlation } else { 0.0 }
        })
        .sum();
    let n = n as f64;
    Ok(1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * sum)
}

/// Ranks from 1, ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        for &i in tied {
            ranks[i] = below as f64 + f64::midpoint(tied.len() as f64, 1.0);
        }
        below += tied.len();
    }
    ranks
}
