//! Notices that what helps ROI has changed.
//!
//! A second critic with a short memory runs beside the long one. The log-likelihood ratio of their
//! predictions, made before each row is seen, goes into a CUSUM (Page 1954): without a change the short memory
//! predicts worse and the sum stays near zero; after one it climbs. The last time it was at zero is the
//! estimate of when the change came, and the long critic starts again from there.

use super::Sample;
use super::critic::{Estimate, Moments};

/// Memory of the quick critic: 1 / (1 - 0.95) = 20 rows.
const QUICK: f64 = 0.95;
/// Log-likelihood ratio that counts as a change. In simulation a limit of 5 gave one false alarm in 3,000 rows of noise
/// and an alarm some 50 rows after a real change; 7 is rarer and a little later.
const LIMIT: f64 = 7.0;
/// One wild row must not be an alarm.
const CLIP: f64 = 2.0;
/// Rows before the long critic's predictions mean anything.
const WARM: u64 = 10;

/// The detector.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detector {
    pub(super) quick: Moments,
    pub(super) sum: f64,
    /// Rows since the sum was last at zero.
    pub(super) since: u64,
    pub(super) rows: u64,
}

impl Detector {
    pub(super) const NEW: Self = Self { quick: Moments::EMPTY, sum: 0.0, since: 0, rows: 0 };

    /// Takes a row, with what the long critic knew before it. `Some(n)`: the last `n` rows, this one included, follow
    /// other rules than those before.
    pub(super) fn take(&mut self, sample: &Sample, long: &Estimate) -> Option<u64> {
        self.rows += 1;
        if self.rows > WARM && long.noise > 0.0 {
            let quick = self.quick.estimate();
            let gain = (long.miss(sample).powi(2) - quick.miss(sample).powi(2)) / (2.0 * long.noise);
            self.sum = (self.sum + gain.clamp(-CLIP, CLIP)).max(0.0);
        }
        self.since = if self.sum > 0.0 { self.since + 1 } else { 0 };
        self.quick.add(sample, QUICK);
        (self.sum > LIMIT).then(|| {
            self.sum = 0.0;
            std::mem::take(&mut self.since)
        })
    }
}
