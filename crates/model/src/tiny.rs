//! Tiny models for this crate's unit tests, one for each feature of the families.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::batch::Packed;
use crate::config::{Family, Llama3Scaling, ModelConfig};
use crate::lora::{Adapter, LoraConfig, Target};
use crate::params::Model;

/// Two layers, hidden 12, four heads of four over two key/value heads, tied.
pub(crate) fn config() -> ModelConfig {
    ModelConfig { head_dim: 4, max_position_embeddings: 256, ..ModelConfig::llama(12, 16, 2, [4, 2], 19) }
}

/// One configuration for each feature, by name.
pub(crate) fn variants() -> Vec<(&'static str, ModelConfig)> {
    let scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 16,
    };
    let base = config();
    vec![
        ("tied, grouped", base.clone()),
        (
            "untied, one kv head each",
            ModelConfig { tie_word_embeddings: false, num_kv_heads: 4, head_dim: 6, ..base.clone() },
        ),
        ("llama3 rope", ModelConfig { rope_scaling: Some(scaling), ..base.clone() }),
        ("biases", ModelConfig { qkv_bias: true, o_bias: true, mlp_bias: true, ..base.clone() }),
        ("head norms", ModelConfig { family: Family::Qwen3, qk_norm: true, ..base.clone() }),
        (
            "sliding window",
            ModelConfig { family: Family::Mistral, sliding_window: vec![Some(3), None], ..base },
        ),
    ]
}

/// A model whose every number is random, norms and biases included.
pub(crate) fn model(config: ModelConfig, seed: u64) -> Model<f64> {
    let mut model = Model::random(config, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for parameter in model.weights.iter_mut() {
        let is_norm = parameter.name.ends_with("norm.weight");
        for value in parameter.values {
            *value = rng.random_range(-0.5..0.5) + if is_norm { 1.0 } else { 0.0 };
        }
    }
    model
}

/// An adapter on all projections with random A and B.
pub(crate) fn adapter(config: &ModelConfig, seed: u64) -> Adapter<f64> {
    let targets = Target::ALL.to_vec();
    let lora = LoraConfig { rank: 3, alpha: 6.0, targets, rslora: false, dropout: 0.0, dora: false };
    let mut adapter = Adapter::init(lora, config, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for parameter in adapter.iter_mut() {
        parameter.values.iter_mut().for_each(|value| *value = rng.random_range(-0.5..0.5));
    }
    adapter
}

/// Batches end to end.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a Packed>) -> Packed {
    let mut all = Packed::new();
    for part in parts {
        all.starts.extend(part.starts.iter().map(|start| start + all.tokens.len()));
        all.tokens.extend(&part.tokens);
        all.labels.extend(&part.labels);
        all.draws.extend(&part.draws);
    }
    all
}

/// Random tokens in segments of these lengths; about two thirds of the positions are scored.
pub(crate) fn batch(config: &ModelConfig, lengths: &[usize], seed: u64) -> Packed {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut packed = Packed::new();
    for &length in lengths {
        let tokens: Vec<u32> = (0..length).map(|_| rng.random_range(0..config.vocab_size as u32)).collect();
        let scored: Vec<bool> = (0..length).map(|_| rng.random_range(0..3) > 0).collect();
        packed.push(&tokens, &scored);
    }
    packed
}
