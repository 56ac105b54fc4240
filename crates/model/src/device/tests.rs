//! The device path on candle's CPU device against the host's, in f64, where rounding is out of the way.

use std::sync::Arc;

use super::*;
use crate::batch::Packed;
use crate::grads::Grads;
use crate::lora::Adapter;
use crate::loss::Loss;
use crate::nf4::Nf4;
use crate::threads::Threads;
use crate::weight::Weight;
use crate::workspace::Workspace;
use crate::{evaluate, loss_and_grads, sequence_grads, tiny};

const CLOSE: f64 = 1e-9;

fn on_device(model: &Model<f64>) -> DeviceModel {
    DeviceModel::of(model, &Device::Cpu).unwrap()
}

fn workspace(device: Option<DeviceModel>) -> Workspace<f64> {
    let mut ws = Workspace::new(1);
    if let Some(device) = device {
        ws.set_device(Arc::new(device));
    }
    ws
}

/// Loss, gradients of a training pass, and losses of an evaluation.
fn run(
    model: &Model<f64>,
    adapter: &Adapter<f64>,
    batch: &Packed,
    ws: &mut Workspace<f64>,
) -> (Loss, Grads<f64>, Vec<Loss>) {
    let mut grads = Grads::lora(adapter);
    let loss = loss_and_grads(model, Some(adapter), batch, 0.25, &mut grads, ws).unwrap();
    let each = evaluate(model, Some(adapter), batch, ws).unwrap();
    (loss, grads, each)
}

fn assert_same(name: &str, [ours, host]: [&(Loss, Grads<f64>, Vec<Loss>); 2]) {
    let close = |a: Loss, b: Loss| {
        (a.nll_sum - b.nll_sum).abs() < CLOSE * b.nll_sum.max(1.0)
            && (a.tokens, a.correct) == (b.tokens, b.correct)
    };
    assert!(close(ours.0, host.0), "{name}: {:?} {:?}", ours.0, host.0);
    for (a, b) in ours.2.iter().zip(&host.2) {
        assert!(close(*a, *b), "{name}: {a:?} {b:?}");
    }
    for (a, b) in ours.1.iter().iter().zip(host.1.iter()) {
        let largest = b.values.iter().map(|x| x.abs()).fold(0.0, f64::max);
        assert!(largest > 0.0, "{name}: {} has no gradient", b.name);
        let worst = a.values.iter().zip(b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < CLOSE * largest.max(1e-3), "{name}: {} differs by {worst} of {largest}", a.name);
    }
}

#[test]
fn every_feature_of_the_families_has_the_hosts_loss_and_gradients() {
    for (name, config) in tiny::variants() {
        let (model, adapter) = (tiny::model(config.clone(), 3), tiny::adapter(&config, 4));
        let batch = tiny::batch(&config, &[7, 1, 12, 5], 5);
        let host = run(&model, &adapter, &batch, &mut workspace(None));
        let mut ws = workspace(Some(on_device(&model)));
        let ours = run(&model, &adapter, &batch, &mut ws);
        assert_same(name, [&ours, &host]);
        ws.set_checkpointing(true);
        assert_same(name, [&run(&model, &adapter, &batch, &mut ws), &host]);
        // A few scores and one row of logits at a time.
        let mut device = on_device(&model);
        (device.scores_at_once, device.logits_at_once) = (2 * 4 * 12, 1);
        assert_same(name, [&run(&model, &adapter, &batch, &mut workspace(Some(device))), &host]);
    }
}

#[test]
fn noise_and_dora_and_the_way_the_base_is_held_are_the_hosts() {
    let config = ModelConfig { qkv_bias: true, ..tiny::config() };
    let batch = tiny::batch(&config, &[9, 14], 5);
    let dense = tiny::model(config.clone(), 3);
    let quantised = |double: bool| {
        let mut model = dense.clone();
        for layer in &mut model.weights.layers {
            for target in crate::Target::ALL {
                let weight = &mut layer.linear_mut(target).weight;
                let values: Vec<f32> = weight.dense().unwrap().iter().map(|x| *x as f32).collect();
                // 12 x 16 numbers are whole blocks, 8 x 12 are not.
                *weight = Weight::from_nf4(Nf4::quantise(&values, double), weight.rows(), weight.cols());
            }
        }
        model
    };
    let models = [
        ("f64", dense.clone()),
        ("bf16", dense.to_bf16()),
        ("nf4", quantised(false)),
        ("nf4 double", quantised(true)),
    ];
    for (name, model) in models {
        for dora in [false, true] {
            let mut adapter = tiny::adapter(&config, 4);
            for module in adapter.modules.values_mut().filter(|_| dora) {
                module.dora = Some(crate::Dora::default());
            }
            adapter.prepare(&model, Threads::ONE);
            let pass = |device: Option<DeviceModel>| {
                let mut ws = workspace(device);
                ws.set_noise(5.0);
                ws.set_dropout_seed(11);
                run(&model, &adapter, &batch, &mut ws)
            };
            assert_same(name, [&pass(Some(on_device(&model))), &pass(None)]);
        }
    }
}

#[test]
fn in_f32_packed_bases_have_the_hosts_rounding() {
    let config = ModelConfig { tie_word_embeddings: false, ..tiny::config() };
    let (model, adapter) =
        (tiny::model(config.clone(), 3).cast::<f32>(), tiny::adapter(&config, 4).cast::<f32>());
    let batch = tiny::batch(&config, &[9, 14, 11], 5);
    for (name, model) in [("f32", model.clone()), ("bf16", model.to_bf16())] {
        let pass = |device: Option<DeviceModel>| {
            let (mut ws, mut grads) = (Workspace::new(1), Grads::lora(&adapter));
            if let Some(device) = device {
                ws.set_device(Arc::new(device));
            }
            let loss = loss_and_grads(&model, Some(&adapter), &batch, 0.1, &mut grads, &mut ws).unwrap();
            (loss.nll_sum, grads)
        };
        let (ours, host) = (pass(Some(DeviceModel::new(&model, &Device::Cpu).unwrap())), pass(None));
        assert!((ours.0 - host.0).abs() < 1e-4 * host.0, "{name}: {} {}", ours.0, host.0);
        let [mut difference, mut size] = [0.0_f64; 2];
        for (ours, host) in ours.1.iter().iter().zip(host.1.iter()) {
            for (ours, host) in ours.values.iter().zip(host.values) {
                difference += f64::from(ours - host).powi(2);
                size += f64::from(*host).powi(2);
            }
        }
        // A sum in another order may round a factor to the other neighbour in bf16.
        let limit = if name == "bf16" { 2e-3 } else { 1e-5 };
        assert!(difference.sqrt() < limit * size.sqrt(), "{name}: {}", (difference / size).sqrt());
    }
}

#[test]
fn only_what_is_trained_is_computed() {
    let config = tiny::config();
    let model = tiny::model(config.clone(), 3);
    let mut adapter = tiny::adapter(&config, 4);
    // Nothing below the attention output of the last layer.
    adapter.modules.retain(|(layer, target), _| *layer == 1 && *target == crate::Target::Down);
    let batch = tiny::batch(&config, &[9, 14], 5);
    let host = run(&model, &adapter, &batch, &mut workspace(None));
    assert_same("top", [&run(&model, &adapter, &batch, &mut workspace(Some(on_device(&model)))), &host]);
}

#[test]
fn weighed_sequences_have_the_hosts_gradients() {
    let config = tiny::config();
    let (model, adapter) = (tiny::model(config.clone(), 3), tiny::adapter(&config, 4));
    let batch = tiny::batch(&config, &[9, 1, 14, 6], 5);
    let pass = |device: Option<DeviceModel>| {
        let mut grads = Grads::lora(&adapter);
        let weigh = |_: usize, losses: &[Loss]| -> Vec<f64> {
            losses.iter().map(|loss| 0.1 * loss.nll_sum - 0.3).collect()
        };
        let mut ws = workspace(device);
        let losses = sequence_grads(&model, &adapter, &batch, &mut grads, &mut ws, (1, &weigh)).unwrap();
        (Loss::default(), grads, losses)
    };
    assert_same("weighed", [&pass(Some(on_device(&model))), &pass(None)]);
}

#[test]
fn what_is_not_computed_here_or_not_finite_is_said() {
    let config = tiny::config();
    let (mut model, mut adapter) = (tiny::model(config.clone(), 3), tiny::adapter(&config, 4));
    let batch = tiny::batch(&config, &[9], 5);
    let refusal = |model: &Model<f64>, adapter: &Adapter<f64>, mut grads: Grads<f64>| {
        let mut ws = workspace(Some(on_device(model)));
        loss_and_grads(model, Some(adapter), &batch, 1.0, &mut grads, &mut ws).unwrap_err().to_string()
    };
    assert!(refusal(&model, &adapter, Grads::full(&model)).contains("base weights"));
    adapter.config.dropout = 0.1;
    assert!(refusal(&model, &adapter, Grads::lora(&adapter)).contains("dropout"));
    adapter.config.dropout = 0.0;
    model.weights.layers[0].up.weight.dense_mut().unwrap()[3] = f64::NAN;
    let text = refusal(&model, &adapter, Grads::lora(&adapter));
    assert_eq!(text, "the output of layer 0 is not finite");
}

#[test]
fn places_are_read_and_said() {
    for (text, place) in [("cpu", Place::Host), ("cuda", Place::Cuda(0)), ("cuda:3", Place::Cuda(3))] {
        assert_eq!(text.parse::<Place>().unwrap(), place);
    }
    assert_eq!(Place::Cuda(1).to_string().parse::<Place>().unwrap(), Place::Cuda(1));
    for bad in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
        assert!(bad.parse::<Place>().unwrap_err().contains("cuda:N"), "{bad}");
    }
    assert!(Place::Host.open().unwrap().is_none());
}
