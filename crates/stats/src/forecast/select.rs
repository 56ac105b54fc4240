//! Which model a series deserves: differencing by KPSS, orders by AICc, outliers, and rules for short series.

use super::fit::{Effort, Fitted, Shape, Starts, at, fit, innovations};
use super::legacy::LEGACY_ALPHA;
use super::polynomial::roots_beyond;
use super::scaled::Scaled;
use crate::describe::quantile_of_sorted;

/// Below this many observations nothing is estimated: the last value is the forecast.
const LAST_VALUE_BELOW: usize = 8;
/// Below this many the five simple models compete, and orders are not searched.
const SHORT_BELOW: usize = 20;
/// Orders are searched up to here.
const LARGEST: usize = 2;
/// Orders that are tried without a drift when d = 1: the best of those with one.
const DRIFTLESS: usize = 2;
/// Roots nearer to the unit circle than this mark a model that is differenced once too often or too seldom.
const SMALLEST_ROOT: f64 = 1.01;
/// By how much a trend has to win: less is "considerably less support" (Burnham and Anderson 2004).
const TREND_MARGIN: f64 = 4.0;
/// 5 % point of the KPSS statistic for a level (Kwiatkowski et al. 1992, table 1).
const KPSS_LIMIT: f64 = 0.463;
/// Innovations beyond this many robust standard deviations are looked at (Chen and Liu 1993 use 2.8 to 4).
const OUTLIER: f64 = 4.0;

/// A chosen model and why it is that one.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) fitted: Fitted,
    /// The scaled series that it was fitted to: outliers are missing in it.
    pub(super) values: Vec<f64>,
    /// Indices of the values taken for outliers.
    pub(super) outliers: Vec<usize>,
    pub(super) rule: &'static str,
}

/// Chooses and fits. Any series with an observed value gets a model.
pub(super) fn choose(series: &Scaled) -> Choice {
    let plain = |fitted, rule| Choice { fitted, values: series.values.clone(), outliers: Vec::new(), rule };
    if series.is_constant() {
        return plain(mean(series), "constant");
    }
    if series.observed < LAST_VALUE_BELOW {
        return plain(naive(series), "last value");
    }
    if series.observed < SHORT_BELOW {
        return plain(short(series), "short series");
    }
    let d = usize::from(kpss(&series.values) > KPSS_LIMIT);
    let first = search(&series.values, d, series.floor);
    let (values, outliers) = without_outliers(&series.values, &first);
    if outliers.is_empty() {
        return plain(first, "aicc");
    }
    let d = usize::from(kpss(&values) > KPSS_LIMIT);
    let fitted = search(&values, d, series.floor);
    Choice { fitted, values, outliers, rule: "aicc" }
}

/// The mean, whatever the order of the values.
pub(super) fn mean(series: &Scaled) -> Fitted {
    let shape = Shape { p: 0, d: 0, q: 0, constant: true };
    at(&series.values, shape, Vec::new(), Vec::new(), series.floor)
}

/// The last value: a random walk.
pub(super) fn naive(series: &Scaled) -> Fitted {
    let shape = Shape { p: 0, d: 1, q: 0, constant: false };
    at(&series.values, shape, Vec::new(), Vec::new(), series.floor)
}

/// Exponential smoothing with fitted alpha: ARIMA(0,1,1) with its coefficient alpha - 1 in [-1, 0] (Muth 1960). Below
/// 8 observations the documents' alpha is as good as any.
pub(super) fn smoothing(series: &Scaled) -> Fitted {
    let shape = Shape { p: 0, d: 1, q: 1, constant: false };
    if series.observed < LAST_VALUE_BELOW {
        return at(&series.values, shape, Vec::new(), vec![LEGACY_ALPHA - 1.0], series.floor);
    }
    let starts = Starts::new(&series.values, 1, 0, 1);
    let free = fit(&series.values, shape, &starts, series.floor, Effort::Full);
    let alpha_minus_one = free.ma[0].min(0.0);
    at(&series.values, shape, Vec::new(), vec![alpha_minus_one], series.floor)
}

/// Mean, last value, drift, smoothing or AR(1), by AICc with at most n / 5 parameters. All are judged on the same
/// values: those after the first, given the first.
fn short(series: &Scaled) -> Fitted {
    let values = &series.values;
    let drift = Shape { p: 0, d: 1, q: 0, constant: true };
    let ar = Shape { p: 1, d: 0, q: 0, constant: true };
    let starts = Starts::new(values, 0, 1, 0);
    let candidates = [
        naive(series),
        mean(series),
        at(values, drift, Vec::new(), Vec::new(), series.floor),
        smoothing(series),
        fit(values, ar, &starts, series.floor, Effort::Full),
    ];
    let most = series.observed / 5;
    let n = series.observed as f64 - 1.0;
    let first = values.iter().copied().find(|y| !y.is_nan()).unwrap_or(0.0);
    let score = |model: &Fitted| {
        let given_first = if model.shape.d == 1 {
            model.log_likelihood
        } else {
            let phi = model.ar.first().copied().unwrap_or(0.0);
            let variance = model.sigma2 / (1.0 - phi * phi);
            let error = first - model.constant;
            model.log_likelihood
                + 0.5 * ((2.0 * std::f64::consts::PI * variance).ln() + error * error / variance)
        };
        let k = model.parameters() as f64 + 1.0;
        -2.0 * given_first + 2.0 * k * n / (n - k - 1.0)
    };
    let allowed = candidates.into_iter().filter(|model| model.parameters() <= most);
    allowed.min_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_else(|| naive(series))
}

/// Every order up to (2, d, 2) by AICc, with a constant; with d = 1 the best two are tried without their drift, too.
fn search(values: &[f64], d: usize, floor: f64) -> Fitted {
    let starts = Starts::new(values, d, LARGEST, LARGEST);
    let quick = |p, q, constant| fit(values, Shape { p, d, q, constant }, &starts, floor, Effort::Quick);
    let orders = (0..=LARGEST).flat_map(|p| (0..=LARGEST).map(move |q| (p, q)));
    let mut models: Vec<Fitted> = orders.map(|(p, q)| quick(p, q, true)).collect();
    if d == 1 {
        models.sort_by(|a, b| a.aicc().total_cmp(&b.aicc()));
        let likely = models.iter().map(|model| (model.shape.p, model.shape.q)).take(DRIFTLESS);
        let without: Vec<Fitted> = likely.chain([(0, 0)]).map(|(p, q)| quick(p, q, false)).collect();
        models.extend(without);
    }
    let best = models.into_iter().min_by(|a, b| score(a).total_cmp(&score(b)));
    // White noise and the random walk always have a score.
    let best = best.unwrap_or_else(|| quick(0, 0, d == 0));
    let full = fit(values, best.shape, &starts, floor, Effort::Full);
    if score(&full).is_finite() { full } else { best }
}

/// AICc, infinite for a root too near to the unit circle. A moving average there says that differencing was once too
/// much, which together with a drift is a straight line and stationary noise around it: a model of its own, that
/// chance imitates, so it has to win clearly.
fn score(model: &Fitted) -> f64 {
    let negated: Vec<f64> = model.ma.iter().map(|c| -c).collect();
    let line = model.shape.d == 1 && model.shape.constant;
    if !roots_beyond(&model.ar, SMALLEST_ROOT) {
        f64::INFINITY
    } else if roots_beyond(&negated, SMALLEST_ROOT) {
        model.aicc()
    } else if line {
        model.aicc() + TREND_MARGIN
    } else {
        f64::INFINITY
    }
}

/// The KPSS statistic of level stationarity with Bartlett weights up to lag `3 sqrt n / 13`, the choice of Hyndman and
/// Khandakar (2008). Missing values are left out. 0 for a constant.
pub(super) fn kpss(values: &[f64]) -> f64 {
    let y: Vec<f64> = values.iter().copied().filter(|y| !y.is_nan()).collect();
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let e: Vec<f64> = y.iter().map(|y| y - mean).collect();
    let lags = (3.0 * n.sqrt() / 13.0) as usize;
    let mut long_run = e.iter().map(|e| e * e).sum::<f64>() / n;
    for lag in 1..=lags.min(e.len().saturating_sub(1)) {
        let product: f64 = e.iter().zip(&e[lag..]).map(|(a, b)| a * b).sum();
        long_run += 2.0 / n * (1.0 - lag as f64 / (lags as f64 + 1.0)) * product;
    }
    let mut partial = 0.0;
    let squares: f64 = e
        .iter()
        .map(|e| {
            partial += e;
            partial * partial
        })
        .sum();
    if long_run > 0.0 { squares / (n * n * long_run) } else { 0.0 }
}

/// Removes additive outliers, the largest first, at most one in twenty.
///
/// A value is one when its innovation is beyond [`OUTLIER`] and the rest of the series is explained better without the
/// value than by a shock that the process carries on. The newest value stays: nothing after it says which it is.
fn without_outliers(values: &[f64], model: &Fitted) -> (Vec<f64>, Vec<usize>) {
    let mut values = values.to_vec();
    let mut removed = Vec::new();
    let newest = values.iter().rposition(|y| !y.is_nan()).unwrap_or(0);
    let most = values.len() / 20;
    while removed.len() < most {
        let e = innovations(&values, model);
        let mut sizes: Vec<f64> = e.iter().map(|(_, e)| e.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let limit = OUTLIER * 1.4826 * quantile_of_sorted(&sizes, 0.5);
        let suspect = e.iter().copied().filter(|(t, e)| *t != newest && e.abs() > limit);
        let Some((t, size)) = suspect.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) else { break };
        let squares = |e: &[(usize, f64)]| e.iter().map(|(_, e)| e * e).sum::<f64>();
        let kept = values[t];
        values[t] = f64::NAN;
        let without = squares(&innovations(&values, model));
        if without > (squares(&e) - size * size) * (1.0 + 1e-9) {
            values[t] = kept;
            break;
        }
        removed.push(t);
    }
    removed.sort_unstable();
    (values, removed)
}
