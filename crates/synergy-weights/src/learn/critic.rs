//! The critic: recursive least squares of ROI on the metrics, with forgetting.
//!
//! Kept in information form: exponentially weighted means and co-moments instead of the inverse P, which is
//! the same recursion (Haykin, Adaptive Filter Theory, ch. "recursive least squares"; Ljung and Soderstrom 1983)
//! and exact where every column is standardised by its running mean and deviation. The ridge that stands for the
//! start value of P is not forgotten, so the trace of P stays bounded by 7 / [`RIDGE`] however little the
//! metrics vary: no covariance wind-up.

use super::linear::{Matrix, Vector, ZEROS, dot, inverse, nonnegative, quadratic};
use super::{COUNT, Sample};

/// Prior precision of a standardised effect, in rows.
const RIDGE: f64 = 3.0;
/// Rows over which "no change of anything goes with no change of ROI" fades out as a row of its own. Without it the
/// first row would teach nothing: what it deviates from is known only because deltas have a natural zero.
const ORIGIN_ROWS: f64 = 16.0;

/// Exponentially weighted moments of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    /// Sum of the weights, newest row 1.
    pub(super) weight: f64,
    /// Sum of their squares.
    pub(super) weight2: f64,
    pub(super) mean_x: Vector,
    pub(super) mean_y: f64,
    pub(super) xx: Matrix,
    pub(super) xy: Vector,
    pub(super) yy: f64,
}

impl Moments {
    pub(super) const EMPTY: Self = Self {
        weight: 0.0,
        weight2: 0.0,
        mean_x: [0.0; COUNT],
        mean_y: 0.0,
        xx: ZEROS,
        xy: [0.0; COUNT],
        yy: 0.0,
    };

    /// Forgets by the factor `keep`, then takes a row (West 1979: no cancellation far from zero).
    pub(super) fn add(&mut self, sample: &Sample, keep: f64) {
        self.weight = keep * self.weight + 1.0;
        self.weight2 = keep * keep * self.weight2 + 1.0;
        let before: Vector = std::array::from_fn(|i| sample.deltas[i] - self.mean_x[i]);
        let before_y = sample.roi_delta - self.mean_y;
        for (mean, before) in self.mean_x.iter_mut().zip(&before) {
            *mean += before / self.weight;
        }
        self.mean_y += before_y / self.weight;
        let after: Vector = std::array::from_fn(|i| sample.deltas[i] - self.mean_x[i]);
        let after_y = sample.roi_delta - self.mean_y;
        for ((row, xy), before) in self.xx.iter_mut().zip(&mut self.xy).zip(&before) {
            for (xx, after) in row.iter_mut().zip(&after) {
                *xx = keep * *xx + before * after;
            }
            *xy = keep * *xy + before * after_y;
        }
        self.yy = keep * self.yy + before_y * after_y;
    }

    /// The regression as of now.
    pub(super) fn estimate(&self) -> Estimate {
        let rows = self.weight;
        let origin = (1.0 - (rows - 1.0) / ORIGIN_ROWS).clamp(0.0, 1.0);
        let pull = if rows > 0.0 { origin * rows / (origin + rows) } else { 0.0 };
        let total = rows + origin;
        let shrink = if total > 0.0 { rows / total } else { 0.0 };
        let mean_x = self.mean_x.map(|m| m * shrink);
        let mean_y = self.mean_y * shrink;
        let scatter = |i: usize, j: usize| self.xx[i][j] + pull * self.mean_x[i] * self.mean_x[j];
        let sd: Vector = std::array::from_fn(|i| {
            let variance = scatter(i, i) / total.max(1.0);
            // Below that, a column varies by rounding only.
            if variance > 1e-24 * self.mean_x[i] * self.mean_x[i] { variance.sqrt() } else { 0.0 }
        });
        let scaled = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
        let ridge = |i: usize, j: usize| if i == j { RIDGE } else { 0.0 };
        let together: Matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| scaled(scatter(i, j), sd[i] * sd[j])));
        let normal: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| together[i][j] + ridge(i, j)));
        let target: Vector =
            std::array::from_fn(|i| scaled(self.xy[i] + pull * self.mean_x[i] * self.mean_y, sd[i]));
        let inverse = inverse(&normal);
        let effect: Vector = std::array::from_fn(|i| dot(&inverse[i], &target));
        let yy = self.yy + pull * self.mean_y * self.mean_y;
        let information = quadratic(&normal, &effect);
        // b'Rb = b'(R + ridge)b - ridge b'b
        let residual =
            (yy - 2.0 * dot(&effect, &target) + information - RIDGE * dot(&effect, &effect)).max(0.0);
        let effective = if self.weight2 > 0.0 { rows * rows / self.weight2 } else { 0.0 };
        let active = sd.iter().filter(|sd| **sd > 0.0).count();
        let freedom = (effective - active as f64 - 1.0).max(1.0);
        let noise = if rows > 0.0 { residual / rows * effective / freedom } else { 0.0 };
        // Older rows count less, so the estimate varies more than P says.
        let inflation = if rows > 0.0 { self.weight2 / rows } else { 1.0 };
        let variance = noise * inflation;
        Estimate {
            mean_x,
            mean_y,
            sd,
            effect,
            error: std::array::from_fn(|i| (variance * inverse[i][i]).max(0.0).sqrt()),
            known: std::array::from_fn(|i| {
                let prior = (RIDGE * inverse[i][i]).clamp(0.0, 1.0);
                (1.0 - prior) / (1.0 - prior + prior / RIDGE)
            }),
            helpful: nonnegative(&normal, &target, &effect, 1e-13),
            noise,
            together,
            towards: target,
            spread: yy,
            active,
            effective,
        }
    }
}

/// What the critic knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estimate {
    mean_x: Vector,
    mean_y: f64,
    /// Deviation of each metric; 0 where it never varied.
    pub(super) sd: Vector,
    /// Change of ROI for one standard deviation of each metric.
    pub(super) effect: Vector,
    /// Standard error of `effect`.
    pub(super) error: Vector,
    /// Share of each effect that rows would have beside a prior of one row.
    pub(super) known: Vector,
    /// The best effects of which none is negative: what weights that cannot be negative should follow.
    pub(super) helpful: Vector,
    /// Residual variance.
    pub(super) noise: f64,
    /// Co-moments of the standardised metrics: rows times their correlations.
    pub(super) together: Matrix,
    /// Their co-moments with ROI.
    pub(super) towards: Vector,
    /// Sum of squares of ROI about its mean.
    pub(super) spread: f64,
    /// Metrics that vary.
    pub(super) active: usize,
    /// How many rows of equal weight would know as much.
    pub(super) effective: f64,
}

impl Estimate {
    /// ROI expected for a row, less what came.
    pub(super) fn miss(&self, sample: &Sample) -> f64 {
        let expected: f64 = (0..COUNT)
            .filter(|&i| self.sd[i] > 0.0)
            .map(|i| (sample.deltas[i] - self.mean_x[i]) / self.sd[i] * self.effect[i])
            .sum();
        expected + self.mean_y - sample.roi_delta
    }
}
