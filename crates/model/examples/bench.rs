//! Prints how fast this machine trains and decodes: `cargo run --release -p nightshift-model --example
//! bench [threads [student | 20M]]`. Speeds are also given as a share of what matrix products reach here,
//! because hosts differ by a factor of three; and a table says where the time of a step goes.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::time::Instant;

use nightshift_model::timing::{self, Part};
use nightshift_model::{
    AdamW, Adapter, Decoder, Grads, KvCache, LoraConfig, Model, ModelConfig, Packed, Peak, Result, Target,
    Threads, Work, Workspace, calibrate, evaluate, loss_and_grads,
};

/// The demo's student and the 20M model of `scripts/bench-train`.
fn shape(hidden: usize, layers: usize, heads: [usize; 2], inner: usize, vocab: usize) -> ModelConfig {
    ModelConfig::llama(hidden, inner, layers, heads, vocab)
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

/// Fewest seconds of `f`: other programs only ever make it slower.
fn time(budget: f64, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    let (mut best, mut calls) = (f64::MAX, 0);
    while begun.elapsed().as_secs_f64() < budget || calls < 3 {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    Ok(best)
}

struct Case {
    name: &'static str,
    config: ModelConfig,
    batch: fn() -> Packed,
}

fn report(name: &str, seconds: f64, tokens: usize, flops: f64, peak: f64) {
    let rate = flops / seconds / 1e9;
    println!(
        "  {name:<31} {:9.2} ms {:7.0} tokens/s {rate:6.1} GFLOP/s, {:3.0} % of peak",
        seconds * 1e3,
        tokens as f64 / seconds,
        rate / peak * 100.0
    );
}

fn bench(case: &Case, threads: usize, peak: Peak) -> Result<()> {
    let Case { name, config, batch } = case;
    let laid_out = time(0.1, || {
        std::hint::black_box(batch());
        Ok(())
    })?;
    let batch = &batch();
    let tokens = batch.tokens.len();
    let (mut ws, mut model) = (Workspace::new(threads), Model::random(config.clone(), 1));
    println!("{name}: {} parameters, {tokens} tokens, {} scored", model.parameters(), batch.scored());
    println!("  laying out the batch {:.3} ms", laid_out * 1e3);

    let forward = Work::evaluation(&model, None, batch);
    let (mut grads, mut adam) = (Grads::full(&model), AdamW::default());
    let seconds = time(2.0, || {
        grads.zero();
        loss_and_grads(&model, None, batch, 1.0 / batch.scored() as f32, &mut grads, &mut ws)?;
        grads.clip_global_norm(1.0)?;
        adam.step(&mut grads.with_model(&mut model), 1e-4)
    })?;
    report("full step, f32", seconds, tokens, 3.0 * forward.total(), peak.f32_gflops);

    for (dtype, model) in [("f32", model.clone()), ("bf16", model.to_bf16())] {
        for (label, targets) in [("seven", Target::ALL.to_vec()), ("attention", Target::ATTENTION.to_vec())] {
            let lora =
                LoraConfig { rank: 16, alpha: 32.0, targets, rslora: false, dropout: 0.0, dora: false };
            let mut adapter = Adapter::init(lora, config, 2);
            let work = Work::training(&model, &adapter, batch);
            let (mut grads, mut adam) = (Grads::lora(&adapter), AdamW::default());
            let mut optimiser = (f64::MAX, 0.0);
            let mut step = || {
                grads.zero();
                let scale = 1.0 / batch.scored() as f32;
                loss_and_grads(&model, Some(&adapter), batch, scale, &mut grads, &mut ws)?;
                let start = Instant::now();
                grads.clip_global_norm(1.0)?;
                adam.step(&mut grads.with_adapter(&mut adapter, 1.0), 1e-4)?;
                optimiser.1 = start.elapsed().as_secs_f64();
                optimiser.0 = optimiser.1.min(optimiser.0);
                Ok(())
            };
            let seconds = time(2.0, &mut step)?;
            let title = format!("LoRA r16 step, {label}, {dtype}");
            report(&title, seconds, tokens, work.total(), peak.of(&model));
            let watched = table(threads, &work, peak.of(&model), &mut step)?;
            println!(
                "    {:<22} {:7.2} ms {:3.0} %",
                "optimiser and clip",
                optimiser.1 * 1e3,
                optimiser.1 / watched * 100.0
            );
        }
        let seconds = time(1.0, || evaluate(&model, None, batch, &mut ws).map(|_| ()))?;
        report(&format!("evaluate, {dtype}"), seconds, tokens, forward.total(), peak.of(&model));
        decode(&model, dtype, threads)?;
    }
    Ok(())
}

/// Prints where one step spends its time; the seconds it took.
fn table(threads: usize, work: &Work, peak: f64, step: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    timing::start();
    let start = Instant::now();
    step()?;
    let seconds = start.elapsed().as_secs_f64();
    let mut rest = seconds * threads as f64;
    for (part, spent) in timing::stop() {
        let flops = match part {
            Part::Linear => work.linear,
            Part::Lora => work.lora,
            Part::Attention => work.attention,
            Part::Head => work.head,
        };
        let spent = spent.as_secs_f64();
        rest -= spent;
        println!(
            "    {:<22} {:7.2} ms {:3.0} %  {:6.1} GFLOP/s a thread, {:3.0} % of peak",
            part.name(),
            spent / threads as f64 * 1e3,
            spent / threads as f64 / seconds * 100.0,
            flops / spent / 1e9,
            flops / spent / 1e9 / (peak / threads as f64) * 100.0
        );
    }
    let name = "all else, waiting";
    println!(
        "    {name:<22} {:7.2} ms {:3.0} %, of it",
        rest / threads as f64 * 1e3,
        rest / threads as f64 / seconds * 100.0
    );
    Ok(seconds)
}

fn decode(model: &Model, dtype: &str, threads: usize) -> Result<()> {
    let config = &model.config;
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
            decoder.feed(model, adapter, &mut cache, &prompt).map(|_| ())
        })?;
        let one = time(0.3, || {
            cache.truncate(40);
            decoder.feed(model, adapter, &mut cache, &[7]).map(|_| ())
        })?;
        println!(
            "  decode {label}, {dtype}: prefill of 20 {:.0} µs, one token {:.0} µs",
            prefill * 1e6,
            one * 1e6
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let only = std::env::args().nth(2);
    let peak = calibrate(Threads::new(threads), 1.0);
    println!(
        "matrix products on {threads} thread(s): f32 {:.0} GFLOP/s, bf16 {:.0}, ratio {:.2}",
        peak.f32_gflops,
        peak.bf16_gflops,
        peak.bf16_gflops / peak.f32_gflops
    );
    let (student, medium) = (shape(128, 4, [4, 4], 344, 640), shape(512, 8, [8, 4], 1376, 8192));
    let cases = [
        Case { name: "student", batch: || batch(640, 32, 20, 6), config: student },
        Case { name: "20M", batch: || batch(8192, 8, 128, 64), config: medium },
    ];
    for case in cases.iter().filter(|case| only.as_deref().is_none_or(|only| only == case.name)) {
        bench(case, threads, peak)?;
    }
    Ok(())
}
