//! From scores to probabilities, and how good those probabilities are.
//!
//! Fit [`Logistic`] (Platt's form) on some 200 labelled rows and more, [`Isotonic`] above about 1,000; below that
//! the fit says less than a rule of thumb, and the caller should say "uncalibrated".

mod isotonic;
mod logistic;
mod measure;

pub use isotonic::Isotonic;
pub use logistic::Logistic;
pub use measure::{ReliabilityBin, auc, brier, expected_calibration_error, log_loss, reliability};
