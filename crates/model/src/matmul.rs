//! Matrix products on borrowed, strided memory, through the `gemm` crate.
//!
//! Where they are faster, our own kernels (`blocked`) do it instead. Pointers are handed to gemm after
//! their bounds have been checked here. Transposes are strides, so x Wᵀ costs no copy.

use crate::real::Real;
use crate::simd::{Kernel, LANES, vectorised};
use crate::threads::Threads;

mod dots;
mod native;

pub(crate) use dots::{STREAMS, Stored, dots};
pub(crate) use native::{Side, bf16_product};

/// A matrix somewhere in a slice. Element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A dense row-major matrix.
    pub(crate) const fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// `cols` neighbouring columns of a row-major matrix whose rows are `row_stride` long; `data`
    /// begins at the first of them.
    pub(crate) const fn columns(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Number of rows.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) const fn cols(&self) -> usize {
        self.cols
    }

    /// The transpose.
    pub(crate) const fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

impl<T: Real> Mat<'_, T> {
    /// A dense copy, every number rounded as [`Real::rounded_to_bf16`] has it.
    pub(crate) fn rounded(self) -> Vec<T> {
        assert_eq!(self.col_stride, 1, "activations are row-major");
        let mut out = vec![T::ZERO; self.rows * self.cols];
        for (row, out) in out.chunks_exact_mut(self.cols).enumerate() {
            vectorised(Round, (&self.data[row * self.row_stride..][..self.cols], out));
        }
        out
    }
}

struct Round;

impl<T: Real> Kernel<(&[T], &mut [T])> for Round {
    type Output = ();

    #[inline(always)]
    fn run((x, out): (&[T], &mut [T])) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x.rounded_to_bf16();
        }
    }
}

/// The place of a result: a row-major matrix, rows `row_stride` apart.
#[derive(Debug)]
pub(crate) struct MatMut<'a, T> {
    data: &'a mut [T],
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Dense, `cols` wide.
    pub(crate) const fn new(data: &'a mut [T], cols: usize) -> Self {
        Self { data, row_stride: cols }
    }

    /// As [`Mat::columns`].
    pub(crate) const fn columns(data: &'a mut [T], row_stride: usize) -> Self {
        Self { data, row_stride }
    }
}

/// Whether a product replaces what was there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// out = factor * a b
    Replace,
    /// out += factor * a b
    Add,
}

/// out (+)= factor * a b.
///
/// # Panics
/// When the inner dimensions differ or a matrix reaches beyond its slice: a bug in this crate.
#[expect(unsafe_code, reason = "gemm takes raw pointers; every index it can form is checked here first")]
pub(crate) fn matmul<T: Real>(
    threads: Threads,
    mut out: MatMut<'_, T>,
    store: Store,
    factor: T,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
) {
    let (rows, cols, inner) = (a.rows, b.cols, a.cols);
    assert_eq!(inner, b.rows, "inner dimensions of a matrix product");
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(inner > 0, "empty inner dimension");
    let fits =
        |len: usize, (r, rs): (usize, usize), (c, cs): (usize, usize)| (r - 1) * rs + (c - 1) * cs < len;
    assert!(fits(out.data.len(), (rows, out.row_stride), (cols, 1)), "result of a matrix product");
    assert!(cols <= out.row_stride || rows == 1, "rows of a result overlap");
    assert!(fits(a.data.len(), (rows, a.row_stride), (inner, a.col_stride)), "left factor");
    assert!(fits(b.data.len(), (inner, b.row_stride), (cols, b.col_stride)), "right factor");
    let alone = matches!(threads.gemm(rows * cols * inner), gemm::Parallelism::None);
    if rows <= FEW_ROWS && inner >= SHORT && a.col_stride == 1 && b.row_stride == 1 && alone {
        few_rows(out, store, factor, a, b);
        return;
    }
    if native::f32_product(threads, &mut out, store, factor, a, b) {
        return;
    }
    // SAFETY: all three matrices lie inside their slices (asserted above), `out` is borrowed mutably
    // and its rows do not overlap, T is f32 or f64 (sealed trait), both supported by gemm, and with
    // `Replace` gemm does not read `out`.
    unsafe {
        gemm::gemm(
            rows,
            cols,
            inner,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            factor,
            false,
            false,
            false,
            threads.gemm(rows * cols * inner),
        );
    }
}

/// Left factors with at most this many rows are not worth packing: one token while decoding.
pub(crate) const FEW_ROWS: usize = 4;
/// Dot products shorter than this spend their time in adding up the lanes; gemm is faster.
const SHORT: usize = 2 * LANES;

/// Every element of the result as one dot product of neighbouring elements.
fn few_rows<T: Real>(out: MatMut<'_, T>, store: Store, factor: T, a: Mat<'_, T>, b: Mat<'_, T>) {
    let inner = a.cols;
    for col in 0..b.cols {
        let weights = &b.data[col * b.col_stride..][..inner];
        for row in 0..a.rows {
            let [product] = dots::dot(&a.data[row * a.row_stride..][..inner], [weights]);
            let product = factor * product;
            let place = &mut out.data[row * out.row_stride + col];
            *place = if store == Store::Add { *place + product } else { product };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_transposes_and_accumulation() {
        // a = [[1, 2], [3, 4]] inside rows of three, b given transposed.
        let a = Mat::columns(&[1.0, 2.0, 9.0, 3.0, 4.0, 9.0], 2, 2, 3);
        let b = Mat::new(&[5.0, 7.0, 6.0, 8.0], 2, 2).t();
        let mut out = [100.0_f64; 6];
        matmul(Threads::ONE, MatMut::columns(&mut out, 3), Store::Replace, 1.0, a, b);
        assert_eq!(out, [19.0, 22.0, 100.0, 43.0, 50.0, 100.0]);
        matmul(Threads::ONE, MatMut::columns(&mut out, 3), Store::Add, 2.0, a, b);
        assert_eq!(out, [57.0, 66.0, 100.0, 129.0, 150.0, 100.0]);
    }

    #[test]
    fn few_rows_equal_many() {
        for (inner, cols) in [(3, 1), (16, 4), (33, 7), (128, 30)] {
            let wave =
                |count: usize, step: f64| (0..count).map(|i| (i as f64 * step).sin()).collect::<Vec<_>>();
            let (a, b) = (wave(9 * inner, 0.7), wave(cols * inner, 1.3));
            let mut many = wave(9 * cols, 0.1);
            let mut few = many.clone();
            let b = Mat::new(&b, cols, inner).t();
            matmul(Threads::ONE, MatMut::new(&mut many, cols), Store::Add, 0.5, Mat::new(&a, 9, inner), b);
            for row in 0..9 {
                let a = Mat::new(&a[row * inner..], 1, inner);
                let out = MatMut::new(&mut few[row * cols..], cols);
                matmul(Threads::ONE, out, Store::Add, 0.5, a, b);
            }
            assert!(many.iter().zip(&few).all(|(x, y)| (x - y).abs() < 1e-12));
        }
    }

    #[test]
    #[should_panic(expected = "left factor")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let mut out = [0.0_f32; 4];
        let short = Mat::new(&[1.0, 2.0, 3.0], 2, 2);
        matmul(Threads::ONE, MatMut::new(&mut out, 2), Store::Replace, 1.0, short, Mat::new(&[0.0; 4], 2, 2));
    }
}
