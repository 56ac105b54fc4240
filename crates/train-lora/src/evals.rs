//! What the evaluations of a run say: the best state so far, and when to stop. Pure.

use nightshift_model::Loss;
use serde::{Deserialize, Serialize};

/// One evaluation during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EvalMetric {
    /// Optimiser steps done before it; 0 is the start.
    pub(crate) step: usize,
    /// Mean negative log-likelihood per answer token, nats; `None` when it was not finite.
    pub(crate) loss: Option<f64>,
    /// Answer tokens.
    pub(crate) answer_tokens: usize,
    /// Wall time it took.
    pub(crate) seconds: f64,
    /// When it ended, in seconds since 1970.
    pub(crate) at_s: f64,
}

impl EvalMetric {
    /// The evaluation after `step` steps; a sum that is not finite has no loss.
    pub(crate) fn new(step: usize, sum: Loss, seconds: f64, at_s: f64) -> Self {
        let loss = sum.mean().filter(|loss| loss.is_finite());
        Self { step, loss, answer_tokens: sum.tokens, seconds, at_s }
    }
}

/// The trained state with the lowest loss, the earliest of equals. The start is no trained state, and what
/// is not finite is never best.
pub(crate) fn best(evals: &[EvalMetric]) -> Option<EvalMetric> {
    let finite = evals.iter().filter(|eval| eval.step > 0 && eval.loss.is_some());
    finite.copied().min_by(|a, b| a.loss.unwrap_or(f64::MAX).total_cmp(&b.loss.unwrap_or(f64::MAX)))
}

/// Whether the newest `patience` evaluations (0: never) brought no gain: none was lower by more than `delta`
/// than the best one before. The start counts as the first to be beaten.
pub(crate) fn exhausted(evals: &[EvalMetric], patience: usize, delta: f64) -> bool {
    let (mut lowest, mut without) = (f64::INFINITY, 0);
    for eval in evals {
        match eval.loss {
            Some(loss) if loss < lowest - delta || lowest.is_infinite() => (lowest, without) = (loss, 0),
            _ => without += 1,
        }
    }
    patience > 0 && without >= patience
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evals(losses: &[f64]) -> Vec<EvalMetric> {
        let one = |(step, &loss): (usize, &f64)| {
            EvalMetric::new(step, Loss { nll_sum: loss * 4.0, tokens: 4, ..Loss::default() }, 0.1, 0.0)
        };
        losses.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_lowest_trained_state_is_best_and_nan_never_is() {
        assert_eq!(best(&evals(&[1.0, 3.0, 2.0, 2.0])).unwrap().step, 2);
        assert_eq!(best(&evals(&[1.0, f64::NAN, 2.0, f64::NAN])).unwrap().step, 2);
        assert!(best(&evals(&[1.0])).is_none() && best(&evals(&[1.0, f64::INFINITY])).is_none());
    }

    #[test]
    fn patience_counts_evaluations_without_enough_gain() {
        assert!(!exhausted(&evals(&[3.0, 2.0, 2.5]), 2, 0.0));
        assert!(exhausted(&evals(&[3.0, 2.0, 2.5, 2.1]), 2, 0.0));
        assert!(!exhausted(&evals(&[3.0, 2.0, 2.5, 1.9]), 2, 0.0));
        // Small gains add up to one; each alone is none.
        assert!(!exhausted(&evals(&[3.0, 2.95, 2.88]), 2, 0.1));
        assert!(exhausted(&evals(&[3.0, 2.95, 2.93]), 2, 0.1));
        assert!(exhausted(&evals(&[3.0, f64::NAN, f64::NAN]), 2, 0.0), "NaN is no gain");
        assert!(!exhausted(&evals(&[3.0, 4.0, 5.0, 6.0]), 0, 0.0));
    }
}
