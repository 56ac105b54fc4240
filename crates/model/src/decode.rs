//! `Decoder`: the next token's logits, with a key/value cache and LoRA applied unmerged.

use crate::batch::check_tokens;
use crate::cache::KvCache;
use crate::error::{ModelError, Result};
use crate::forward::{Purpose, Stack, forward};
use crate::lora::Adapter;
use crate::matmul::{Mat, Store};
use crate::packed;
use crate::params::Model;
use crate::real::Real;
use crate::simd::all_finite;
use crate::train::check_adapter;
use crate::workspace::{Workspace, fit};

/// Tokens of a prompt that are computed at once: bounds the memory of activations.
const PREFILL: usize = 1024;

/// Scratch memory for decoding. Not tied to a model, an adapter or a sequence: the [`KvCache`] is.
#[derive(Debug, Clone)]
pub struct Decoder<T = f32> {
    ws: Workspace<T>,
    logits: Vec<T>,
}

impl<T: Real> Decoder<T> {
    /// A decoder that computes on `threads` threads (0 is taken as 1).
    pub fn new(threads: usize) -> Self {
        Self { ws: Workspace::new(threads), logits: Vec::new() }
    }

    /// Appends `tokens` to the sequence in `cache`; logits for the token after them, `[vocab]`.
    ///
    /// # Errors
    /// [`ModelError::Input`] for no tokens, tokens outside the vocabulary, a full cache, a cache or an
    /// adapter for another model; [`ModelError::NonFinite`] when a logit is NaN or infinite. The cache
    /// is as before then.
    pub fn feed(
        &mut self,
        model: &Model<T>,
        adapter: Option<&Adapter<T>>,
        cache: &mut KvCache<T>,
        tokens: &[u32],
    ) -> Result<&[T]> {
        self.ws.threads.awake(|| T::feed(self, model, adapter, cache, tokens))?;
        Ok(&self.logits)
    }
}

/// The work of [`Decoder::feed`]; leaves the logits in the decoder.
pub(crate) fn compute<T: Real>(
    decoder: &mut Decoder<T>,
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    cache: &mut KvCache<T>,
    tokens: &[u32],
) -> Result<()> {
    let Decoder { ws, logits } = decoder;
    let config = &model.config;
    check_tokens(tokens, config.vocab_size)?;
    cache.check(config, tokens.len())?;
    check_adapter(model, adapter)?;
    let before = cache.len();
    let stack = Stack { model, adapter, purpose: Purpose::Infer, draws: None };
    for part in tokens.chunks(PREFILL) {
        ws.lay_out_after(config, cache.len(), part.len());
        ws.rows.clear();
        ws.rows.push(part.len() - 1);
        forward(&stack, part, Some(&mut cache.layers), ws);
        cache.advance(part.len());
    }
    let hidden = Mat::new(&ws.hidden, 1, config.hidden_size);
    let logits = fit(logits, config.vocab_size);
    let (out, panel) = ((&mut *logits, Store::Replace), &mut ws.scratch.linear.panel);
    packed::times_transposed(ws.threads, out, hidden, model.weights.head(), panel);
    if all_finite(logits) {
        return Ok(());
    }
    cache.truncate(before);
    Err(ModelError::non_finite(format!("a logit behind token {}", before + tokens.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::tiny;
    use crate::train::logits;

    #[test]
    fn decoding_with_a_cache_equals_the_whole_sequence_at_once() {
        for (name, config) in tiny::variants() {
            let (model, adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
            let tokens: Vec<u32> = (0..90).map(|i| (i * 7 + i / 3) % config.vocab_size as u32).collect();
            let whole = logits(&model, Some(&adapter), &tokens).unwrap();
            let mut decoder = Decoder::new(1);
            for prompt in [1, 5, 70] {
                let mut cache = KvCache::new(&config, 90);
                decoder.feed(&model, Some(&adapter), &mut cache, &tokens[..prompt]).unwrap();
                for at in prompt..tokens.len() {
                    let next = decoder.feed(&model, Some(&adapter), &mut cache, &tokens[at..=at]).unwrap();
                    let wanted = &whole[at * config.vocab_size..][..config.vocab_size];
                    let worst = next.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(worst < 1e-11, "{name}, position {at}: {worst}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        // Large enough that q, k, v and gate, up and the head are shared among threads, in uneven pieces.
        let config = ModelConfig::llama(264, 700, 2, [4, 2], 1003);
        let (model, adapter) = (tiny::model(config.clone(), 1).cast(), tiny::adapter(&config, 2).cast());
        let bits = |threads: usize| {
            let (mut decoder, mut cache) = (Decoder::<f32>::new(threads), KvCache::new(&config, 9));
            let feed =
                |token: u32| decoder.feed(&model, Some(&adapter), &mut cache, &[token]).unwrap().to_vec();
            let logits: Vec<f32> = [3, 500, 1002].map(feed).concat();
            logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
        };
        let alone = bits(1);
        assert!([2, 3].iter().all(|threads| bits(*threads) == alone));
    }

    #[test]
    fn a_shortened_cache_continues_from_there() {
        let config = tiny::config();
        let model = tiny::model(config.clone(), 1);
        let (mut cache, mut decoder) = (KvCache::new(&config, 8), Decoder::new(1));
        decoder.feed(&model, None, &mut cache, &[1, 2, 3, 4]).unwrap();
        cache.truncate(2);
        let again = decoder.feed(&model, None, &mut cache, &[5]).unwrap().to_vec();
        let whole = logits(&model, None, &[1, 2, 5]).unwrap();
        let wanted = &whole[2 * config.vocab_size..];
        assert!(again.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn a_full_cache_and_a_foreign_one_are_refused() {
        let config = tiny::config();
        let model = tiny::model(config.clone(), 1);
        let (mut cache, mut decoder) = (KvCache::new(&config, 3), Decoder::new(1));
        decoder.feed(&model, None, &mut cache, &[1, 2]).unwrap();
        let error = decoder.feed(&model, None, &mut cache, &[1, 2]).unwrap_err();
        assert!(error.to_string().contains("2 + 2 tokens do not fit into a context of 3"), "{error}");
        assert_eq!(cache.len(), 2);
        let mut other = config;
        other.num_kv_heads = 4;
        assert!(decoder.feed(&model, None, &mut KvCache::new(&other, 9), &[1]).is_err());
        assert!(decoder.feed(&model, None, &mut cache, &[99]).is_err());
        assert!(decoder.feed(&model, None, &mut cache, &[]).is_err());
    }

    #[test]
    fn not_a_number_is_an_error_and_leaves_the_cache() {
        let config = tiny::config();
        let mut model = tiny::model(config.clone(), 1);
        let (mut cache, mut decoder) = (KvCache::new(&config, 9), Decoder::new(1));
        decoder.feed(&model, None, &mut cache, &[1, 2]).unwrap();
        model.weights.final_norm[0] = f64::NAN;
        let error = decoder.feed(&model, None, &mut cache, &[3]).unwrap_err();
        assert!(matches!(error, ModelError::NonFinite { .. }));
        assert_eq!(cache.len(), 2);
    }
}
