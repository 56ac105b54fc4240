//! Losses against their definitions, derivatives and gradients against finite differences.

use super::*;
use crate::lora::Adapter;
use crate::tiny;
use crate::train::evaluate;

const DPO: Dpo = Dpo { beta: 0.3, label_smoothing: 0.1 };
const KTO: Kto = Kto { beta: 0.4, desirable: 1.2, undesirable: 0.7 };
const DESIRABLE: [bool; 4] = [true, false, false, true];
const KL: f64 = 0.3;

/// Four answers; every one has a scored token.
fn batch() -> Packed {
    tiny::batch(&tiny::config(), &[6, 9, 4, 7], 5)
}

fn log_probs(model: &Model<f64>, adapter: Option<&Adapter<f64>>, batch: &Packed) -> Vec<f64> {
    let losses = evaluate(model, adapter, batch, &mut Workspace::new(1)).unwrap();
    assert!(losses.iter().all(|loss| loss.tokens > 0));
    losses.into_iter().map(|loss| -loss.nll_sum).collect()
}

#[test]
fn losses_are_those_of_the_papers() {
    let plain = Dpo { beta: 0.1, label_smoothing: 0.0 };
    let even = plain.score([-5.0, -7.0], [-5.0, -7.0]);
    assert!((even.loss - 2.0_f64.ln()).abs() < 1e-15);
    assert!((even.slope + 0.05).abs() < 1e-15);
    // -log sigmoid(0.1 * ((-4 + 6) - (-9 + 8))) = -log sigmoid(0.3)
    let score = plain.score([-4.0, -9.0], [-6.0, -8.0]);
    assert!((score.loss - (1.0 + (-0.3_f64).exp()).ln()).abs() < 1e-15);
    // Hopeless pairs neither overflow nor vanish.
    let far = plain.score([-1e5, -1.0], [-1.0, -1.0]);
    assert!((far.loss - 0.1 * 99_999.0).abs() < 1e-9 && (far.slope + 0.1).abs() < 1e-12);

    let good = KTO.score(true, -4.0, -6.0, KL);
    assert!((good.loss - 1.2 * (1.0 - sigmoid(0.4 * 1.7))).abs() < 1e-15);
    let bad = KTO.score(false, -4.0, -6.0, KL);
    assert!((bad.loss - 0.7 * (1.0 - sigmoid(-0.4 * 1.7))).abs() < 1e-15);
    assert_eq!(Kto::kl(&[-1.0, -2.0], &[-2.0, -3.5]), 1.25);
    assert_eq!(Kto::kl(&[-3.0], &[-2.0]), 0.0, "never negative");
}

#[test]
fn slopes_are_derivatives() {
    let h = 1e-6;
    let (policy, reference) = ([-4.2, -3.1], [-3.9, -4.0]);
    let slope = DPO.score(policy, reference).slope;
    let at = |delta: f64| DPO.score([policy[0] + delta, policy[1]], reference).loss;
    assert!(((at(h) - at(-h)) / (2.0 * h) - slope).abs() < 1e-9);
    let at = |delta: f64| DPO.score([policy[0], policy[1] + delta], reference).loss;
    assert!(((at(h) - at(-h)) / (2.0 * h) + slope).abs() < 1e-9);
    for desirable in [true, false] {
        let at = |policy: f64| KTO.score(desirable, policy, -3.9, KL);
        let numeric = (at(-4.2 + h).loss - at(-4.2 - h).loss) / (2.0 * h);
        assert!((numeric - at(-4.2).slope).abs() < 1e-9);
    }
}

/// The gradient of one pass on `threads` threads, and what it summed up.
fn pass(which: &str, adapter: &Adapter<f64>, threads: usize) -> (PreferenceSum, Grads<f64>) {
    let (model, batch) = (tiny::model(tiny::config(), 1), batch());
    let reference = log_probs(&model, None, &batch);
    let (mut grads, mut ws) = (Grads::lora(adapter), Workspace::new(threads));
    let models = (&model, adapter);
    let judged = if which == "dpo" {
        dpo_loss_and_grads(&DPO, models, &batch, &reference, 0.5, &mut grads, &mut ws)
    } else {
        let sides = (&DESIRABLE[..], reference.as_slice());
        kto_loss_and_grads((&KTO, KL), models, &batch, sides, 0.5, &mut grads, &mut ws)
    };
    (judged.unwrap(), grads)
}

#[test]
fn gradients_equal_finite_differences_whatever_the_number_of_threads() {
    let adapter = tiny::adapter(&tiny::config(), 2);
    for which in ["dpo", "kto"] {
        let (judged, grads) = pass(which, &adapter, 1);
        for threads in [2, 3] {
            let (other, many) = pass(which, &adapter, threads);
            assert!((other.loss - judged.loss).abs() < 1e-11);
            for (a, b) in grads.iter().iter().zip(many.iter()) {
                assert!(a.values.iter().zip(b.values).all(|(a, b)| (a - b).abs() < 1e-12), "{}", a.name);
            }
        }
        let largest = grads.iter().iter().flat_map(|n| n.values).fold(0.0_f64, |m, x| m.max(x.abs()));
        assert!(largest > 1e-3, "{which}: {largest}");
        for (tensor, named) in grads.iter().iter().enumerate() {
            for index in (0..named.values.len()).step_by(5) {
                let at = |delta: f64| {
                    let mut moved = adapter.clone();
                    moved.iter_mut()[tensor].values[index] += delta;
                    0.5 * pass(which, &moved, 1).0.loss
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                let error = (numeric - named.values[index]).abs();
                assert!(error < 1e-6 * largest, "{which}: {}[{index}] {error}", named.name);
            }
        }
    }
}

#[test]
fn rewards_and_accuracy_are_counted() {
    let (model, batch, adapter) =
        (tiny::model(tiny::config(), 1), batch(), tiny::adapter(&tiny::config(), 2));
    let (policy, reference) = (log_probs(&model, Some(&adapter), &batch), log_probs(&model, None, &batch));
    let ratio: Vec<f64> =
        policy.iter().zip(&reference).map(|(policy, reference)| policy - reference).collect();
    let (judged, _) = pass("dpo", &adapter, 1);
    assert_eq!((judged.items, judged.answers.tokens), (2, batch.scored()));
    assert!((judged.chosen.0 - 0.3 * (ratio[0] + ratio[2])).abs() < 1e-12);
    assert!((judged.rejected.0 - 0.3 * (ratio[1] + ratio[3])).abs() < 1e-12);
    let right = usize::from(ratio[0] > ratio[1]) + usize::from(ratio[2] > ratio[3]);
    assert_eq!(judged.right, right);
    let (judged, _) = pass("kto", &adapter, 1);
    assert_eq!((judged.items, judged.chosen.1, judged.rejected.1), (4, 2, 2));
    assert!((judged.chosen.0 - 0.4 * (ratio[0] + ratio[3])).abs() < 1e-12);
}

#[test]
fn pairs_and_references_that_do_not_fit_are_refused() {
    let (model, adapter, batch) =
        (tiny::model(tiny::config(), 1), tiny::adapter(&tiny::config(), 2), batch());
    let (mut grads, mut ws) = (Grads::lora(&adapter), Workspace::new(1));
    let models = (&model, &adapter);
    let mut dpo = |batch: &Packed, reference: &[f64]| {
        dpo_loss_and_grads(&DPO, models, batch, reference, 1.0, &mut grads, &mut ws).unwrap_err().to_string()
    };
    assert!(dpo(&batch, &[0.0; 3]).contains("3 log-probabilities"));
    assert!(dpo(&tiny::batch(&model.config, &[5, 6, 7], 1), &[0.0; 3]).contains("no pairs"));
    let mut full = Grads::full(&model);
    let error = dpo_loss_and_grads(&DPO, models, &batch, &[0.0; 4], 1.0, &mut full, &mut Workspace::new(1));
    assert!(error.unwrap_err().to_string().contains("adapter is trained only"));
}
