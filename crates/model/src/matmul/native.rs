//! The way from strided matrices of any precision to the kernels of `blocked`, and which products take it.
//!
//! Everything answers `false` where this processor or precision has no kernel of ours; the caller then
//! goes the portable way.

use half::bf16;

use super::{FEW_ROWS, Mat, MatMut, Store};
use crate::real::Real;
use crate::threads::Threads;

/// Which way a weight `[out, in]` stands in a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// x Wᵀ
    Transposed,
    /// dy W
    Plain,
}

/// out (+)= factor * a b in f32, where our kernel beats gemm's: right factors whose columns are the
/// neighbours in memory (x Wᵀ, q kᵀ), which gemm packs slowly. Narrow ones would leave it half empty.
#[cfg(target_arch = "x86_64")]
pub(super) fn f32_product<T: Real>(
    threads: Threads,
    out: &mut MatMut<'_, T>,
    store: Store,
    factor: T,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
) -> bool {
    use crate::blocked::{self, Arithmetic, Factor, Numbers, Out, Shape};

    const NARROW: usize = 16;
    let suits = a.col_stride == 1 && b.row_stride == 1 && b.col_stride > 1;
    if !suits || a.rows <= FEW_ROWS || b.cols <= NARROW || !blocked::available() {
        return false;
    }
    let (Some(left), Some(right), Some(numbers)) =
        (T::as_f32(a.data), T::as_f32(b.data), T::as_f32_mut(out.data))
    else {
        return false;
    };
    let shape = Shape { rows: a.rows, cols: b.cols, inner: a.cols };
    let factor = factor.to_f64() as f32;
    let out = Out { numbers, stride: out.row_stride, add: store == Store::Add, factor };
    let a = Factor { numbers: Numbers::F32(left), along_inner: true, stride: a.row_stride };
    let b = Factor { numbers: Numbers::F32(right), along_inner: true, stride: b.col_stride };
    blocked::multiply(
        shared_by(threads, shape.rows * shape.cols * shape.inner),
        Arithmetic::F32,
        shape,
        out,
        a,
        b,
    );
    true
}

/// out (+)= x Wᵀ or x W in bf16 arithmetic; `weight` is `[rows, cols]`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bf16_product<T: Real>(
    threads: Threads,
    out: &mut MatMut<'_, T>,
    store: Store,
    x: Mat<'_, T>,
    (weight, cols, side): (&[bf16], usize, Side),
) -> bool {
    use crate::blocked::{self, Arithmetic, Factor, Numbers, Out, Shape};

    if !blocked::available() {
        return false;
    }
    assert_eq!(x.col_stride, 1, "activations are row-major");
    let (Some(left), Some(numbers)) = (T::as_f32(x.data), T::as_f32_mut(out.data)) else { return false };
    let along_inner = side == Side::Transposed;
    let width = if along_inner { weight.len() / cols } else { cols };
    let shape = Shape { rows: x.rows, cols: width, inner: x.cols };
    let out = Out { numbers, stride: out.row_stride, add: store == Store::Add, factor: 1.0 };
    let a = Factor { numbers: Numbers::F32(left), along_inner: true, stride: x.row_stride };
    let b = Factor { numbers: Numbers::Bf16(weight), along_inner, stride: cols };
    blocked::multiply(
        shared_by(threads, shape.rows * width * shape.inner),
        Arithmetic::Bf16,
        shape,
        out,
        a,
        b,
    );
    true
}

/// Threads that a product of `work` multiply-adds is worth.
#[cfg(target_arch = "x86_64")]
const fn shared_by(threads: Threads, work: usize) -> usize {
    match threads.gemm(work) {
        gemm::Parallelism::None => 1,
        gemm::Parallelism::Rayon(count) => count,
    }
}

/// There is no kernel of ours for this kind of processor.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const fn f32_product<T: Real>(
    _: Threads,
    _: &mut MatMut<'_, T>,
    _: Store,
    _: T,
    _: Mat<'_, T>,
    _: Mat<'_, T>,
) -> bool {
    false
}

/// There is no kernel of ours for this kind of processor.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const fn bf16_product<T: Real>(
    _: Threads,
    _: &mut MatMut<'_, T>,
    _: Store,
    _: Mat<'_, T>,
    _: (&[bf16], usize, Side),
) -> bool {
    false
}
