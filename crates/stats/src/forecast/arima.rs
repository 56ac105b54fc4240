//! An ARIMA model with known parameters: its likelihood and its forecasts.

use std::f64::consts::PI;

use super::filter::Filter;
use super::fit::SETTLED;
use super::polynomial::outside;
use super::scaled::Scaled;
use crate::{Result, StatsError};

/// Largest p and q.
pub(super) const MOST: usize = 24;

/// ARIMA(p, d, q) with d = 0 or 1:
/// `w_t - m = ar_1 (w_{t-1} - m) + ... + e_t + ma_1 e_{t-1} + ...`, `e ~ N(0, sigma2)`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Arima {
    /// 0: w is the series. 1: w is its first difference.
    pub d: usize,
    /// m: the mean of the process when d = 0, the drift (mean of the differences) when d = 1.
    pub constant: f64,
    /// AR coefficients, lag 1 first.
    pub ar: Vec<f64>,
    /// MA coefficients, lag 1 first, with a plus sign in the equation.
    pub ma: Vec<f64>,
    /// Variance of the innovations.
    pub sigma2: f64,
}

/// Means and variances of the values to come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path {
    /// Expected values, one step ahead first.
    pub mean: Vec<f64>,
    /// Their variances.
    pub variance: Vec<f64>,
}

impl Arima {
    /// A model whose parameters are known; `order` is (p, d, q).
    ///
    /// # Errors
    /// Coefficients that do not fit the order, d above 1, orders above 24, an AR part that is not stationary, a
    /// variance that is not positive, anything not finite. The MA part need not be invertible.
    pub fn at_fixed(order: [usize; 3], constant: f64, ar: &[f64], ma: &[f64], sigma2: f64) -> Result<Self> {
        let [p, d, q] = order;
        let domain = |what, expected, got| Err(StatsError::Domain { what, expected, got });
        if d > 1 {
            return domain("d", "0 or 1", d as f64);
        }
        if p.max(q) > MOST {
            return domain("p and q", "at most 24", p.max(q) as f64);
        }
        if ar.len() != p {
            return Err(StatsError::Length { what: "ar coefficients and p", left: ar.len(), right: p });
        }
        if ma.len() != q {
            return Err(StatsError::Length { what: "ma coefficients and q", left: ma.len(), right: q });
        }
        if let Some(&got) = ar.iter().chain(ma).chain([&constant]).find(|x| !x.is_finite()) {
            return domain("parameters", "finite", got);
        }
        if !(sigma2 > 0.0 && sigma2.is_finite()) {
            return domain("sigma2", "above 0", sigma2);
        }
        if let Some(got) = outside(ar) {
            return domain(
                "partial autocorrelations of ar",
                "below 1 in modulus (a stationary process)",
                got,
            );
        }
        Ok(Self { d, constant, ar: ar.to_vec(), ma: ma.to_vec(), sigma2 })
    }

    /// (p, d, q).
    pub fn order(&self) -> [usize; 3] {
        [self.ar.len(), self.d, self.ma.len()]
    }

    /// Exact Gaussian log-likelihood of a series (NaN = missing). With d = 1 it is that of everything after the
    /// first observed value, given that value; without missing values that is the likelihood of the differences.
    ///
    /// # Errors
    /// An infinite value; no observed value.
    pub fn log_likelihood(&self, series: &[f64]) -> Result<f64> {
        let (mut filter, centred) = self.prepared(series)?;
        let (mut count, mut squares) = (0.0, 0.0);
        let log = filter.run(&centred, |_, [e, _]| {
            count += 1.0;
            squares += e * e;
        });
        Ok(-0.5 * (count * (2.0 * PI * self.sigma2).ln() + log + squares / self.sigma2))
    }

    /// Means and variances of the `horizon` values after the series, parameters taken as known.
    ///
    /// # Errors
    /// An infinite value; no observed value.
    pub fn path(&self, series: &[f64], horizon: usize) -> Result<Path> {
        let (mut filter, centred) = self.prepared(series)?;
        filter.run(&centred, |_, _| {});
        let mut path = Path::default();
        for t in series.len()..series.len() + horizon {
            let (mean, variance) = filter.forecast();
            path.mean.push(mean[0] + self.trend(t));
            path.variance.push(variance * self.sigma2);
        }
        Ok(path)
    }

    /// The part of the value at time t that the constant explains.
    fn trend(&self, t: usize) -> f64 {
        if self.d == 0 { self.constant } else { self.constant * t as f64 }
    }

    fn prepared(&self, series: &[f64]) -> Result<(Filter, Vec<f64>)> {
        Scaled::new(series, true)?;
        let filter = Filter::new(&self.ar, &self.ma, self.d, SETTLED).ok_or(StatsError::Domain {
            what: "variance of the process",
            expected: "finite (the ar part is too near a unit root)",
            got: f64::INFINITY,
        })?;
        Ok((filter, series.iter().enumerate().map(|(t, y)| y - self.trend(t)).collect()))
    }
}
