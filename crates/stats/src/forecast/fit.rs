//! Maximum likelihood of one ARIMA order.
//!
//! With the innovation variance and the constant concentrated out, the exact likelihood is
//! `-n/2 (ln(2 pi S/n) + 1)` with `S = sum of (v_t / sqrt F_t * G)^2`, `G = exp(sum ln F_t / 2n)`: a nonlinear least
//! squares problem in the partial autocorrelations, which Levenberg-Marquardt solves in a handful of steps where a
//! quasi-Newton method on the logarithm needs three times as many.

use std::f64::consts::PI;

use super::filter::{Filter, Pair};
use super::polynomial::{from_partials, outside, solve, to_partials};
use super::scaled::differences;

/// Partial autocorrelations beyond this are a unit root to every practical purpose.
const NEARLY_ONE: f64 = 0.9999;

/// Variances this close to the settled ones change nothing in the digits that are reported.
pub(super) const SETTLED: f64 = 1e-13;

/// What to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) p: usize,
    pub(super) d: usize,
    pub(super) q: usize,
    /// A mean (d = 0) or a drift (d = 1) is estimated.
    pub(super) constant: bool,
}

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// One start, for comparing orders.
    Quick,
    /// Every start, to the last digit that matters.
    Full,
}

/// A model at its maximum, in the units of the series that it was fitted to.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub(super) shape: Shape,
    pub(super) constant: f64,
    pub(super) ar: Vec<f64>,
    pub(super) ma: Vec<f64>,
    pub(super) sigma2: f64,
    pub(super) log_likelihood: f64,
    /// Observations that the likelihood counts: the first one is spent when d = 1.
    pub(super) n: usize,
    /// Information about the constant, in units of 1 / sigma2; 0 without a constant.
    pub(super) information: f64,
}

impl Fitted {
    /// Estimated parameters, the variance aside.
    pub(super) fn parameters(&self) -> usize {
        self.shape.p + self.shape.q + usize::from(self.shape.constant)
    }

    /// Akaike's criterion corrected for small samples (Hurvich and Tsai 1989); infinite where it is not defined.
    pub(super) fn aicc(&self) -> f64 {
        let k = self.parameters() as f64 + 1.0;
        let rest = self.n as f64 - k - 1.0;
        if rest <= 0.0 {
            return f64::INFINITY;
        }
        -2.0 * self.log_likelihood + 2.0 * k * self.n as f64 / rest
    }
}

/// A trial point, evaluated.
#[derive(Debug, Clone)]
struct Point {
    partials: Vec<f64>,
    residuals: Vec<f64>,
    sum: f64,
}

/// Fits one order to a scaled series. Never fails: where nothing can be estimated the start is kept.
/// `floor` is the smallest variance to report.
pub(super) fn fit(series: &[f64], shape: Shape, starts: &Starts, floor: f64, effort: Effort) -> Fitted {
    let problem = Problem { series, shape, floor };
    let zeros = vec![0.0; shape.p + shape.q];
    let rough = starts.partials(shape.p, shape.q);
    let mut points: Vec<Point> = [rough, zeros].into_iter().filter_map(|u| problem.point(u)).collect();
    points.sort_by(|a, b| a.sum.total_cmp(&b.sum));
    if effort == Effort::Quick {
        points.truncate(1);
    }
    let best =
        points.into_iter().map(|point| problem.descend(point, effort)).min_by(|a, b| a.sum.total_cmp(&b.sum));
    problem.fitted(best.map_or_else(|| vec![0.0; shape.p + shape.q], |point| point.partials))
}

/// A model with given AR and MA coefficients: only constant and variance are estimated.
pub(super) fn at(series: &[f64], shape: Shape, ar: Vec<f64>, ma: Vec<f64>, floor: f64) -> Fitted {
    Problem { series, shape, floor }.concentrated(ar, ma)
}

/// Standardised innovations of a fitted model, with their times.
pub(super) fn innovations(series: &[f64], model: &Fitted) -> Vec<(usize, f64)> {
    let mut innovations = Vec::with_capacity(series.len());
    if let Some(mut filter) = Filter::new(&model.ar, &model.ma, model.shape.d, SETTLED) {
        filter.run(series, |t, [y, x]| innovations.push((t, y - model.constant * x)));
    }
    innovations
}

struct Problem<'a> {
    series: &'a [f64],
    shape: Shape,
    floor: f64,
}

impl Problem<'_> {
    fn coefficients(&self, partials: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (ar, ma) = partials.split_at(self.shape.p);
        let negated: Vec<f64> = ma.iter().map(|r| -r).collect();
        let ma = from_partials(&negated).into_iter().map(|c| -c).collect();
        (from_partials(ar), ma)
    }

    /// Standardised innovations in both columns, and the sum of ln F.
    fn innovations(&self, ar: &[f64], ma: &[f64], tolerance: f64) -> Option<(Vec<Pair>, f64)> {
        let mut filter = Filter::new(ar, ma, self.shape.d, tolerance)?;
        let mut pairs = Vec::with_capacity(self.series.len());
        let log = filter.run(self.series, |_, pair| pairs.push(pair));
        Some((pairs, log))
    }

    fn point(&self, partials: Vec<f64>) -> Option<Point> {
        let (ar, ma) = self.coefficients(&partials);
        let (pairs, log) = self.innovations(&ar, &ma, 1e-10)?;
        let constant = if self.shape.constant { constant(&pairs).0 } else { 0.0 };
        let weight = (0.5 * log / pairs.len().max(1) as f64).exp();
        let residuals: Vec<f64> = pairs.iter().map(|[y, x]| (y - constant * x) * weight).collect();
        let sum = residuals.iter().map(|e| e * e).sum::<f64>();
        sum.is_finite().then_some(Point { partials, residuals, sum })
    }

    /// Levenberg-Marquardt in `u`, where a partial autocorrelation is `u / sqrt(1 + u^2)`.
    fn descend(&self, mut best: Point, effort: Effort) -> Point {
        let size = best.partials.len();
        let (enough, most) = if effort == Effort::Quick { (3e-3, 12) } else { (1e-9, 60) };
        let n = best.residuals.len() as f64;
        let mut damping = 1e-3;
        if size == 0 {
            return best;
        }
        for _ in 0..most {
            if best.sum <= n * self.floor {
                break;
            }
            let Some((hessian, gradient)) = self.normal_equations(&best) else { break };
            let mut gain = 0.0;
            for _ in 0..8 {
                let mut damped = hessian.clone();
                for i in 0..size {
                    damped[i * size + i] += damping * hessian[i * size + i] + 1e-12;
                }
                let step = solve(damped, gradient.clone());
                let next = step.and_then(|step| self.point(moved(&best.partials, &step)));
                if let Some(next) = next.filter(|next| next.sum < best.sum) {
                    gain = 0.5 * n * (best.sum / next.sum).ln();
                    best = next;
                    damping = (damping * 0.1).max(1e-9);
                    break;
                }
                damping *= 10.0;
            }
            if gain < enough {
                break;
            }
        }
        best
    }

    /// J'J and -J'e by forward differences in `u`.
    fn normal_equations(&self, at: &Point) -> Option<(Vec<f64>, Vec<f64>)> {
        let size = at.partials.len();
        let mut columns = Vec::with_capacity(size);
        for i in 0..size {
            let u = to_u(at.partials[i]);
            // Towards zero, so that a trial point never leaves the admissible region.
            let h = -1e-6 * u.abs().max(1.0) * if u < 0.0 { -1.0 } else { 1.0 };
            let mut shifted = at.partials.clone();
            shifted[i] = from_u(u + h);
            let other = self.point(shifted)?;
            let column: Vec<f64> =
                other.residuals.iter().zip(&at.residuals).map(|(b, a)| (b - a) / h).collect();
            columns.push(column);
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let mut hessian = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..=i {
                hessian[i * size + j] = dot(&columns[i], &columns[j]);
                hessian[j * size + i] = hessian[i * size + j];
            }
        }
        let gradient = columns.iter().map(|column| -dot(column, &at.residuals)).collect();
        Some((hessian, gradient))
    }

    fn fitted(&self, partials: Vec<f64>) -> Fitted {
        let (ar, ma) = self.coefficients(&partials);
        self.concentrated(ar, ma)
    }

    fn concentrated(&self, ar: Vec<f64>, ma: Vec<f64>) -> Fitted {
        let (pairs, log) = self.innovations(&ar, &ma, SETTLED).unwrap_or_default();
        let (constant, information) = if self.shape.constant { constant(&pairs) } else { (0.0, 0.0) };
        let n = pairs.len();
        let sum: f64 = pairs.iter().map(|[y, x]| (y - constant * x).powi(2)).sum();
        let sigma2 = (sum / n.max(1) as f64).max(self.floor);
        let count = n as f64;
        let log_likelihood = -0.5 * (count * (2.0 * PI * sigma2).ln() + sum / sigma2 + log);
        Fitted { shape: self.shape, constant, ar, ma, sigma2, log_likelihood, n, information }
    }
}

/// Generalised least squares of the one regressor, and how much the data say about it.
fn constant(pairs: &[Pair]) -> (f64, f64) {
    let information: f64 = pairs.iter().map(|[_, x]| x * x).sum();
    let product: f64 = pairs.iter().map(|[y, x]| y * x).sum();
    if information > 0.0 { (product / information, information) } else { (0.0, 0.0) }
}

fn to_u(partial: f64) -> f64 {
    partial / (1.0 - partial * partial).sqrt()
}

fn from_u(u: f64) -> f64 {
    (u / (1.0 + u * u).sqrt()).clamp(-NEARLY_ONE, NEARLY_ONE)
}

fn moved(partials: &[f64], step: &[f64]) -> Vec<f64> {
    partials.iter().zip(step).map(|(&r, s)| from_u(to_u(r) + s)).collect()
}

/// Rough parameters for every order up to the largest: Hannan and Rissanen (1982). A long autoregression gives
/// innovations, and the series is regressed on its own lags and theirs.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    p: usize,
    q: usize,
    /// Cross products of [w lag 1..=p, innovation lag 1..=q], and with w.
    gram: Vec<f64>,
    cross: Vec<f64>,
}

impl Starts {
    /// For orders up to (p, q). Missing values count as the mean: these are only starts.
    pub(super) fn new(series: &[f64], d: usize, p: usize, q: usize) -> Self {
        let mut w = if d == 1 { differences(series) } else { series.to_vec() };
        let present: Vec<f64> = w.iter().copied().filter(|x| !x.is_nan()).collect();
        let mean = present.iter().sum::<f64>() / present.len().max(1) as f64;
        for x in &mut w {
            *x = if x.is_nan() { 0.0 } else { *x - mean };
        }
        let innovations = if q > 0 { long_autoregression(&w, p, q) } else { vec![0.0; w.len()] };
        let size = p + q;
        let (mut gram, mut cross) = (vec![0.0; size * size], vec![0.0; size]);
        for t in p.max(q)..w.len() {
            let lag = |i: usize| if i < p { w[t - 1 - i] } else { innovations[t - 1 - (i - p)] };
            for i in 0..size {
                cross[i] += lag(i) * w[t];
                for j in 0..=i {
                    gram[i * size + j] += lag(i) * lag(j);
                }
            }
        }
        Self { p, q, gram, cross }
    }

    /// Partials (AR, then MA) for one order; zeros where the regression has no solution.
    fn partials(&self, p: usize, q: usize) -> Vec<f64> {
        let (p, q) = (p.min(self.p), q.min(self.q));
        let size = self.p + self.q;
        let chosen: Vec<usize> = (0..p).chain(self.p..self.p + q).collect();
        let entry = |i: usize, j: usize| self.gram[i.max(j) * size + i.min(j)];
        let a = chosen.iter().flat_map(|&i| chosen.iter().map(move |&j| (i, j)));
        let a = a.map(|(i, j)| entry(i, j) * if i == j { 1.0 + 1e-9 } else { 1.0 }).collect();
        let b = chosen.iter().map(|&i| self.cross[i]).collect();
        let Some(coefficients) = solve(a, b) else { return vec![0.0; p + q] };
        let (ar, ma) = coefficients.split_at(p);
        let negated: Vec<f64> = ma.iter().map(|c| -c).collect();
        let mut partials = to_partials(ar, 0.95);
        partials.extend(to_partials(&negated, 0.95).into_iter().map(|r| -r));
        debug_assert!(outside(&from_partials(&partials[..p])).is_none(), "starts are stationary");
        partials
    }
}

/// Innovations of a Yule-Walker autoregression long enough to whiten the series.
fn long_autoregression(w: &[f64], p: usize, q: usize) -> Vec<f64> {
    let n = w.len();
    let order = ((10.0 * (n.max(1) as f64).log10()) as usize).min(n / 4).max(p + q).min(n.saturating_sub(1));
    let covariance = |lag: usize| w.iter().zip(&w[lag..]).map(|(a, b)| a * b).sum::<f64>();
    let gamma: Vec<f64> = (0..=order).map(covariance).collect();
    let mut phi: Vec<f64> = Vec::with_capacity(order);
    let mut variance = gamma.first().copied().unwrap_or(0.0);
    for k in 1..=order {
        if variance <= 0.0 {
            break;
        }
        let known: f64 = phi.iter().enumerate().map(|(j, c)| c * gamma[k - 1 - j]).sum();
        let r = (gamma[k] - known) / variance;
        let mirrored: Vec<f64> = phi.iter().rev().copied().collect();
        for (c, other) in phi.iter_mut().zip(mirrored) {
            *c -= r * other;
        }
        phi.push(r);
        variance *= 1.0 - r * r;
    }
    let predicted = |t: usize| phi.iter().take(t).enumerate().map(|(j, c)| c * w[t - 1 - j]).sum::<f64>();
    (0..n).map(|t| w[t] - predicted(t)).collect()
}
