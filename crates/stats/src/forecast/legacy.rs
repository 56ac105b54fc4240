//! The documents' exponential average, kept so that other programs see the numbers they know.

use super::Forecast;
use super::fit::{Fitted, Shape, at};
use super::scaled::Scaled;

/// Weight of the newest value.
pub const LEGACY_ALPHA: f64 = 0.3;
/// Values that take part.
pub const LEGACY_WINDOW: usize = 5;

/// `ROITracker.predict_synergy` of the documents: an average of the last five values with alpha 0.3, started at the
/// oldest of them and rounded to four decimals; 0 for fewer than two values. Missing values are left out.
pub fn legacy_ema(series: &[f64]) -> f64 {
    let present: Vec<f64> = series.iter().copied().filter(|y| !y.is_nan()).collect();
    if present.len() < 2 { 0.0 } else { average(&present) }
}

fn average(present: &[f64]) -> f64 {
    let window = &present[present.len().saturating_sub(LEGACY_WINDOW)..];
    let average = window.iter().copied().reduce(|mean, y| LEGACY_ALPHA * y + (1.0 - LEGACY_ALPHA) * mean);
    let average = average.unwrap_or(0.0);
    let rounded = (average * 1e4).round() / 1e4;
    if rounded.is_finite() { rounded } else { average }
}

/// Exponential smoothing with this alpha as ARIMA(0,1,1): it says how wide the interval is.
pub(super) fn as_arima(series: &Scaled) -> Fitted {
    let shape = Shape { p: 0, d: 1, q: 1, constant: false };
    at(&series.values, shape, Vec::new(), vec![LEGACY_ALPHA - 1.0], series.floor)
}

/// Puts the average in the middle of the interval. A single value stands for itself (`predict_synergy_metric`).
pub(super) fn move_to_average(series: &[f64], forecast: &mut Forecast) {
    let present: Vec<f64> = series.iter().copied().filter(|y| !y.is_nan()).collect();
    let centre = if present.len() < 2 { present.first().copied().unwrap_or(0.0) } else { average(&present) };
    let ends = forecast.lower.iter_mut().zip(&mut forecast.upper);
    for (mean, (lower, upper)) in forecast.mean.iter_mut().zip(ends) {
        let shift = centre - *mean;
        *lower = (*lower + shift).clamp(f64::MIN, f64::MAX);
        *upper = (*upper + shift).clamp(f64::MIN, f64::MAX);
        *mean = centre;
    }
}
