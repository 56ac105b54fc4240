//! A linear layer with LoRA beside it, forward and backward.
//!
//! y = x Wᵀ + b + s u Bᵀ with u = x Aᵀ. Backward, for dy:
//! dB += s dyᵀ u; du = s dy B; dA += duᵀ x; dx = dy W + du A; dW += dyᵀ x; db += column sums of dy.
//! Which of these are computed is decided by which gradients are asked for: LoRA training is full
//! training with dW off. Dropout, if any, acts on the input of A only, with a mask that is computed
//! from a counter, so the backward pass finds the same one.

use crate::grads::LoraGrad;
use crate::lora::LoraModule;
use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::packed;
use crate::params::Linear;
use crate::real::Real;
use crate::simd::{Kernel, vectorised};
use crate::threads::Threads;

/// Dropout of one module in one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// Probability of dropping an element.
    pub(crate) rate: f32,
    /// Different for each pass, layer and projection.
    pub(crate) key: u64,
}

/// LoRA of one layer in one pass: the factors, and dropout while training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoraUse<'a, T> {
    pub(crate) module: &'a LoraModule<T>,
    pub(crate) dropout: Option<Dropout>,
}

/// y (+)= linear(x). Keeps x Aᵀ in `u`. The rows are `x.len() / in_features`.
pub(crate) fn forward<T: Real>(
    threads: Threads,
    linear: &Linear<T>,
    lora: Option<LoraUse<'_, T>>,
    x: &[T],
    (y, store): (&mut [T], Store),
    u: &mut Vec<T>,
    scratch: &mut LinearScratch<T>,
) {
    let (out, input) = (linear.out_features(), linear.in_features());
    let rows = x.len() / input;
    let x_matrix = Mat::new(x, rows, input);
    packed::times_transposed(threads, (&mut *y, store), x_matrix, &linear.weight, &mut scratch.panel);
    if let Some(bias) = &linear.bias {
        threads.rows(rows, [(y, out)], &|_, [y]| {
            for y in y.chunks_exact_mut(out) {
                crate::simd::add(y, bias);
            }
        });
    }
    let Some(LoraUse { module, dropout }) = lora else { return };
    let x_matrix = match dropout {
        None => x_matrix,
        Some(dropout) => {
            drop_elements(dropout, x, &mut scratch.dropped);
            Mat::new(&scratch.dropped, rows, input)
        }
    };
    u.resize(rows * module.rank, T::ZERO);
    let (a, b) = (Mat::new(&module.a, module.rank, input), Mat::new(&module.b, out, module.rank));
    matmul(threads, MatMut::new(u, module.rank), Store::Replace, T::ONE, x_matrix, a.t());
    matmul(threads, MatMut::new(y, out), Store::Add, module.scale, Mat::new(u, rows, module.rank), b.t());
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
    /// s dy B of the layer at hand, `[rows, rank]`.
    du: Vec<T>,
    du_a: Vec<T>,
    dropped: Vec<T>,
    /// Rows of a packed weight, made dense; also lent to the head.
    pub(crate) panel: Vec<T>,
}

#[cfg(test)]
impl LinearScratch<f32> {
    /// Numbers held.
    pub(crate) fn numbers(&self) -> usize {
        let Self { du, du_a, dropped, panel } = self;
        [du, du_a, dropped, panel].iter().map(|buffer| buffer.capacity()).sum()
    }
}

/// First step: du = s dy B, which the two other steps read from `scratch`.
pub(crate) fn start<T: Real>(threads: Threads, seen: Seen<'_, T>, scratch: &mut LinearScratch<T>) {
    let Seen { linear, lora, dy } = seen;
    let Some(LoraUse { module, .. }) = lora else { return };
    let (out, rank) = (linear.out_features(), module.rank);
    let rows = dy.len() / out;
    scratch.du.resize(rows * rank, T::ZERO);
    let (dy, b) = (Mat::new(dy, rows, out), Mat::new(&module.b, out, rank));
    matmul(threads, MatMut::new(&mut scratch.du, rank), Store::Replace, module.scale, dy, b);
}

/// dx (+)= dy W + du A.
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
    packed::times(threads, (&mut *dx, store), dy, &linear.weight, &mut scratch.panel);
    let Some(LoraUse { module, dropout }) = lora else { return };
    let (du, a) = (Mat::new(&scratch.du, rows, module.rank), Mat::new(&module.a, module.rank, input));
    let Some(dropout) = dropout else {
        return matmul(threads, MatMut::new(dx, input), Store::Add, T::ONE, du, a);
    };
    scratch.du_a.resize(rows * input, T::ZERO);
    matmul(threads, MatMut::new(&mut scratch.du_a, input), Store::Replace, T::ONE, du, a);
    drop_elements(dropout, &scratch.du_a, &mut scratch.dropped);
    crate::simd::add(dx, &scratch.dropped);
}

/// Adds dW and db, dA and dB to those gradients that are given. `x` is the layer's input and `u` its
/// x Aᵀ from the forward pass.
pub(crate) fn parameter_gradients<T: Real>(
    threads: Threads,
    seen: Seen<'_, T>,
    [x, u]: [&[T]; 2],
    weight_grad: Option<&mut Linear<T>>,
    lora_grad: Option<&mut LoraGrad<T>>,
    scratch: &mut LinearScratch<T>,
) {
    let Seen { linear, lora, dy } = seen;
    let (out, input) = (linear.out_features(), linear.in_features());
    let rows = dy.len() / out;
    let dy_t = Mat::new(dy, rows, out).t();
    if let Some(grad) = weight_grad {
        let into = MatMut::new(grad.weight.dense_mut().expect("gradients are dense"), input);
        matmul(threads, into, Store::Add, T::ONE, dy_t, Mat::new(x, rows, input));
        if let Some(bias) = &mut grad.bias {
            dy.chunks_exact(out).for_each(|dy| crate::simd::add(bias, dy));
        }
    }
    let (Some(LoraUse { module, dropout }), Some(grad)) = (lora, lora_grad) else { return };
    let rank = module.rank;
    let x = match dropout {
        None => x,
        Some(dropout) => {
            drop_elements(dropout, x, &mut scratch.dropped);
            &scratch.dropped
        }
    };
    let into = MatMut::new(&mut grad.b, rank);
    matmul(threads, into, Store::Add, module.scale, dy_t, Mat::new(u, rows, rank));
    let (du_t, x) = (Mat::new(&scratch.du, rows, rank).t(), Mat::new(x, rows, input));
    matmul(threads, MatMut::new(&mut grad.a, input), Store::Add, T::ONE, du_t, x);
}

/// out := x with elements zeroed at the dropout's rate, the others divided by (1 - rate).
fn drop_elements<T: Real>(dropout: Dropout, x: &[T], out: &mut Vec<T>) {
    out.resize(x.len(), T::ZERO);
    vectorised(DropElements, (dropout, x, out.as_mut_slice()));
}

struct DropElements;

impl<T: Real> Kernel<(Dropout, &[T], &mut [T])> for DropElements {
    type Output = ();

    #[inline(always)]
    fn run((dropout, x, out): (Dropout, &[T], &mut [T])) {
        let keep = T::from_f64(1.0 / (1.0 - f64::from(dropout.rate)));
        let limit = (f64::from(dropout.rate) * 2.0_f64.powi(32)) as u64;
        for (index, (out, &x)) in out.iter_mut().zip(x).enumerate() {
            let hash = mix(dropout.key.wrapping_add(index as u64)) >> 32;
            *out = if hash < limit { T::ZERO } else { x * keep };
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a well-mixed number for each counter.
#[inline(always)]
pub(crate) fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
