//! Signs that a run is not well, said while it goes on: loss spikes, matrices that learn nothing.

use std::collections::BTreeSet;

use nightshift_model::Grads;

use crate::report::StepMetric;

/// Steps that a loss is compared with.
const WINDOW: usize = 20;
/// Fewest steps before a spike can be told from a beginning.
const FEWEST: usize = 5;
/// A spike is this many times the median of the steps before it ...
const TIMES: f64 = 2.0;
/// ... and at least so many nats above it.
const ABOVE: f64 = 0.5;
/// Tensors that one sentence names.
const NAMED_TENSORS: usize = 4;
/// Spikes that a report names.
const NAMED_SPIKES: usize = 5;

/// What a loss that jumped says, given the steps before it.
pub(crate) fn spike(before: &[StepMetric], step: &StepMetric) -> Option<String> {
    let recent = &before[before.len().saturating_sub(WINDOW)..];
    if recent.len() < FEWEST {
        return None;
    }
    let mut losses: Vec<f64> = recent.iter().map(|step| step.loss).collect();
    losses.sort_unstable_by(f64::total_cmp);
    let median = losses[losses.len() / 2];
    (step.loss > TIMES * median && step.loss > median + ABOVE).then(|| {
        format!(
            "the loss jumped to {:.3} at step {}, from {median:.3} over the {} steps before (gradient {:.3}): \
             look at that window's rows, or lower train.learning_rate",
            step.loss,
            step.step,
            recent.len(),
            step.grad_norm
        )
    })
}

/// Matrices whose B has no gradient at all, said once each.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    said: BTreeSet<String>,
}

impl Dead {
    /// What the gradients of one step say that was not said before. B alone is looked at: while B is zero,
    /// the gradient of A is zero in a healthy run.
    pub(crate) fn look(&mut self, grads: &Grads, step: usize) -> Option<String> {
        let tensors = grads.iter();
        let all: Vec<_> = tensors.iter().filter(|tensor| tensor.name.contains(".lora_B.")).collect();
        let zero = all.iter().filter(|tensor| tensor.values.iter().all(|value| *value == 0.0));
        let new: Vec<&str> =
            zero.filter(|t| self.said.insert(t.name.clone())).map(|tensor| tensor.name.as_str()).collect();
        match new.as_slice() {
            [] => None,
            names if names.len() == all.len() => Some(format!(
                "no matrix had a gradient at step {step}: nothing is learned; is the adapter frozen, or every \
                 prediction already certain?"
            )),
            names => Some(format!(
                "the gradient of {} is zero at step {step}: {} of {} matrices learn nothing",
                listed(names, NAMED_TENSORS),
                names.len(),
                all.len()
            )),
        }
    }
}

/// The first spikes of a whole run.
pub(crate) fn spikes(steps: &[StepMetric]) -> Vec<String> {
    let said = (0..steps.len()).filter_map(|step| spike(&steps[..step], &steps[step]));
    said.take(NAMED_SPIKES).collect()
}

/// The first `limit` names, and how many more there are.
pub(crate) fn listed(names: &[&str], limit: usize) -> String {
    let first = names[..names.len().min(limit)].join(", ");
    match names.len().saturating_sub(limit) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_model::{Adapter, LoraConfig, ModelConfig, Target};

    fn steps(losses: &[f64]) -> Vec<StepMetric> {
        let one = |(n, &loss): (usize, &f64)| StepMetric { step: n + 1, loss, ..StepMetric::default() };
        losses.iter().enumerate().map(one).collect()
    }

    #[test]
    fn a_jump_is_said_and_a_beginning_is_not() {
        let said = |losses: &[f64]| {
            let steps = steps(losses);
            let (last, before) = steps.split_last().unwrap();
            spike(before, last)
        };
        assert!(said(&[1.0, 1.1, 0.9, 1.0, 1.0, 3.0]).unwrap().contains("3.000 at step 6, from 1.000"));
        assert!(said(&[1.0, 1.0, 1.0, 5.0]).is_none(), "too early to tell");
        assert!(said(&[1.0, 1.1, 0.9, 1.0, 1.0, 1.9]).is_none(), "no doubling");
        assert!(said(&[0.01, 0.01, 0.01, 0.01, 0.01, 0.4]).is_none(), "far from half a nat");
    }

    #[test]
    fn a_matrix_without_gradient_is_said_once() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model/qwen3");
        let shape = ModelConfig::from_dir(&folder).unwrap();
        let targets = vec![Target::Q, Target::V];
        let config = LoraConfig { rank: 2, alpha: 4.0, targets, rslora: false, dropout: 0.0, dora: false };
        let mut grads = Grads::lora(&Adapter::init(config, &shape, 1));
        let all = Dead::default().look(&grads, 1).unwrap();
        assert!(all.contains("nothing is learned"), "{all}");
        for tensor in grads.iter_mut().iter_mut().filter(|t| !t.name.contains("layers.0.self_attn.v_proj")) {
            tensor.values.fill(0.5);
        }
        let mut dead = Dead::default();
        let one = dead.look(&grads, 7).unwrap();
        assert!(one.contains("layers.0.self_attn.v_proj.lora_B") && one.contains("step 7: 1 of"), "{one}");
        assert!(dead.look(&grads, 8).is_none(), "said once");
    }
}
