//! The backward pass, written by hand: from the last layer down to the lowest one that has anything
//! to train. LoRA training and full training are this one function; what is frozen is left out.

use crate::attention;
use crate::config::ModelConfig;
use crate::forward::{self, Stack, gather};
use crate::grads::Grads;
use crate::linear::{self, Kept, Seen};
use crate::lora::Target;
use crate::matmul::Store;
use crate::norm;
use crate::params::LayerWeights;
use crate::real::Real;
use crate::rope::Turn;
use crate::swiglu;
use crate::threads::Threads;
use crate::timing::{self, Part};
use crate::workspace::{LayerActs, Scratch, Workspace, fit};

/// Adds to `grads` what follows from the gradient of the final norm's output, `[rows, hidden]` in
/// `ws.scratch.dh`. Must follow a training forward pass of the same tokens on the same workspace.
pub(crate) fn backward<T: Real>(
    stack: &Stack<'_, T>,
    tokens: &[u32],
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) {
    let weights = &stack.model.weights;
    let lowest = match &grads.weights {
        Some(_) => 0,
        None => grads.lora.keys().map(|(layer, _)| *layer).min().unwrap_or(usize::MAX),
    };
    let Scratch { dh, dx_rows, .. } = &mut ws.scratch;
    if let Some(grads) = &mut grads.weights {
        norm::weight_gradient(dh, &ws.x, &ws.rstd, &mut grads.final_norm);
    }
    fit(dx_rows, dh.len()).fill(T::ZERO);
    norm::backward(ws.threads, dh, &ws.x, &weights.final_norm, &ws.rstd, dx_rows);
    for (index, layer) in weights.layers.iter().enumerate().skip(lowest).rev() {
        let (config, threads) = (&stack.model.config, ws.threads);
        let slot = forward::again(stack, index, ws);
        let mut pass = LayerBack { stack, index, slot, layer, config, threads, grads: &mut *grads };
        pass.mlp(ws);
        if index > lowest || pass.trains([Target::Q, Target::K, Target::V]) {
            pass.attention(ws, index > lowest || pass.grads.weights.is_some());
        }
    }
    if let Some(grads) = &mut grads.weights {
        let hidden = stack.model.config.hidden_size;
        let embed = grads.embed.dense_mut().expect("gradients are dense");
        for (dx, &token) in ws.scratch.dx.chunks_exact(hidden).zip(tokens) {
            crate::simd::add(&mut embed[token as usize * hidden..][..hidden], dx);
        }
    }
}

struct LayerBack<'a, 'g, T> {
    stack: &'a Stack<'a, T>,
    index: usize,
    /// Where its activations are.
    slot: usize,
    layer: &'a LayerWeights<T>,
    config: &'a ModelConfig,
    threads: Threads,
    grads: &'g mut Grads<T>,
}

impl<'a, T: Real> LayerBack<'a, '_, T> {
    /// Whether any of these projections has a gradient to compute.
    fn trains<const N: usize>(&self, targets: [Target; N]) -> bool {
        let lora = |target| self.grads.lora.contains_key(&(self.index, target));
        self.grads.weights.is_some() || targets.into_iter().any(lora)
    }

    fn last(&self) -> bool {
        self.index + 1 == self.config.num_layers
    }

    /// From the gradient of the layer's output to that of the residual before its MLP (in place) and
    /// that of the attention output (`scratch.d_o`, all rows). Leaves the residual's in `scratch.dx`.
    fn mlp(&mut self, ws: &mut Workspace<T>) {
        let (config, threads, last) = (self.config, self.threads, self.last());
        let (width, hidden) = (config.q_width(), config.hidden_size);
        let Workspace { layers, scratch, rows: wanted, positions, .. } = ws;
        let acts = &mut layers[self.slot];
        let mut dx = std::mem::take(if last { &mut scratch.dx_rows } else { &mut scratch.dx });
        let LayerActs { mid, rstd_post, gate, up, o, kept, .. } = acts;

        let Scratch { act, h, dh, d_o, o_rows, linear, .. } = scratch;
        let down = self.seen(Target::Down, &dx);
        linear::start(threads, down, linear);
        linear::input_gradient(threads, down, Store::Replace, fit(act, gate.len()), linear);
        swiglu::backward(threads, gate, up, act);
        self.parameters(Target::Down, &dx, act, &kept[Target::Down as usize], linear);

        if self.trains([Target::Gate, Target::Up]) {
            norm::again(threads, mid, &self.layer.post_norm, rstd_post, fit(h, mid.len()));
        }
        fit(dh, mid.len());
        for (target, dy, store) in [(Target::Gate, &*gate, Store::Replace), (Target::Up, &*up, Store::Add)] {
            linear::start(threads, self.seen(target, dy), linear);
            linear::input_gradient(threads, self.seen(target, dy), store, dh, linear);
            self.parameters(target, dy, h, &kept[target as usize], linear);
        }
        if let Some(grads) = &mut self.grads.weights {
            norm::weight_gradient(dh, mid, rstd_post, &mut grads.layers[self.index].post_norm);
        }
        norm::backward(threads, dh, mid, &self.layer.post_norm, rstd_post, &mut dx);

        let rows = dx.len() / hidden;
        let seen = self.seen(Target::O, &dx);
        linear::start(threads, seen, linear);
        linear::input_gradient(threads, seen, Store::Replace, fit(d_o, rows * width), linear);
        let o: &[T] = if last {
            gather(o, wanted, width, o_rows);
            o_rows
        } else {
            o
        };
        self.parameters(Target::O, &dx, o, &kept[Target::O as usize], linear);
        if !last {
            scratch.dx = dx;
            return;
        }
        std::mem::swap(d_o, o_rows);
        scatter(o_rows, wanted, width, fit(d_o, positions.len() * width));
        scatter(&dx, wanted, hidden, fit(&mut scratch.dx, positions.len() * hidden));
        scratch.dx_rows = dx;
    }

    /// From `scratch.d_o` to the gradients of q, k and v, and, if `deeper`, to that of the layer's input.
    fn attention(&mut self, ws: &mut Workspace<T>, deeper: bool) {
        let (config, threads) = (self.config, self.threads);
        let Workspace { layers, scratch, blocks, .. } = ws;
        let acts = &mut layers[self.slot];
        let Scratch { h, dx, dh, dq, dk, dv, d_o, attention, linear, .. } = scratch;
        let LayerActs { x, rstd_input, q, k, v, o, lse, kept, .. } = &*acts;
        let out = [fit(dq, q.len()), fit(dk, k.len()), fit(dv, v.len())];
        let heads = self.stack.heads(self.index);
        let watch = timing::watch(Part::Attention);
        attention::backward(threads, heads, blocks, [q, k, v, o, lse, d_o], out, attention);
        drop(watch);
        let rope = ws.rope.as_ref().expect("rope is laid out before a pass");
        rope.rotate(threads, Turn::Back, &ws.positions, config.num_heads, dq);
        rope.rotate(threads, Turn::Back, &ws.positions, config.num_kv_heads, dk);
        self.head_norms(acts, dq, dk);

        if self.trains([Target::Q, Target::K, Target::V]) {
            norm::again(threads, x, &self.layer.input_norm, rstd_input, fit(h, x.len()));
        }
        fit(dh, x.len());
        let projections =
            [(Target::Q, &*dq, Store::Replace), (Target::K, &*dk, Store::Add), (Target::V, &*dv, Store::Add)];
        for (target, dy, store) in projections {
            linear::start(threads, self.seen(target, dy), linear);
            if deeper {
                linear::input_gradient(threads, self.seen(target, dy), store, dh, linear);
            }
            self.parameters(target, dy, h, &kept[target as usize], linear);
        }
        if !deeper {
            return;
        }
        if let Some(grads) = &mut self.grads.weights {
            norm::weight_gradient(dh, x, rstd_input, &mut grads.layers[self.index].input_norm);
        }
        norm::backward(threads, dh, x, &self.layer.input_norm, rstd_input, dx);
    }

    /// Back through the per-head norms of q and k, where the model has them.
    fn head_norms(&mut self, acts: &LayerActs<T>, dq: &mut [T], dk: &mut [T]) {
        let mut grads = self.grads.weights.as_mut().map(|weights| &mut weights.layers[self.index]);
        if let Some(w) = &self.layer.q_norm {
            if let Some(dw) = grads.as_mut().and_then(|grads| grads.q_norm.as_mut()) {
                norm::weight_gradient(dq, &acts.q_raw, &acts.rstd_q, dw);
            }
            norm::backward_in_place(dq, &acts.q_raw, w, &acts.rstd_q);
        }
        if let Some(w) = &self.layer.k_norm {
            if let Some(dw) = grads.as_mut().and_then(|grads| grads.k_norm.as_mut()) {
                norm::weight_gradient(dk, &acts.k_raw, &acts.rstd_k, dw);
            }
            norm::backward_in_place(dk, &acts.k_raw, w, &acts.rstd_k);
        }
    }

    fn seen<'b>(&self, target: Target, dy: &'b [T]) -> Seen<'b, T>
    where
        'a: 'b,
    {
        Seen { linear: self.layer.linear(target), lora: self.stack.lora(self.index, target), dy }
    }

    /// Gradients of one projection's own numbers, as far as they are trained.
    fn parameters(
        &mut self,
        target: Target,
        dy: &[T],
        x: &[T],
        kept: &Kept<T>,
        scratch: &mut linear::LinearScratch<T>,
    ) {
        let seen = self.seen(target, dy);
        let weights =
            self.grads.weights.as_mut().map(|weights| weights.layers[self.index].linear_mut(target));
        let lora = self.grads.lora.get_mut(&(self.index, target));
        linear::parameter_gradients(self.threads, seen, (x, kept), weights, lora, scratch);
    }
}

/// out := zero, but for the given rows, which are those of x.
fn scatter<T: Real>(x: &[T], rows: &[usize], width: usize, out: &mut [T]) {
    out.fill(T::ZERO);
    for (x, &row) in x.chunks_exact(width).zip(rows) {
        out[row * width..(row + 1) * width].copy_from_slice(x);
    }
}
