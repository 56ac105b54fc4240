//! Isotonic regression by pooling adjacent violators.

use serde::{Deserialize, Serialize};

use crate::{Result, StatsError, all_finite};

/// A non-decreasing step-and-line function from score to probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Scores at which the function is known, strictly increasing.
    pub x: Vec<f64>,
    /// Fitted value at each score, non-decreasing.
    pub y: Vec<f64>,
}

impl Isotonic {
    /// Least-squares fit of a non-decreasing function (Ayer et al. 1955). Equal scores are pooled first.
    ///
    /// # Errors
    /// Slices that are empty, of different lengths, or not finite.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self> {
        if scores.len() != labels.len() {
            return Err(StatsError::Length {
                what: "scores and labels",
                left: scores.len(),
                right: labels.len(),
            });
        }
        if scores.is_empty() {
            return Err(StatsError::Empty { what: "scores" });
        }
        all_finite("scores", scores)?;
        let points = pooled_points(scores, labels);
        // Blocks of (sum, weight, points in it); neighbours that fall are merged.
        let mut blocks: Vec<(f64, f64, usize)> = Vec::with_capacity(points.len());
        for &(_, sum, weight) in &points {
            let mut block = (sum, weight, 1);
            while let Some(&(s, w, count)) = blocks.last() {
                if s * block.1 < block.0 * w {
                    break;
                }
                block = (block.0 + s, block.1 + w, block.2 + count);
                blocks.pop();
            }
            blocks.push(block);
        }
        let y = blocks.iter().flat_map(|&(s, w, count)| std::iter::repeat_n(s / w, count)).collect();
        Ok(Self { x: points.into_iter().map(|p| p.0).collect(), y })
    }

    /// The fitted probability: linear between known scores, flat outside of them.
    pub fn predict(&self, score: f64) -> f64 {
        let above = self.x.partition_point(|x| *x <= score);
        if above == 0 {
            return self.y[0];
        }
        if above == self.x.len() {
            return self.y[above - 1];
        }
        let (x0, x1) = (self.x[above - 1], self.x[above]);
        let (y0, y1) = (self.y[above - 1], self.y[above]);
        y0 + (y1 - y0) * (score - x0) / (x1 - x0)
    }
}

/// (score, number of true labels, number of labels) in increasing order of score.
fn pooled_points(scores: &[f64], labels: &[bool]) -> Vec<(f64, f64, f64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut points: Vec<(f64, f64, f64)> = Vec::new();
    for i in order {
        let label = f64::from(u8::from(labels[i]));
        match points.last_mut() {
            Some(last) if last.0 == scores[i] => {
                last.1 += label;
                last.2 += 1.0;
            }
            _ => points.push((scores[i], label, 1.0)),
        }
    }
    points
}
