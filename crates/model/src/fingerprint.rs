//! Digest of a base model: the name under which an adapter remembers what it was trained on.
//!
//! Two folders have the same fingerprint exactly when they compute the same function from the same
//! bytes: renaming the folder, splitting it into shards or rewriting config.json in another layout
//! changes nothing; another precision or one changed weight does.
//!
//! SHA-256 over, in this order: the line `nightshift-base-1`; the shape and constants of the model
//! as one canonical JSON line; then for each tensor sorted by name the line
//! `<name> <dtype> [<dims>]` followed by its raw bytes. Tokenizer and template are not part of it.
//! Reading a model costs about a second per gigabyte; callers keep the result.

use std::path::Path;

use nightshift_core::random::hex;
use sha2::{Digest, Sha256};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::shards::Shards;

/// Fingerprint of a model folder, 64 lower-case hex digits.
pub fn base_fingerprint(dir: &Path) -> Result<String> {
    let config = ModelConfig::from_dir(dir)?;
    let mut shards = Shards::open(dir)?;
    let mut hash = Sha256::new();
    hash.update(b"nightshift-base-1\n");
    hash.update(canonical(&config));
    for name in shards.names() {
        let entry = shards.entry(&name)?;
        hash.update(format!("{name} {:?} {:?}\n", entry.dtype, entry.shape));
        shards.for_each_chunk(&name, |chunk| {
            hash.update(chunk);
            Ok(())
        })?;
    }
    Ok(hex(&hash.finalize()))
}

/// Everything in the config that changes the numbers, in a fixed order. End tokens, BOS and the
/// nominal context length only steer generation and are left out.
fn canonical(config: &ModelConfig) -> String {
    let windows: Vec<usize> = config.sliding_window.iter().map(|window| window.unwrap_or(0)).collect();
    let scaling = config.rope_scaling.map(|s| {
        [s.factor, s.low_freq_factor, s.high_freq_factor, s.original_max_position_embeddings as f64]
    });
    let line = serde_json::json!({
        "family": config.family.model_type(),
        "hidden": config.hidden_size,
        "intermediate": config.intermediate_size,
        "layers": config.num_layers,
        "heads": [config.num_heads, config.num_kv_heads, config.head_dim],
        "vocab": config.vocab_size,
        "eps": config.rms_norm_eps,
        "rope": [config.rope_theta],
        "llama3": scaling,
        "bias": [config.qkv_bias, config.o_bias, config.mlp_bias],
        "qk_norm": config.qk_norm,
        "windows": windows,
        "tied": config.tie_word_embeddings,
    });
    format!("{line}\n")
}
