//! NF4: a matrix in four bits a number, as bitsandbytes stores it (Dettmers et al. 2023,
//! arXiv 2305.14314, section 3).
//!
//! The numbers of a matrix are taken in flat row-major order and cut into blocks of 64; rows are no
//! boundary. Each block has a scale, its largest magnitude; each number is the index of the nearest
//! of sixteen quantiles of a normal distribution, times the scale. Two indices share a byte, the
//! first in the high half. The scales may themselves be held in eight bits (double quantisation).
//! A value is `CODEBOOK[index] * scale` in f32: one rounding, the same on every processor.

mod double;
pub(crate) mod file;
mod kernel;
mod quantise;

use std::ops::Range;

pub(crate) use double::Double;
pub(crate) use quantise::Quantiser;

/// The sixteen values, as bitsandbytes has them (bits in the comment of the paper's appendix E).
pub(crate) const CODEBOOK: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Index of zero in the codebook.
const ZERO: u8 = 7;

/// Numbers in a block, unless a checkpoint says otherwise.
pub(crate) const BLOCK: usize = 64;

/// Scales that are decoded at a time.
const SCALES: usize = 64;

/// The numbers of a matrix in four bits each. Frozen: nothing writes into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4 {
    len: usize,
    block: usize,
    /// Two indices each, the first in the high half.
    codes: Vec<u8>,
    scales: Scales,
}

/// The largest magnitude of each block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// In eight bits each.
    Double(Double),
}

impl Nf4 {
    /// Puts the parts together; `None` when their lengths do not fit each other.
    pub(crate) fn from_parts(len: usize, block: usize, codes: Vec<u8>, scales: Scales) -> Option<Self> {
        let held = match &scales {
            Scales::Plain(scales) => scales.len(),
            Scales::Double(double) => double.len(),
        };
        let fits = block >= kernel::STEP
            && block.is_multiple_of(kernel::STEP)
            && codes.len() == len.div_ceil(2)
            && held == len.div_ceil(block);
        fits.then_some(Self { len, block, codes, scales })
    }

    /// Quantises numbers; `double` quantises the scales too.
    pub fn quantise(values: &[f32], double: bool) -> Self {
        let mut quantiser = Quantiser::new(values.len());
        quantiser.push(values);
        quantiser.finish(double)
    }

    /// How many numbers there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let scales = match &self.scales {
            Scales::Plain(scales) => size_of_val(scales.as_slice()),
            Scales::Double(double) => double.bytes(),
        };
        self.codes.len() + scales
    }

    /// The indices, two in a byte.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// How the scales are held.
    pub(crate) const fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Numbers in a block.
    pub(crate) const fn block(&self) -> usize {
        self.block
    }

    /// Writes the numbers of a range into `out`.
    ///
    /// # Panics
    /// When the range reaches beyond the numbers or `out` is not exactly as long.
    pub fn dequantise(&self, range: Range<usize>, out: &mut [f32]) {
        assert!(range.end <= self.len, "numbers beyond a packed matrix");
        assert_eq!(range.len(), out.len(), "dequantised numbers");
        let first_whole = range.start.next_multiple_of(self.block).min(range.end);
        let (head, rest) = out.split_at_mut(first_whole - range.start);
        self.dequantise_singly(range.start, head);
        let blocks = rest.len() / self.block;
        let (whole, tail) = rest.split_at_mut(blocks * self.block);
        let first_block = first_whole / self.block;
        let mut scales = [0.0; SCALES];
        for (chunk, out) in whole.chunks_mut(SCALES * self.block).enumerate() {
            let at = first_block + chunk * SCALES;
            let scales = &mut scales[..out.len() / self.block];
            self.read_scales(at, scales);
            let codes = &self.codes[at * self.block / 2..][..out.len() / 2];
            kernel::dequantise(codes, scales, self.block, out);
        }
        self.dequantise_singly(first_whole + blocks * self.block, tail);
    }

    /// Numbers that are not a whole block, from `start` on.
    fn dequantise_singly(&self, start: usize, out: &mut [f32]) {
        for (at, out) in (start..).zip(out) {
            let byte = self.codes[at / 2];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            let mut scale = [0.0];
            self.read_scales(at / self.block, &mut scale);
            *out = CODEBOOK[usize::from(code)] * scale[0];
        }
    }

    /// The scales from block `first` on.
    fn read_scales(&self, first: usize, out: &mut [f32]) {
        match &self.scales {
            Scales::Plain(scales) => out.copy_from_slice(&scales[first..first + out.len()]),
            Scales::Double(double) => double.read(first, out),
        }
    }
}

#[cfg(test)]
mod tests;
