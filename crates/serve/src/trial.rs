//! A short run with a new adapter before anybody depends on it.
//!
//! Finite weights can still overflow on the way to the logits; such an adapter must be refused when
//! it is loaded and not fail its first user.

use nightshift_model::{Adapter, Decoder, KvCache};

use crate::base::Base;

/// Tokens that are tried, spread over the vocabulary.
const TOKENS: usize = 8;

/// Runs a few tokens through base and adapter; the reason when the logits are not finite.
pub(crate) fn run(base: &Base, adapter: &Adapter<f32>) -> Result<(), String> {
    let config = &base.model.config;
    let count = TOKENS.min(config.max_position_embeddings).min(config.vocab_size);
    let tokens: Vec<u32> = (0..count).map(|index| (index * config.vocab_size / count) as u32).collect();
    let mut cache = KvCache::new(config, count);
    Decoder::new(1)
        .feed(&base.model, Some(adapter), &mut cache, &tokens)
        .map(|_| ())
        .map_err(|error| format!("the adapter breaks the model: {error}"))
}
