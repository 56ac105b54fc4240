//! How much the rows say, before they may move a weight far.
//!
//! Weights can only express what helps, so the question is one-sided: how much of ROI's variance do the best effects
//! explain of which none is negative, and how often would rows of pure chance explain as much? If `k` of those effects
//! are positive, the share is Beta(k/2, (n - 1 - k)/2); how often it is `k` depends on how the metrics go together alone
//! and is counted over fixed draws (the E-bar-squared test: Robertson, Wright and Dykstra 1988, ch. 2; weights by
//! simulation: Wolak 1987). At 50 rows that finds 95 % of what an F test finds 87 %, at the same rate of false alarms.
//! A fifth of the level is kept for the F test, which sees what only hurts.

use std::fmt;
use std::sync::LazyLock;

use nightshift_stats::rng::SplitMix64;
use nightshift_stats::special::beta_cdf;

use super::COUNT;
use super::critic::Estimate;
use super::linear::{Matrix, Vector, cholesky, dot, inverse, nonnegative};

/// Share of the level that is spent on what helps; the rest on effects of any sign.
const HELPS: f64 = 0.8;
/// Share of noise that may pass, from [`FEW`] to [`MANY`] rows.
const LEVEL: f64 = 0.05;
/// Rows below which less than that passes.
const FEW: f64 = 10.0;
/// Rows above which the level falls with the sixth power of their number: so many rows that still say nothing must not
/// move anything by accident, on whatever day they are looked at.
const MANY: f64 = 100.0;
/// What it falls to.
const FLOOR: f64 = 0.0004;
/// Keeps equations of metrics that always move together solvable, as a share of the rows.
const APART: f64 = 1e-6;
/// Draws over which the number of positive effects is counted: each pattern of signs once, in pairs of opposite ones.
const PAIRS: usize = 1 << (COUNT - 1);

/// What the rows say of one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The metric never changed: nothing can be said.
    NeverVaried,
    /// The rows are what chance would give.
    None,
    /// Estimate one to two standard errors from zero.
    Weak {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
    /// Two to three standard errors.
    Moderate {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
    /// More than three standard errors.
    Strong {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (strength, helps) = match self {
            Self::NeverVaried => return f.write_str("never varied"),
            Self::None => return f.write_str("no evidence"),
            Self::Weak { helps } => ("weak", helps),
            Self::Moderate { helps } => ("moderate", helps),
            Self::Strong { helps } => ("strong", helps),
        };
        write!(f, "{strength} evidence that it {}", if *helps { "helps" } else { "hurts" })
    }
}

/// How far the evidence carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Chance of rows like these if no metric mattered.
    pub(super) p: f64,
    /// What `p` has to fall below.
    pub(super) level: f64,
    /// Whether it is what helps that makes `p` small, and not only what hurts.
    pub(super) helps: bool,
}

impl Verdict {
    pub(super) fn of(estimate: &Estimate) -> Self {
        let rows = estimate.effective;
        let level = (LEVEL * (rows / FEW).min(1.0) * (MANY / rows.max(1.0)).min(1.0).powi(6)).max(FLOOR);
        let together: Matrix = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let same = f64::from(u8::from(i == j));
                let vary = estimate.sd[i] > 0.0 && estimate.sd[j] > 0.0;
                if vary { estimate.together[i][j] + same * APART * rows } else { same }
            })
        });
        let share = |effects: &Vector| {
            (dot(effects, &estimate.towards) / estimate.spread.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
        };
        let inverse = inverse(&together);
        let any: Vector = std::array::from_fn(|i| dot(&inverse[i], &estimate.towards));
        let any = tail(share(&any), estimate.active, rows) / (1.0 - HELPS);
        let helpful = share(&nonnegative(&together, &estimate.towards, &estimate.helpful, 1e-9));
        let helpful = if helpful > 0.0 {
            let counts = positive(&together, &estimate.sd);
            (1..=COUNT).map(|k| counts[k] * tail(helpful, k, rows)).sum::<f64>() / HELPS
        } else {
            1.0
        };
        Self { p: any.min(helpful).min(1.0), level, helps: helpful <= level || helpful <= any }
    }

    /// Whether the rows say anything at all.
    pub(super) fn speaks(self) -> bool {
        self.p <= self.level
    }

    /// What is said of each weight.
    pub(super) fn words(self, estimate: &Estimate) -> [Evidence; COUNT] {
        std::array::from_fn(|i| {
            let z = estimate.effect[i] / estimate.error[i];
            let helps = z > 0.0;
            match z.abs() {
                _ if estimate.sd[i] == 0.0 => Evidence::NeverVaried,
                _ if !self.speaks() => Evidence::None,
                z if z > 3.0 => Evidence::Strong { helps },
                z if z > 2.0 => Evidence::Moderate { helps },
                z if z > 1.0 => Evidence::Weak { helps },
                _ => Evidence::None,
            }
        })
    }
}

/// P(share of the variance explained by `k` effects >= `share`) for that many rows of noise.
fn tail(share: f64, k: usize, rows: f64) -> f64 {
    let (top, bottom) = (k as f64 / 2.0, (rows - 1.0 - k as f64) / 2.0);
    // As many effects as rows explain anything.
    if k == 0 || bottom < 0.5 { 1.0 } else { beta_cdf(bottom, top, 1.0 - share).unwrap_or(1.0) }
}

/// How often noise makes 0, 1, ... of the non-negative effects positive, where the metrics go together like this.
fn positive(together: &Matrix, sd: &Vector) -> [f64; COUNT + 1] {
    static DRAWS: LazyLock<[Vector; PAIRS]> = LazyLock::new(|| {
        let mut rng = SplitMix64::new(7);
        let mut normal = || {
            let radius = (-2.0 * (1.0 - rng.uniform()).ln()).sqrt();
            radius * (std::f64::consts::TAU * rng.uniform()).cos()
        };
        let signed = |pattern: usize, i: usize, size: f64| if pattern >> i & 1 == 1 { size } else { -size };
        std::array::from_fn(|pattern| std::array::from_fn(|i| signed(pattern, i, normal().abs())))
    });
    let root = cholesky(together);
    let mut counts = [0.0; COUNT + 1];
    for draw in DRAWS.iter() {
        let towards: Vector = std::array::from_fn(|i| dot(&root[i], draw));
        for sign in [1.0, -1.0] {
            let towards = std::array::from_fn(|i| if sd[i] > 0.0 { sign * towards[i] } else { -1.0 });
            let effects = nonnegative(together, &towards, &[0.0; COUNT], 1e-3);
            counts[effects.iter().filter(|effect| **effect > 0.0).count()] += 0.5 / PAIRS as f64;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unrelated_metrics_are_positive_by_the_toss_of_a_coin() {
        let together: Matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j)) * 40.0));
        let counts = positive(&together, &[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        for (count, expected) in counts.iter().zip([1.0, 4.0, 6.0, 4.0, 1.0, 0.0, 0.0, 0.0]) {
            assert!((count - expected / 16.0).abs() < 1e-12, "{counts:?}");
        }
        assert!((counts.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn more_rows_make_the_same_share_rarer() {
        assert!((tail(0.0, 3, 50.0) - 1.0).abs() < 1e-12);
        assert!(tail(0.3, 3, 50.0) < tail(0.3, 3, 20.0) && tail(0.3, 3, 20.0) < tail(0.3, 5, 20.0));
        // One effect: the two-sided t test of a correlation, t^2 = r^2 (n - 2) / (1 - r^2) = 2.048^2 at 30 rows.
        let share = 2.048_f64.powi(2) / (2.048_f64.powi(2) + 28.0);
        assert!((tail(share, 1, 30.0) - 0.05).abs() < 1e-4);
        assert!((tail(0.9, 3, 4.0) - 1.0).abs() < 1e-12, "three effects explain four rows");
    }
}
