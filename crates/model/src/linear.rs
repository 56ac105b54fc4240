//! A linear layer with LoRA beside it, forward and backward.
//!
//! y = x Wᵀ + b + s u Bᵀ with u = x Aᵀ. Backward, for dy:
//! dB += s dyᵀ u; du = s dy B; dA += duᵀ x; dx = dy W + du A; dW += dyᵀ x; db += column sums of dy.
//! Which of these are computed is decided by which gradients are asked for: LoRA training is full
//! training with dW off. Dropout, if any, acts on the input of A only, with a mask that is computed
//! from counters ([`crate::draws`]), so the backward pass finds the same one. DoRA scales each output: see [`crate::dora`].
//! Under DoRA dropout acts on W as well, in what the scaling adds (as PEFT has it):
//! y = x Wᵀ + b + g * (x' Wᵀ + s u Bᵀ) - x' Wᵀ with x' the dropped x and g = m / n.

use crate::dora;
use crate::draws::Dropout;
use crate::grads::LoraGrad;
use crate::lora::LoraModule;
use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::packed::{self, Product};
use crate::params::Linear;
use crate::real::Real;
use crate::threads::Threads;
use crate::timing::{self, Part};
use crate::workspace::fit;

/// LoRA of one layer in one pass: the factors, and dropout while training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoraUse<'a, T> {
    pub(crate) module: &'a LoraModule<T>,
    pub(crate) dropout: Option<Dropout<'a>>,
}

/// What a module keeps for its backward pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept<T> {
    /// x Aᵀ, `[rows, rank]`.
    pub(crate) u: Vec<T>,
    /// DoRA: x Wᵀ + s u Bᵀ before it is scaled, `[rows, out]`.
    pub(crate) raw: Vec<T>,
}

/// One of the layers that read the same input: y (+)= linear(x).
#[derive(Debug)]
pub(crate) struct Projection<'a, T> {
    pub(crate) linear: &'a Linear<T>,
    pub(crate) lora: Option<LoraUse<'a, T>>,
    pub(crate) y: &'a mut [T],
    pub(crate) store: Store,
    pub(crate) kept: &'a mut Kept<T>,
}

/// Computes each of the projections of one x. The rows are `x.len() / in_features`.
pub(crate) fn forward<T: Real, const N: usize>(
    threads: Threads,
    x: &[T],
    mut projections: [Projection<'_, T>; N],
    scratch: &mut LinearScratch<T>,
) {
    let watch = timing::watch(Part::Linear);
    let mut plain = Vec::with_capacity(N);
    for Projection { linear, lora, y, store, .. } in &mut projections {
        if has_plain_product(*lora) {
            plain.push(Product { weight: &linear.weight, y, store: *store });
        }
    }
    if let Some(Product { weight, .. }) = plain.first() {
        let input = weight.cols();
        let x = Mat::new(x, x.len() / input, input);
        packed::times_transposed_each(threads, x, &mut plain, &mut scratch.panel);
    }
    drop(watch);
    for projection in projections {
        add_rest(threads, projection, x, scratch);
    }
}

/// Whether y (+)= x Wᵀ is computed by itself. With DoRA and no dropout it comes with the rest.
fn has_plain_product<T>(lora: Option<LoraUse<'_, T>>) -> bool {
    lora.is_none_or(|lora| lora.module.dora.is_none() || lora.dropout.is_some())
}

/// What a projection adds to its plain product: LoRA and the bias.
fn add_rest<T: Real>(
    threads: Threads,
    projection: Projection<'_, T>,
    x: &[T],
    scratch: &mut LinearScratch<T>,
) {
    let Projection { linear, lora, y, store, kept } = projection;
    let (out, input) = (linear.out_features(), linear.in_features());
    let rows = x.len() / input;
    if let Some(LoraUse { module, dropout }) = lora {
        let LinearScratch { dropped, panel, gain, .. } = scratch;
        let x = match dropout {
            None => x,
            Some(dropout) => {
                dropout.apply(x, dropped);
                dropped
            }
        };
        let x = Mat::new(x, rows, input);
        match &module.dora {
            None => add_product(threads, module, x, y, &mut kept.u),
            Some(dora) => {
                let raw = fit(&mut kept.raw, rows * out);
                let watch = timing::watch(Part::Linear);
                packed::times_transposed(threads, (&mut *raw, Store::Replace), x, &linear.weight, panel);
                drop(watch);
                let plain = has_plain_product(lora);
                if plain {
                    dora::subtract(y, raw);
                }
                add_product(threads, module, x, raw, &mut kept.u);
                dora.gain(gain);
                dora::scale_rows(threads, raw, gain, (&mut *y, if plain { Store::Add } else { store }));
            }
        }
    }
    if let Some(bias) = &linear.bias {
        threads.rows(rows, [(y, out)], &|_, [y]| {
            for y in y.chunks_exact_mut(out) {
                crate::simd::add(y, bias);
            }
        });
    }
}

/// u := x Aᵀ, y += s u Bᵀ.
fn add_product<T: Real>(
    threads: Threads,
    module: &LoraModule<T>,
    x: Mat<'_, T>,
    y: &mut [T],
    u: &mut Vec<T>,
) {
    let _watch = timing::watch(Part::Lora);
    let (out, input, rank) = (module.out_features(), module.in_features(), module.rank);
    let rows = y.len() / out;
    let (a, b) = (Mat::new(&module.a, rank, input), Mat::new(&module.b, out, rank));
    matmul(threads, MatMut::new(fit(u, rows * rank), rank), Store::Replace, T::ONE, x, a.t());
    matmul(threads, MatMut::new(y, out), Store::Add, module.scale, Mat::new(u, rows, rank), b.t());
}

/// What the backward pass of one linear layer reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a, T> {
    pub(crate) linear: &'a Linear<T>,
    pub(crate) lora: Option<LoraUse<'a, T>>,
    /// Gradient of the output, `[rows, out]`.
    pub(crate) dy: &'a [T],
}

/// Memory that is used again from call to call.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinearScratch<T> {
    /// s g dy B of the layer at hand, `[rows, rank]` (g = 1 without DoRA).
    du: Vec<T>,
    du_a: Vec<T>,
    dropped: Vec<T>,
    /// Rows of a packed weight, made dense; also lent to the head.
    pub(crate) panel: Vec<T>,
    /// DoRA's g, `[out]`.
    gain: Vec<T>,
    /// DoRA: g dy, `[rows, out]`.
    scaled: Vec<T>,
}

#[cfg(test)]
impl LinearScratch<f32> {
    /// Numbers held.
    pub(crate) fn numbers(&self) -> usize {
        let Self { du, du_a, dropped, panel, gain, scaled } = self;
        [du, du_a, dropped, panel, gain, scaled].iter().map(|buffer| buffer.capacity()).sum()
    }
}

/// First step: du = s g dy B, which the two other steps read from `scratch`.
pub(crate) fn start<T: Real>(threads: Threads, seen: Seen<'_, T>, scratch: &mut LinearScratch<T>) {
    let Seen { linear, lora, dy } = seen;
    let Some(LoraUse { module, .. }) = lora else { return };
    let _watch = timing::watch(Part::Lora);
    let (out, rank) = (linear.out_features(), module.rank);
    let rows = dy.len() / out;
    let LinearScratch { du, gain, scaled, .. } = scratch;
    let dy = match &module.dora {
        None => dy,
        Some(dora) => {
            dora.gain(gain);
            dora::scale_rows(threads, dy, gain, (fit(scaled, dy.len()), Store::Replace));
            scaled
        }
    };
    let (dy, b) = (Mat::new(dy, rows, out), Mat::new(&module.b, out, rank));
    matmul(threads, MatMut::new(fit(du, rows * rank), rank), Store::Replace, module.scale, dy, b);
}

/// dx (+)= dy W + du A; under DoRA g dy W + du A.
pub(crate) fn input_gradient<T: Real>(
    threads: Threads,
    seen: Seen<'_, T>,
    store: Store,
    dx: &mut [T],
    scratch: &mut LinearScratch<T>,
) {
    let Seen { linear, lora, dy } = seen;
    let (out, input) = (linear.out_features(), linear.in_features());
    let rows = dy.len() / out;
    let LinearScratch { du, du_a, dropped, panel, scaled, .. } = scratch;
    let dropout = lora.and_then(|lora| lora.dropout);
    let dora = lora.is_some_and(|lora| lora.module.dora.is_some());
    let through = if dora && dropout.is_none() { scaled.as_slice() } else { dy };
    let watch = timing::watch(Part::Linear);
    packed::times(threads, (&mut *dx, store), through, &linear.weight, panel);
    drop(watch);
    let Some(LoraUse { module, .. }) = lora else { return };
    let _watch = timing::watch(Part::Lora);
    let (du, a) = (Mat::new(du, rows, module.rank), Mat::new(&module.a, module.rank, input));
    let Some(dropout) = dropout else {
        return matmul(threads, MatMut::new(dx, input), Store::Add, T::ONE, du, a);
    };
    // What came through the dropped x: (g dy - dy) W under DoRA, and du A.
    fit(du_a, rows * input);
    let mut store = Store::Replace;
    if dora {
        dora::subtract(scaled, dy);
        packed::times(threads, (&mut *du_a, store), scaled, &linear.weight, panel);
        store = Store::Add;
    }
    matmul(threads, MatMut::new(du_a, input), store, T::ONE, du, a);
    dropout.apply(du_a, dropped);
    crate::simd::add(dx, dropped);
}

/// Adds dW and db, dA and dB (and DoRA's dm) to those gradients that are given. `x` is the layer's input,
/// `kept` what its forward pass kept.
pub(crate) fn parameter_gradients<T: Real>(
    threads: Threads,
    seen: Seen<'_, T>,
    (x, kept): (&[T], &Kept<T>),
    weight_grad: Option<&mut Linear<T>>,
    lora_grad: Option<&mut LoraGrad<T>>,
    scratch: &mut LinearScratch<T>,
) {
    let Seen { linear, lora, dy } = seen;
    let (out, input) = (linear.out_features(), linear.in_features());
    let rows = dy.len() / out;
    if let Some(grad) = weight_grad {
        let into = MatMut::new(grad.weight.dense_mut().expect("gradients are dense"), input);
        matmul(threads, into, Store::Add, T::ONE, Mat::new(dy, rows, out).t(), Mat::new(x, rows, input));
        if let Some(bias) = &mut grad.bias {
            dy.chunks_exact(out).for_each(|dy| crate::simd::add(bias, dy));
        }
    }
    let (Some(LoraUse { module, dropout }), Some(grad)) = (lora, lora_grad) else { return };
    let _watch = timing::watch(Part::Lora);
    let (rank, LinearScratch { du, du_a, dropped, gain, .. }) = (module.rank, scratch);
    let x = match dropout {
        None => x,
        Some(dropout) => {
            dropout.apply(x, dropped);
            dropped
        }
    };
    // dB = s (g dy)ᵀ u: g goes over the small side, the product.
    let u = Mat::new(&kept.u, rows, rank);
    let dy_t = Mat::new(dy, rows, out).t();
    match &module.dora {
        None => matmul(threads, MatMut::new(&mut grad.b, rank), Store::Add, module.scale, dy_t, u),
        Some(dora) => {
            dora::magnitude_gradient(dy, &kept.raw, &dora.norms, &mut grad.magnitude);
            let product = fit(du_a, out * rank);
            matmul(threads, MatMut::new(product, rank), Store::Replace, module.scale, dy_t, u);
            for ((into, product), &gain) in
                grad.b.chunks_exact_mut(rank).zip(product.chunks_exact(rank)).zip(&*gain)
            {
                into.iter_mut().zip(product).for_each(|(into, &product)| *into += gain * product);
            }
        }
    }
    let (du_t, x) = (Mat::new(du, rows, rank).t(), Mat::new(x, rows, input));
    matmul(threads, MatMut::new(&mut grad.a, input), Store::Add, T::ONE, du_t, x);
}
