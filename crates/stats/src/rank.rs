//! Two samples of anything that can be ordered: Mann-Whitney and Kolmogorov-Smirnov.
//!
//! Samples are ordered classes with a count in each sample (a histogram is one; single values are
//! classes of their own), because that is what mergeable sketches keep.

use crate::special::normal_cdf;

/// What Mann and Whitney's test says about two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the first sample is greater, ties as a half.
    pub u: f64,
    /// Standard normal deviate of `u`, without the continuity correction; positive when the first is greater.
    pub z: f64,
    /// Two-sided, with the continuity correction.
    pub p: f64,
    /// Probability that a value of the first sample is greater than one of the second (ties as a half).
    pub superiority: f64,
}

/// Mann-Whitney U with the normal approximation, variance corrected for ties (Mann and Whitney 1947;
/// Lehmann 1975, 1.4). `classes` are ascending, each with its counts in the first and second sample.
/// Without a value in each sample, or with a single class, there is no evidence: p = 1.
pub fn mann_whitney(classes: &[(u64, u64)]) -> MannWhitney {
    let (mut first, mut second, mut u, mut ties) = (0.0, 0.0, 0.0, 0.0);
    for &(a, b) in classes {
        let (a, b) = (a as f64, b as f64);
        u += a * (second + b / 2.0);
        first += a;
        second += b;
        let t = a + b;
        ties += t * (t * t - 1.0);
    }
    let n = first + second;
    let pairs = first * second;
    if pairs == 0.0 || n < 2.0 {
        return MannWhitney { u, z: 0.0, p: 1.0, superiority: 0.5 };
    }
    let variance = pairs / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
    let superiority = u / pairs;
    if variance <= 0.0 {
        return MannWhitney { u, z: 0.0, p: 1.0, superiority };
    }
    let distance = u - pairs / 2.0;
    let corrected = (distance.abs() - 0.5) / variance.sqrt();
    MannWhitney { u, z: distance / variance.sqrt(), p: (2.0 * normal_cdf(-corrected)).min(1.0), superiority }
}

/// What Kolmogorov and Smirnov's test says about two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KolmogorovSmirnov {
    /// Greatest distance of the two distribution functions.
    pub distance: f64,
    /// Two-sided.
    pub p: f64,
}

/// Two-sample Kolmogorov-Smirnov over ascending classes; the p-value is the limit distribution at Stephens'
/// corrected distance (Stephens 1970; Numerical Recipes, 3rd ed., 14.3.3). Ties make it conservative.
pub fn kolmogorov_smirnov(classes: &[(u64, u64)]) -> KolmogorovSmirnov {
    let first: u64 = classes.iter().map(|(a, _)| a).sum();
    let second: u64 = classes.iter().map(|(_, b)| b).sum();
    if first == 0 || second == 0 {
        return KolmogorovSmirnov { distance: 0.0, p: 1.0 };
    }
    let (mut below, mut distance) = ((0, 0), 0.0_f64);
    for (a, b) in classes {
        below.0 += a;
        below.1 += b;
        distance = distance.max((below.0 as f64 / first as f64 - below.1 as f64 / second as f64).abs());
    }
    let root = (first as f64 * second as f64 / (first + second) as f64).sqrt();
    KolmogorovSmirnov { distance, p: kolmogorov_tail((root + 0.12 + 0.11 / root) * distance) }
}

/// P(K > x) of Kolmogorov's distribution (1933).
pub fn kolmogorov_tail(x: f64) -> f64 {
    if x < 1.18 {
        if x < 0.04 {
            return 1.0;
        }
        // The theta function's other series converges for small arguments.
        let base = (-1.233_700_550_136_169_7 / (x * x)).exp(); // pi^2 / 8
        let sum = base + base.powi(9) + base.powi(25) + base.powi(49);
        return (1.0 - (2.0 * std::f64::consts::PI).sqrt() / x * sum).clamp(0.0, 1.0);
    }
    let base = (-2.0 * x * x).exp();
    (2.0 * (base - base.powi(4) + base.powi(9) - base.powi(16))).clamp(0.0, 1.0)
}
