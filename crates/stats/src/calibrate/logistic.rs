//! Logistic regression with an L2 penalty, by Newton's method (iteratively reweighted least squares).

use serde::{Deserialize, Serialize};

use crate::{Result, StatsError, all_finite};

/// Newton steps after which a fit is given up.
const MAX_STEPS: usize = 100;

/// P(true) = 1 / (1 + exp(-(intercept + weights . x))).
///
/// With one feature this is Platt (1999) scaling without his smoothed targets, whose job the penalty does here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// Constant term, never penalised.
    pub intercept: f64,
    /// One weight per feature, in the unit of that feature.
    pub weights: Vec<f64>,
}

impl Logistic {
    /// Minimises `sum of log losses + l2 / 2 * |weights|^2`. (scikit-learn's `C` is `1 / l2`.)
    ///
    /// `rows` are feature vectors of one length; features of very different sizes should be brought to a common
    /// scale first, for the penalty treats them alike.
    ///
    /// # Errors
    /// No rows, rows of different lengths, NaN or infinities, labels of one class, a negative `l2`; and
    /// [`StatsError::NotSettled`] when `l2` is 0 and the classes can be separated.
    pub fn fit<R: AsRef<[f64]>>(rows: &[R], labels: &[bool], l2: f64) -> Result<Self> {
        let width = check(rows, labels, l2)?;
        // theta = [intercept, weights...]
        let mut theta = vec![0.0; width + 1];
        let share = labels.iter().filter(|y| **y).count() as f64 / labels.len() as f64;
        theta[0] = (share / (1.0 - share)).ln();
        let mut loss = objective(rows, labels, l2, &theta);
        for _ in 0..MAX_STEPS {
            let (gradient, hessian) = derivatives(rows, labels, l2, &theta);
            let Some(direction) = solve(hessian, &gradient) else { break };
            // The Newton decrement: twice the distance to the minimum in units of the loss.
            let decrement: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            if decrement.abs() <= 1e-14 * (1.0 + loss.abs()) {
                return Ok(Self { intercept: theta[0], weights: theta.split_off(1) });
            }
            let Some((next, next_loss)) = line_search(rows, labels, l2, &theta, &direction, loss) else {
                // Rounding hides any further gain: this is the minimum as far as f64 can tell.
                return Ok(Self { intercept: theta[0], weights: theta.split_off(1) });
            };
            theta = next;
            loss = next_loss;
            // Without a penalty a separable problem runs off to infinity instead of stopping.
            if l2 == 0.0 && loss < 1e-9 * labels.len() as f64 {
                break;
            }
        }
        Err(StatsError::NotSettled { steps: MAX_STEPS })
    }

    /// The fitted probability for one feature vector. Missing features count as 0, surplus ones are ignored.
    pub fn predict(&self, x: &[f64]) -> f64 {
        sigmoid(self.intercept + self.weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
    }
}

fn check<R: AsRef<[f64]>>(rows: &[R], labels: &[bool], l2: f64) -> Result<usize> {
    if rows.len() != labels.len() {
        return Err(StatsError::Length { what: "rows and labels", left: rows.len(), right: labels.len() });
    }
    let Some(first) = rows.first() else {
        return Err(StatsError::Empty { what: "rows" });
    };
    let width = first.as_ref().len();
    for row in rows {
        let row = row.as_ref();
        if row.len() != width {
            return Err(StatsError::Length { what: "features of two rows", left: width, right: row.len() });
        }
        all_finite("features", row)?;
    }
    if labels.iter().all(|y| *y == labels[0]) {
        return Err(StatsError::OneClass { count: labels.len(), label: labels[0] });
    }
    if !(l2 >= 0.0 && l2.is_finite()) {
        return Err(StatsError::Domain { what: "l2", expected: "0 or more", got: l2 });
    }
    Ok(width)
}

fn sigmoid(t: f64) -> f64 {
    if t >= 0.0 {
        1.0 / (1.0 + (-t).exp())
    } else {
        let e = t.exp();
        e / (1.0 + e)
    }
}

fn logit(theta: &[f64], x: &[f64]) -> f64 {
    theta[0] + theta[1..].iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
}

fn objective<R: AsRef<[f64]>>(rows: &[R], labels: &[bool], l2: f64, theta: &[f64]) -> f64 {
    let mut loss = 0.5 * l2 * theta[1..].iter().map(|w| w * w).sum::<f64>();
    for (row, &y) in rows.iter().zip(labels) {
        // ln(1 + exp(-t)) for the signed margin t, without overflow.
        let t = logit(theta, row.as_ref());
        let t = if y { t } else { -t };
        loss += if t > 0.0 { (-t).exp().ln_1p() } else { t.exp().ln_1p() - t };
    }
    loss
}

/// Gradient and Hessian (row-major) of the objective.
fn derivatives<R: AsRef<[f64]>>(
    rows: &[R],
    labels: &[bool],
    l2: f64,
    theta: &[f64],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = theta.len();
    let mut gradient = vec![0.0; size];
    let mut hessian = vec![vec![0.0; size]; size];
    for i in 1..size {
        gradient[i] = l2 * theta[i];
        hessian[i][i] = l2;
    }
    let mut x = vec![1.0; size];
    for (row, &y) in rows.iter().zip(labels) {
        x[1..].copy_from_slice(row.as_ref());
        let p = sigmoid(logit(theta, row.as_ref()));
        let residual = p - f64::from(u8::from(y));
        let weight = p * (1.0 - p);
        for i in 0..size {
            gradient[i] += residual * x[i];
            for j in 0..=i {
                hessian[i][j] += weight * x[i] * x[j];
            }
        }
    }
    (gradient, hessian)
}

/// Solves H d = g for a symmetric positive definite H (lower triangle) by Cholesky; `None` when it is not.
fn solve(mut h: Vec<Vec<f64>>, g: &[f64]) -> Option<Vec<f64>> {
    let size = g.len();
    for i in 0..size {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| h[i][k] * h[j][k]).sum();
            let rest = h[i][j] - dot;
            if i == j {
                if rest.is_nan() || rest <= f64::MIN_POSITIVE {
                    return None;
                }
                h[i][i] = rest.sqrt();
            } else {
                h[i][j] = rest / h[j][j];
            }
        }
    }
    let mut d = g.to_vec();
    for i in 0..size {
        let dot: f64 = (0..i).map(|k| h[i][k] * d[k]).sum();
        d[i] = (d[i] - dot) / h[i][i];
    }
    for i in (0..size).rev() {
        let dot: f64 = (i + 1..size).map(|k| h[k][i] * d[k]).sum();
        d[i] = (d[i] - dot) / h[i][i];
    }
    Some(d)
}

/// Halves the Newton step until the loss falls.
fn line_search<R: AsRef<[f64]>>(
    rows: &[R],
    labels: &[bool],
    l2: f64,
    theta: &[f64],
    direction: &[f64],
    loss: f64,
) -> Option<(Vec<f64>, f64)> {
    let mut step = 1.0;
    for _ in 0..40 {
        let next: Vec<f64> = theta.iter().zip(direction).map(|(t, d)| t - step * d).collect();
        let next_loss = objective(rows, labels, l2, &next);
        if next_loss < loss {
            return Some((next, next_loss));
        }
        step *= 0.5;
    }
    None
}
