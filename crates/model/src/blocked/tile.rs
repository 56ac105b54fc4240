//! The innermost loops: a tile of results in registers, one step of the inner dimension at a time.

#![expect(unsafe_code, reason = "vector loads and stores, and calls that need a processor feature")]
#![allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]

use std::arch::x86_64::*;

use super::{HEIGHT, Kernel, Line, Row, STEPS, Step};

/// Where a tile goes: `numbers` begins at its first result.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) add: bool,
    pub(super) factor: f32,
}

/// What the f32 kernels and the packing need.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// What the bf16 kernels need.
pub(super) fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// The tile of `place.rows` packed rows of A and `place.cols` packed columns of B.
pub(super) fn multiply(kernel: Kernel, a: &[Row], b: &[Step], place: Place<'_>) {
    let Place { rows, cols, stride, .. } = place;
    assert!((1..=HEIGHT).contains(&rows) && (1..=super::WIDTH).contains(&cols) && b.len() <= STEPS, "a tile");
    assert!(rows <= a.len(), "rows of a tile");
    assert!((rows - 1) * stride + cols <= place.numbers.len(), "place of a tile");
    let a: *const u32 = a.as_ptr().cast();
    macro_rules! by_height {
        ($tile:ident, $vectors:literal, $($rows:literal)*) => {
            match rows {
                // SAFETY: `Kernel` is chosen by what the processor has, see `super::multiply`; `a` holds
                // at least `rows` rows of STEPS steps, of which `b.len()` are read, and the results lie
                // inside `place.numbers` (asserted above).
                $($rows => unsafe { $tile::<$rows, $vectors>(a, b, place) },)*
                _ => unreachable!("a tile has at most {HEIGHT} rows"),
            }
        };
    }
    match (kernel, cols > 16) {
        (Kernel::Dot, true) => by_height!(dot_tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (Kernel::Dot, false) => by_height!(dot_tile, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, true) => by_height!(fma_tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, false) => by_height!(fma_tile, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

macro_rules! tile {
    ($name:ident, $features:literal, $product:ident) => {
        /// `R` rows and `V` registers of columns. The loops over them are unrolled, so that all sums
        /// stay in registers.
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const V: usize>(a: *const u32, b: &[Step], place: Place<'_>) {
            let Place { numbers, stride, cols, add, factor, .. } = place;
            let numbers = numbers.as_mut_ptr();
            for row in 0..R {
                for vector in 0..V {
                    // Fetching is a hint: an address beyond the slice does no harm.
                    let at = numbers.wrapping_add(row * stride + vector * 16);
                    _mm_prefetch::<_MM_HINT_T0>(at.cast());
                }
            }
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for (index, step) in b.iter().enumerate() {
                let mut columns = [_mm512_setzero_ps(); V];
                for (column, Line(numbers)) in columns.iter_mut().zip(step) {
                    // SAFETY: a line is 64 bytes, aligned.
                    *column = unsafe { _mm512_load_ps(numbers.as_ptr().cast()) };
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller's `a` holds R rows of STEPS steps, and index < STEPS.
                    let x = unsafe { *a.add(row * STEPS + index) };
                    let x = _mm512_castsi512_ps(_mm512_set1_epi32(x as i32));
                    for (sum, &column) in sums.iter_mut().zip(&columns) {
                        *sum = $product(*sum, x, column);
                    }
                }
            }
            let factor = _mm512_set1_ps(factor);
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    let mask = mask(cols - vector * 16);
                    // SAFETY: the caller's place holds R rows of `cols` results; the mask ends there.
                    unsafe {
                        let at = numbers.add(row * stride + vector * 16);
                        let old = if add { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                        _mm512_mask_storeu_ps(at, mask, _mm512_fmadd_ps(*sum, factor, old));
                    }
                }
            }
        }
    };
}

tile!(fma_tile, "avx512f,avx512bw,avx512vl", fma);
tile!(dot_tile, "avx512f,avx512bw,avx512vl,avx512bf16", dot);

#[inline]
#[target_feature(enable = "avx512f")]
fn fma(sum: __m512, x: __m512, column: __m512) -> __m512 {
    _mm512_fmadd_ps(x, column, sum)
}

/// Two bf16 products for each lane. Subnormal factors count as zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot(sum: __m512, x: __m512, column: __m512) -> __m512 {
    // SAFETY: the two types are 512 bits without further meaning.
    let [x, column] = unsafe { std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([x, column]) };
    _mm512_dpbf16_ps(sum, x, column)
}

/// The first `count` of 16 lanes; all when there are more.
#[inline(always)]
pub(super) const fn mask(count: usize) -> u16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}
