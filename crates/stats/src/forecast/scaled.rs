//! A series brought to a common size, so that 1e9 and 1e-9 give the same arithmetic.

use crate::{Result, StatsError};

/// `value = shift + scale * scaled`; NaN stays NaN (missing).
#[derive(Debug, Clone)]
pub(super) struct Scaled {
    pub(super) values: Vec<f64>,
    pub(super) shift: f64,
    pub(super) scale: f64,
    /// How many values are there.
    pub(super) observed: usize,
    /// Smallest innovation variance that rounding lets one tell from zero, in scaled units.
    pub(super) floor: f64,
}

impl Scaled {
    /// Mean to zero (unless `keep_zero`: a process without a constant has its own zero), standard deviation to one.
    ///
    /// # Errors
    /// An infinite value; no observed value.
    pub(super) fn new(series: &[f64], keep_zero: bool) -> Result<Self> {
        if let Some(&got) = series.iter().find(|y| y.is_infinite()) {
            return Err(StatsError::Domain { what: "series", expected: "finite or missing (NaN)", got });
        }
        let present = || series.iter().copied().filter(|y| !y.is_nan());
        let observed = present().count();
        if observed == 0 {
            return Err(StatsError::Empty { what: "series, its missing values left out," });
        }
        // Dividing by the largest value first keeps squares of 1e200 finite.
        let largest = present().fold(0.0, |most: f64, y| most.max(y.abs()));
        let unit = if largest > 0.0 { largest } else { 1.0 };
        let n = observed as f64;
        let mean = if keep_zero { 0.0 } else { present().map(|y| y / unit).sum::<f64>() / n };
        let spread = (present().map(|y| (y / unit - mean).powi(2)).sum::<f64>() / n).sqrt();
        let noise = 4.0 * f64::EPSILON;
        let spread = if spread > noise { spread } else { 1.0 };
        let values = series.iter().map(|y| (y / unit - mean) / spread).collect();
        Ok(Self {
            values,
            shift: mean * unit,
            scale: spread * unit,
            observed,
            floor: (noise / spread).powi(2),
        })
    }

    /// True when all observed values are the same up to rounding.
    pub(super) fn is_constant(&self) -> bool {
        let (low, high) = (self.values.iter().copied().filter(|y| !y.is_nan()))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        high - low <= 2.0 * self.floor.sqrt()
    }
}

/// First differences; missing where either value is.
pub(super) fn differences(series: &[f64]) -> Vec<f64> {
    series.windows(2).map(|pair| pair[1] - pair[0]).collect()
}
