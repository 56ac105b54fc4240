//! Speeds as a share of what matrix products reach on this machine.
//!
//! A training measures that once, behind its first step, so that the first step does not wait for it: for a
//! second, or a fiftieth of the time that the rest will take when that is less.

use nightshift_model::{Adapter, Model, Packed, Threads, Work, calibrate};

use crate::data::Encoded;
use crate::measure::pack;

/// Seconds of measuring at most, and at least.
const LONGEST_S: f64 = 1.0;
const SHORTEST_S: f64 = 0.02;
/// Share of a training that measuring may take.
const SHARE: f64 = 0.02;

/// What matrix products reach here, 10⁹ operations a second, in the arithmetic of `model`; measured for a
/// time that suits `expected_s` seconds of work.
pub(crate) fn peak_gflops(model: &Model, threads: usize, expected_s: f64) -> f64 {
    let seconds = (SHARE * expected_s).clamp(SHORTEST_S, LONGEST_S);
    calibrate(Threads::new(threads), seconds).of(model)
}

/// 10⁹ operations of one training pass.
pub(crate) fn training_gflop(model: &Model, adapter: &Adapter, batch: &Packed) -> f64 {
    Work::training(model, adapter, batch).total() / 1e9
}

/// 10⁹ operations of an evaluation.
pub(crate) fn evaluation_gflop(model: &Model, adapter: Option<&Adapter>, examples: &[Encoded]) -> f64 {
    Work::evaluation(model, adapter, &pack(examples.iter())).total() / 1e9
}

/// `gflop` in `seconds`, in percent of the peak.
pub(crate) fn percent(gflop: f64, seconds: f64, peak_gflops: f64) -> f64 {
    gflop / seconds.max(1e-9) / peak_gflops * 100.0
}

/// A speed for a person: "1234 tokens/s, 91 % of 222 GFLOP/s".
pub(crate) fn words(tokens_per_s: f64, percent: Option<f64>, peak_gflops: Option<f64>) -> String {
    match percent.zip(peak_gflops) {
        None => format!("{tokens_per_s:.0} tokens/s"),
        Some((percent, peak)) => format!("{tokens_per_s:.0} tokens/s, {percent:.0} % of {peak:.0} GFLOP/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_said_with_its_share_of_the_peak() {
        let share = percent(150.0, 3.0, 100.0);
        assert!((share - 50.0).abs() < 1e-9);
        assert_eq!(words(1234.4, Some(share), Some(100.0)), "1234 tokens/s, 50 % of 100 GFLOP/s");
        assert_eq!(words(1234.4, None, Some(100.0)), "1234 tokens/s");
    }
}
