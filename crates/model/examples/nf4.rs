//! NF4 in numbers: `cargo run --release -p nightshift-model --example nf4 -- speed [THREADS]` prints how
//! fast a matrix is dequantised and what products with it cost beside dense ones; `make DIR` writes a
//! folder of the shape of Llama-2-7B with random weights, quantised layer by layer (3.9 GB).

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::path::Path;
use std::time::Instant;

use nightshift_model::{
    Adapter, Decoder, Dtype, Grads, KvCache, LoraConfig, Model, ModelConfig, Nf4, Packed, Real, Result,
    Target, Weight, Weights, Workspace, loss_and_grads,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["speed"] => speed(1),
        ["speed", threads] => speed(threads.parse().unwrap_or(1)),
        ["products", threads] => products(threads.parse().unwrap_or(1)),
        ["make", dir] => make(Path::new(dir)),
        _ => {
            println!("speed [THREADS] | products THREADS | make DIR");
            Ok(())
        }
    }
}

fn shape(hidden: usize, inner: usize, layers: usize, heads: usize, vocab: usize) -> ModelConfig {
    let plain = ModelConfig::llama(hidden, inner, layers, [heads; 2], vocab);
    ModelConfig { max_position_embeddings: 4096, tie_word_embeddings: false, ..plain }
}

/// Numbers that follow from a seed: about normal, standard deviation 0.02.
fn random(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The sum of four uniform numbers.
        let sum: u64 = (0..4).map(|part| (state >> (16 * part)) & 0xFFFF).sum();
        (sum as f32 / 65_536.0 - 2.0) * 0.035
    })
}

/// A model with linear layers as `hold` makes them of their numbers.
fn model(config: &ModelConfig, hold: impl Fn(Vec<f32>, usize, usize) -> Weight) -> Model {
    // The shape alone: a model of one layer of one number is grown to what is asked for.
    let tables = |seed| {
        let bits = random(config.vocab_size * config.hidden_size, seed).map(half::bf16::from_f32).collect();
        Weight::from_bf16(bits, config.vocab_size, config.hidden_size)
    };
    let narrow = ModelConfig { num_layers: 0, sliding_window: Vec::new(), vocab_size: 1, ..config.clone() };
    let mut weights = Weights::random(&narrow, 0);
    weights.embed = tables(1);
    weights.head = Some(tables(2));
    for layer in 0..config.num_layers {
        let linear = |target: Target| {
            let (out, input) = target.shape(config);
            let seed = 3 + (layer * Target::ALL.len() + target as usize) as u64;
            let weight = hold(random(out * input, seed).collect(), out, input);
            nightshift_model::Linear { weight, bias: None }
        };
        let norm = || vec![f32::ONE; config.hidden_size];
        weights.layers.push(nightshift_model::LayerWeights {
            input_norm: norm(),
            q: linear(Target::Q),
            k: linear(Target::K),
            v: linear(Target::V),
            o: linear(Target::O),
            q_norm: None,
            k_norm: None,
            post_norm: norm(),
            gate: linear(Target::Gate),
            up: linear(Target::Up),
            down: linear(Target::Down),
        });
    }
    Model { config: config.clone(), weights }
}

fn nf4(values: Vec<f32>, out: usize, input: usize) -> Weight {
    Weight::from_nf4(Nf4::quantise(&values, true), out, input)
}

fn bf16(values: Vec<f32>, out: usize, input: usize) -> Weight {
    Weight::from_bf16(values.into_iter().map(half::bf16::from_f32).collect(), out, input)
}

fn make(dir: &Path) -> Result<()> {
    let begun = Instant::now();
    let model = model(&shape(4096, 11_008, 32, 32, 32_000), nf4);
    println!("{} numbers in {} bytes, {:.0} s", model.parameters(), model.weights.bytes(), seconds(begun));
    model.save(dir)?;
    println!("written as {:?} embedding, {:.0} s", Dtype::of_folder(dir)?, seconds(begun));
    Ok(())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Fewest seconds of several calls.
fn best(mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begun, mut best) = (Instant::now(), f64::MAX);
    while seconds(begun) < 1.5 {
        let start = Instant::now();
        f()?;
        best = best.min(seconds(start));
    }
    Ok(best)
}

fn speed(threads: usize) -> Result<()> {
    let (rows, cols) = (4096, 4096);
    let values: Vec<f32> = random(rows * cols, 9).collect();
    let start = Instant::now();
    let weight = nf4(values.clone(), rows, cols);
    println!("quantise        {:6.3} G numbers/s", (rows * cols) as f64 / seconds(start) / 1e9);
    let mut panel = vec![0.0; 64 * cols];
    for (name, weight) in [("nf4", &weight), ("bf16", &bf16(values, rows, cols))] {
        let time = best(|| {
            (0..rows).step_by(64).for_each(|row| weight.dequantise_rows(row..row + 64, &mut panel));
            Ok(())
        })?;
        println!("dequantise {name:<4} {:6.3} G numbers/s per core", (rows * cols) as f64 / time / 1e9);
    }
    products(threads)
}

/// Training and decoding through weights held in each way.
fn products(threads: usize) -> Result<()> {
    let config = shape(2048, 5632, 2, 16, 1024);
    let lora = LoraConfig {
        rank: 16,
        alpha: 32.0,
        targets: Target::ALL.to_vec(),
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    let adapter = Adapter::init(lora, &config, 1);
    for name in ["f32", "bf16", "nf4"] {
        let model = match name {
            "f32" => model(&config, Weight::new),
            "bf16" => model(&config, bf16),
            _ => model(&config, nf4),
        };
        let step = |length: u32| {
            let mut batch = Packed::new();
            let tokens: Vec<u32> = (0..length).map(|i| i * 7919 % 1024).collect();
            batch.push(&tokens, &vec![true; tokens.len()]);
            let (mut grads, mut workspace) = (Grads::lora(&adapter), Workspace::new(threads));
            best(|| {
                loss_and_grads(&model, Some(&adapter), &batch, 1.0, &mut grads, &mut workspace).map(|_| ())
            })
        };
        let [long, short] = [step(512)?, step(128)?];
        let (mut decoder, mut cache) = (Decoder::new(threads), KvCache::new(&config, 64));
        let token = best(|| {
            cache.truncate(0);
            decoder.feed(&model, None, &mut cache, &[1]).map(|_| ())
        })?;
        println!(
            "{name:<4} two layers of 2048: train {:5.0} tokens/s of 512, {:5.0} of 128; decode {:5.1} tokens/s",
            512.0 / long,
            128.0 / short,
            1.0 / token
        );
    }
    Ok(())
}
