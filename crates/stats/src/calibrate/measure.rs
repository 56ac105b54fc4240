//! How good scores and probabilities are.

use serde::{Deserialize, Serialize};

use crate::{Result, StatsError, all_finite};

/// Probability that a random true item scores above a random false one, ties counting half (Mann-Whitney with
/// midranks). 0.5 is chance. Any real score will do, not only probabilities.
///
/// # Errors
/// Slices of different lengths or not finite; labels of one class.
pub fn auc(scores: &[f64], labels: &[bool]) -> Result<f64> {
    same_length(scores, labels)?;
    all_finite("scores", scores)?;
    let positives = labels.iter().filter(|y| **y).count();
    if positives == 0 || positives == labels.len() {
        return Err(StatsError::OneClass { count: labels.len(), label: positives > 0 });
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < order.len() {
        let score = scores[order[start]];
        let end = start + order[start..].partition_point(|&i| scores[i] == score);
        // Ranks start + 1 ..= end share their mean.
        let midrank = (start + 1 + end) as f64 / 2.0;
        let tied = order[start..end].iter().filter(|&&i| labels[i]).count();
        rank_sum += midrank * tied as f64;
        start = end;
    }
    let positives = positives as f64;
    let negatives = labels.len() as f64 - positives;
    Ok((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Mean squared distance of probability and outcome (Brier 1950); 0 is perfect.
///
/// # Errors
/// Slices that are empty or of different lengths; probabilities outside of [0, 1].
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Result<f64> {
    check(probabilities, labels)?;
    let sum: f64 = probabilities.iter().zip(labels).map(|(p, &y)| (p - outcome(y)).powi(2)).sum();
    Ok(sum / labels.len() as f64)
}

/// Mean negative log likelihood in nats; probabilities are kept 2.2e-16 away from 0 and 1, as scikit-learn does.
///
/// # Errors
/// As [`brier`].
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Result<f64> {
    check(probabilities, labels)?;
    let sum: f64 = probabilities
        .iter()
        .zip(labels)
        .map(|(p, &y)| {
            let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
            if y { -p.ln() } else { -(-p).ln_1p() }
        })
        .sum();
    Ok(sum / labels.len() as f64)
}

/// One line of a reliability table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower edge of the bin.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Items in it.
    pub count: u64,
    /// Their mean probability (0 when there are none).
    pub mean_probability: f64,
    /// Their share of true labels (0 when there are none).
    pub true_rate: f64,
}

/// Reliability table over equally wide bins of [0, 1]; a probability on an inner edge belongs to the lower bin, as
/// in scikit-learn. Empty bins are listed with a count of 0.
///
/// # Errors
/// As [`brier`]; no bins.
pub fn reliability(probabilities: &[f64], labels: &[bool], bins: usize) -> Result<Vec<ReliabilityBin>> {
    check(probabilities, labels)?;
    if bins == 0 {
        return Err(StatsError::Empty { what: "reliability bins" });
    }
    let edge = |i: usize| i as f64 / bins as f64;
    let inner: Vec<f64> = (1..bins).map(edge).collect();
    let mut sums = vec![(0_u64, 0.0, 0.0); bins];
    for (p, &y) in probabilities.iter().zip(labels) {
        let slot = &mut sums[inner.partition_point(|e| e < p)];
        *slot = (slot.0 + 1, slot.1 + p, slot.2 + outcome(y));
    }
    Ok(sums
        .into_iter()
        .enumerate()
        .map(|(i, (count, p, y))| {
            let n = count.max(1) as f64;
            ReliabilityBin {
                low: edge(i),
                high: edge(i + 1),
                count,
                mean_probability: p / n,
                true_rate: y / n,
            }
        })
        .collect())
}

/// Expected calibration error (Naeini et al. 2015): the gap between mean probability and true rate, weighted by
/// the share of items in each bin.
///
/// # Errors
/// As [`reliability`].
pub fn expected_calibration_error(probabilities: &[f64], labels: &[bool], bins: usize) -> Result<f64> {
    let table = reliability(probabilities, labels, bins)?;
    let total = labels.len() as f64;
    Ok(table.iter().map(|b| b.count as f64 / total * (b.mean_probability - b.true_rate).abs()).sum())
}

fn outcome(label: bool) -> f64 {
    f64::from(u8::from(label))
}

fn same_length(scores: &[f64], labels: &[bool]) -> Result<()> {
    if scores.len() == labels.len() {
        Ok(())
    } else {
        Err(StatsError::Length { what: "scores and labels", left: scores.len(), right: labels.len() })
    }
}

fn check(probabilities: &[f64], labels: &[bool]) -> Result<()> {
    same_length(probabilities, labels)?;
    if probabilities.is_empty() {
        return Err(StatsError::Empty { what: "probabilities" });
    }
    probabilities.iter().try_for_each(|p| crate::closed_unit("probability", *p).map(drop))
}
