//! Confidence intervals of one proportion, k successes of n, and of the difference of two.
//!
//! Wilson (1927) for reports, because its coverage is close to nominal already at n = 10; Clopper-Pearson
//! (1934) where coverage must never fall below nominal. No data (n = 0) gives [0, 1], the honest answer.

use serde::{Deserialize, Serialize};

use crate::special::{beta_quantile, normal_quantile};
use crate::{Result, StatsError, open_unit};

/// A closed interval; both ends are rates from 0 to 1 for the functions of this module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `x` lies in the interval, ends included.
    pub fn contains(&self, x: f64) -> bool {
        x >= self.low && x <= self.high
    }

    /// `high - low`.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// Two-sided Wilson score interval.
///
/// # Errors
/// `successes > n`, or `confidence` outside of (0, 1).
pub fn wilson(successes: u64, n: u64, confidence: f64) -> Result<Interval> {
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    wilson_at(successes, n, -normal_quantile(alpha / 2.0)?)
}

/// One-sided Wilson bound: the rate is at least this, with the given confidence.
///
/// # Errors
/// As [`wilson`].
pub fn wilson_lower(successes: u64, n: u64, confidence: f64) -> Result<f64> {
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    Ok(wilson_at(successes, n, -normal_quantile(alpha)?)?.low)
}

/// One-sided Wilson bound: the rate is at most this, with the given confidence.
///
/// # Errors
/// As [`wilson`].
pub fn wilson_upper(successes: u64, n: u64, confidence: f64) -> Result<f64> {
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    Ok(wilson_at(successes, n, -normal_quantile(alpha)?)?.high)
}

/// Two-sided exact interval of Clopper and Pearson.
///
/// # Errors
/// As [`wilson`].
pub fn clopper_pearson(successes: u64, n: u64, confidence: f64) -> Result<Interval> {
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    Ok(Interval { low: exact_low(successes, n, alpha / 2.0)?, high: exact_high(successes, n, alpha / 2.0)? })
}

/// One-sided exact bound: the rate is at least this, with the given confidence.
///
/// # Errors
/// As [`wilson`].
pub fn clopper_pearson_lower(successes: u64, n: u64, confidence: f64) -> Result<f64> {
    exact_low(successes, n, 1.0 - open_unit("confidence", confidence)?)
}

/// One-sided exact bound: the rate is at most this, with the given confidence. With no failure in n trials
/// it is the exact form of the "rule of three", about 3/n at 95 %.
///
/// # Errors
/// As [`wilson`].
pub fn clopper_pearson_upper(successes: u64, n: u64, confidence: f64) -> Result<f64> {
    exact_high(successes, n, 1.0 - open_unit("confidence", confidence)?)
}

/// Two-sided interval of the difference of two rates, second minus first (Newcombe 1998, method 10: from the two
/// Wilson intervals). Each side is (successes, trials); both may be fractional, for instance divided by an
/// overdispersion.
///
/// # Errors
/// Not `0 <= successes <= trials` on either side, or `confidence` outside of (0, 1).
pub fn newcombe(first: (f64, f64), second: (f64, f64), confidence: f64) -> Result<Interval> {
    let alpha = 1.0 - open_unit("confidence", confidence)?;
    let z = -normal_quantile(alpha / 2.0)?;
    let side = |(k, n): (f64, f64)| -> Result<(f64, Interval)> {
        if !(k >= 0.0 && k <= n && n.is_finite()) {
            return Err(StatsError::Domain {
                what: "successes",
                expected: "0 to the number of trials",
                got: k,
            });
        }
        Ok((if n > 0.0 { k / n } else { 0.5 }, score(k, n, z)))
    };
    let ((p, a), (q, b)) = (side(first)?, side(second)?);
    Ok(Interval { low: q - p - (q - b.low).hypot(a.high - p), high: q - p + (b.high - q).hypot(p - a.low) })
}

fn wilson_at(successes: u64, n: u64, z: f64) -> Result<Interval> {
    at_most(successes, n)?;
    Ok(score(successes as f64, n as f64, z))
}

/// Wilson's interval of k of n.
fn score(k: f64, n: f64, z: f64) -> Interval {
    if n == 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let p = k / n;
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // The ends 0 and 1 are exact, not 1e-18 beside.
    let low = if k == 0.0 { 0.0 } else { (centre - half).clamp(0.0, 1.0) };
    let high = if k == n { 1.0 } else { (centre + half).clamp(0.0, 1.0) };
    // A confidence below one half turns the z of a one-sided bound negative and the ends around.
    if z >= 0.0 { Interval { low, high } } else { Interval { low: centre - half, high: centre + half } }
}

fn exact_low(successes: u64, n: u64, alpha: f64) -> Result<f64> {
    at_most(successes, n)?;
    if successes == 0 {
        return Ok(0.0);
    }
    beta_quantile(successes as f64, (n - successes) as f64 + 1.0, alpha)
}

fn exact_high(successes: u64, n: u64, alpha: f64) -> Result<f64> {
    at_most(successes, n)?;
    if successes == n {
        return Ok(1.0);
    }
    beta_quantile(successes as f64 + 1.0, (n - successes) as f64, 1.0 - alpha)
}

fn at_most(successes: u64, n: u64) -> Result<()> {
    if successes <= n {
        Ok(())
    } else {
        Err(StatsError::Domain {
            what: "successes",
            expected: "at most the number of trials",
            got: successes as f64,
        })
    }
}
