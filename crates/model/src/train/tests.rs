//! Gradients against finite differences, and what must not change a result.

mod passes;

use std::collections::BTreeMap;

use super::*;
use crate::config::ModelConfig;
use crate::lora::{LoraConfig, Target};
use crate::optim::{AdamW, Schedule, ScheduleKind};
use crate::params::Named;
use crate::tiny;

const SCALE: f64 = 0.37;
/// Segments on both sides of the sliding window.
const LENGTHS: [usize; 3] = [5, 2, 7];

/// Which half of the numbers is trained.
#[derive(Clone, Copy, PartialEq)]
enum Train {
    Lora,
    Full,
}

fn gradients(model: &Model<f64>, adapter: &Adapter<f64>, train: Train, batch: &Packed) -> Grads<f64> {
    let mut grads = if train == Train::Lora { Grads::lora(adapter) } else { Grads::full(model) };
    loss_and_grads(model, Some(adapter), batch, SCALE, &mut grads, &mut Workspace::new(1)).unwrap();
    grads
}

fn loss(model: &Model<f64>, adapter: &Adapter<f64>, batch: &Packed, ws: &mut Workspace<f64>) -> f64 {
    SCALE * evaluate(model, Some(adapter), batch, ws).unwrap().iter().map(|loss| loss.nll_sum).sum::<f64>()
}

/// Largest difference between analytic and numeric gradients over the largest gradient; every
/// `step`-th number of each tensor is tried.
fn worst_error(config: ModelConfig, train: Train, step: usize) -> f64 {
    let (mut model, mut adapter) = (tiny::model(config.clone(), 3), tiny::adapter(&config, 4));
    let batch = tiny::batch(&model.config, &LENGTHS, 5);
    let grads = gradients(&model, &adapter, train, &batch);
    let (mut worst, mut largest, h) = (0.0_f64, 0.0_f64, 1e-5);
    let mut ws = Workspace::new(1);
    for (tensor, Named { name, values, .. }) in grads.iter().into_iter().enumerate() {
        let norm = values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        assert!(norm > 0.0, "{name}: no gradient");
        largest = largest.max(norm);
        for (index, &analytic) in values.iter().enumerate().step_by(step) {
            let mut at = |delta: f64| {
                let mut list =
                    if train == Train::Lora { adapter.iter_mut() } else { model.weights.iter_mut() };
                let before = list[tensor].values[index];
                list[tensor].values[index] = before + delta;
                let value = loss(&model, &adapter, &batch, &mut ws);
                let mut list =
                    if train == Train::Lora { adapter.iter_mut() } else { model.weights.iter_mut() };
                list[tensor].values[index] = before;
                value
            };
            let numeric = (at(h) - at(-h)) / (2.0 * h);
            worst = worst.max((analytic - numeric).abs());
        }
    }
    worst / largest
}

fn finite_differences(train: Train, step: usize) {
    for (name, config) in tiny::variants() {
        let error = worst_error(config, train, step);
        assert!(error <= 1e-6, "{name}: {error:e} of the largest gradient");
    }
}

#[test]
fn every_lora_gradient_equals_finite_differences() {
    finite_differences(Train::Lora, 1);
}

#[test]
fn every_full_gradient_equals_finite_differences() {
    finite_differences(Train::Full, 1);
}

#[test]
fn longer_than_a_block_and_several_threads() {
    // 150 rows are three attention blocks; four threads cut inside the segment.
    let config = ModelConfig { sliding_window: vec![None, Some(70)], ..tiny::config() };
    let (model, adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &[150, 20, 90], 3);
    let one = gradients(&model, &adapter, Train::Full, &batch);
    for threads in [2, 3, 4] {
        let mut many = Grads::full(&model);
        let mut ws = Workspace::new(threads);
        loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut many, &mut ws).unwrap();
        assert_close(&one, &many, 1e-12);
    }
    // One number of each tensor against finite differences at this length.
    let mut shifted = model.clone();
    for tensor in 0..model.weights.iter().len() {
        let at = |model: &mut Model<f64>, delta: f64| {
            model.weights.iter_mut()[tensor].values[3] += delta;
            let value = loss(model, &adapter, &batch, &mut Workspace::new(2));
            model.weights.iter_mut()[tensor].values[3] -= delta;
            value
        };
        let numeric = (at(&mut shifted, 1e-5) - at(&mut shifted, -1e-5)) / 2e-5;
        let analytic = one.iter()[tensor].values[3];
        assert!((numeric - analytic).abs() < 1e-5 * analytic.abs().max(1.0), "{numeric} {analytic}");
    }
}

#[test]
fn a_model_from_scratch_learns_a_small_batch_by_heart() {
    let config = ModelConfig { hidden_size: 32, intermediate_size: 64, ..tiny::config() };
    let mut model = Model::<f32>::random(config.clone(), 1);
    let batch = tiny::batch(&config, &[12, 9, 14], 2);
    let scale = 1.0 / batch.scored() as f32;
    let (mut grads, mut adam, mut ws) = (Grads::full(&model), AdamW::default(), Workspace::new(1));
    let schedule = Schedule { kind: ScheduleKind::Cosine { floor: 0.05 }, warmup: 10, total: 150 };
    let mut losses = Vec::new();
    for step in 0..schedule.total {
        grads.zero();
        let loss = loss_and_grads(&model, None, &batch, scale, &mut grads, &mut ws).unwrap();
        losses.push(loss.mean().unwrap());
        grads.clip_global_norm(1.0).unwrap();
        adam.step(&mut grads.with_model(&mut model), 1e-2 * schedule.factor(step)).unwrap();
    }
    // Uniform over 19 tokens is 2.94 nats.
    assert!((losses[0] - 2.94).abs() < 0.2, "{}", losses[0]);
    assert!(losses[149] < 0.02, "{}", losses[149]);
}

#[test]
fn an_adapter_alone_learns_and_leaves_the_base_as_it_was() {
    let config = tiny::config();
    let model = tiny::model(config.clone(), 1).cast::<f32>();
    let before = model.clone();
    let lora = LoraConfig {
        rank: 8,
        alpha: 16.0,
        targets: Target::ALL.to_vec(),
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    let mut adapter = Adapter::init(lora, &config, 3);
    let batch = tiny::batch(&config, &[6], 2);
    let plain = logits(&model, None, &batch.tokens).unwrap();
    assert_eq!(
        plain,
        logits(&model, Some(&adapter), &batch.tokens).unwrap(),
        "a fresh adapter changes nothing"
    );
    let scale = 1.0 / batch.scored() as f32;
    let (mut grads, mut adam, mut ws) = (Grads::lora(&adapter), AdamW::default(), Workspace::new(1));
    let mut losses = Vec::new();
    for _ in 0..200 {
        grads.zero();
        let loss = loss_and_grads(&model, Some(&adapter), &batch, scale, &mut grads, &mut ws).unwrap();
        losses.push(loss.mean().unwrap());
        adam.step(&mut grads.with_adapter(&mut adapter, 1.0), 2e-2).unwrap();
    }
    assert!(losses[199] < 0.3 * losses[0], "{} {}", losses[0], losses[199]);
    assert_eq!(model, before);
}

#[test]
fn threads_that_share_a_batch_add_up_to_the_same() {
    let config = tiny::config();
    let (model, adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &[9, 12, 10, 8, 11, 10, 7, 13], 3);
    let alone = evaluate(&model, Some(&adapter), &batch, &mut Workspace::new(1)).unwrap();
    for threads in [2, 3] {
        assert_eq!(passes(&batch, 1, crate::Threads::new(threads), Limits::NONE).apart.len(), threads);
        let mut ws = Workspace::new(threads);
        // One workspace for both kinds of training, one after the other.
        for train in [Train::Lora, Train::Full, Train::Lora] {
            let one = gradients(&model, &adapter, train, &batch);
            let mut many = if train == Train::Lora { Grads::lora(&adapter) } else { Grads::full(&model) };
            for _ in 0..2 {
                many.zero();
                loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut many, &mut ws).unwrap();
                assert_close(&one, &many, 1e-12);
            }
        }
        let shared = evaluate(&model, Some(&adapter), &batch, &mut ws).unwrap();
        for (a, b) in alone.iter().zip(shared) {
            assert!(a.tokens == b.tokens && (a.nll_sum - b.nll_sum).abs() < 1e-11);
        }
    }
}

/// Every tensor within `tolerance` of the largest gradient.
fn assert_close(a: &Grads<f64>, b: &Grads<f64>, tolerance: f64) {
    let largest = a.iter().iter().flat_map(|n| n.values.iter()).fold(0.0_f64, |m, x| m.max(x.abs()));
    for (a, b) in a.iter().into_iter().zip(b.iter()) {
        for (x, y) in a.values.iter().zip(b.values) {
            assert!((x - y).abs() <= tolerance * largest, "{}: {x} {y}", a.name);
        }
    }
}

#[test]
fn packed_equals_separate_and_accumulation_changes_nothing() {
    for (_, config) in tiny::variants() {
        let (model, adapter) = (tiny::model(config.clone(), 7), tiny::adapter(&config, 8));
        let sequences: Vec<Packed> = (0..4).map(|i| tiny::batch(&config, &[3 + 4 * i as usize], i)).collect();
        let run = |size: usize, train: Train| {
            let mut grads = if train == Train::Lora { Grads::lora(&adapter) } else { Grads::full(&model) };
            let mut ws = Workspace::new(1);
            let mut total = Loss::default();
            for parts in sequences.chunks(size) {
                let batch = tiny::joined(parts);
                total += loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut grads, &mut ws).unwrap();
            }
            (total, grads)
        };
        for train in [Train::Lora, Train::Full] {
            let (loss, grads) = run(1, train);
            for size in [2, 4] {
                let (other_loss, other) = run(size, train);
                assert_eq!(loss.tokens, other_loss.tokens);
                assert!((loss.nll_sum - other_loss.nll_sum).abs() < 1e-10);
                assert_close(&grads, &other, 1e-12);
            }
        }
        let each =
            evaluate(&model, Some(&adapter), &tiny::joined(&sequences), &mut Workspace::new(1)).unwrap();
        for (loss, alone) in each.iter().zip(&sequences) {
            let alone = evaluate(&model, Some(&adapter), alone, &mut Workspace::new(1)).unwrap()[0];
            assert_eq!(loss.tokens, alone.tokens);
            assert!((loss.nll_sum - alone.nll_sum).abs() < 1e-11);
        }
    }
}

#[test]
fn single_precision_agrees_with_double() {
    for (name, config) in tiny::variants() {
        let (model, adapter) = (tiny::model(config.clone(), 9), tiny::adapter(&config, 10));
        let batch = tiny::batch(&config, &[20, 40], 11);
        let (model32, adapter32) = (model.cast::<f32>(), adapter.cast::<f32>());
        // The same rounded numbers in both.
        let (model, adapter) = (model32.cast::<f64>(), adapter32.cast::<f64>());
        let wide = gradients(&model, &adapter, Train::Full, &batch);
        let mut narrow = Grads::full(&model32);
        let mut ws = Workspace::new(1);
        let loss =
            loss_and_grads(&model32, Some(&adapter32), &batch, SCALE as f32, &mut narrow, &mut ws).unwrap();
        let exact = evaluate(&model, Some(&adapter), &batch, &mut Workspace::new(1)).unwrap();
        let exact: f64 = exact.iter().map(|loss| loss.nll_sum).sum();
        assert!((loss.nll_sum - exact).abs() < 1e-5 * exact, "{name}: {} {exact}", loss.nll_sum);
        let narrow = Grads { weights: narrow.weights.map(|w| w.cast::<f64>()), lora: BTreeMap::new() };
        assert_close(&wide, &narrow, 1e-5);
    }
}

#[test]
fn gradients_of_frozen_parts_are_never_computed() {
    let config = tiny::config();
    let (model, mut adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &LENGTHS, 3);
    let all = gradients(&model, &adapter, Train::Lora, &batch);
    // Training only part of the modules gives the same numbers for that part.
    let mut some = Grads::lora(&adapter);
    some.lora.retain(|(layer, target), _| *layer == 1 && *target == Target::Gate);
    loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut some, &mut Workspace::new(1)).unwrap();
    let key = (1, Target::Gate);
    assert_eq!(some.lora[&key], all.lora[&key]);
    assert!(some.weights.is_none());
    // Gradients of another adapter are refused.
    adapter.modules.remove(&key);
    let error = loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut some, &mut Workspace::new(1));
    assert!(error.unwrap_err().to_string().contains("another adapter"));
}

#[test]
fn a_batch_without_labels_is_no_loss_and_no_gradient() {
    let model = tiny::model(tiny::config(), 1);
    let mut batch = Packed::new();
    batch.push(&[1, 2, 3], &[true, false, false]);
    let mut grads = Grads::full(&model);
    let mut ws = Workspace::new(1);
    let loss = loss_and_grads(&model, None, &batch, 1.0, &mut grads, &mut ws).unwrap();
    assert_eq!((loss.tokens, loss.mean()), (0, None));
    assert_eq!(grads.norm().unwrap(), 0.0);
}

#[test]
fn what_is_not_finite_is_named() {
    let config = tiny::config();
    let mut model = tiny::model(config.clone(), 1);
    model.weights.layers[1].o.weight.dense_mut().unwrap()[3] = f64::NAN;
    let batch = tiny::batch(&config, &LENGTHS, 3);
    let mut grads = Grads::full(&model);
    let error = loss_and_grads(&model, None, &batch, 1.0, &mut grads, &mut Workspace::new(1)).unwrap_err();
    assert!(error.to_string().contains("layer 1"), "{error}");
    assert!(evaluate(&model, None, &batch, &mut Workspace::new(1)).is_err());
}

#[test]
fn dropout_is_a_random_mask_with_the_right_mean_and_gradient() {
    let config = tiny::config();
    let (model, mut adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &[12], 3);
    let mut ws = Workspace::new(1);
    let mut run = |adapter: &Adapter<f64>, seed: u64| {
        ws.set_dropout_seed(seed);
        let mut grads = Grads::lora(adapter);
        let loss = loss_and_grads(&model, Some(adapter), &batch, 1.0, &mut grads, &mut ws).unwrap();
        (loss.nll_sum, grads)
    };
    let (plain, _) = run(&adapter, 1);
    adapter.config.dropout = 0.25;
    let (first, grads) = run(&adapter, 1);
    assert_eq!(first, run(&adapter, 1).0);
    assert_ne!(first, run(&adapter, 2).0);
    assert_ne!(first, plain);
    // With one seed the loss is an ordinary function, so finite differences hold.
    let largest = grads.iter().iter().flat_map(|n| n.values.iter()).fold(0.0_f64, |m, x| m.max(x.abs()));
    for tensor in 0..adapter.iter().len() {
        let mut at = |delta: f64| {
            let mut shifted = adapter.clone();
            shifted.iter_mut()[tensor].values[1] += delta;
            run(&shifted, 1).0
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        let analytic = grads.iter()[tensor].values[1];
        assert!((numeric - analytic).abs() < 1e-6 * largest, "{numeric} {analytic}");
    }
}
