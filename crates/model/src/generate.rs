//! Continuing a prompt token by token: greedy or sampled, reporting each token's probability.
//!
//! The reported probability is always that of the raw logits at temperature 1, whatever the sampling
//! settings: it says how sure the model was, and recorded confidences stay comparable.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cache::KvCache;
use crate::decode::Decoder;
use crate::error::{ModelError, Result};
use crate::lora::Adapter;
use crate::params::Model;
use crate::real::Real;
use crate::simd::{Kernel, exp_shifted, max, vectorised};

/// How to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to produce at most.
    pub max_tokens: usize,
    /// 0 takes the likeliest token; above 0 the logits are divided by it before sampling.
    pub temperature: f32,
    /// Samples from the likeliest tokens that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Samples from this many likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Random seed of the sampling.
    pub seed: u64,
    /// Tokens that end the answer; they are not part of it.
    pub eos: Vec<u32>,
    /// How many of the likeliest alternatives to report with each token.
    pub top_logprobs: usize,
}

impl Default for GenerateOptions {
    /// Greedy, 256 tokens, no end token.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            eos: Vec::new(),
            top_logprobs: 0,
        }
    }
}

/// One token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOut {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability at temperature 1.
    pub logprob: f32,
    /// The likeliest tokens at this place with their log-probabilities, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end token was chosen.
    Stop,
    /// `max_tokens` were produced, or the context is full.
    Length,
    /// The callback asked to stop.
    Cancelled,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its tokens, without the end token.
    pub tokens: Vec<TokenOut>,
    /// Why it ended.
    pub finish: Finish,
    /// Log-probability of the end token, when one was chosen.
    pub stop_logprob: Option<f32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// Continues `prompt`. The cache is cleared first. `on_token` sees each token as it is chosen;
/// returning false ends the answer (that token is still part of it).
///
/// # Errors
/// [`ModelError::Input`] for bad options, a prompt longer than the cache or other input that
/// [`Decoder::feed`] refuses; [`ModelError::NonFinite`] for a broken model.
pub fn generate<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    decoder: &mut Decoder<T>,
    cache: &mut KvCache<T>,
    prompt: &[u32],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(&TokenOut) -> bool,
) -> Result<Generation> {
    options.check()?;
    cache.clear();
    let mut sampler = Sampler::new(options);
    let mut done = Generation {
        tokens: Vec::new(),
        finish: Finish::Length,
        stop_logprob: None,
        prompt_tokens: prompt.len(),
    };
    let mut logits = decoder.feed(model, adapter, cache, prompt)?;
    while done.tokens.len() < options.max_tokens {
        let token = sampler.next(logits);
        if options.eos.contains(&token.id) {
            done.finish = Finish::Stop;
            done.stop_logprob = Some(token.logprob);
            break;
        }
        let id = token.id;
        let go_on = on_token(&token);
        done.tokens.push(token);
        if !go_on {
            done.finish = Finish::Cancelled;
            break;
        }
        if cache.len() == cache.capacity() {
            break;
        }
        // The last token's successor is not wanted, unless it could be the end token.
        if done.tokens.len() < options.max_tokens {
            logits = decoder.feed(model, adapter, cache, &[id])?;
        }
    }
    Ok(done)
}

impl GenerateOptions {
    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(ModelError::Input(format!("generation: {what}")));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature must be 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p must be above 0 and at most 1");
        }
        Ok(())
    }
}

/// Chooses tokens from logits.
struct Sampler<'a> {
    options: &'a GenerateOptions,
    rng: ChaCha8Rng,
    /// Tokens that may be chosen, with their (unnormalised) probabilities.
    candidates: Vec<(u32, f64)>,
}

impl<'a> Sampler<'a> {
    fn new(options: &'a GenerateOptions) -> Self {
        Self { options, rng: ChaCha8Rng::seed_from_u64(options.seed), candidates: Vec::new() }
    }

    fn next<T: Real>(&mut self, logits: &[T]) -> TokenOut {
        let (largest, log_sum) = T::log_sum_exp(logits);
        let id = if self.options.temperature > 0.0 { self.sample(logits, largest) } else { argmax(logits) };
        let logprob = |id: u32| (logits[id as usize] - log_sum).to_f64() as f32;
        let top = top(logits, self.options.top_logprobs).into_iter().map(|id| (id, logprob(id))).collect();
        TokenOut { id, logprob: logprob(id), top }
    }

    /// Temperature, then top-k, then top-p, as transformers orders them.
    fn sample<T: Real>(&mut self, logits: &[T], largest: T) -> u32 {
        let temperature = f64::from(self.options.temperature);
        let weight = |logit: T| ((logit - largest).to_f64() / temperature).exp();
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().enumerate().map(|(id, &logit)| (id as u32, weight(logit))));
        let likelier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let k = self.options.top_k;
        if k > 0 && k < candidates.len() {
            candidates.select_nth_unstable_by(k - 1, likelier);
            candidates.truncate(k);
        }
        let top_p = f64::from(self.options.top_p);
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            // Tokens below this share cannot reach 1 - top_p even together, so the rest suffices.
            let least = (1.0 - top_p) / candidates.len() as f64 * total;
            candidates.retain(|(_, weight)| *weight >= least);
            candidates.sort_unstable_by(likelier);
            let mut sum = 0.0;
            let enough = candidates.iter().position(|(_, weight)| {
                sum += weight;
                sum >= top_p * total
            });
            candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        }
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.random::<f64>() * total;
        for &(id, weight) in &*candidates {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        // Rounding may leave a sliver behind the last candidate.
        candidates.last().map_or_else(|| argmax(logits), |(id, _)| *id)
    }
}

/// Largest logit, and log of the sum of exponentials.
pub(crate) fn compute_log_sum_exp<T: Real>(logits: &[T]) -> (T, T) {
    let mut copy = logits.to_vec();
    vectorised(LogSumExp, copy.as_mut_slice())
}

struct LogSumExp;

impl<T: Real> Kernel<&mut [T]> for LogSumExp {
    type Output = (T, T);

    #[inline(always)]
    fn run(logits: &mut [T]) -> (T, T) {
        let largest = max(logits);
        (largest, largest + exp_shifted(logits, largest).ln())
    }
}

/// The likeliest token; the lowest id among equals.
fn argmax<T: Real>(logits: &[T]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The `count` likeliest tokens, likeliest first, lower ids first among equals.
fn top<T: Real>(logits: &[T], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let likelier = |a: &u32, b: &u32| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let count = count.min(ids.len());
    ids.select_nth_unstable_by(count - 1, likelier);
    ids.truncate(count);
    ids.sort_unstable_by(likelier);
    ids
}

#[cfg(test)]
mod tests;
