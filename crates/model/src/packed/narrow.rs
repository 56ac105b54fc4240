//! bf16 arithmetic: y = x Wᵀ and dx = dy W with W held as bf16 and the activations rounded to bf16.
//!
//! What is promised, on every machine: each result is the sum of the exact products of bf16 numbers,
//! added up in f32, so that |error| <= n u sum |x w| with u = 2^-24 and n the inner dimension, against
//! the sum of the rounded factors (Higham 2002, section 3.1). Rounding is to nearest, ties to even; NaN
//! and infinity go through. Machines differ in the order of the additions, so in the last bits of a
//! result; on one machine the number of threads and of rows changes nothing. Where avx512_bf16 computes,
//! subnormal numbers (below 1.2e-38) count as zero; elsewhere they do not. Four rows of x or fewer are taken
//! as they are, without rounding, by the module above.
//!
//! f64 models, which exist for tests of derivatives, take activations as they are.

use half::bf16;

use super::{panels, panels_transposed};
use crate::matmul::{Mat, MatMut, Side, Store, bf16_product};
use crate::real::Real;
use crate::threads::Threads;
use crate::weight::Weight;

/// y (+)= x Wᵀ; `narrow` are the numbers of `weight`, `panel` scratch.
pub(super) fn times_transposed<T: Real>(
    threads: Threads,
    (y, store): (&mut [T], Store),
    x: Mat<'_, T>,
    (weight, narrow): (&Weight<T>, &[bf16]),
    panel: &mut Vec<T>,
) {
    let into = &mut MatMut::new(&mut *y, weight.rows());
    if !bf16_product(threads, into, store, x, (narrow, weight.cols(), Side::Transposed)) {
        portable_transposed(threads, (y, store), x, weight, panel);
    }
}

/// dx (+)= dy W.
pub(super) fn times<T: Real>(
    threads: Threads,
    (dx, store): (&mut [T], Store),
    dy: &[T],
    (weight, narrow): (&Weight<T>, &[bf16]),
    panel: &mut Vec<T>,
) {
    let into = &mut MatMut::new(&mut *dx, weight.cols());
    let matrix = Mat::new(dy, dy.len() / weight.rows(), weight.rows());
    if !bf16_product(threads, into, store, matrix, (narrow, weight.cols(), Side::Plain)) {
        panels(threads, (dx, store), &matrix.rounded(), weight, panel);
    }
}

/// The way without kernels of ours: x rounded here, W made dense.
fn portable_transposed<T: Real>(
    threads: Threads,
    (y, store): (&mut [T], Store),
    x: Mat<'_, T>,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let rounded = x.rounded();
    let x = Mat::new(&rounded, x.rows(), weight.cols());
    panels_transposed(threads, (y, store), x, weight, panel);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(count: usize, step: f64) -> Vec<f32> {
        (0..count).map(|i| (i as f64 * step + (i as f64 * 0.01).powi(2)).sin() as f32).collect()
    }

    /// `[rows, cols]` sums of products of (row of x, column of w), and the sums of their sizes.
    fn sums(x: &[f32], inner: usize, cols: usize, w: impl Fn(usize, usize) -> f64) -> Vec<[f64; 2]> {
        let rows = x.chunks(inner).flat_map(|x| (0..cols).map(move |col| (x, col)));
        let one = |(x, col): (&[f32], usize)| {
            let terms = x.iter().enumerate().map(|(k, x)| bf16::from_f32(*x).to_f64() * w(k, col));
            terms.fold([0.0, 0.0], |[sum, size], term| [sum + term, size + term.abs()])
        };
        rows.map(one).collect()
    }

    #[test]
    fn native_and_portable_products_keep_the_promised_bound() {
        // The last is more than one panel of the portable way.
        for (rows, out, input) in [(1, 1, 1), (5, 3, 130), (9, 70, 33), (33, 40, 257), (6, 2100, 129)] {
            let narrow: Vec<bf16> = wave(out * input, 1.3).into_iter().map(bf16::from_f32).collect();
            let weight = Weight::<f32>::from_bf16(narrow.clone(), out, input);
            let (x, dy, mut panel) = (wave(rows * input, 0.7), wave(rows * out, 0.9), Vec::new());
            let both = (&weight, narrow.as_slice());
            let x_matrix = Mat::new(&x, rows, input);
            let one = Threads::ONE;
            let mut y = [vec![f32::NAN; rows * out], vec![0.5; rows * out]];
            times_transposed(one, (&mut y[0], Store::Replace), x_matrix, both, &mut panel);
            portable_transposed(one, (&mut y[1], Store::Add), x_matrix, &weight, &mut panel);
            let mut dx = [vec![f32::NAN; rows * input], vec![0.5; rows * input]];
            times(one, (&mut dx[0], Store::Replace), &dy, both, &mut panel);
            let rounded = Mat::new(&dy, rows, out).rounded();
            panels(one, (&mut dx[1], Store::Add), &rounded, &weight, &mut panel);
            let forward = sums(&x, input, out, |k, col| narrow[col * input + k].to_f64());
            let backward = sums(&dy, out, input, |k, col| narrow[k * input + col].to_f64());
            for (results, wanted, inner) in [(y, forward, input), (dx, backward, out)] {
                for (result, before) in results.iter().zip([0.0, 0.5]) {
                    for (got, [sum, size]) in result.iter().zip(&wanted) {
                        let bound = (inner + 4) as f64 * 2.0_f64.powi(-24) * (size + before);
                        let error = (f64::from(*got) - sum - before).abs();
                        assert!(
                            error <= bound,
                            "{rows} x [{out}, {input}]: {got} for {sum}: {error} > {bound}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_goes_through_everywhere() {
        let weight = Weight::<f32>::from_bf16(vec![bf16::ONE; 40 * 8], 40, 8);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 6 * 8];
            x[2 * 8 + 3] = bad;
            let (mut native, mut plain, mut panel) = (vec![0.0; 6 * 40], vec![0.0; 6 * 40], Vec::new());
            let (into, x) = (Store::Replace, Mat::new(&x, 6, 8));
            let narrow = vec![bf16::ONE; 40 * 8];
            times_transposed(Threads::ONE, (&mut native, into), x, (&weight, &narrow), &mut panel);
            portable_transposed(Threads::ONE, (&mut plain, into), x, &weight, &mut panel);
            for (at, (native, plain)) in native.iter().zip(&plain).enumerate() {
                let wanted = if at / 40 == 2 { 7.0 + bad } else { 8.0 };
                assert!(native.total_cmp(&wanted).is_eq() || native.is_nan() && wanted.is_nan(), "{native}");
                assert!(plain.total_cmp(&wanted).is_eq() || plain.is_nan() && wanted.is_nan(), "{plain}");
            }
        }
    }
}
