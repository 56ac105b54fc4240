//! Forecasts of one series: exact-likelihood ARIMA, exponential smoothing, and rules for series too short for either.
//!
//! Every method is an ARIMA model underneath, so all of them take missing values (NaN), give intervals, and answer
//! for any series with one observed value: the last value (fewer than 8 observations), one of five simple models
//! (fewer than 20), else the order with the smallest AICc.
//!
//! Intervals of fitted models allow for what was estimated: the variance is divided by n less the number of
//! parameters, the constant's own variance is added, and the quantile is Student's. With
//! [`Arima::at_fixed`] the parameters are taken as known.
//!
//! | module | job |
//! |---|---|
//! | `filter` | the Kalman filter: exact likelihood, missing values, forecasts |
//! | `fit` | maximum likelihood of one order |
//! | `select` | which order: KPSS, AICc, outliers, short series |
//! | `legacy` | the fixed exponential average of the documents |
//! | `arima` | a model with known parameters |
//! | `polynomial`, `scaled` | partial autocorrelations; one common size |

mod arima;
mod filter;
mod fit;
mod legacy;
mod polynomial;
mod scaled;
mod select;

use crate::special::{normal_quantile, student_quantile};
use crate::{Result, StatsError, open_unit};
use arima::Path as Known;
pub use arima::{Arima, Path};
use filter::Filter;
use fit::{Effort, Fitted, SETTLED, Shape, Starts, fit};
pub use legacy::{LEGACY_ALPHA, LEGACY_WINDOW, legacy_ema};
use scaled::Scaled;
use select::Choice;

/// How a forecast is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// ARIMA, its order chosen.
    Arima,
    /// ARIMA of this order; d = 0 has a mean, d = 1 a drift only if `drift`.
    Order {
        /// Autoregressive order, at most 24.
        p: usize,
        /// Differencing, 0 or 1.
        d: usize,
        /// Moving-average order, at most 24.
        q: usize,
        /// Estimate a drift when d = 1.
        drift: bool,
    },
    /// Exponential smoothing with fitted alpha.
    Ema,
    /// The documents' average: alpha 0.3 over the last five values, rounded to four decimals.
    LegacyEma,
    /// The last value.
    Naive,
}

/// A forecast and the model it comes from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Forecast {
    /// The model, in the series' own units.
    pub model: Arima,
    /// What decided for it: "constant", "last value", "short series", "aicc", "given order", "ema", "legacy ema",
    /// "naive", "known parameters".
    pub rule: &'static str,
    /// Exact log-likelihood (of everything after the first value, given it, when d = 1).
    pub log_likelihood: f64,
    /// Observed values, outliers left out.
    pub observed: usize,
    /// Indices of values taken for additive outliers and treated as missing.
    pub outliers: Vec<usize>,
    /// Expected values, one step ahead first.
    pub mean: Vec<f64>,
    /// Lower ends of the central intervals.
    pub lower: Vec<f64>,
    /// Upper ends.
    pub upper: Vec<f64>,
}

/// Forecasts the `horizon` values after a series (NaN = missing) with central intervals of this `level`.
/// Finite for every finite series, however short or constant; with one observation the interval has no width,
/// because one value says nothing about spread.
///
/// # Errors
/// An infinite value; no observed value; `level` outside of (0, 1); an order above what [`Method::Order`] takes.
pub fn forecast(series: &[f64], method: Method, horizon: usize, level: f64) -> Result<Forecast> {
    let tail = 0.5 + 0.5 * open_unit("level", level)?;
    let scaled = Scaled::new(series, false)?;
    let plain = |fitted, rule| Choice { fitted, values: scaled.values.clone(), outliers: Vec::new(), rule };
    let choice = match method {
        Method::Arima => select::choose(&scaled),
        Method::Order { p, d, q, drift } => {
            Arima::at_fixed([0, d, 0], 0.0, &[], &[], 1.0)?;
            let shape = Shape { p, d, q, constant: d == 0 || drift };
            plain(given(&scaled, shape)?, "given order")
        }
        Method::Ema => plain(select::smoothing(&scaled), "ema"),
        Method::LegacyEma => plain(legacy::as_arima(&scaled), "legacy ema"),
        Method::Naive => plain(select::naive(&scaled), "naive"),
    };
    let mut forecast = project(&scaled, choice, horizon, tail)?;
    if method == Method::LegacyEma {
        legacy::move_to_average(series, &mut forecast);
    }
    Ok(forecast)
}

/// Forecasts from a model whose parameters are known; intervals are normal.
///
/// # Errors
/// An infinite value; no observed value; `level` outside of (0, 1).
pub fn forecast_known(model: &Arima, series: &[f64], horizon: usize, level: f64) -> Result<Forecast> {
    let z = normal_quantile(0.5 + 0.5 * open_unit("level", level)?)?;
    let Known { mean, variance } = model.path(series, horizon)?;
    let end = |side: f64| mean.iter().zip(&variance).map(|(m, v)| m + side * z * v.sqrt()).collect();
    Ok(Forecast {
        rule: "known parameters",
        log_likelihood: model.log_likelihood(series)?,
        observed: series.iter().filter(|y| !y.is_nan()).count(),
        outliers: Vec::new(),
        lower: end(-1.0),
        upper: end(1.0),
        mean,
        model: model.clone(),
    })
}

/// One order; where there are too few values to estimate it, its coefficients stay at zero.
fn given(series: &Scaled, shape: Shape) -> Result<Fitted> {
    let most = shape.p.max(shape.q);
    if most > arima::MOST {
        return Err(StatsError::Domain { what: "p and q", expected: "at most 24", got: most as f64 });
    }
    let spent = shape.d + shape.p + shape.q + usize::from(shape.constant);
    if series.observed <= spent + 1 || series.is_constant() {
        let zeros = |count| vec![0.0; count];
        return Ok(fit::at(&series.values, shape, zeros(shape.p), zeros(shape.q), series.floor));
    }
    let starts = Starts::new(&series.values, shape.d, shape.p, shape.q);
    Ok(fit(&series.values, shape, &starts, series.floor, Effort::Full))
}

/// Runs the fitted model over the series and beyond, and turns everything back into the series' units.
fn project(series: &Scaled, choice: Choice, horizon: usize, tail: f64) -> Result<Forecast> {
    let Choice { fitted, values, outliers, rule } = choice;
    let n = fitted.n as f64;
    let freedom = (n - fitted.parameters() as f64).max(1.0);
    let certain = fitted.n == 0 || fitted.sigma2 <= series.floor;
    let quantile = if certain { 0.0 } else { student_quantile(tail, freedom)? };
    let sigma2 = fitted.sigma2 * n / freedom;

    let mut forecast = Forecast {
        model: in_units_of(series, &fitted),
        rule,
        log_likelihood: fitted.log_likelihood - n * series.scale.ln(),
        observed: values.iter().filter(|y| !y.is_nan()).count(),
        outliers,
        mean: Vec::with_capacity(horizon),
        lower: Vec::with_capacity(horizon),
        upper: Vec::with_capacity(horizon),
    };
    let Some(mut filter) = Filter::new(&fitted.ar, &fitted.ma, fitted.shape.d, SETTLED) else {
        return Err(StatsError::Domain { what: "ar", expected: "stationary", got: f64::NAN });
    };
    filter.run(&values, |_, _| {});
    let back = |z: f64| (series.shift + series.scale * z).clamp(f64::MIN, f64::MAX);
    for t in values.len()..values.len() + horizon {
        let ([mean, regressor], variance) = filter.forecast();
        let now = if fitted.shape.d == 0 { 1.0 } else { t as f64 };
        let unexplained = now - regressor;
        let mean = mean + fitted.constant * unexplained;
        let of_constant =
            if fitted.information > 0.0 { unexplained * unexplained / fitted.information } else { 0.0 };
        let reach = quantile * (sigma2 * (variance + of_constant)).sqrt();
        forecast.mean.push(back(mean));
        forecast.lower.push(back(mean - reach));
        forecast.upper.push(back(mean + reach));
    }
    Ok(forecast)
}

fn in_units_of(series: &Scaled, fitted: &Fitted) -> Arima {
    let shift = if fitted.shape.d == 0 { series.shift } else { 0.0 };
    Arima {
        d: fitted.shape.d,
        constant: shift + series.scale * fitted.constant,
        ar: fitted.ar.clone(),
        ma: fitted.ma.clone(),
        sigma2: (fitted.sigma2 * series.scale * series.scale).min(f64::MAX),
    }
}
