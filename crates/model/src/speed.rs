//! How fast this machine multiplies, and how much multiplying a pass takes: hosts differ by a factor of
//! three, so a speed means something only as a share of what its machine can do.

use std::time::Instant;

use half::bf16;

use crate::batch::Packed;
use crate::lora::{Adapter, Target};
use crate::matmul::Store;
use crate::packed;
use crate::params::Model;
use crate::threads::Threads;
use crate::weight::Weight;

/// Rows, inputs and outputs of the product that is measured: a layer of a small model.
const SIZE: usize = 512;

/// What matrix products reach on this machine, all threads together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Threads that computed at once, each on products of its own.
    pub threads: usize,
    /// 10⁹ floating-point operations a second with f32 weights.
    pub f32_gflops: f64,
    /// The same with bf16 weights: about twice as fast where the processor has avx512_bf16, else about
    /// the same.
    pub bf16_gflops: f64,
}

impl Peak {
    /// The rate that belongs to a model: that of the arithmetic its linear layers are computed in.
    pub fn of(&self, model: &Model) -> f64 {
        let first = model.weights.layers.first();
        let narrow = first.is_some_and(|layer| layer.q.weight.storage() == "bf16");
        if narrow { self.bf16_gflops } else { self.f32_gflops }
    }
}

/// Measures both rates within about `seconds`: the best seen on products of 512 x 512 x 512, with the
/// kernels and the sharing (whole products to threads) that training uses.
pub fn calibrate(threads: Threads, seconds: f64) -> Peak {
    let narrow = vec![bf16::from_f32(0.25); SIZE * SIZE];
    Peak {
        threads: threads.count(),
        f32_gflops: measured(threads, seconds / 2.0, &Weight::new(vec![0.25; SIZE * SIZE], SIZE, SIZE)),
        bf16_gflops: measured(threads, seconds / 2.0, &Weight::from_bf16(narrow, SIZE, SIZE)),
    }
}

/// 10⁹ operations a second of dx = dy W, on every thread at once.
fn measured(threads: Threads, seconds: f64, weight: &Weight<f32>) -> f64 {
    /// Products between two looks at the clock: long enough to wait for the slowest thread.
    const AT_ONCE: usize = 4;
    let dy = vec![0.5; SIZE * SIZE];
    let mut states: Vec<_> = (0..threads.count()).map(|_| (vec![0.0; SIZE * SIZE], Vec::new())).collect();
    let begun = Instant::now();
    let mut best = f64::MAX;
    while best == f64::MAX || begun.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        let dy = &dy;
        rayon::scope(|scope| {
            for (dx, panel) in &mut states {
                scope.spawn(move |_| {
                    for _ in 0..AT_ONCE {
                        packed::times(Threads::ONE, (&mut *dx, Store::Replace), dy, weight, panel);
                    }
                });
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (SIZE * SIZE * SIZE * AT_ONCE * threads.count()) as f64 / best / 1e9
}

/// Floating-point operations that passes over a batch take, as the usual count has them: products only,
/// nothing that is computed twice to save memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Linear layers of the frozen base: 2 N a token forward, as much for the gradient of their inputs.
    pub linear: f64,
    /// LoRA: 2 P a token forward, 4 P backward, P the trained numbers.
    pub lora: f64,
    /// Causal attention: 2 S heads head_dim a token and layer forward, twice that backward.
    pub attention: f64,
    /// The head: 2 V H for each scored token forward, as much backward.
    pub head: f64,
}

impl Work {
    /// Of [`crate::evaluate`].
    pub fn evaluation(model: &Model, adapter: Option<&Adapter>, batch: &Packed) -> Self {
        let config = &model.config;
        let weights: usize =
            Target::ALL.iter().map(|target| target.shape(config).0 * target.shape(config).1).sum();
        let pairs: usize = batch.ranges().map(|range| range.len() * range.len()).sum();
        let tokens = batch.tokens.len() as f64;
        Self {
            linear: 2.0 * (weights * config.num_layers) as f64 * tokens,
            lora: 2.0 * adapter.map_or(0, Adapter::parameters) as f64 * tokens,
            attention: 2.0 * (pairs * config.num_layers * config.q_width()) as f64,
            head: 2.0 * (config.vocab_size * config.hidden_size) as f64 * batch.scored() as f64,
        }
    }

    /// Of [`crate::loss_and_grads`] for an adapter.
    pub fn training(model: &Model, adapter: &Adapter, batch: &Packed) -> Self {
        let Self { linear, lora, attention, head } = Self::evaluation(model, Some(adapter), batch);
        Self { linear: 2.0 * linear, lora: 3.0 * lora, attention: 3.0 * attention, head: 2.0 * head }
    }

    /// All parts together.
    pub fn total(&self) -> f64 {
        self.linear + self.lora + self.attention + self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn work_is_that_of_the_formulas() {
        let config = tiny::config();
        let (model, adapter) = (tiny::model(config.clone(), 1).cast(), tiny::adapter(&config, 2).cast());
        let mut batch = Packed::new();
        batch.push(&[1, 2, 3, 4], &[false, false, true, true]);
        batch.push(&[1, 2], &[false, true]);
        let forward = Work::evaluation(&model, None, &batch);
        // q 12x16, k and v 12x8, o 16x12, three of 12x16; two layers, six tokens.
        assert_eq!(forward.linear, 2.0 * 2.0 * f64::from(192 + 96 + 96 + 192 + 3 * 192) * 6.0);
        assert_eq!(forward.attention, 2.0 * 2.0 * 16.0 * f64::from(4 * 4 + 2 * 2));
        assert_eq!(forward.head, 2.0 * 19.0 * 12.0 * 3.0);
        assert_eq!(forward.lora, 0.0);
        let training = Work::training(&model, &adapter, &batch);
        assert_eq!(training.lora, 6.0 * adapter.parameters() as f64 * 6.0);
        assert_eq!(training.total() - training.lora, 2.0 * forward.total() + forward.attention);
    }

    #[test]
    fn both_rates_are_measured() {
        let peak = calibrate(Threads::new(2), 0.0);
        assert_eq!(peak.threads, 2);
        assert!(peak.f32_gflops > 0.1 && peak.bf16_gflops > 0.1, "{peak:?}");
    }
}
