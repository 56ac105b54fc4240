//! Weight-decomposed LoRA (DoRA, Liu et al. 2024, arXiv 2402.09353, equation 5), as PEFT computes it:
//! y = m / n * (x Wᵀ + s u Bᵀ) + b, where m is trained and n, the L2 norms of the rows of W + s B A, is
//! a constant in the backward pass (section 4.3 of the paper).
//!
//! The norms change only when A or B do, so they are kept with the module and decoding never computes
//! them: [`Adapter::prepare`] does, and whatever hands the numbers out to be changed forgets them.

use crate::lora::{Adapter, LoraModule};
use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::params::Model;
use crate::real::Real;
use crate::simd::{Kernel, sum2, vectorised};
use crate::threads::Threads;
use crate::weight::Weight;
use crate::workspace::fit;

/// Rows of W + s B A that exist at once.
const ROWS: usize = 256;

/// What DoRA adds to a LoRA module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dora<T = f32> {
    /// m, `[out]`; empty in a fresh adapter until [`Adapter::prepare`] sets it to the norms.
    pub magnitude: Vec<T>,
    /// n, `[out]`; empty while they are not known.
    pub(crate) norms: Vec<T>,
}

impl<T: Real> Adapter<T> {
    /// Computes what passes over `model` need of a DoRA adapter besides its own numbers: the norms that
    /// are not known, and in a fresh adapter the magnitudes, which become the norms. Nothing to do for
    /// plain LoRA. Needed after loading, and after every optimiser step.
    pub fn prepare(&mut self, model: &Model<T>, threads: Threads) {
        T::prepare(self, model, threads);
    }

    /// Forgets the norms: A or B may have changed.
    pub(crate) fn forget_norms(&mut self) {
        self.modules
            .values_mut()
            .filter_map(|module| module.dora.as_mut())
            .for_each(|dora| dora.norms.clear());
    }
}

/// The work of [`Adapter::prepare`].
pub(crate) fn prepare<T: Real>(adapter: &mut Adapter<T>, model: &Model<T>, threads: Threads) {
    let mut rows = Vec::new();
    for ((layer, target), module) in &mut adapter.modules {
        if !module.dora.as_ref().is_some_and(|dora| dora.norms.is_empty()) {
            continue;
        }
        let Some(layer) = model.weights.layers.get(*layer) else { continue };
        let weight = &layer.linear(*target).weight;
        // A module of another shape is refused by the pass, which says so.
        if (weight.rows(), weight.cols()) != (module.out_features(), module.in_features()) {
            continue;
        }
        let norms = norms(module, weight, threads, &mut rows);
        let dora = module.dora.get_or_insert_default();
        if dora.magnitude.is_empty() {
            dora.magnitude.clone_from(&norms);
        }
        dora.norms = norms;
    }
}

/// L2 norm of each row of W + s B A.
fn norms<T: Real>(module: &LoraModule<T>, weight: &Weight<T>, threads: Threads, rows: &mut Vec<T>) -> Vec<T> {
    let (out, input, rank) = (weight.rows(), weight.cols(), module.rank);
    let mut norms = vec![T::ZERO; out];
    let a = Mat::new(&module.a, rank, input);
    for (first, norms) in (0..out).step_by(ROWS).zip(norms.chunks_mut(ROWS)) {
        let count = norms.len();
        let rows = fit(rows, count * input);
        threads.rows(count, [(&mut *rows, input)], &|range, [part]| {
            weight.dequantise_rows(first + range.start..first + range.end, part);
        });
        let b = Mat::new(&module.b[first * rank..][..count * rank], count, rank);
        matmul(threads, MatMut::new(rows, input), Store::Add, module.scale, b, a);
        threads.rows(count, [(norms, 1)], &|range, [norms]| {
            vectorised(Norms, (&rows[range.start * input..range.end * input], norms));
        });
    }
    norms
}

/// L2 norm of one row.
pub(crate) fn norm<T: Real>(row: &[T]) -> T {
    let mut norm = [T::ZERO];
    vectorised(Norms, (row, &mut norm));
    norm[0]
}

struct Norms;

impl<T: Real> Kernel<(&[T], &mut [T])> for Norms {
    type Output = ();

    #[inline(always)]
    fn run((rows, norms): (&[T], &mut [T])) {
        let width = rows.len() / norms.len();
        for (row, norm) in rows.chunks_exact(width).zip(norms) {
            *norm = sum2(row, row, |a, b| a * b).sqrt();
        }
    }
}

impl<T: Real> Dora<T> {
    /// gain := m / n.
    pub(crate) fn gain(&self, gain: &mut Vec<T>) {
        gain.clear();
        gain.extend(self.magnitude.iter().zip(&self.norms).map(|(&m, &n)| m / n));
    }
}

/// y (+)= gain * x in every row.
pub(crate) fn scale_rows<T: Real>(threads: Threads, x: &[T], gain: &[T], (y, store): (&mut [T], Store)) {
    let width = gain.len();
    threads.rows(x.len() / width, [(y, width)], &|range, [y]| {
        vectorised(ScaleRows, (&x[range.start * width..range.end * width], gain, y, store == Store::Add));
    });
}

struct ScaleRows;

impl<T: Real> Kernel<(&[T], &[T], &mut [T], bool)> for ScaleRows {
    type Output = ();

    #[inline(always)]
    fn run((x, gain, y, add): (&[T], &[T], &mut [T], bool)) {
        for (x, y) in x.chunks_exact(gain.len()).zip(y.chunks_exact_mut(gain.len())) {
            for ((&x, &gain), y) in x.iter().zip(gain).zip(y) {
                *y = if add { *y + gain * x } else { gain * x };
            }
        }
    }
}

/// y -= x.
pub(crate) fn subtract<T: Real>(y: &mut [T], x: &[T]) {
    vectorised(Subtract, (y, x));
}

struct Subtract;

impl<T: Real> Kernel<(&mut [T], &[T])> for Subtract {
    type Output = ();

    #[inline(always)]
    fn run((y, x): (&mut [T], &[T])) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y -= x;
        }
    }
}

/// dm += column sums of dy * raw, divided by n.
pub(crate) fn magnitude_gradient<T: Real>(dy: &[T], raw: &[T], norms: &[T], gradient: &mut [T]) {
    vectorised(MagnitudeGradient, (dy, raw, norms, gradient));
}

struct MagnitudeGradient;

impl<T: Real> Kernel<(&[T], &[T], &[T], &mut [T])> for MagnitudeGradient {
    type Output = ();

    #[inline(always)]
    fn run((dy, raw, norms, gradient): (&[T], &[T], &[T], &mut [T])) {
        let width = norms.len();
        for (dy, raw) in dy.chunks_exact(width).zip(raw.chunks_exact(width)) {
            for (((g, &dy), &raw), &norm) in gradient.iter_mut().zip(dy).zip(raw).zip(norms) {
                *g += dy * raw / norm;
            }
        }
    }
}

#[cfg(test)]
mod tests;
