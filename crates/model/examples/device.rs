//! Prints how fast a device trains: `cargo run --release -p nightshift-model --features cuda --example device
//! -- [cpu | cuda:N]`. A Llama of 20M random weights, LoRA of rank 16 on all seven projections, 4096 tokens
//! in a pass, half of them scored; the base as f32, bf16 and NF4. The last line is JSON.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use nightshift_model::{
    Adapter, DeviceModel, Family, Grads, LoraConfig, Model, ModelConfig, Nf4, Packed, Place, Result, Target,
    Weight, Work, Workspace, loss_and_grads,
};

/// Passes that are timed, behind one that is not.
const PASSES: usize = 10;

fn shape() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        hidden_size: 512,
        intermediate_size: 1376,
        num_layers: 8,
        num_heads: 8,
        num_kv_heads: 4,
        head_dim: 64,
        vocab_size: 8192,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; 8],
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
    }
}

/// 16 sequences of 256 tokens, the second half of each scored.
fn batch() -> Packed {
    let mut batch = Packed::new();
    for row in 0..16_u32 {
        let tokens: Vec<u32> = (0..256).map(|at| (at * 7919 + row * 104_729) % 8192).collect();
        let scored: Vec<bool> = (0..256).map(|at| at >= 128).collect();
        batch.push(&tokens, &scored);
    }
    batch
}

fn quantised(model: &Model) -> Model {
    let mut model = model.clone();
    for layer in &mut model.weights.layers {
        for target in Target::ALL {
            let weight = &mut layer.linear_mut(target).weight;
            if let Some(values) = weight.dense() {
                *weight = Weight::from_nf4(Nf4::quantise(values, true), weight.rows(), weight.cols());
            }
        }
    }
    model
}

/// Tokens in a second and 10⁹ operations in a second.
fn speed(model: &Model, place: Place) -> Result<(f64, f64)> {
    let (mut ws, batch) = (Workspace::new(1), batch());
    if let Some(device) = place.open()? {
        ws.set_device(Arc::new(DeviceModel::new(model, &device)?));
    }
    let targets = Target::ALL.to_vec();
    let lora = LoraConfig { rank: 16, alpha: 32.0, targets, rslora: false, dropout: 0.0, dora: false };
    let adapter = Adapter::init(lora, &model.config, 2);
    let mut grads = Grads::lora(&adapter);
    let mut seconds = 0.0;
    for pass in 0..=PASSES {
        let start = Instant::now();
        loss_and_grads(model, Some(&adapter), &batch, 1.0, &mut grads, &mut ws)?;
        if pass > 0 {
            seconds += start.elapsed().as_secs_f64();
        }
    }
    let passes = PASSES as f64 / seconds;
    let work = Work::training(model, &adapter, &batch).total();
    Ok((passes * batch.tokens.len() as f64, passes * work / 1e9))
}

fn main() -> Result<(), Box<dyn Error>> {
    let place: Place = std::env::args().nth(1).map_or(Ok(Place::Host), |name| name.parse())?;
    let mut out = std::io::stdout().lock();
    let model = Model::random(shape(), 1);
    let mut speeds = BTreeMap::new();
    for (held, model) in [("f32", model.clone()), ("bf16", model.to_bf16()), ("nf4", quantised(&model))] {
        let (tokens, gflops) = speed(&model, place)?;
        writeln!(out, "{place} {held:5} {tokens:9.0} tokens/s {gflops:9.0} GFLOP/s")?;
        speeds.insert(held, tokens.round());
    }
    writeln!(out, "{}", serde_json::json!({"device": place.to_string(), "tokens_per_s": speeds}))?;
    Ok(())
}
