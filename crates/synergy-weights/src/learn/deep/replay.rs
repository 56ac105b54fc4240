//! Recorded history as a problem that can be played again and again.
//!
//! The reward of weights w is R(w) = corr(w.x, y) on a bootstrap resample of the rows. Its maximum over w is
//! the regression direction, so correlated metrics are not paid twice, and since every w can be scored on what was
//! recorded, no exploration of the world is needed. Metrics are in standard deviations; weights are directions: only
//! their ratios matter.

use nightshift_stats::rng::SplitMix64;

use crate::learn::linear::{Matrix, Vector, ZEROS, dot, quadratic};
use crate::learn::{COUNT, Sample};

/// Rows, standardised, and the direction that the critic makes of them.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    rows: Vec<(Vector, f64)>,
    /// Standard deviation of each metric; 0 where it never varied.
    pub(super) sd: Vector,
}

impl Replay {
    pub(super) fn new<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Self {
        let count = samples.clone().count().max(1) as f64;
        let column = |of: &dyn Fn(&Sample) -> f64| {
            let mean = samples.clone().map(of).sum::<f64>() / count;
            let variance = samples.clone().map(|s| (of(s) - mean).powi(2)).sum::<f64>() / count;
            (mean, if variance > 1e-24 * mean * mean { variance.sqrt() } else { 0.0 })
        };
        let x: [(f64, f64); COUNT] = std::array::from_fn(|i| column(&|s| s.deltas[i]));
        let y = column(&|s| s.roi_delta);
        let scaled = |value: f64, (mean, sd): (f64, f64)| if sd > 0.0 { (value - mean) / sd } else { 0.0 };
        let rows = samples
            .map(|s| (std::array::from_fn(|i| scaled(s.deltas[i], x[i])), scaled(s.roi_delta, y)))
            .collect();
        Self { rows, sd: x.map(|(_, sd)| sd) }
    }

    /// As many rows drawn with replacement.
    pub(super) fn resample(&self, rng: &mut SplitMix64) -> Moments {
        let mut moments = Moments::default();
        for _ in 0..self.rows.len() {
            moments.add(&self.rows[rng.below(self.rows.len())]);
        }
        moments
    }

    /// The rows themselves.
    #[cfg(test)]
    pub(super) fn whole(&self) -> Moments {
        let mut moments = Moments::default();
        self.rows.iter().for_each(|row| moments.add(row));
        moments
    }

    /// The rows from `from` on, by themselves.
    pub(super) fn newest(&self, from: usize) -> Self {
        Self { rows: self.rows[from..].to_vec(), sd: self.sd }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Sums over a resample, from which any R(w) follows.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    count: f64,
    x: Vector,
    y: f64,
    xx: Matrix,
    xy: Vector,
    yy: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0.0, x: [0.0; COUNT], y: 0.0, xx: ZEROS, xy: [0.0; COUNT], yy: 0.0 }
    }
}

impl Moments {
    fn add(&mut self, (x, y): &(Vector, f64)) {
        self.count += 1.0;
        self.y += y;
        self.yy += y * y;
        let sums = self.x.iter_mut().zip(&mut self.xy).zip(&mut self.xx);
        for (((sum, xy), row), xi) in sums.zip(x) {
            *sum += xi;
            *xy += xi * y;
            row.iter_mut().zip(x).for_each(|(xx, xj)| *xx += xi * xj);
        }
    }

    /// R(w); 0 where w.x or y does not vary.
    pub(super) fn reward(&self, w: &Vector) -> f64 {
        let mean = dot(w, &self.x);
        let with = dot(w, &self.xy) - mean * self.y / self.count;
        let spread =
            (quadratic(&self.xx, w) - mean * mean / self.count) * (self.yy - self.y * self.y / self.count);
        if spread > 1e-12 { with / spread.sqrt() } else { 0.0 }
    }

    /// Correlation of each metric with ROI.
    pub(super) fn correlations(&self) -> Vector {
        std::array::from_fn(|i| {
            let mut unit = [0.0; COUNT];
            unit[i] = 1.0;
            self.reward(&unit)
        })
    }
}
