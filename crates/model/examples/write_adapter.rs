//! Writes what `scripts/check-peers` holds against PEFT: an adapter folder, the base model saved by
//! this crate, and this crate's logits.
//!
//! `write_adapter --base DIR --out DIR [--adapter DIR]` writes `OUT/adapter` (the given adapter
//! written again, or a random one of rank 4 on every projection), `OUT/base`, and `OUT/ours.safetensors`
//! with `tokens`, `base` and `adapter` (logits, `[tokens, vocab]`).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use nightshift_core::files;
use nightshift_core::release::{ADAPTER_CONFIG, ADAPTER_MODEL};
use nightshift_model::{Adapter, LoraConfig, Model, ModuleRules, Result, Threads, adapter_bytes, logits};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const TOKENS: usize = 24;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let options = options()?;
    let path = |key: &str| options.get(key).ok_or_else(|| format!("--{key} DIR is needed"));
    let out = path("out")?;
    let model = Model::load(path("base")?)?;
    let mut rng = ChaCha8Rng::seed_from_u64(20260301);
    let mut adapter = match options.get("adapter") {
        Some(dir) => Adapter::load(dir, &model.config)?,
        None => random_adapter(&model, &mut rng)?,
    };
    adapter.prepare(&model, Threads::ONE);
    let (config, tensors) = adapter_bytes(&adapter, &model.config, "nightshift/base")?;
    for folder in ["adapter", "base"] {
        files::create_dir(&out.join(folder))?;
    }
    files::write_atomic(&out.join("adapter").join(ADAPTER_CONFIG), &config)?;
    files::write_atomic(&out.join("adapter").join(ADAPTER_MODEL), &tensors)?;
    model.save(&out.join("base"))?;

    let vocab = model.config.vocab_size;
    let tokens: Vec<u32> = (0..TOKENS).map(|_| rng.random_range(0..vocab as u32)).collect();
    let base = bytes(&logits(&model, None, &tokens)?);
    let adapted = bytes(&logits(&model, Some(&adapter), &tokens)?);
    let ids: Vec<u8> = tokens.iter().flat_map(|token| i64::from(*token).to_le_bytes()).collect();
    let tensors = [
        ("tokens", TensorView::new(Dtype::I64, vec![TOKENS], &ids)?),
        ("base", TensorView::new(Dtype::F32, vec![TOKENS, vocab], &base)?),
        ("adapter", TensorView::new(Dtype::F32, vec![TOKENS, vocab], &adapted)?),
    ];
    files::write_atomic(&out.join("ours.safetensors"), &safetensors::serialize(tensors, None)?)?;
    Ok(())
}

fn options() -> std::result::Result<BTreeMap<String, PathBuf>, String> {
    let mut options = BTreeMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let key = argument.strip_prefix("--").filter(|key| ["base", "out", "adapter"].contains(key));
        let key = key.ok_or_else(|| format!("unknown argument `{argument}`"))?;
        let value = arguments.next().ok_or_else(|| format!("--{key} needs a folder"))?;
        options.insert(key.to_owned(), PathBuf::from(value));
    }
    Ok(options)
}

/// Both factors random, so that a wrong scale, order or layout shows in every logit; ranks and alphas by
/// patterns, one module left out.
fn random_adapter(model: &Model, rng: &mut ChaCha8Rng) -> Result<Adapter> {
    let config =
        LoraConfig { rank: 4, alpha: 6.0, targets: Vec::new(), rslora: true, dropout: 0.05, dora: false };
    let names = |name: &str| [name.to_owned()];
    let ranks = [("layers.1.mlp.down_proj".to_owned(), 2), ("q_proj|down_proj".to_owned(), 6)];
    let alphas = [("v_proj".to_owned(), 3.0)];
    let rules = ModuleRules::new(&names("all-linear"), &names("layers.0.mlp.up_proj"), &ranks, &alphas)?;
    let mut adapter = Adapter::init_by(config, &rules, &model.config, 7)?;
    for module in adapter.modules.values_mut() {
        module.b.fill_with(|| rng.random_range(-0.4..0.4));
    }
    Ok(adapter)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
