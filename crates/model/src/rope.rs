//! Rotary position embedding in the layout of Hugging Face: element j of a head is paired with
//! j + head_dim / 2 (`rotate_half`; Su et al. 2021, arXiv 2104.09864).
//!
//! Owns the table of cosines and sines, which grows with the longest position asked for. The
//! gradient of a rotation is the rotation by the opposite angle.

use crate::config::{Llama3Scaling, ModelConfig};
use crate::real::Real;
use crate::simd::{Kernel, vectorised};
use crate::threads::Threads;

/// Positions by which the table grows: decoding must not pay at every token.
pub(crate) const POSITIONS: usize = 256;

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By the angle of the position: the forward pass.
    Forward,
    /// By its negative: the backward pass.
    Back,
}

/// Cosines and sines for positions from 0.
#[derive(Debug, Clone)]
pub(crate) struct RopeTable<T> {
    /// Radians per position, `[head_dim / 2]`.
    frequencies: Vec<f64>,
    /// What the frequencies were computed from.
    theta: f64,
    scaling: Option<Llama3Scaling>,
    /// `[positions, head_dim / 2]`.
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> RopeTable<T> {
    /// The table of a model, still without positions.
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            frequencies: frequencies(config),
            theta: config.rope_theta,
            scaling: config.rope_scaling,
            cos: Vec::new(),
            sin: Vec::new(),
        }
    }

    /// Makes the table valid for `config` and for positions below `positions`.
    pub(crate) fn prepare(&mut self, config: &ModelConfig, positions: usize) {
        let half = config.head_dim / 2;
        let other = self.frequencies.len() != half;
        if other || self.theta != config.rope_theta || self.scaling != config.rope_scaling {
            *self = Self::new(config);
        }
        let known = self.cos.len() / half;
        if positions <= known {
            return;
        }
        let positions = positions.next_multiple_of(POSITIONS);
        self.cos.reserve_exact(positions * half - self.cos.len());
        self.sin.reserve_exact(positions * half - self.sin.len());
        for position in known..positions {
            for frequency in &self.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                self.cos.push(T::from_f64(cos));
                self.sin.push(T::from_f64(sin));
            }
        }
    }

    /// Rotates every head of every row of `x` (`[positions.len(), heads * head_dim]`) in place.
    pub(crate) fn rotate(
        &self,
        threads: Threads,
        turn: Turn,
        positions: &[usize],
        heads: usize,
        x: &mut [T],
    ) {
        let width = 2 * self.frequencies.len() * heads;
        threads.rows(positions.len(), [(x, width)], &|range, [x]| {
            vectorised(Rotate, (self, turn, &positions[range], heads, x));
        });
    }
}

#[cfg(test)]
impl RopeTable<f32> {
    /// Numbers held.
    pub(crate) fn numbers(&self) -> usize {
        self.cos.capacity() + self.sin.capacity()
    }
}

struct Rotate;

impl<T: Real> Kernel<(&RopeTable<T>, Turn, &[usize], usize, &mut [T])> for Rotate {
    type Output = ();

    #[inline(always)]
    fn run((table, turn, positions, heads, x): (&RopeTable<T>, Turn, &[usize], usize, &mut [T])) {
        let half = table.frequencies.len();
        let sign = if turn == Turn::Forward { T::ONE } else { -T::ONE };
        for (row, &position) in x.chunks_exact_mut(2 * half * heads).zip(positions) {
            let cos = &table.cos[position * half..(position + 1) * half];
            let sin = &table.sin[position * half..(position + 1) * half];
            for head in row.chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                    let (a, b, sin) = (*low, *high, sin * sign);
                    *low = a * cos - b * sin;
                    *high = b * cos + a * sin;
                }
            }
        }
    }
}

/// Radians per position of each pair, `[head_dim / 2]`: theta^(-2j/d), stretched by the rule of
/// Llama 3.1 where the model asks for it (transformers `_compute_llama3_parameters`).
pub(crate) fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let d = config.head_dim as f64;
    let plain = (0..config.head_dim / 2).map(|j| config.rope_theta.powf(-2.0 * j as f64 / d));
    match config.rope_scaling {
        None => plain.collect(),
        Some(scaling) => plain.map(|frequency| stretch(frequency, &scaling)).collect(),
    }
}

/// By how much each plain frequency is divided, `[head_dim / 2]`: what llama.cpp keeps as `rope_freqs`.
pub(crate) fn divisors(config: &ModelConfig) -> Vec<f32> {
    let plain = frequencies(&ModelConfig { rope_scaling: None, ..config.clone() });
    plain.iter().zip(frequencies(config)).map(|(plain, stretched)| (plain / stretched) as f32).collect()
}

fn stretch(frequency: f64, scaling: &Llama3Scaling) -> f64 {
    let original = scaling.original_max_position_embeddings as f64;
    let wavelength = std::f64::consts::TAU / frequency;
    if wavelength < original / scaling.high_freq_factor {
        return frequency;
    }
    if wavelength > original / scaling.low_freq_factor {
        return frequency / scaling.factor;
    }
    let t = (original / wavelength - scaling.low_freq_factor)
        / (scaling.high_freq_factor - scaling.low_freq_factor);
    frequency * ((1.0 - t) / scaling.factor + t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn llama3_frequencies_equal_those_of_transformers() {
        let mut config = tiny::config();
        config.head_dim = 16;
        config.rope_theta = 1e4;
        config.rope_scaling = Some(Llama3Scaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        });
        let expected =
            [1.0, 0.24438459, 0.013042256, 0.0039528473, 0.00125, 0.00039528473, 0.000125, 3.9528473e-05];
        for (ours, theirs) in frequencies(&config).iter().zip(expected) {
            assert!((ours - theirs).abs() <= 2e-7 * theirs, "{ours} {theirs}");
        }
    }

    #[test]
    fn turning_back_undoes_the_turn() {
        let config = tiny::config();
        let mut table = RopeTable::<f64>::new(&config);
        table.prepare(&config, 40);
        let start: Vec<f64> = (0..2 * config.q_width()).map(|i| (i as f64).sin()).collect();
        let mut x = start.clone();
        table.rotate(Threads::ONE, Turn::Forward, &[3, 39], config.num_heads, &mut x);
        assert!(x.iter().zip(&start).any(|(a, b)| (a - b).abs() > 0.1));
        table.rotate(Threads::ONE, Turn::Back, &[3, 39], config.num_heads, &mut x);
        assert!(x.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
