//! RMSNorm over rows, and its backward (Zhang & Sennrich 2019, arXiv 1910.07467).
//!
//! y = x * rstd * w with rstd = 1 / sqrt(mean(x²) + eps). Rows are `w.len()` wide, so the same code
//! serves the residual stream and the per-head norms of Qwen3.

use crate::real::Real;
use crate::simd::{Kernel, sum2, vectorised};
use crate::threads::Threads;

/// y := norm(x) * w; keeps 1/rms of each row in `rstd` (`[rows]`).
pub(crate) fn forward<T: Real>(threads: Threads, x: &[T], w: &[T], eps: f64, y: &mut [T], rstd: &mut [T]) {
    let width = w.len();
    threads.rows(rstd.len(), [(y, width), (rstd, 1)], &|range, [y, rstd]| {
        vectorised(Forward, (&x[range.start * width..range.end * width], w, T::from_f64(eps), y, rstd));
    });
}

struct Forward;

impl<T: Real> Kernel<(&[T], &[T], T, &mut [T], &mut [T])> for Forward {
    type Output = ();

    #[inline(always)]
    fn run((x, w, eps, y, rstd): (&[T], &[T], T, &mut [T], &mut [T])) {
        let width = w.len();
        let scale = T::from_f64(1.0 / width as f64);
        for ((x, y), rstd) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            *rstd = T::ONE / (sum2(x, x, |a, b| a * b) * scale + eps).sqrt();
            write_row(x, w, *rstd, y);
        }
    }
}

/// y := x * rstd * w, the output of [`forward`] once more.
pub(crate) fn again<T: Real>(threads: Threads, x: &[T], w: &[T], rstd: &[T], y: &mut [T]) {
    let width = w.len();
    threads.rows(rstd.len(), [(y, width)], &|range, [y]| {
        vectorised(Again, (&x[range.start * width..range.end * width], w, &rstd[range], y));
    });
}

struct Again;

impl<T: Real> Kernel<(&[T], &[T], &[T], &mut [T])> for Again {
    type Output = ();

    #[inline(always)]
    fn run((x, w, rstd, y): (&[T], &[T], &[T], &mut [T])) {
        for ((x, y), rstd) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())).zip(rstd) {
            write_row(x, w, *rstd, y);
        }
    }
}

/// Adds to `dx` the gradient that `dy` sends through the norm, row by row:
/// dx += rstd * (g - xh * mean(g * xh)), g = dy * w, xh = x * rstd.
pub(crate) fn backward<T: Real>(threads: Threads, dy: &[T], x: &[T], w: &[T], rstd: &[T], dx: &mut [T]) {
    let width = w.len();
    threads.rows(rstd.len(), [(dx, width)], &|range, [dx]| {
        let part = range.start * width..range.end * width;
        vectorised(Backward, (&dy[part.clone()], &x[part], w, &rstd[range], dx));
    });
}

struct Backward;

impl<T: Real> Kernel<(&[T], &[T], &[T], &[T], &mut [T])> for Backward {
    type Output = ();

    #[inline(always)]
    fn run((dy, x, w, rstd, dx): (&[T], &[T], &[T], &[T], &mut [T])) {
        let width = w.len();
        let scale = T::from_f64(1.0 / width as f64);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (((x, dy), dx), &rstd) in rows.zip(dx.chunks_exact_mut(width)).zip(rstd) {
            let pull = dot3(dy, w, x) * rstd * scale * rstd;
            for (((dx, &dy), &w), &x) in dx.iter_mut().zip(dy).zip(w).zip(x) {
                *dx += rstd * (dy * w - x * pull);
            }
        }
    }
}

/// As [`backward`], but replaces `dy` by dx: for the per-head norms, which have no residual path.
pub(crate) fn backward_in_place<T: Real>(dy: &mut [T], x: &[T], w: &[T], rstd: &[T]) {
    vectorised(BackwardInPlace, (dy, x, w, rstd));
}

struct BackwardInPlace;

impl<T: Real> Kernel<(&mut [T], &[T], &[T], &[T])> for BackwardInPlace {
    type Output = ();

    #[inline(always)]
    fn run((dy, x, w, rstd): (&mut [T], &[T], &[T], &[T])) {
        let width = w.len();
        let scale = T::from_f64(1.0 / width as f64);
        for ((x, dy), &rstd) in x.chunks_exact(width).zip(dy.chunks_exact_mut(width)).zip(rstd) {
            let pull = dot3(dy, w, x) * rstd * scale * rstd;
            for ((dy, &w), &x) in dy.iter_mut().zip(w).zip(x) {
                *dy = rstd * (*dy * w - x * pull);
            }
        }
    }
}

/// dw += sum over rows of dy * x * rstd.
pub(crate) fn weight_gradient<T: Real>(dy: &[T], x: &[T], rstd: &[T], dw: &mut [T]) {
    vectorised(WeightGradient, (dy, x, rstd, dw));
}

struct WeightGradient;

impl<T: Real> Kernel<(&[T], &[T], &[T], &mut [T])> for WeightGradient {
    type Output = ();

    #[inline(always)]
    fn run((dy, x, rstd, dw): (&[T], &[T], &[T], &mut [T])) {
        let width = dw.len();
        for ((x, dy), &rstd) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(rstd) {
            for ((dw, &dy), &x) in dw.iter_mut().zip(dy).zip(x) {
                *dw += dy * x * rstd;
            }
        }
    }
}

#[inline(always)]
fn write_row<T: Real>(x: &[T], w: &[T], rstd: T, y: &mut [T]) {
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
        *y = x * rstd * w;
    }
}

/// Sum of a * b * c, in partial sums as [`sum2`].
#[inline(always)]
fn dot3<T: Real>(a: &[T], b: &[T], c: &[T]) -> T {
    const LANES: usize = crate::simd::LANES;
    let mut lanes = [T::ZERO; LANES];
    let (aa, a_rest) = a.as_chunks::<LANES>();
    let (bb, b_rest) = b.as_chunks::<LANES>();
    let (cc, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in aa.iter().zip(bb).zip(cc) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    let mut total = T::ZERO;
    for ((&a, &b), &c) in a_rest.iter().zip(b_rest).zip(c_rest) {
        total += a * b * c;
    }
    for lane in lanes {
        total += lane;
    }
    total
}
