//! The inner loop of NF4: sixteen-entry table look-ups, by vector permutation where the processor
//! has one (AVX-512, AVX2), one by one elsewhere. All give the same bits: each value is one f32
//! product of a table entry and the scale of its block.

use crate::nf4::CODEBOOK;

/// Blocks must be a multiple of this long.
pub(super) const STEP: usize = 32;

/// Writes the numbers of whole blocks: `codes` holds two indices a byte, `scales` one number for
/// each block of `block` numbers.
pub(super) fn dequantise(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    assert!(block.is_multiple_of(STEP), "length of a block");
    assert_eq!(out.len(), scales.len() * block, "numbers of blocks");
    assert_eq!(codes.len() * 2, out.len(), "codes of blocks");
    #[cfg(target_arch = "x86_64")]
    if x86::dequantise(codes, scales, block, out) {
        return;
    }
    portable(codes, scales, block, out);
}

fn portable(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    for ((codes, scale), out) in codes.chunks_exact(block / 2).zip(scales).zip(out.chunks_exact_mut(block)) {
        let table = CODEBOOK.map(|value| value * scale);
        for (byte, pair) in codes.iter().zip(out.as_chunks_mut::<2>().0) {
            *pair = [table[usize::from(byte >> 4)], table[usize::from(byte & 15)]];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_srli_epi16, _mm_srli_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
        _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi32, _mm256_loadu_ps, _mm256_mul_ps,
        _mm256_permutevar8x32_ps, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm512_cvtepu8_epi32,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_permutexvar_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };
    use std::is_x86_feature_detected as has;

    use super::STEP;
    use crate::nf4::CODEBOOK;

    /// As [`super::dequantise`], whose checks have been made; `false` when this processor has no
    /// instructions for it.
    #[expect(unsafe_code, reason = "functions compiled for instructions that have been asked for")]
    pub(super) fn dequantise(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) -> bool {
        if has!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            unsafe { avx512(codes, scales, block, out) };
        } else if has!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { avx2(codes, scales, block, out) };
        } else {
            return false;
        }
        true
    }

    /// The indices of 16 bytes, one a byte and in order. The upper halves of the bytes are not
    /// cleared: both permutations read the lower bits only.
    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "a load from an array that is as long as the register")]
    fn indices(bytes: &[u8; STEP / 2]) -> (__m128i, __m128i) {
        // SAFETY: 16 bytes are read from 16.
        let low = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        let high = _mm_srli_epi16::<4>(low);
        (_mm_unpacklo_epi8(high, low), _mm_unpackhi_epi8(high, low))
    }

    #[target_feature(enable = "avx512f,avx2")]
    #[expect(unsafe_code, reason = "loads and stores of arrays that are as long as the register")]
    fn avx512(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
        // SAFETY: 16 numbers are read from 16.
        let table = unsafe { _mm512_loadu_ps(CODEBOOK.as_ptr()) };
        let blocks = codes.chunks_exact(block / 2).zip(scales).zip(out.chunks_exact_mut(block));
        for ((codes, scale), out) in blocks {
            let table = _mm512_mul_ps(table, _mm512_set1_ps(*scale));
            let (codes, out) = (codes.as_chunks::<{ STEP / 2 }>().0, out.as_chunks_mut::<16>().0);
            for (codes, out) in codes.iter().zip(out.as_chunks_mut::<2>().0) {
                let (first, second) = indices(codes);
                for (indices, out) in [first, second].into_iter().zip(out) {
                    let values = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(indices), table);
                    // SAFETY: 16 numbers are written to 16.
                    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) };
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "loads and stores of arrays that are as long as the register")]
    pub(super) fn avx2(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
        // SAFETY: the codebook holds two registers of 8 numbers.
        let [low, high] =
            unsafe { [_mm256_loadu_ps(CODEBOOK.as_ptr()), _mm256_loadu_ps(CODEBOOK[8..].as_ptr())] };
        let blocks = codes.chunks_exact(block / 2).zip(scales).zip(out.chunks_exact_mut(block));
        for ((codes, scale), out) in blocks {
            let scale = _mm256_set1_ps(*scale);
            let (low, high) = (_mm256_mul_ps(low, scale), _mm256_mul_ps(high, scale));
            let (codes, out) = (codes.as_chunks::<{ STEP / 2 }>().0, out.as_chunks_mut::<8>().0);
            for (codes, out) in codes.iter().zip(out.as_chunks_mut::<4>().0) {
                let (first, second) = indices(codes);
                let eights = [first, _mm_srli_si128::<8>(first), second, _mm_srli_si128::<8>(second)];
                for (indices, out) in eights.into_iter().zip(out) {
                    let indices = _mm256_cvtepu8_epi32(indices);
                    // Bit 3 of an index, moved to the sign, chooses the half of the table.
                    let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(indices));
                    let values = _mm256_blendv_ps(
                        _mm256_permutevar8x32_ps(low, indices),
                        _mm256_permutevar8x32_ps(high, indices),
                        upper,
                    );
                    // SAFETY: 8 numbers are written to 8.
                    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for block in [32, 64, 128] {
            let codes: Vec<u8> = (0..block * 3 / 2).map(|i| (i * 37 + i / 7) as u8).collect();
            let scales = [0.013, 2.5, 7.1e-3];
            let mut wanted = vec![0.0; block * 3];
            portable(&codes, &scales, block, &mut wanted);
            let mut out = vec![0.0; block * 3];
            dequantise(&codes, &scales, block, &mut out);
            assert_eq!(out, wanted);
            avx2(&codes, &scales, block, &mut out);
            assert_eq!(out, wanted);
        }
    }

    /// AVX2 is tested where AVX-512 would be chosen.
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a function compiled for instructions that have been asked for")]
    fn avx2(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
        if std::is_x86_feature_detected!("avx2") {
            out.fill(0.0);
            // SAFETY: the processor has AVX2.
            unsafe { x86::avx2(codes, scales, block, out) };
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx2(_: &[u8], _: &[f32], _: usize, _: &mut [f32]) {}
}
