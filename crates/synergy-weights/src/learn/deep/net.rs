//! Small networks on candle: several equal ones side by side, seeded by our own generator (candle's is not
//! seedable on a CPU), their parameters one vector, so that a step of the optimiser and a checkpoint are one too.

use candle_core::{Device, Result, Tensor, Var};
use nightshift_stats::rng::SplitMix64;

use super::product::product;
use crate::learn::Optimizer;

/// A standard normal number (Box and Muller 1958).
pub(super) fn normal(rng: &mut SplitMix64) -> f64 {
    let radius = (-2.0 * (1.0 - rng.uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.uniform()).cos()
}

/// Equal multilayer perceptrons with ReLU between their layers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Net {
    heads: usize,
    sizes: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Net {
    /// `heads` networks with layers of `sizes`, input first. Uniform within 1 / sqrt(inputs), as torch starts; the
    /// last layer a tenth of it, so that an untrained network has no opinion.
    pub(super) fn new(heads: usize, sizes: &[usize], rng: &mut SplitMix64) -> Self {
        let mut values = Vec::new();
        for (at, pair) in sizes.windows(2).enumerate() {
            let last = at + 2 == sizes.len();
            let bound = if last { 0.1 } else { 1.0 } / (pair[0] as f64).sqrt();
            values
                .extend((0..heads * pair[0] * pair[1]).map(|_| (bound * (2.0 * rng.uniform() - 1.0)) as f32));
            values.extend(std::iter::repeat_n(0.0, heads * pair[1]));
        }
        Self { heads, sizes: sizes.to_vec(), values }
    }

    /// The parameters, to be differentiated by.
    pub(super) fn variable(&self) -> Result<Var> {
        Var::from_slice(&self.values, self.values.len(), &Device::Cpu)
    }

    /// The parameters, as constants.
    pub(super) fn constant(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.values, self.values.len(), &Device::Cpu)
    }

    /// Outputs (heads, batch, out) for inputs (batch, in).
    pub(super) fn forward(&self, values: &Tensor, inputs: &Tensor) -> Result<Tensor> {
        let mut x = inputs.unsqueeze(0)?;
        if self.heads > 1 {
            x = x.repeat((self.heads, 1, 1))?;
        }
        let mut at = 0;
        for (layer, pair) in self.sizes.windows(2).enumerate() {
            let mut take = |rows: usize| -> Result<Tensor> {
                let length = self.heads * rows * pair[1];
                let part = values.narrow(0, at, length)?.reshape((self.heads, rows, pair[1]));
                at += length;
                part
            };
            let (weight, bias) = (take(pair[0])?, take(1)?);
            x = product(&x, &weight)?.broadcast_add(&bias)?;
            if layer + 2 < self.sizes.len() {
                x = x.relu()?;
            }
        }
        Ok(x)
    }

    /// Moves towards another network of the same shape by the share `tau`.
    pub(super) fn follow(&mut self, other: &Self, tau: f32) {
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            *mine += tau * (theirs - *mine);
        }
    }
}

/// Rows of numbers as a tensor (rows, width).
pub(super) fn matrix(values: &[f32], width: usize) -> Result<Tensor> {
    Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu)
}

/// Takes a network down the gradient of a loss.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Descent {
    kind: Optimizer,
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    pub(super) steps: u64,
}

impl Descent {
    pub(super) fn new(kind: Optimizer, parameters: usize) -> Self {
        Self { kind, first: vec![0.0; parameters], second: vec![0.0; parameters], steps: 0 }
    }

    /// One step; `variable` holds the parameters that `loss` was computed with.
    pub(super) fn step(&mut self, net: &mut Net, variable: &Var, loss: &Tensor, rate: f64) -> Result<()> {
        let gradients = loss.backward()?;
        let Some(gradient) = gradients.get(variable) else { return Ok(()) };
        let gradient = gradient.to_vec1::<f32>()?;
        self.steps += 1;
        match self.kind {
            Optimizer::Adam => self.adam(&mut net.values, &gradient, rate),
            Optimizer::Sgd => {
                for ((value, slope), speed) in net.values.iter_mut().zip(gradient).zip(&mut self.first) {
                    *speed = 0.9 * *speed + slope;
                    // Ten times Adam's rate: its steps are as long as the slope, not as long as the rate.
                    *value -= 10.0 * rate as f32 * *speed;
                }
            }
        }
        Ok(())
    }

    /// Kingma and Ba 2015, algorithm 1.
    fn adam(&mut self, values: &mut [f32], gradient: &[f32], rate: f64) {
        let steps = self.steps as f64;
        let scale = (rate * (1.0 - 0.999_f64.powf(steps)).sqrt() / (1.0 - 0.9_f64.powf(steps))) as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, slope), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            *first += 0.1 * (slope - *first);
            *second += 0.001 * (slope * slope - *second);
            *value -= scale * *first / (second.sqrt() + 1e-8);
        }
    }
}
