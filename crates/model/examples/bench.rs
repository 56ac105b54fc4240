//! Prints how fast this machine trains and decodes: `cargo run --release -p nightshift-model --example
//! bench [threads [student]]`. Speeds are also given as a share of a one-second matrix product, because hosts
//! differ by a factor of three.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::time::Instant;

use nightshift_model::{
    AdamW, Adapter, Decoder, Family, Grads, KvCache, LoraConfig, Model, ModelConfig, Packed, Result, Target,
    Threads, Workspace, calibrate, evaluate, loss_and_grads,
};

/// The demo's student and the 20M model of `scripts/bench-train`.
fn shape(hidden: usize, layers: usize, heads: [usize; 2], inner: usize, vocab: usize) -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        hidden_size: hidden,
        intermediate_size: inner,
        num_layers: layers,
        num_heads: heads[0],
        num_kv_heads: heads[1],
        head_dim: hidden / heads[0],
        vocab_size: vocab,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; layers],
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
    }
}

/// `rows` sequences of about `length` tokens whose last `answer` tokens are scored.
fn batch(vocab: usize, rows: usize, length: usize, answer: usize) -> Packed {
    let mut packed = Packed::new();
    for row in 0..rows {
        let length = length - length / 8 + row % (length / 4 + 1);
        let tokens: Vec<u32> = (0..length).map(|i| ((i * 7919 + row * 104_729) % vocab) as u32).collect();
        let scored: Vec<bool> = (0..length).map(|i| i + answer >= length).collect();
        packed.push(&tokens, &scored);
    }
    packed
}

/// Multiply-adds of all linear layers for one token, times two.
fn linear_flops(config: &ModelConfig) -> f64 {
    let weights: usize =
        Target::ALL.iter().map(|target| target.shape(config).0 * target.shape(config).1).sum();
    2.0 * (weights * config.num_layers) as f64
}

/// Fewest seconds of `f` on the clock and on the processor: other programs only ever make it slower.
struct Seconds {
    wall: f64,
    cpu: f64,
}

fn time(budget: f64, mut f: impl FnMut() -> Result<()>) -> Result<Seconds> {
    let begun = Instant::now();
    let (mut best, mut calls) = (Seconds { wall: f64::MAX, cpu: f64::MAX }, 0);
    while begun.elapsed().as_secs_f64() < budget || calls < 3 {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        f()?;
        best.wall = best.wall.min(start.elapsed().as_secs_f64());
        best.cpu = best.cpu.min(cpu_seconds() - cpu);
        calls += 1;
    }
    Ok(best)
}

/// Processor time of the main thread (Linux), or 0.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

struct Case {
    name: &'static str,
    config: ModelConfig,
    batch: Packed,
}

fn report(name: &str, seconds: Seconds, tokens: usize, flops: f64, peak: f64) {
    let rate = flops * tokens as f64 / seconds.wall / 1e9;
    println!(
        "  {name:<25} {:9.2} ms ({:.2} CPU) {:7.0} tok/s {rate:6.1} GFLOP/s in linear layers and head, {:.0} % of peak",
        seconds.wall * 1e3,
        seconds.cpu * 1e3,
        tokens as f64 / seconds.wall,
        rate / peak * 100.0
    );
}

fn bench(case: &Case, threads: usize, peak: f64) -> Result<()> {
    let Case { name, config, batch } = case;
    let tokens = batch.tokens.len();
    let (mut ws, mut model) = (Workspace::new(threads), Model::random(config.clone(), 1));
    println!("{name}: {} parameters, {tokens} tokens, {} scored", model.parameters(), batch.scored());
    let (linear, scored) = (linear_flops(config), batch.scored() as f64 / tokens as f64);
    let head = 2.0 * (config.vocab_size * config.hidden_size) as f64 * scored;
    let scale = 1.0 / batch.scored() as f32;

    let mut grads = Grads::full(&model);
    let mut adam = AdamW::default();
    let seconds = time(2.0, || {
        grads.zero();
        loss_and_grads(&model, None, batch, scale, &mut grads, &mut ws)?;
        grads.clip_global_norm(1.0)?;
        adam.step(&mut grads.with_model(&mut model), 1e-4)
    })?;
    report("full step", seconds, tokens, 3.0 * (linear + head), peak);

    for (label, targets) in [
        ("LoRA r16 step, seven", Target::ALL.to_vec()),
        ("LoRA r16 step, attention", Target::ATTENTION.to_vec()),
    ] {
        let lora = LoraConfig { rank: 16, alpha: 32.0, targets, rslora: false, dropout: 0.0, dora: false };
        let mut adapter = Adapter::init(lora, config, 2);
        let per_token = 2.0 * adapter.parameters() as f64;
        let mut grads = Grads::lora(&adapter);
        let mut adam = AdamW::default();
        let seconds = time(2.0, || {
            grads.zero();
            loss_and_grads(&model, Some(&adapter), batch, scale, &mut grads, &mut ws)?;
            grads.clip_global_norm(1.0)?;
            adam.step(&mut grads.with_adapter(&mut adapter, 1.0), 1e-4)
        })?;
        report(label, seconds, tokens, 2.0 * (linear + head) + 3.0 * per_token, peak);
    }
    let seconds = time(1.0, || evaluate(&model, None, batch, &mut ws).map(|_| ()))?;
    report("evaluate", seconds, tokens, linear + head, peak);

    let lora = LoraConfig {
        rank: 16,
        alpha: 32.0,
        targets: Target::ALL.to_vec(),
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    let adapter = Adapter::init(lora, config, 2);
    for (label, adapter) in [("without adapter", None), ("with LoRA r16", Some(&adapter))] {
        let (mut decoder, mut cache) = (Decoder::new(threads), KvCache::new(config, 128));
        let prompt: Vec<u32> = (0..20).collect();
        let prefill = time(0.3, || {
            cache.clear();
            decoder.feed(&model, adapter, &mut cache, &prompt).map(|_| ())
        })?;
        let one = time(0.3, || {
            cache.truncate(40);
            decoder.feed(&model, adapter, &mut cache, &[7]).map(|_| ())
        })?;
        println!(
            "  decode {label}: prefill of 20 {:.0} µs, one token {:.0} µs",
            prefill.wall * 1e6,
            one.wall * 1e6
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let peak = calibrate(Threads::new(threads), 1.0);
    println!("matrix product: {peak:.0} GFLOP/s on {threads} thread(s)");
    let student = shape(128, 4, [4, 4], 344, 640);
    bench(&Case { name: "student", batch: batch(640, 32, 20, 6), config: student }, threads, peak)?;
    if std::env::args().nth(2).is_some_and(|only| only == "student") {
        return Ok(());
    }
    let medium = shape(512, 8, [8, 4], 1376, 8192);
    bench(&Case { name: "20M", batch: batch(8192, 8, 128, 64), config: medium }, threads, peak)
}
