//! What the weights do to ROI: the weighted adjustment of a cycle, profit, energy.
//!
//! Formulas of the program that these files come from, its numbers included (tests hold worked cases).

use crate::synergy::Values;

/// Patch records that the norms look back on.
const RECORDS: usize = 20;

/// One earlier patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patch {
    /// What it did to ROI.
    pub roi_delta: f64,
    /// Synergy metrics with it.
    pub metrics: Values,
}

/// Weights and scales that a cycle's deltas are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Norms {
    /// Share of each metric, times its weight.
    pub weights: Values,
    /// Mean and standard deviation (population; 1 where it is 0) of each metric.
    pub scales: [(f64, f64); 7],
}

impl Norms {
    /// From the weights alone: deltas count as they are.
    pub fn plain(weights: Values) -> Self {
        Self { weights, scales: [(0.0, 1.0); 7] }
    }

    /// From the newest 20 patches, oldest first: least squares of the ROI deltas on the metrics without
    /// intercept, each weight times its coefficient's share. Fewer than two patches, or none with a value
    /// other than 0, say nothing.
    pub fn from_patches(weights: Values, patches: &[Patch]) -> Self {
        let recent = &patches[patches.len().saturating_sub(RECORDS)..];
        let silent = recent.iter().all(|patch| patch.metrics.iter().all(|value| *value == 0.0));
        if recent.len() < 2 || silent {
            return Self::plain(weights);
        }
        let coefficients = least_squares(recent).map(f64::abs);
        let total: f64 = coefficients.iter().sum();
        let share = |index: usize| if total > 0.0 { coefficients[index] / total } else { 1.0 / 7.0 };
        let count = recent.len() as f64;
        let scale = |index: usize| {
            let mean = recent.iter().map(|patch| patch.metrics[index]).sum::<f64>() / count;
            let squares = recent.iter().map(|patch| (patch.metrics[index] - mean).powi(2)).sum::<f64>();
            let deviation = (squares / count).sqrt();
            (mean, if deviation == 0.0 { 1.0 } else { deviation })
        };
        Self {
            weights: std::array::from_fn(|index| share(index) * weights[index]),
            scales: std::array::from_fn(scale),
        }
    }

    /// The weighted synergy adjustment of a cycle: sum of ((delta - mean) / (deviation + 1e-6)) weight.
    pub fn adjustment(&self, deltas: &Values) -> f64 {
        let terms = deltas.iter().zip(&self.scales).zip(&self.weights);
        terms.map(|((delta, (mean, deviation)), weight)| (delta - mean) / (deviation + 1e-6) * weight).sum()
    }
}

/// Change of a metric: mean of the last `window` values less the mean of up to as many before them. A series
/// no longer than the window: less its second-last value; one value is its own change, none is 0.
pub fn metric_delta(series: &[f64], window: usize) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (count, width) = (series.len(), window.clamp(1, series.len().max(1)));
    match series {
        [] => 0.0,
        [only] => *only,
        _ if count > width => {
            let (before, current) = series.split_at(count - width);
            mean(current) - mean(&before[before.len().saturating_sub(width)..])
        }
        _ => mean(series) - series[count - 2],
    }
}

/// Profit and energy score of a cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// Profit.
    pub profit: f64,
    /// Energy score, at least 0.
    pub energy: f64,
}

impl Cycle {
    /// As the documents say: the weighted ROI delta is profit; efficiency, resilience and antifragility
    /// move the energy.
    #[must_use]
    pub fn adjusted(self, weights: &Values, deltas: &Values) -> Self {
        let weighted = |index: usize| weights[index] * deltas[index];
        Self {
            profit: self.profit + weighted(0),
            energy: (self.energy + weighted(1) + weighted(2) + weighted(3)).max(0.0),
        }
    }

    /// As the documents' program does: of the energy's three metrics it uses efficiency alone.
    #[must_use]
    pub fn legacy_adjusted(self, weights: &Values, deltas: &Values) -> Self {
        let adjusted = |index: usize| weights[index] * deltas[index];
        Self { profit: self.profit + adjusted(0), energy: (self.energy + adjusted(1)).max(0.0) }
    }
}

/// Energy of the next cycle, 1 to 100: round(5 score) (1 + max(0, predicted)) scale (1 + adjustment)
/// (1 + max(0, mean ROI)), rounded half to even as Python does.
pub fn energy(score: f64, predicted: f64, scale: f64, adjustment: f64, mean_roi: f64) -> u32 {
    let energy = (score * 5.0).round_ties_even()
        * (1.0 + predicted.max(0.0))
        * scale
        * (1.0 + adjustment)
        * (1.0 + mean_roi.max(0.0));
    energy.round_ties_even().clamp(1.0, 100.0) as u32
}

/// The shortest of all least-squares solutions, as NumPy gives it: one-sided Jacobi (Hestenes 1958) makes the
/// columns orthogonal; directions below the rounding error of the largest count as absent.
fn least_squares(patches: &[Patch]) -> Values {
    let mut columns: [Vec<f64>; 7] =
        std::array::from_fn(|index| patches.iter().map(|patch| patch.metrics[index]).collect());
    let mut rotation = [[0.0; 7]; 7];
    for (index, row) in rotation.iter_mut().enumerate() {
        row[index] = 1.0;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for _sweep in 0..60 {
        let mut turned = false;
        for i in 0..7 {
            for j in i + 1..7 {
                let (left, right) = (dot(&columns[i], &columns[i]), dot(&columns[j], &columns[j]));
                let cross = dot(&columns[i], &columns[j]);
                if cross.abs() <= f64::EPSILON * (left * right).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (right - left) / (2.0 * cross);
                let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = cosine * tangent;
                let turn = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
                let (before, rest) = columns.split_at_mut(j);
                for (a, b) in before[i].iter_mut().zip(&mut rest[0]) {
                    (*a, *b) = turn(*a, *b);
                }
                for row in &mut rotation {
                    (row[i], row[j]) = turn(row[i], row[j]);
                }
            }
        }
        if !turned {
            break;
        }
    }
    let squares: Vec<f64> = columns.iter().map(|column| dot(column, column)).collect();
    let largest = squares.iter().copied().fold(0.0, f64::max).sqrt();
    let least = f64::EPSILON * patches.len().max(7) as f64 * largest;
    let rois: Vec<f64> = patches.iter().map(|patch| patch.roi_delta).collect();
    let mut solution = [0.0; 7];
    for (index, square) in squares.iter().enumerate().filter(|(_, square)| square.sqrt() > least) {
        let along = dot(&columns[index], &rois) / square;
        for (value, row) in solution.iter_mut().zip(&rotation) {
            *value += row[index] * along;
        }
    }
    solution
}
