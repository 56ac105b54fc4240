//! How sure an answer is: from token probabilities, and from feedback once that is fitted.
//!
//! The smallest token probability of an answer finds wrong answers; the mean does not, because most
//! tokens of a wrong answer are as easy as those of a right one. `memory calibrate` turns the
//! smallest one into P(right); until then it stands for itself.

use std::sync::{PoisonError, RwLock};

use nightshift_core::interaction::Calibration;

/// Token probabilities of one answer, the end token included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenProbs {
    smallest: f64,
    sum: f64,
    count: usize,
}

impl Default for TokenProbs {
    fn default() -> Self {
        Self { smallest: 1.0, sum: 0.0, count: 0 }
    }
}

impl TokenProbs {
    /// Adds a token by the natural logarithm of its probability.
    pub(crate) fn add(&mut self, logprob: f64) {
        // A logarithm of rounded numbers may be a hair above 0.
        let probability = logprob.exp().min(1.0);
        self.smallest = self.smallest.min(probability);
        self.sum += probability;
        self.count += 1;
    }

    /// The smallest one; none without tokens.
    pub(crate) fn smallest(&self) -> Option<f64> {
        (self.count > 0).then_some(self.smallest)
    }

    /// Their arithmetic mean; none without tokens.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The calibration in force, shared by the workers and the thread that refreshes it.
#[derive(Debug, Default)]
pub(crate) struct Confidence(RwLock<Option<Calibration>>);

impl Confidence {
    /// P(right) when calibrated, else the smallest token probability itself.
    pub(crate) fn of(&self, smallest: f64) -> f64 {
        let calibration = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        calibration.map_or(smallest, |calibration| calibration.apply(smallest))
    }

    /// Replaces the calibration.
    pub(crate) fn set(&self, calibration: Option<Calibration>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = calibration;
    }

    /// Whether feedback has been fitted.
    pub(crate) fn is_calibrated(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_token_counts_and_no_token_says_nothing() {
        let mut probs = TokenProbs::default();
        assert_eq!((probs.smallest(), probs.mean()), (None, None));
        probs.add(0.5_f64.ln());
        probs.add(1e-9);
        assert!((probs.smallest().unwrap() - 0.5).abs() < 1e-12);
        assert!((probs.mean().unwrap() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn calibration_replaces_the_raw_number() {
        let confidence = Confidence::default();
        assert_eq!(confidence.of(0.6), 0.6);
        let calibration = Calibration { intercept: -1.0, slope: 2.0 };
        confidence.set(Some(calibration));
        assert_eq!(confidence.of(0.6), calibration.apply(0.6));
        assert!(confidence.of(0.6) < 0.6, "an overconfident model is corrected downwards");
    }
}
