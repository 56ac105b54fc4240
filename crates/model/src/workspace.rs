//! `Workspace`: the memory of forward and backward passes, used again from call to call.
//!
//! Buffers only grow, so after the first batch of a size no pass allocates. Between a forward and
//! its backward pass the workspace holds what cannot be recomputed cheaply: the residual before each
//! layer and before its MLP, q, k, v, the attention output and its log-sums, gate and up, x Aᵀ.

use std::sync::Arc;

use nightshift_core::signal::Stop;

use crate::attention::{AttentionScratch, Block, push_blocks};
use crate::batch::Packed;
use crate::config::ModelConfig;
use crate::device::DeviceModel;
use crate::grads::Grads;
use crate::linear::{Kept, LinearScratch};
use crate::passes::Limits;
use crate::real::Real;
use crate::rope::RopeTable;
use crate::threads::Threads;

/// Memory and threads of a computation. Not tied to a model: one workspace may serve several.
#[derive(Debug, Clone)]
pub struct Workspace<T = f32> {
    pub(crate) threads: Threads,
    /// Where passes are computed instead; see [`Workspace::set_device`].
    pub(crate) device: Option<Arc<DeviceModel>>,
    /// Which dropout masks and which noise the next passes draw; see [`Workspace::set_dropout_seed`].
    pub(crate) dropout_seed: u64,
    /// Alpha of the noise on embeddings; see [`Workspace::set_noise`].
    pub(crate) noise: f64,
    /// Whether training keeps only the input of each layer; see [`Workspace::set_checkpointing`].
    pub(crate) checkpointing: bool,
    /// How much is computed at a time; see [`Workspace::set_limits`].
    pub(crate) limits: Limits,
    /// Looked at between passes; see [`Workspace::set_stop`].
    pub(crate) stop: Stop,
    pub(crate) rope: Option<RopeTable<T>>,
    /// Position of each row inside its segment.
    pub(crate) positions: Vec<usize>,
    pub(crate) blocks: Vec<Block>,
    /// The sequences of a training pass.
    pub(crate) extents: Vec<Extent>,
    /// Rows that go through the last layer's MLP and the head.
    pub(crate) rows: Vec<usize>,
    /// One entry for each layer while a backward pass is to follow, else (and under checkpointing) a
    /// single one.
    pub(crate) layers: Vec<LayerActs<T>>,
    /// Under checkpointing the residual before each layer, `[n, hidden]`.
    pub(crate) inputs: Vec<Vec<T>>,
    /// The residual stream; after a forward pass that of `rows` behind the last layer.
    pub(crate) x: Vec<T>,
    /// Output of the final norm, `[rows, hidden]`, and its 1/rms.
    pub(crate) hidden: Vec<T>,
    pub(crate) rstd: Vec<T>,
    pub(crate) scratch: Scratch<T>,
    /// Memory of the threads that share a batch, but for the first: its memory is this one.
    pub(crate) helpers: Vec<Self>,
    /// Their gradients.
    pub(crate) extra_grads: Vec<Grads<T>>,
}

/// One sequence of a training pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows that are computed.
    pub(crate) rows: usize,
    /// Its tokens, those included that no label can see.
    pub(crate) tokens: usize,
}

/// What one layer keeps for its backward pass. n rows enter; m rows leave (m < n in the last layer).
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerActs<T> {
    /// Residual before the layer, `[n, hidden]`.
    pub(crate) x: Vec<T>,
    pub(crate) rstd_input: Vec<T>,
    /// After rope, `[n, heads * head_dim]`.
    pub(crate) q: Vec<T>,
    pub(crate) k: Vec<T>,
    pub(crate) v: Vec<T>,
    /// Before the per-head norm, for models that have it.
    pub(crate) q_raw: Vec<T>,
    pub(crate) k_raw: Vec<T>,
    pub(crate) rstd_q: Vec<T>,
    pub(crate) rstd_k: Vec<T>,
    /// Attention output, `[n, heads * head_dim]`.
    pub(crate) o: Vec<T>,
    /// `[n, heads]`.
    pub(crate) lse: Vec<T>,
    /// Residual before the MLP, `[m, hidden]`.
    pub(crate) mid: Vec<T>,
    pub(crate) rstd_post: Vec<T>,
    /// `[m, intermediate]`.
    pub(crate) gate: Vec<T>,
    pub(crate) up: Vec<T>,
    /// What each LoRA target keeps, by `Target as usize`.
    pub(crate) kept: [Kept<T>; 7],
}

/// Buffers that mean nothing between two steps of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch<T> {
    /// A norm's output, `[n, hidden]`.
    pub(crate) h: Vec<T>,
    /// silu(gate) * up, `[m, intermediate]`.
    pub(crate) act: Vec<T>,
    /// Attention output of the chosen rows, `[m, heads * head_dim]`.
    pub(crate) o_rows: Vec<T>,
    /// Gradient of the residual stream, `[n, hidden]`.
    pub(crate) dx: Vec<T>,
    /// Gradient of the residual for the chosen rows of the last layer, `[m, hidden]`.
    pub(crate) dx_rows: Vec<T>,
    pub(crate) dh: Vec<T>,
    pub(crate) dq: Vec<T>,
    pub(crate) dk: Vec<T>,
    pub(crate) dv: Vec<T>,
    pub(crate) d_o: Vec<T>,
    /// Logits of one chunk of rows, then their gradients.
    pub(crate) logits: Vec<T>,
    pub(crate) attention: Vec<AttentionScratch<T>>,
    pub(crate) linear: LinearScratch<T>,
}

impl<T: Real> Workspace<T> {
    /// An empty workspace that computes on `threads` threads (0 is taken as 1).
    pub fn new(threads: usize) -> Self {
        Self {
            threads: Threads::new(threads),
            device: None,
            dropout_seed: 0,
            noise: 0.0,
            checkpointing: false,
            limits: Limits::NONE,
            stop: Stop::default(),
            rope: None,
            positions: Vec::new(),
            blocks: Vec::new(),
            extents: Vec::new(),
            rows: Vec::new(),
            layers: Vec::new(),
            inputs: Vec::new(),
            x: Vec::new(),
            hidden: Vec::new(),
            rstd: Vec::new(),
            scratch: Scratch::default(),
            helpers: Vec::new(),
            extra_grads: Vec::new(),
        }
    }

    /// How many threads it computes on.
    pub const fn threads(&self) -> Threads {
        self.threads
    }

    /// Computes training passes and evaluations over the base that `device` holds: the one that was copied
    /// there, with any adapter. The host keeps the optimiser, the adapter and its gradients.
    pub fn set_device(&mut self, device: Arc<DeviceModel>) {
        self.device = Some(device);
    }

    /// Chooses the dropout masks and the noise of the next training passes. Give another number to each
    /// micro-batch; the same number gives the same. Without dropout and noise it has no effect.
    pub const fn set_dropout_seed(&mut self, seed: u64) {
        self.dropout_seed = seed;
    }

    /// Adds noise to the embeddings in training passes, uniform within alpha / sqrt(tokens * hidden) of
    /// the sequence at hand (NEFTune, Jain et al. 2023, arXiv 2310.05914, algorithm 1). 0 is none.
    pub const fn set_noise(&mut self, alpha: f64) {
        self.noise = alpha;
    }

    /// Keeps only the input of each layer in training passes and computes the rest of it again in the
    /// backward pass (Chen et al. 2016, arXiv 1604.06174): the same numbers, less memory, about a third
    /// more time.
    pub const fn set_checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    /// Bounds how much training computes at a time. Results differ in the order of additions at most.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Gives up between two passes when a stop is asked for.
    pub fn set_stop(&mut self, stop: Stop) {
        self.stop = stop;
    }

    /// Sets positions, attention blocks and rope for a packed batch.
    pub(crate) fn lay_out(&mut self, config: &ModelConfig, batch: &Packed) {
        self.positions.clear();
        self.blocks.clear();
        let mut longest = 0;
        for range in batch.ranges() {
            longest = longest.max(range.len());
            self.positions.extend(0..range.len());
            push_blocks(&mut self.blocks, range.clone(), range.start, 0);
        }
        self.prepare_rope(config, longest);
    }

    /// Sets the same for `count` tokens that follow `past` tokens in a cache.
    pub(crate) fn lay_out_after(&mut self, config: &ModelConfig, past: usize, count: usize) {
        self.positions.clear();
        self.positions.extend(past..past + count);
        self.blocks.clear();
        push_blocks(&mut self.blocks, 0..count, 0, past);
        self.prepare_rope(config, past + count);
    }

    fn prepare_rope(&mut self, config: &ModelConfig, positions: usize) {
        self.rope.get_or_insert_with(|| RopeTable::new(config)).prepare(config, positions);
    }
}

/// Makes `buffer` exactly `len` long. Contents are stale, memory is kept when it shrinks. What is too
/// small is given back before more is asked for: grown in place, each buffer would leave a hole of its old
/// size behind, and there are dozens for each layer.
pub(crate) fn fit<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.capacity() < len {
        *buffer = Vec::new();
        buffer.reserve_exact(len);
    }
    buffer.resize(len, T::ZERO);
    buffer
}

/// Makes `buffer` a copy of `values`, as [`fit`] does.
pub(crate) fn copy_into<T: Real>(buffer: &mut Vec<T>, values: &[T]) {
    fit(buffer, values.len()).copy_from_slice(values);
}

#[cfg(test)]
impl Workspace<f32> {
    /// Numbers that all buffers hold, gradients excepted.
    pub(crate) fn numbers(&self) -> usize {
        let sum = |buffers: &[&Vec<f32>]| buffers.iter().map(|buffer| buffer.capacity()).sum::<usize>();
        let layer = |l: &LayerActs<f32>| {
            let LayerActs { x, rstd_input, q, k, v, q_raw, k_raw, rstd_q, rstd_k, o, lse, mid, .. } = l;
            sum(&[x, rstd_input, q, k, v, q_raw, k_raw, rstd_q, rstd_k, o, lse, mid])
                + sum(&[&l.rstd_post, &l.gate, &l.up])
                + l.kept.iter().map(|kept| sum(&[&kept.u, &kept.raw])).sum::<usize>()
        };
        let Scratch { h, act, o_rows, dx, dx_rows, dh, dq, dk, dv, d_o, logits, attention, linear } =
            &self.scratch;
        sum(&[h, act, o_rows, dx, dx_rows, dh, dq, dk, dv, d_o, logits, &self.x, &self.hidden, &self.rstd])
            + self.layers.iter().map(layer).sum::<usize>()
            + self.inputs.iter().map(Vec::capacity).sum::<usize>()
            + attention.iter().map(AttentionScratch::numbers).sum::<usize>()
            + linear.numbers()
            + self.rope.as_ref().map_or(0, RopeTable::numbers)
            + self.helpers.iter().map(Self::numbers).sum::<usize>()
    }
}
