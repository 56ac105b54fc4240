//! The Kalman filter of an ARIMA(p, d, q) process, d = 0 or 1, in Harvey's state space form.
//!
//! State: `a[0]` is the ARMA value itself, `a[i]` what is already known of the value i steps later (Harvey 1989,
//! section 3.3). Variances are in units of the innovation variance. The start is stationary (Gardner, Harvey and
//! Phillips 1980 solve the same Lyapunov equation). With d = 1 the first observed value becomes the level and
//! everything after it is filtered exactly; a gap carries the unknown level along as one more state.
//!
//! Two columns go through together: the series, and the regressor of its mean (1) or drift (the time), so that
//! the constant can be estimated by generalised least squares without an optimiser.
//! Once the variances have settled only the innovations are updated, which is most of the speed.

use super::polynomial::solve;

/// States of the largest model.
const LARGEST: usize = super::arima::MOST + 1;

/// The series' column and its regressor's.
pub(super) type Pair = [f64; 2];

/// What a pass over a series leaves behind: the state after its last value.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    r: usize,
    phi: Vec<f64>,
    /// 1, theta_1, ...
    load: Vec<f64>,
    d: usize,
    /// Variances closer to the settled ones than this count as settled.
    tolerance: f64,
    a: Vec<Pair>,
    /// Upper triangle of the state's variance, row-major.
    p: Vec<f64>,
    first_row: Vec<f64>,
    settled: bool,
    /// Last level; always 0 when d = 0, `None` until the first value when d = 1.
    level: Option<Pair>,
    /// Variance of the level and its covariances with the state: only behind missing values, and d = 1.
    gap: Option<(f64, Vec<f64>)>,
}

impl Filter {
    /// Before the first value. `None` when the AR part is not stationary to working precision.
    pub(super) fn new(phi: &[f64], theta: &[f64], d: usize, tolerance: f64) -> Option<Self> {
        let r = phi.len().max(theta.len() + 1);
        let mut padded = vec![0.0; r];
        padded[..phi.len()].copy_from_slice(phi);
        let mut load = vec![0.0; r + 1];
        load[0] = 1.0;
        load[1..=theta.len()].copy_from_slice(theta);
        let p = stationary_variance(&padded, &load[..r])?;
        Some(Self {
            r,
            phi: padded,
            load,
            d,
            tolerance,
            a: vec![[0.0; 2]; r + 1],
            p,
            first_row: vec![0.0; r + 1],
            settled: false,
            level: (d == 0).then_some([0.0; 2]),
            gap: None,
        })
    }

    /// Filters a whole series (NaN = missing). `sink` takes each standardised innovation (both columns divided by
    /// the root of its variance). Returns the sum of the logarithms of those variances.
    pub(super) fn run(&mut self, series: &[f64], mut sink: impl FnMut(usize, Pair)) -> f64 {
        let (mut log, mut product) = (0.0, 1.0_f64);
        let mut t = 0;
        while let Some(&y) = series.get(t) {
            if self.settled && !y.is_nan() {
                t = match self.r {
                    1 => self.stretch::<1>(series, t, &mut sink),
                    2 => self.stretch::<2>(series, t, &mut sink),
                    3 => self.stretch::<3>(series, t, &mut sink),
                    _ => self.stretch::<LARGEST>(series, t, &mut sink),
                };
                continue;
            }
            let value = self.value(t, y);
            t += 1;
            let Some(level) = self.level.filter(|_| !y.is_nan()) else {
                if y.is_nan() {
                    self.skip();
                } else {
                    self.level = Some(value);
                }
                continue;
            };
            let z = [value[0] - level[0], value[1] - level[1]];
            let (v, f) = if self.gap.is_some() { self.step_after_gap(z) } else { self.step(z) };
            if self.d == 1 {
                self.level = Some(value);
            }
            let root = f.sqrt();
            sink(t - 1, [v[0] / root, v[1] / root]);
            product *= f;
            if !(1e-200..1e200).contains(&product) {
                log += product.ln();
                product = 1.0;
            }
        }
        log + product.ln()
    }

    /// Both columns at time t.
    fn value(&self, t: usize, y: f64) -> Pair {
        [y, if self.d == 0 { 1.0 } else { t as f64 }]
    }

    /// Mean of the next value in both columns and its variance, then one step into the unknown.
    pub(super) fn forecast(&mut self) -> (Pair, f64) {
        let level = self.level.unwrap_or_default();
        let mean = [level[0] + self.a[0][0], level[1] + self.a[0][1]];
        let extra = self.gap.as_ref().map_or(0.0, |(variance, covariance)| variance + 2.0 * covariance[0]);
        let variance = self.p[0] + extra;
        self.skip();
        (mean, variance)
    }

    /// Observed values from `t` on, the variances being settled; returns the time of what stops it. R >= r states
    /// stay in registers: most of a fit is spent here.
    fn stretch<const R: usize>(
        &mut self,
        series: &[f64],
        mut t: usize,
        sink: &mut impl FnMut(usize, Pair),
    ) -> usize {
        let of = |values: &[f64], i: usize| values.get(i).copied().unwrap_or(0.0);
        let phi: [f64; R] = std::array::from_fn(|i| of(&self.phi, i));
        let load: [f64; R] = std::array::from_fn(|i| of(&self.load, i + 1));
        let mut a: [Pair; R] = std::array::from_fn(|i| self.a.get(i).copied().unwrap_or_default());
        let mut level = self.level.unwrap_or_default();
        while let Some(&y) = series.get(t).filter(|y| !y.is_nan()) {
            let value = self.value(t, y);
            let z = [value[0] - level[0], value[1] - level[1]];
            let v = [z[0] - a[0][0], z[1] - a[0][1]];
            for i in 0..R {
                let later = if i + 1 < R { a[i + 1] } else { [0.0; 2] };
                a[i] = [later[0] + phi[i] * z[0] + load[i] * v[0], later[1] + phi[i] * z[1] + load[i] * v[1]];
            }
            if self.d == 1 {
                level = value;
            }
            sink(t, v);
            t += 1;
        }
        self.level = Some(level);
        let states = self.r;
        self.a[..states].copy_from_slice(&a[..states]);
        t
    }

    fn step(&mut self, z: Pair) -> (Pair, f64) {
        let r = self.r;
        let v = [z[0] - self.a[0][0], z[1] - self.a[0][1]];
        let f = self.p[0];
        self.first_row[..r].copy_from_slice(&self.p[..r]);
        let mut distance = 0.0;
        for i in 0..r {
            let gain = self.first_row[i + 1] / f;
            for (c, (value, innovation)) in z.into_iter().zip(v).enumerate() {
                self.a[i][c] = self.a[i + 1][c] + self.phi[i] * value + gain * innovation;
            }
            for j in i..r {
                let left =
                    if j + 1 < r { self.p[(i + 1) * r + j + 1] - gain * self.first_row[j + 1] } else { 0.0 };
                self.p[i * r + j] = left + self.load[i] * self.load[j];
            }
            distance += self.p[i * r + i] - self.load[i] * self.load[i];
        }
        self.settled = distance < self.tolerance;
        (v, f)
    }

    /// The first value behind a gap with d = 1: the level was unknown, and is known again.
    fn step_after_gap(&mut self, z: Pair) -> (Pair, f64) {
        let r = self.r;
        let (variance, covariance) = self.gap.take().unwrap_or_else(|| (0.0, vec![0.0; r]));
        let v = [z[0] - self.a[0][0], z[1] - self.a[0][1]];
        let f = self.p[0] + 2.0 * covariance[0] + variance;
        let gain: Vec<f64> = (0..r).map(|i| (self.p[i] + covariance[i]) / f).collect();
        for i in 0..r {
            for (a, innovation) in self.a[i].iter_mut().zip(v) {
                *a += gain[i] * innovation;
            }
            for j in i..r {
                self.p[i * r + j] -= gain[i] * gain[j] * f;
            }
        }
        self.advance();
        (v, f)
    }

    /// A missing value.
    fn skip(&mut self) {
        self.settled = false;
        if let Some(level) = self.level.as_mut().filter(|_| self.d == 1) {
            let r = self.r;
            let (variance, mut covariance) = self.gap.take().unwrap_or_else(|| (0.0, vec![0.0; r]));
            let (of_value, old) = (self.p[0], covariance[0]);
            for i in 0..r {
                let later = if i + 1 < r { covariance[i + 1] + self.p[i + 1] } else { 0.0 };
                covariance[i] = self.phi[i] * (old + of_value) + later;
            }
            self.gap = Some((variance + 2.0 * old + of_value, covariance));
            for (level, value) in level.iter_mut().zip(self.a[0]) {
                *level += value;
            }
        }
        self.advance();
    }

    /// a <- T a, P <- T P T' + R R'.
    fn advance(&mut self) {
        let r = self.r;
        let head = self.a[0];
        self.first_row[..r].copy_from_slice(&self.p[..r]);
        let row = &self.first_row;
        for i in 0..r {
            for (c, value) in head.into_iter().enumerate() {
                self.a[i][c] = self.a[i + 1][c] + self.phi[i] * value;
            }
            for j in i..r {
                let later = if j + 1 < r { self.p[(i + 1) * r + j + 1] } else { 0.0 };
                self.p[i * r + j] = later
                    + self.phi[i] * (self.phi[j] * row[0] + row[j + 1])
                    + self.phi[j] * row[i + 1]
                    + self.load[i] * self.load[j];
            }
        }
    }
}

/// Upper triangle of the stationary P = T P T' + R R'.
///
/// Every entry depends on the one below to its right and on the first row, so the first row solves r equations
/// in r unknowns and the rest follows.
fn stationary_variance(phi: &[f64], load: &[f64]) -> Option<Vec<f64>> {
    let r = phi.len();
    if phi.iter().all(|&c| c == 0.0) {
        let sum = |i: usize, j: usize| (0..r - j).map(|k| load[i + k] * load[j + k]).sum();
        let entry = |at: usize| if at % r < at / r { 0.0 } else { sum(at / r, at % r) };
        return Some((0..r * r).map(entry).collect());
    }
    let mut left = vec![0.0; r * r];
    let mut right = vec![0.0; r];
    for j in 0..r {
        left[j * r + j] += 1.0;
        for k in 0..r - j {
            left[j * r] -= phi[k] * phi[j + k];
            if j + k + 1 < r {
                left[j * r + j + k + 1] -= phi[k];
            }
            if k + 1 < r {
                left[j * r + k + 1] -= phi[j + k];
            }
            right[j] += load[k] * load[j + k];
        }
    }
    let first = solve(left, right)?;
    if first[0] <= 0.0 {
        return None;
    }
    let mut p = vec![0.0; r * r];
    let of = |j: usize| first.get(j).copied().unwrap_or(0.0);
    for i in (0..r).rev() {
        for j in (i..r).rev() {
            let later = if j + 1 < r { p[(i + 1) * r + j + 1] } else { 0.0 };
            p[i * r + j] =
                later + phi[i] * (phi[j] * of(0) + of(j + 1)) + phi[j] * of(i + 1) + load[i] * load[j];
        }
    }
    p[..r].copy_from_slice(&first);
    Some(p)
}
