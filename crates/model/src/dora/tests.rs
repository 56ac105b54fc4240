//! DoRA written out by hand, gradients against finite differences with the norms held, decoding.

use super::*;
use crate::batch::Packed;
use crate::cache::KvCache;
use crate::decode::Decoder;
use crate::grads::Grads;
use crate::lora::Target;
use crate::params::Named;
use crate::tiny;
use crate::train::{evaluate, logits, loss_and_grads};
use crate::workspace::Workspace;

/// A DoRA adapter with random numbers everywhere, prepared.
fn adapter(model: &Model<f64>, seed: u64) -> Adapter<f64> {
    let mut adapter = tiny::adapter(&model.config, seed);
    adapter.config.dora = true;
    adapter.modules.values_mut().for_each(|module| module.dora = Some(Dora::default()));
    adapter.prepare(model, Threads::ONE);
    for (index, module) in adapter.modules.values_mut().enumerate() {
        let dora = module.dora.as_mut().unwrap();
        dora.magnitude
            .iter_mut()
            .enumerate()
            .for_each(|(row, m)| *m *= 1.0 + 0.4 * ((row + index) as f64).sin());
    }
    adapter
}

/// The base with m / n * (W + s B A) in place of W.
fn merged(model: &Model<f64>, adapter: &Adapter<f64>) -> Model<f64> {
    let mut merged = model.clone();
    for ((layer, target), module) in &adapter.modules {
        let (input, rank) = (module.in_features(), module.rank);
        let weight = merged.weights.layers[*layer].linear_mut(*target).weight.dense_mut().unwrap();
        for (row, weight) in weight.chunks_exact_mut(input).enumerate() {
            for (column, weight) in weight.iter_mut().enumerate() {
                let product: f64 =
                    (0..rank).map(|r| module.b[row * rank + r] * module.a[r * input + column]).sum();
                *weight += module.scale * product;
            }
            let norm = weight.iter().map(|x| x * x).sum::<f64>().sqrt();
            let gain = module.dora.as_ref().unwrap().magnitude[row] / norm;
            for x in weight.iter_mut() {
                *x *= gain;
            }
        }
    }
    merged
}

#[test]
fn unmerged_equals_the_formula_in_training_evaluation_and_decoding() {
    for (name, config) in tiny::variants() {
        let model = tiny::model(config.clone(), 1);
        let adapter = adapter(&model, 2);
        let by_hand = merged(&model, &adapter);
        let tokens: Vec<u32> = (0..30).map(|i| (i * 7 + i / 3) % config.vocab_size as u32).collect();
        let wanted = logits(&by_hand, None, &tokens).unwrap();
        let found = logits(&model, Some(&adapter), &tokens).unwrap();
        assert!(wanted.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-11), "{name}");

        let (mut cache, mut decoder) = (KvCache::new(&config, 30), Decoder::new(1));
        decoder.feed(&model, Some(&adapter), &mut cache, &tokens[..20]).unwrap();
        for at in 20..30 {
            let next = decoder.feed(&model, Some(&adapter), &mut cache, &tokens[at..=at]).unwrap();
            let wanted = &wanted[at * config.vocab_size..][..config.vocab_size];
            assert!(next.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-11), "{name}");
        }

        let batch = tiny::batch(&config, &[9, 12], 3);
        let nll = |losses: Vec<crate::Loss>| losses.iter().map(|loss| loss.nll_sum).sum::<f64>();
        let wanted = nll(evaluate(&by_hand, None, &batch, &mut Workspace::new(1)).unwrap());
        for threads in [1, 2] {
            let mut grads = Grads::lora(&adapter);
            let mut ws = Workspace::new(threads);
            let loss = loss_and_grads(&model, Some(&adapter), &batch, 1.0, &mut grads, &mut ws).unwrap();
            assert!((loss.nll_sum - wanted).abs() < 1e-10, "{name}");
        }
    }
}

/// The loss of a training pass.
fn loss(model: &Model<f64>, adapter: &Adapter<f64>, batch: &Packed) -> (f64, Grads<f64>) {
    let (mut grads, mut ws) = (Grads::lora(adapter), Workspace::new(1));
    ws.set_dropout_seed(5);
    let loss = loss_and_grads(model, Some(adapter), batch, 1.0, &mut grads, &mut ws).unwrap();
    (loss.nll_sum, grads)
}

#[test]
fn gradients_equal_finite_differences_while_the_norms_are_held() {
    for dropout in [0.0, 0.25] {
        for (name, config) in tiny::variants() {
            let model = tiny::model(config.clone(), 3);
            let mut adapter = adapter(&model, 4);
            adapter.config.dropout = dropout;
            let batch = tiny::batch(&config, &[5, 2, 7], 5);
            let (_, grads) = loss(&model, &adapter, &batch);
            let grads: Vec<Named<Vec<f64>>> = grads
                .iter()
                .into_iter()
                .map(|n| Named { name: n.name, shape: n.shape, values: n.values.to_vec() })
                .collect();
            assert_eq!(grads.len(), 3 * 14);
            let largest = grads.iter().flat_map(|n| &n.values).fold(0.0_f64, |m, x| m.max(x.abs()));
            for (tensor, named) in grads.iter().enumerate() {
                for index in (0..named.values.len()).step_by(7) {
                    let at = |delta: f64| {
                        let mut moved = adapter.clone();
                        // Not by `iter_mut`, which forgets the norms.
                        let module = moved.modules.values_mut().nth(tensor / 3).unwrap();
                        let dora = module.dora.as_mut().unwrap();
                        [&mut module.a, &mut module.b, &mut dora.magnitude][tensor % 3][index] += delta;
                        loss(&model, &moved, &batch).0
                    };
                    let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                    let error = (numeric - named.values[index]).abs();
                    assert!(error < 1e-6 * largest, "{name}: {}[{index}] {error}", named.name);
                }
            }
        }
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_must_be_prepared() {
    let model = tiny::model(tiny::config(), 1);
    let lora = crate::LoraConfig {
        rank: 2,
        alpha: 4.0,
        targets: vec![Target::Q, Target::Down],
        rslora: false,
        dropout: 0.0,
        dora: true,
    };
    let mut fresh = Adapter::<f64>::init(lora, &model.config, 1);
    let tokens = [1, 2, 3, 4];
    let error = logits(&model, Some(&fresh), &tokens).unwrap_err();
    assert!(error.to_string().contains("must be prepared"), "{error}");
    fresh.prepare(&model, Threads::ONE);
    let (plain, adapted) =
        (logits(&model, None, &tokens).unwrap(), logits(&model, Some(&fresh), &tokens).unwrap());
    assert!(plain.iter().zip(&adapted).all(|(a, b)| (a - b).abs() < 1e-12));
    assert_eq!(fresh.parameters(), fresh.iter().iter().map(|named| named.values.len()).sum::<usize>());

    // A changed adapter has other norms, and prepared again the old magnitudes.
    let before = fresh.module(0, Target::Q).unwrap().dora.clone().unwrap();
    fresh.iter_mut()[1].values.fill(0.3);
    assert!(logits(&model, Some(&fresh), &tokens).is_err());
    fresh.prepare(&model, Threads::new(2));
    let after = fresh.module(0, Target::Q).unwrap().dora.clone().unwrap();
    assert_eq!(before.magnitude, after.magnitude);
    assert_ne!(before.norms, after.norms);
}

#[test]
fn norms_go_over_the_rows_of_packed_weights() {
    let mut model = tiny::model(tiny::config(), 1).cast::<f32>();
    let linear = &mut model.weights.layers[0].q;
    let halves = linear.weight.dense().unwrap().iter().map(|x| half::bf16::from_f32(*x)).collect();
    linear.weight = Weight::from_bf16(halves, linear.weight.rows(), linear.weight.cols());
    let mut dense = model.clone();
    dense.weights.layers[0].q.weight = model.weights.layers[0].q.weight.to_dense();
    let mut adapters =
        [tiny::adapter(&model.config, 2).cast::<f32>(), tiny::adapter(&model.config, 2).cast::<f32>()];
    for (adapter, model) in adapters.iter_mut().zip([&model, &dense]) {
        adapter.modules.values_mut().for_each(|module| module.dora = Some(Dora::default()));
        adapter.prepare(model, Threads::ONE);
    }
    assert_eq!(adapters[0], adapters[1]);
}
