//! Packing: blocks of a factor into the order in which the tiles read them, in the arithmetic's own
//! numbers. What sticks out beyond the matrix becomes zero.
//!
//! A square of 16 x 16 steps is transposed in registers where memory runs the other way.

#![expect(unsafe_code, reason = "vector loads and stores, and calls that need a processor feature")]
#![allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]
#![expect(clippy::large_types_passed_by_value, reason = "sixteen registers, inlined")]

use std::arch::x86_64::*;

use half::bf16;

use super::tile::mask;
use super::{Factor, Kernel, Line, Numbers, Row, Step};

/// Packs `depth` elements of `height` rows of A: each row its steps in order.
pub(super) fn left(kernel: Kernel, a: Factor<'_>, depth: usize, height: usize, panel: &mut [Row]) {
    // SAFETY: the kernel was chosen by what the processor has.
    unsafe {
        match kernel {
            Kernel::Dot => left_dot(a, depth, height, panel),
            Kernel::Fma | Kernel::FmaOfRounded => left_fma(kernel, a, depth, height, panel),
        }
    }
}

/// Packs `depth` elements of `width` columns of B: each step its columns in order.
pub(super) fn right(kernel: Kernel, b: Factor<'_>, depth: usize, width: usize, panel: &mut [Step]) {
    // SAFETY: the kernel was chosen by what the processor has.
    unsafe {
        match kernel {
            Kernel::Dot => right_dot(b, depth, width, panel),
            Kernel::Fma | Kernel::FmaOfRounded => right_fma(kernel, b, depth, width, panel),
        }
    }
}

macro_rules! packers {
    ($left:ident, $right:ident, $features:literal, $per_step:literal, ($($kernel:ident)?),
     $steps_along:ident, $steps_across:ident) => {
        #[target_feature(enable = $features)]
        fn $left($($kernel: Kernel,)? a: Factor<'_>, depth: usize, height: usize, panel: &mut [Row]) {
            let steps = depth.div_ceil($per_step);
            for (square, first) in (0..steps).step_by(16).enumerate() {
                let left = depth - first * $per_step;
                if a.along_inner {
                    for (row, lines) in panel[..height].iter_mut().enumerate() {
                        store(&mut lines[square], $steps_along($($kernel,)? a, first * $per_step, row, left));
                    }
                } else {
                    let mut rows = [_mm512_setzero_si512(); 16];
                    for (step, row) in rows.iter_mut().enumerate().take(steps - first) {
                        let at = (first + step) * $per_step;
                        *row = $steps_across($($kernel,)? a, at, 0, (depth - at, height));
                    }
                    let rows = transposed(rows);
                    for (lines, row) in panel[..height].iter_mut().zip(rows) {
                        store(&mut lines[square], row);
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn $right($($kernel: Kernel,)? b: Factor<'_>, depth: usize, width: usize, panel: &mut [Step]) {
            let steps = depth.div_ceil($per_step);
            for half in 0..width.div_ceil(16) {
                let col = half * 16;
                if !b.along_inner {
                    for (step, lines) in panel[..steps].iter_mut().enumerate() {
                        let at = step * $per_step;
                        let lanes = $steps_across($($kernel,)? b, at, col, (depth - at, width - col));
                        store(&mut lines[half], lanes);
                    }
                    continue;
                }
                for first in (0..steps).step_by(16) {
                    let mut columns = [_mm512_setzero_si512(); 16];
                    for (index, column) in columns.iter_mut().enumerate().take(width - col) {
                        let (at, left) = (first * $per_step, depth - first * $per_step);
                        *column = $steps_along($($kernel,)? b, at, col + index, left);
                    }
                    for (lines, lanes) in panel[first..steps].iter_mut().zip(transposed(columns)) {
                        store(&mut lines[half], lanes);
                    }
                }
            }
        }
    };
}

packers!(left_fma, right_fma, "avx512f,avx512bw,avx512vl", 1, (kernel), fma_along, fma_across);
packers!(left_dot, right_dot, "avx512f,avx512bw,avx512vl,avx512bf16", 2, (), dot_along, dot_across);

/// 16 f32 steps of one row or column, from element `at`; `left` elements exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fma_along(kernel: Kernel, factor: Factor<'_>, at: usize, outer: usize, left: usize) -> __m512i {
    let from = outer * factor.stride + at;
    f32_lanes(kernel, factor.numbers, from, left)
}

/// One f32 step of 16 rows or columns from `outer`; `existing` are the elements left in the two
/// directions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fma_across(
    kernel: Kernel,
    factor: Factor<'_>,
    at: usize,
    outer: usize,
    (_, columns): (usize, usize),
) -> __m512i {
    f32_lanes(kernel, factor.numbers, at * factor.stride + outer, columns)
}

/// 16 bf16 steps, 32 elements, of one row or column.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn dot_along(factor: Factor<'_>, at: usize, outer: usize, left: usize) -> __m512i {
    let from = outer * factor.stride + at;
    match factor.numbers {
        Numbers::Bf16(numbers) => load_bf16(&numbers[from..], left),
        Numbers::F32(numbers) => {
            let low = load_f32(&numbers[from..], left);
            let high =
                if left > 16 { load_f32(&numbers[from + 16..], left - 16) } else { _mm512_setzero_ps() };
            narrow(low, high)
        }
    }
}

/// One bf16 step, two elements, of 16 rows or columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn dot_across(factor: Factor<'_>, at: usize, outer: usize, (deep, columns): (usize, usize)) -> __m512i {
    let from = at * factor.stride + outer;
    match factor.numbers {
        Numbers::Bf16(numbers) => {
            let zero = _mm512_setzero_si512();
            let columns = columns.min(16);
            let even = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(load_bf16(&numbers[from..], columns)));
            let odd = if deep > 1 { load_bf16(&numbers[from + factor.stride..], columns) } else { zero };
            let odd = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(odd));
            _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
        }
        Numbers::F32(numbers) => {
            let even = load_f32(&numbers[from..], columns);
            let odd = if deep > 1 {
                load_f32(&numbers[from + factor.stride..], columns)
            } else {
                _mm512_setzero_ps()
            };
            // Lane i of the result takes bf16 numbers i of both halves of the narrowed pair.
            let both = narrow(even, odd);
            let [low, high] = [_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both)];
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
            _mm512_or_si512(_mm512_cvtepu16_epi32(low), high)
        }
    }
}

/// Up to 16 numbers from `from` as f32, rounded to bf16 where the kernel wants that.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn f32_lanes(kernel: Kernel, numbers: Numbers<'_>, from: usize, count: usize) -> __m512i {
    match numbers {
        Numbers::Bf16(numbers) => {
            let lanes = _mm512_castsi512_si256(load_bf16(&numbers[from..], count.min(16)));
            _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(lanes))
        }
        Numbers::F32(numbers) => {
            let lanes = _mm512_castps_si512(load_f32(&numbers[from..], count));
            if kernel == Kernel::FmaOfRounded { rounded(lanes) } else { lanes }
        }
    }
}

/// f32 numbers rounded to the nearest bf16, ties to even; NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded(lanes: __m512i) -> __m512i {
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(lanes), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(lanes, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    let near = _mm512_and_si512(up, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    let numbers = _mm512_castsi512_ps(lanes);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(numbers, numbers);
    _mm512_mask_mov_epi32(near, nan, lanes)
}

/// 32 f32 numbers as bf16, `low` first.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn narrow(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the two types are 512 bits without further meaning.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// The first `count` numbers, 16 at most, and zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(numbers: &[f32], count: usize) -> __m512 {
    let mask = mask(count.min(numbers.len()));
    // SAFETY: the mask ends where the slice does.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

/// The first `count` numbers, 32 at most, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_bf16(numbers: &[bf16], count: usize) -> __m512i {
    let count = count.min(numbers.len());
    let mask = if count >= 32 { !0 } else { (1_u32 << count) - 1 };
    // SAFETY: the mask ends where the slice does.
    unsafe { _mm512_maskz_loadu_epi16(mask, numbers.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, lanes: __m512i) {
    // SAFETY: a line is 64 bytes, aligned.
    unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), lanes) }
}

/// Lane j of register i becomes lane i of register j.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = [_mm512_setzero_si512(); 16];
    let (mut pairs, mut fours, mut out) = (zero, zero, zero);
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..4 {
        fours[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    // fours[4 i + j] holds in quarter q the lanes 4 q + j of rows 4 i .. 4 i + 4.
    for j in 0..4 {
        let top_even = _mm512_shuffle_i32x4::<0x88>(fours[j], fours[4 + j]);
        let top_odd = _mm512_shuffle_i32x4::<0xdd>(fours[j], fours[4 + j]);
        let bottom_even = _mm512_shuffle_i32x4::<0x88>(fours[8 + j], fours[12 + j]);
        let bottom_odd = _mm512_shuffle_i32x4::<0xdd>(fours[8 + j], fours[12 + j]);
        out[j] = _mm512_shuffle_i32x4::<0x88>(top_even, bottom_even);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(top_odd, bottom_odd);
        out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(top_even, bottom_even);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(top_odd, bottom_odd);
    }
    out
}
