//! Dot products of a few rows of x with rows of numbers as they are held (f32 or bf16): what decoding a
//! token waits for, and the scores of its attention. Written with intrinsics, because compilers cut these
//! loops into short vectors; elsewhere than on x86-64 with AVX2 it is plain code.
//!
//! Memory decides the speed. A processor fetches ahead along a stream of addresses, but starts anew at every
//! page of 4 KiB; so each thread reads [`STREAMS`] rows at once that lie far apart, and while one stream starts
//! the others run (reading 110 MB of f32 by two cores of an EPYC 9004 was 13 to 29 % faster than row by row,
//! decoding 5 %; two, three, six or eight streams and prefetch instructions were slower). Each row's products
//! are added up in one order, whichever rows are read beside it.

use half::bf16;

use super::Mat;
use crate::real::Real;
use crate::simd::LANES;

/// A number of a matrix as it is held.
pub trait Stored: Copy {
    /// The same value, exactly.
    fn wide<T: Real>(self) -> T;
    /// x · each of the rows with the vectors of this processor, `None` where it has none.
    #[doc(hidden)]
    fn dot<const ROWS: usize>(x: &[f32], rows: [&[Self]; ROWS]) -> Option<[f32; ROWS]>;
}

/// Rows of weights that are read at once.
pub(crate) const STREAMS: usize = 4;

impl Stored for f32 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f32(self)
    }

    #[inline(always)]
    fn dot<const ROWS: usize>(x: &[f32], rows: [&[Self]; ROWS]) -> Option<[f32; ROWS]> {
        native::f32(x, rows)
    }
}

impl Stored for f64 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f64(self)
    }

    fn dot<const ROWS: usize>(_: &[f32], _: [&[Self]; ROWS]) -> Option<[f32; ROWS]> {
        None
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn wide<T: Real>(self) -> T {
        T::from_f32(f32::from_bits(u32::from(self.to_bits()) << 16))
    }

    #[inline(always)]
    fn dot<const ROWS: usize>(x: &[f32], rows: [&[Self]; ROWS]) -> Option<[f32; ROWS]> {
        native::bf16(x, rows)
    }
}

/// out[i, j] := row i of `weights` · row j of x.
///
/// # Panics
/// When the rows have other lengths, or their elements are not neighbours.
pub(crate) fn dots<T: Real, N: Stored>(x: Mat<'_, T>, weights: Mat<'_, N>, out: &mut [T]) {
    assert!(weights.cols == x.cols && out.len() == weights.rows * x.rows, "rows of a dot product");
    assert!(x.col_stride == 1 && weights.col_stride == 1, "rows of a dot product are dense");
    let row = |at: usize| &weights.data[at * weights.row_stride..][..weights.cols];
    let apart = weights.rows / STREAMS;
    for first in 0..apart {
        let rows = [0, 1, 2, 3].map(|stream| row(first + stream * apart));
        for number in 0..x.rows {
            let products = dot(&x.data[number * x.row_stride..][..x.cols], rows);
            for (stream, product) in products.into_iter().enumerate() {
                out[(first + stream * apart) * x.rows + number] = product;
            }
        }
    }
    for at in STREAMS * apart..weights.rows {
        for number in 0..x.rows {
            [out[at * x.rows + number]] = dot(&x.data[number * x.row_stride..][..x.cols], [row(at)]);
        }
    }
}

/// The sums of the products of x with each of the rows, all of one length.
#[inline]
pub(super) fn dot<T: Real, N: Stored, const ROWS: usize>(x: &[T], rows: [&[N]; ROWS]) -> [T; ROWS] {
    let native = T::as_f32(x).and_then(|x| N::dot(x, rows));
    native.map_or_else(|| rows.map(|row| portable(x, row)), |products| products.map(T::from_f32))
}

/// In [`LANES`] partial sums, added up as a tree.
fn portable<T: Real, N: Stored>(x: &[T], weights: &[N]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = weights.as_chunks::<LANES>();
    for (x, w) in xs.iter().zip(ws) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * w[lane].wide::<T>();
        }
    }
    for (sum, (&x, w)) in sums.iter_mut().zip(x_rest.iter().zip(w_rest)) {
        *sum += x * w.wide::<T>();
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = sums[lane + half];
            sums[lane] += other;
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(not(target_arch = "x86_64"))]
mod native {
    pub(super) fn f32<const ROWS: usize>(_: &[f32], _: [&[f32]; ROWS]) -> Option<[f32; ROWS]> {
        None
    }

    pub(super) fn bf16<const ROWS: usize>(_: &[f32], _: [&[half::bf16]; ROWS]) -> Option<[f32; ROWS]> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    #![expect(unsafe_code, reason = "vector loads, and calls that need a processor feature")]
    #![allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]

    use std::arch::x86_64::*;

    /// Several sums for each row side by side: one chain of additions would have to wait for itself. With
    /// [`STREAMS`](super::STREAMS) rows they all stay in registers.
    macro_rules! dot {
        ($name:ident, $features:literal, $number:ty, $wide:literal, $sums:literal, $zero:ident, $fma:ident, $load:expr, $widen:expr, $sum:expr) => {
            #[target_feature(enable = $features)]
            fn $name<const ROWS: usize>(x: &[f32], rows: [&[$number]; ROWS]) -> [f32; ROWS] {
                let (x, x_rest) = x.as_chunks::<$wide>();
                let (mut ws, mut rests) = ([[].as_slice(); ROWS], [[].as_slice(); ROWS]);
                for row in 0..ROWS {
                    let (chunks, rest) = rows[row].as_chunks::<$wide>();
                    (ws[row], rests[row]) = (&chunks[..x.len()], rest);
                }
                let mut sums = [[$zero(); $sums]; ROWS];
                let mut at = 0;
                while at + $sums <= x.len() {
                    for lane in 0..$sums {
                        let x = $load(&x[at + lane]);
                        for row in 0..ROWS {
                            sums[row][lane] = $fma(x, $widen(&ws[row][at + lane]), sums[row][lane]);
                        }
                    }
                    at += $sums;
                }
                for lane in 0..$sums {
                    // Lanes by constants: an index that varies would keep the sums in memory.
                    if at + lane < x.len() {
                        let x = $load(&x[at + lane]);
                        for row in 0..ROWS {
                            sums[row][lane] = $fma(x, $widen(&ws[row][at + lane]), sums[row][lane]);
                        }
                    }
                }
                let mut products = [0.0; ROWS];
                for row in 0..ROWS {
                    let rest = x_rest.iter().zip(rests[row]);
                    let rest: f32 = rest.map(|(x, w)| x * super::Stored::wide::<f32>(*w)).sum();
                    products[row] = $sum(sums[row]) + rest;
                }
                products
            }
        };
    }

    // SAFETY of the loads: an array is as long as the register that it fills, and no load asks for alignment.
    dot!(
        f32_512,
        "avx512f",
        f32,
        16,
        4,
        _mm512_setzero_ps,
        _mm512_fmadd_ps,
        |x: &[f32; 16]| unsafe { _mm512_loadu_ps(x.as_ptr()) },
        |w: &[f32; 16]| unsafe { _mm512_loadu_ps(w.as_ptr()) },
        sum_512
    );
    dot!(
        bf16_512,
        "avx512f",
        half::bf16,
        16,
        4,
        _mm512_setzero_ps,
        _mm512_fmadd_ps,
        |x: &[f32; 16]| unsafe { _mm512_loadu_ps(x.as_ptr()) },
        |w: &[half::bf16; 16]| unsafe {
            let halves = _mm256_loadu_si256(w.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        },
        sum_512
    );
    dot!(
        f32_256,
        "avx2,fma",
        f32,
        8,
        2,
        _mm256_setzero_ps,
        _mm256_fmadd_ps,
        |x: &[f32; 8]| unsafe { _mm256_loadu_ps(x.as_ptr()) },
        |w: &[f32; 8]| unsafe { _mm256_loadu_ps(w.as_ptr()) },
        sum_256
    );
    dot!(
        bf16_256,
        "avx2,fma",
        half::bf16,
        8,
        2,
        _mm256_setzero_ps,
        _mm256_fmadd_ps,
        |x: &[f32; 8]| unsafe { _mm256_loadu_ps(x.as_ptr()) },
        |w: &[half::bf16; 8]| unsafe {
            let halves = _mm_loadu_si128(w.as_ptr().cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        },
        sum_256
    );

    #[target_feature(enable = "avx512f")]
    fn sum_512([a, b, c, d]: [__m512; 4]) -> f32 {
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
    }

    #[target_feature(enable = "avx2")]
    fn sum_256([a, b]: [__m256; 2]) -> f32 {
        let sums = _mm256_add_ps(a, b);
        let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    macro_rules! chosen {
        ($name:ident, $number:ty, $wide:ident, $narrow:ident) => {
            #[inline]
            pub(super) fn $name<const ROWS: usize>(
                x: &[f32],
                rows: [&[$number]; ROWS],
            ) -> Option<[f32; ROWS]> {
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor has been asked.
                    Some(unsafe { $wide(x, rows) })
                } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    Some(unsafe { $narrow(x, rows) })
                } else {
                    None
                }
            }
        };
    }
    chosen!(f32, f32, f32_512, f32_256);
    chosen!(bf16, half::bf16, bf16_512, bf16_256);

    #[cfg(test)]
    pub(super) fn narrow<const ROWS: usize>(x: &[f32], rows: [&[half::bf16]; ROWS]) -> Option<[f32; ROWS]> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
            // SAFETY: the processor has been asked.
            .then(|| unsafe { bf16_256(x, rows) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_the_bound_on_every_processor() {
        let wave = |count: usize, step: f64| (0..count).map(|i| (i as f64 * step).sin()).collect::<Vec<_>>();
        for (rows, inner, count) in [(1, 1, 1), (3, 7, 2), (4, 16, 1), (9, 33, 4), (70, 513, 3), (5, 1376, 1)]
        {
            let weights: Vec<bf16> = wave(rows * inner, 1.3).into_iter().map(bf16::from_f64).collect();
            let wide: Vec<f32> = weights.iter().map(|w| w.to_f32()).collect();
            let x: Vec<f32> = wave(count * inner, 0.7).into_iter().map(|x| x as f32).collect();
            let matrix = Mat::new(&x, count, inner);
            let (mut found, mut of_wide) = (vec![f32::NAN; rows * count], vec![f32::NAN; rows * count]);
            dots(matrix, Mat::new(&weights, rows, inner), &mut found);
            dots(matrix, Mat::new(&wide, rows, inner), &mut of_wide);
            assert_eq!(found, of_wide, "the same values, however they are held");
            for (at, found) in found.iter().enumerate() {
                let (w, x) = (&weights[at / count * inner..][..inner], &x[at % count * inner..][..inner]);
                let terms = x.iter().zip(w).map(|(x, w)| f64::from(*x) * w.to_f64());
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let bound = (inner + 1) as f64 * 2.0_f64.powi(-24) * size;
                let ways = [Some(*found), Some(portable(x, w)), native::narrow(x, [w]).map(|[sum]| sum)];
                for found in ways.into_iter().flatten() {
                    assert!((f64::from(found) - sum).abs() <= bound, "{rows} x {inner}: {found} for {sum}");
                }
            }
        }
    }

    #[test]
    fn a_product_has_the_same_bits_whatever_is_read_beside_it() {
        for inner in [5, 16, 63, 64, 250, 1376] {
            let weights: Vec<f32> = (0..11 * inner).map(|i| (i as f32 * 1.3).sin()).collect();
            let x: Vec<f32> = (0..2 * inner).map(|i| (i as f32 * 0.7).cos()).collect();
            let mut all = vec![0.0; 11 * 2];
            dots(Mat::new(&x, 2, inner), Mat::new(&weights, 11, inner), &mut all);
            for (at, together) in all.iter().enumerate() {
                let x = &x[at % 2 * inner..][..inner];
                let [alone] = dot(x, [&weights[at / 2 * inner..][..inner]]);
                assert_eq!(together.to_bits(), alone.to_bits(), "row {} of length {inner}", at / 2);
            }
        }
    }
}
