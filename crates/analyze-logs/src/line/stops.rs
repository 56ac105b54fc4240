//! Where strings may end: one bit for each byte of a text at which a string ends, escapes or is invalid.
#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the vectors of the caller")]

use pulp::NullaryFnOnce;

/// Bytes whose bits are one number.
pub(super) const BLOCK: usize = 64;

/// Finds stops with the widest vectors of this processor; room for them is used again and again.
#[derive(Debug)]
pub(crate) struct Stops {
    arch: pulp::Arch,
    bits: Vec<u64>,
}

impl Default for Stops {
    fn default() -> Self {
        Self { arch: pulp::Arch::new(), bits: Vec::new() }
    }
}

impl Stops {
    /// The stops of a text. Behind its end, within the last block, every byte is one.
    #[inline]
    pub(super) fn of(&mut self, bytes: &[u8]) -> &[u64] {
        let count = bytes.len() / BLOCK + 1;
        if self.bits.len() < count {
            self.bits.resize(count, 0);
        }
        let bits = &mut self.bits[..count];
        match self.arch {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(simd) => simd.vectorize(Fill { blocks: simd, bytes, bits }),
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(simd) => simd.vectorize(Fill { blocks: simd, bytes, bits }),
            _ => Fill { blocks: Plain, bytes, bits }.call(),
        }
        bits
    }
}

/// Finds the stops of a block; `#[inline(always)]`, so that it is compiled for the vectors it asks for.
trait Blocks: Copy {
    fn stops(self, block: &[u8; BLOCK]) -> u64;
}

// No closures below: what is not inlined by force may stay behind, compiled for no vectors at all.

#[cfg(target_arch = "x86_64")]
impl Blocks for pulp::x86::V4 {
    #[inline(always)]
    fn stops(self, block: &[u8; BLOCK]) -> u64 {
        let (avx, block) = (self.avx512bw, pulp::cast(*block));
        avx._mm512_cmpeq_epi8_mask(block, pulp::cast([b'"'; BLOCK]))
            | avx._mm512_cmpeq_epi8_mask(block, pulp::cast([b'\\'; BLOCK]))
            | avx._mm512_cmple_epu8_mask(block, pulp::cast([0x1f_u8; BLOCK]))
    }
}

#[cfg(target_arch = "x86_64")]
impl Blocks for pulp::x86::V3 {
    #[inline(always)]
    fn stops(self, block: &[u8; BLOCK]) -> u64 {
        let [low, high]: [[u8; 32]; 2] = pulp::cast(*block);
        half(self, low) | half(self, high) << 32
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn half(simd: pulp::x86::V3, bytes: [u8; 32]) -> u64 {
    let (avx, bytes) = (simd.avx2, pulp::cast(bytes));
    let quote = avx._mm256_cmpeq_epi8(bytes, pulp::cast([b'"'; 32]));
    let slash = avx._mm256_cmpeq_epi8(bytes, pulp::cast([b'\\'; 32]));
    let control = avx._mm256_cmpeq_epi8(avx._mm256_min_epu8(bytes, pulp::cast([0x1f_u8; 32])), bytes);
    let any = avx._mm256_or_si256(avx._mm256_or_si256(quote, slash), control);
    u64::from(avx._mm256_movemask_epi8(any).cast_unsigned())
}

/// Without vectors that are known here.
#[derive(Clone, Copy)]
struct Plain;

impl Blocks for Plain {
    fn stops(self, block: &[u8; BLOCK]) -> u64 {
        let is_stop = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        block.iter().rev().fold(0, |bits, &byte| bits << 1 | u64::from(is_stop(byte)))
    }
}

struct Fill<'a, B> {
    blocks: B,
    bytes: &'a [u8],
    /// One more than there are whole blocks.
    bits: &'a mut [u64],
}

impl<B: Blocks> NullaryFnOnce for Fill<'_, B> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (blocks, rest) = self.bytes.as_chunks::<BLOCK>();
        for (bits, block) in self.bits.iter_mut().zip(blocks) {
            *bits = self.blocks.stops(block);
        }
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        self.bits[blocks.len()] = self.blocks.stops(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_kind_of_vectors_finds_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut plain = vec![0; bytes.len() / BLOCK + 1];
            Fill { blocks: Plain, bytes: &bytes, bits: &mut plain }.call();
            let mut stops = Stops::default();
            prop_assert_eq!(stops.of(&bytes), &plain);
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                let mut half = vec![0; plain.len()];
                simd.vectorize(Fill { blocks: simd, bytes: &bytes, bits: &mut half });
                prop_assert_eq!(&half, &plain);
            }
            for at in 0..plain.len() * BLOCK {
                let stop = bytes.get(at).is_none_or(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                prop_assert_eq!(plain[at / BLOCK] >> (at % BLOCK) & 1 == 1, stop);
            }
        }
    }
}
