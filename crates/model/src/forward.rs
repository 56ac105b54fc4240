//! The forward pass, once for training, evaluation and decoding.
//!
//! Linear layers run over all tokens of all segments at once. Behind the last attention only the
//! rows that somebody reads (scored positions, or the last one when decoding) go on.

use crate::attention::{self, Heads};
use crate::cache::LayerCache;
use crate::config::ModelConfig;
use crate::draws::Draws;
use crate::error::{ModelError, Result};
use crate::linear::{self, Kept, LoraUse, Projection};
use crate::lora::{Adapter, Target};
use crate::matmul::Store;
use crate::norm;
use crate::params::{LayerWeights, Model};
use crate::real::Real;
use crate::rope::Turn;
use crate::simd::all_finite;
use crate::swiglu;
use crate::threads::Threads;
use crate::timing::{self, Part};
use crate::workspace::{LayerActs, Workspace, copy_into, fit};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Keep what the backward pass needs; apply dropout.
    Train,
    /// Keep nothing.
    Infer,
}

/// A model with the adapter on top, as a pass sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stack<'a, T> {
    pub(crate) model: &'a Model<T>,
    pub(crate) adapter: Option<&'a Adapter<T>>,
    pub(crate) purpose: Purpose,
    /// The random numbers of a training pass.
    pub(crate) draws: Option<&'a Draws>,
}

impl<'a, T: Real> Stack<'a, T> {
    /// LoRA of one projection in this pass.
    pub(crate) fn lora(&self, layer: usize, target: Target) -> Option<LoraUse<'a, T>> {
        let adapter = self.adapter?;
        let module = adapter.module(layer, target)?;
        let rate = adapter.config.dropout;
        let last = layer + 1 == self.model.config.num_layers;
        let draws = self.draws.filter(|_| rate > 0.0);
        Some(LoraUse { module, dropout: draws.map(|draws| draws.dropout(rate, (layer, target), last)) })
    }

    pub(crate) fn heads(&self, layer: usize) -> Heads {
        Heads::of(&self.model.config, layer)
    }
}

/// Runs `tokens` through all layers and the final norm. Positions, blocks and `ws.rows` (the rows
/// that are wanted, ascending) must have been laid out. With `caches` (one for each layer) keys and
/// values are read from and appended there. Leaves `[rows, hidden]` in `ws.hidden`.
pub(crate) fn forward<T: Real>(
    stack: &Stack<'_, T>,
    tokens: &[u32],
    mut caches: Option<&mut [LayerCache<T>]>,
    ws: &mut Workspace<T>,
) {
    let Model { config, weights } = stack.model;
    let hidden = config.hidden_size;
    let keep = stack.purpose == Purpose::Train;
    let slots = if keep && !ws.checkpointing { config.num_layers } else { 1 };
    if ws.layers.len() < slots {
        ws.layers.resize_with(slots, LayerActs::default);
    }
    if keep && ws.checkpointing && ws.inputs.len() < config.num_layers {
        ws.inputs.resize_with(config.num_layers, Vec::new);
    }
    fit(&mut ws.x, tokens.len() * hidden);
    for (row, &token) in ws.x.chunks_exact_mut(hidden).zip(tokens) {
        let token = token as usize;
        weights.embed.dequantise_rows(token..token + 1, row);
    }
    if let Some(draws) = stack.draws.filter(|_| ws.noise > 0.0) {
        draws.add_noise(ws.noise, &ws.extents, &mut ws.x);
    }
    for index in 0..config.num_layers {
        let slot = if slots == 1 { 0 } else { index };
        std::mem::swap(&mut ws.x, &mut ws.layers[slot].x);
        run_layer(stack, index, slot, caches.as_deref_mut().map(|caches| &mut caches[index]), ws);
        if keep && ws.checkpointing {
            std::mem::swap(&mut ws.layers[slot].x, &mut ws.inputs[index]);
        }
    }
    let rows = ws.x.len() / hidden;
    fit(&mut ws.rstd, rows);
    let out = fit(&mut ws.hidden, rows * hidden);
    norm::forward(ws.threads, &ws.x, &weights.final_norm, config.rms_norm_eps, out, &mut ws.rstd);
}

/// One layer, from `ws.layers[slot].x` to `ws.x`.
fn run_layer<T: Real>(
    stack: &Stack<'_, T>,
    index: usize,
    slot: usize,
    cache: Option<&mut LayerCache<T>>,
    ws: &mut Workspace<T>,
) {
    let Model { config, weights } = stack.model;
    let mut pass = LayerPass { stack, index, layer: &weights.layers[index], config, threads: ws.threads };
    pass.attention(ws, slot, cache);
    pass.mlp(ws, slot, index + 1 == config.num_layers);
}

/// Computes a layer once more from its kept input, for its backward pass; the place of its activations.
/// Without checkpointing they are still there.
pub(crate) fn again<T: Real>(stack: &Stack<'_, T>, index: usize, ws: &mut Workspace<T>) -> usize {
    if !ws.checkpointing {
        return index;
    }
    std::mem::swap(&mut ws.layers[0].x, &mut ws.inputs[index]);
    run_layer(stack, index, 0, None, ws);
    0
}

/// Why a forward pass gave something that is not finite: the first layer whose residual is not.
pub(crate) fn non_finite<T: Real>(ws: &Workspace<T>, purpose: Purpose) -> ModelError {
    let named = |index: usize| match index {
        0 => "the embedding".to_owned(),
        _ => format!("the output of layer {}", index - 1),
    };
    let checkpointed = purpose == Purpose::Train && ws.checkpointing;
    if let Some(index) = ws.inputs.iter().position(|x| checkpointed && !all_finite(x)) {
        return ModelError::non_finite(named(index));
    }
    let kept = if purpose == Purpose::Train && !checkpointed { ws.layers.as_slice() } else { &[] };
    for (index, layer) in kept.iter().enumerate() {
        if !all_finite(&layer.x) {
            return ModelError::non_finite(named(index));
        }
        if !all_finite(&layer.mid) {
            return ModelError::non_finite(format!("the attention output of layer {index}"));
        }
    }
    let place = if all_finite(&ws.x) { "the loss" } else { "the output of the last layer" };
    ModelError::non_finite(place.to_owned())
}

/// As [`non_finite`], for callers that check a value first.
pub(crate) fn checked<T: Real>(nll: f64, ws: &Workspace<T>, purpose: Purpose) -> Result<f64> {
    if nll.is_finite() { Ok(nll) } else { Err(non_finite(ws, purpose)) }
}

struct LayerPass<'a, T> {
    stack: &'a Stack<'a, T>,
    index: usize,
    layer: &'a LayerWeights<T>,
    config: &'a ModelConfig,
    threads: Threads,
}

impl<'a, T: Real> LayerPass<'a, T> {
    /// From `acts.x` to `acts.o`.
    fn attention(&mut self, ws: &mut Workspace<T>, slot: usize, cache: Option<&mut LayerCache<T>>) {
        let (config, threads) = (self.config, self.threads);
        let Workspace { layers, scratch, positions, blocks, rope, .. } = ws;
        let acts = &mut layers[slot];
        let rows = positions.len();
        let h = fit(&mut scratch.h, rows * config.hidden_size);
        fit(&mut acts.rstd_input, rows);
        norm::forward(threads, &acts.x, &self.layer.input_norm, config.rms_norm_eps, h, &mut acts.rstd_input);
        let LayerActs { q, k, v, q_raw, k_raw, kept, .. } = &mut *acts;
        let (q, k) = if config.qk_norm { (q_raw, k_raw) } else { (q, k) };
        let of = |target: Target| rows * target.shape(config).0;
        let [kept_q, kept_k, kept_v, ..] = kept;
        let projections = [
            self.projection(Target::Q, fit(q, of(Target::Q)), Store::Replace, kept_q),
            self.projection(Target::K, fit(k, of(Target::K)), Store::Replace, kept_k),
            self.projection(Target::V, fit(v, of(Target::V)), Store::Replace, kept_v),
        ];
        linear::forward(threads, h, projections, &mut scratch.linear);
        let rope = rope.as_ref().expect("rope is laid out before a pass");
        self.normalise_heads(acts, rows);
        rope.rotate(threads, Turn::Forward, positions, config.num_heads, &mut acts.q);
        rope.rotate(threads, Turn::Forward, positions, config.num_kv_heads, &mut acts.k);
        fit(&mut acts.o, rows * config.q_width());
        fit(&mut acts.lse, rows * config.num_heads);
        let [k, v] = match cache {
            None => [acts.k.as_slice(), acts.v.as_slice()],
            Some(cache) => cache.append(positions[0], &acts.k, &acts.v),
        };
        let heads = self.stack.heads(self.index);
        let (o, lse) = (&mut acts.o, &mut acts.lse);
        let watch = timing::watch(Part::Attention);
        attention::forward(threads, heads, blocks, [&acts.q, k, v], o, lse, &mut scratch.attention);
        drop(watch);
    }

    /// RMSNorm of each head of q and k, where the model has it.
    fn normalise_heads(&self, acts: &mut LayerActs<T>, rows: usize) {
        let (config, eps) = (self.config, self.config.rms_norm_eps);
        if let Some(w) = &self.layer.q_norm {
            fit(&mut acts.q, acts.q_raw.len());
            fit(&mut acts.rstd_q, rows * config.num_heads);
            norm::forward(self.threads, &acts.q_raw, w, eps, &mut acts.q, &mut acts.rstd_q);
        }
        if let Some(w) = &self.layer.k_norm {
            fit(&mut acts.k, acts.k_raw.len());
            fit(&mut acts.rstd_k, rows * config.num_kv_heads);
            norm::forward(self.threads, &acts.k_raw, w, eps, &mut acts.k, &mut acts.rstd_k);
        }
    }

    /// From `acts.x` and `acts.o` to `ws.x`. In the last layer only the wanted rows go on.
    fn mlp(&mut self, ws: &mut Workspace<T>, slot: usize, last: bool) {
        let (config, threads) = (self.config, self.threads);
        let Workspace { layers, scratch, rows: wanted, x, .. } = ws;
        let acts = &mut layers[slot];
        let hidden = config.hidden_size;
        let o = if last {
            gather(&acts.x, wanted, hidden, &mut acts.mid);
            gather(&acts.o, wanted, config.q_width(), &mut scratch.o_rows);
            &scratch.o_rows
        } else {
            copy_into(&mut acts.mid, &acts.x);
            &acts.o
        };
        let rows = acts.mid.len() / hidden;
        let LayerActs { mid, rstd_post, gate, up, kept, .. } = acts;
        let [.., kept_o, kept_gate, kept_up, kept_down] = kept;
        let linear = &mut scratch.linear;
        linear::forward(threads, o, [self.projection(Target::O, mid, Store::Add, kept_o)], linear);
        let h = fit(&mut scratch.h, rows * hidden);
        fit(rstd_post, rows);
        norm::forward(threads, mid, &self.layer.post_norm, config.rms_norm_eps, h, rstd_post);
        let inner = rows * config.intermediate_size;
        let projections = [
            self.projection(Target::Gate, fit(gate, inner), Store::Replace, kept_gate),
            self.projection(Target::Up, fit(up, inner), Store::Replace, kept_up),
        ];
        linear::forward(threads, h, projections, linear);
        let act = fit(&mut scratch.act, inner);
        swiglu::forward(threads, gate, up, act);
        copy_into(x, mid);
        linear::forward(threads, act, [self.projection(Target::Down, x, Store::Add, kept_down)], linear);
    }

    fn projection<'b>(
        &self,
        target: Target,
        y: &'b mut [T],
        store: Store,
        kept: &'b mut Kept<T>,
    ) -> Projection<'b, T>
    where
        'a: 'b,
    {
        let lora = self.stack.lora(self.index, target);
        Projection { linear: self.layer.linear(target), lora, y, store, kept }
    }
}

/// out := the given rows of x.
pub(crate) fn gather<T: Real>(x: &[T], rows: &[usize], width: usize, out: &mut Vec<T>) {
    out.clear();
    for &row in rows {
        out.extend_from_slice(&x[row * width..(row + 1) * width]);
    }
}
