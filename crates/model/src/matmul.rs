//! Matrix products on borrowed, strided memory, through the `gemm` crate.
//!
//! Where they are faster, our own kernels (`blocked`) do it instead. Pointers are handed to gemm after
//! their bounds have been checked here. Transposes are strides, so x Wᵀ costs no copy.

use half::bf16;

use crate::real::Real;
use crate::simd::{Kernel, LANES, vectorised};
use crate::threads::Threads;

mod native;

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
        vectorised(FewRows, (out, store, factor, a, b));
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
struct FewRows;

impl<T: Real> Kernel<(MatMut<'_, T>, Store, T, Mat<'_, T>, Mat<'_, T>)> for FewRows {
    type Output = ();

    #[inline(always)]
    fn run((out, store, factor, a, b): (MatMut<'_, T>, Store, T, Mat<'_, T>, Mat<'_, T>)) {
        let inner = a.cols;
        for col in 0..b.cols {
            let weights = &b.data[col * b.col_stride..][..inner];
            for row in 0..a.rows {
                let x = &a.data[row * a.row_stride..][..inner];
                let [product] = dot(x, [weights]);
                let product = factor * product;
                let place = &mut out.data[row * out.row_stride + col];
                *place = if store == Store::Add { *place + product } else { product };
            }
        }
    }
}

/// A number of a matrix as it is held.
pub trait Stored: Copy {
    /// The same value, exactly.
    fn wide<T: Real>(self) -> T;
}

impl Stored for f32 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f32(self)
    }
}

impl Stored for f64 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f64(self)
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f32(f32::from_bits(u32::from(self.to_bits()) << 16))
    }
}

/// Rows of a matrix whose products are added up side by side: one chain of additions alone would wait for
/// each addition longer than for memory.
const SIDE_BY_SIDE: usize = 4;

/// out[i, j] := row i of `weights` · row j of x; `weights` is `[out.len() / x.rows(), x's columns]`.
///
/// # Panics
/// When `weights` has other rows, or the elements of x are not neighbours.
pub(crate) fn dots<T: Real, N: Stored>(x: Mat<'_, T>, weights: &[N], out: &mut [T]) {
    let fits = weights.len() * x.rows == out.len() * x.cols;
    assert!(fits && x.col_stride == 1, "rows of a dot product");
    vectorised(Dots, (x, weights, out));
}

struct Dots;

impl<T: Real, N: Stored> Kernel<(Mat<'_, T>, &[N], &mut [T])> for Dots {
    type Output = ();

    #[inline(always)]
    fn run((x, weights, out): (Mat<'_, T>, &[N], &mut [T])) {
        let (width, count) = (x.cols, x.rows);
        let blocks = weights.chunks(SIDE_BY_SIDE * width).zip(out.chunks_mut(SIDE_BY_SIDE * count));
        for (weights, out) in blocks {
            for row in 0..count {
                let x = &x.data[row * x.row_stride..][..width];
                if weights.len() == SIDE_BY_SIDE * width {
                    let rows: [&[N]; SIDE_BY_SIDE] =
                        std::array::from_fn(|at| &weights[at * width..][..width]);
                    for (at, sum) in dot(x, rows).into_iter().enumerate() {
                        out[at * count + row] = sum;
                    }
                } else {
                    for (at, weights) in weights.chunks_exact(width).enumerate() {
                        let [sum] = dot(x, [weights]);
                        out[at * count + row] = sum;
                    }
                }
            }
        }
    }
}

/// The sums of products of x with each of `rows`, in [`LANES`] partial sums, added up as a tree: short rows
/// must not wait for a chain.
#[inline(always)]
fn dot<T: Real, N: Stored, const R: usize>(x: &[T], rows: [&[N]; R]) -> [T; R] {
    let mut lanes = [[T::ZERO; LANES]; R];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let halves = rows.map(|row| row[..x.len()].as_chunks::<LANES>());
    for (at, x) in xs.iter().enumerate() {
        for (lanes, (row, _)) in lanes.iter_mut().zip(&halves) {
            for lane in 0..LANES {
                lanes[lane] += x[lane] * row[at][lane].wide::<T>();
            }
        }
    }
    for (lanes, (_, row)) in lanes.iter_mut().zip(&halves) {
        for (lane, (&x, y)) in x_rest.iter().zip(*row).enumerate() {
            lanes[lane] += x * y.wide::<T>();
        }
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let other = lanes[lane + half];
                lanes[lane] += other;
            }
            half /= 2;
        }
    }
    lanes.map(|lanes| lanes[0])
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
    fn dots_of_narrow_numbers_keep_the_bound_on_every_processor() {
        let wave = |count: usize, step: f64| (0..count).map(|i| (i as f64 * step).sin()).collect::<Vec<_>>();
        for (rows, inner, count) in [(1, 1, 1), (3, 7, 2), (4, 16, 1), (9, 33, 4), (70, 513, 3), (5, 1376, 1)]
        {
            let weights: Vec<bf16> = wave(rows * inner, 1.3).into_iter().map(bf16::from_f64).collect();
            let x: Vec<f32> = wave(count * inner, 0.7).into_iter().map(|x| x as f32).collect();
            let matrix = Mat::new(&x, count, inner);
            let (mut found, mut portable) = (vec![f32::NAN; rows * count], vec![f32::NAN; rows * count]);
            dots(matrix, &weights, &mut found);
            // As it is compiled for a processor without wide vectors.
            Dots::run((matrix, weights.as_slice(), portable.as_mut_slice()));
            assert_eq!(found, portable);
            for (at, found) in found.iter().enumerate() {
                let (w, x) = (&weights[at / count * inner..], &x[at % count * inner..][..inner]);
                let terms = x.iter().zip(w).map(|(x, w)| f64::from(*x) * w.to_f64());
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let bound = (inner + 1) as f64 * 2.0_f64.powi(-24) * size;
                assert!((f64::from(*found) - sum).abs() <= bound, "{rows} x {inner}: {found} for {sum}");
            }
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
