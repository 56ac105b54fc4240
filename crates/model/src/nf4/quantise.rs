//! Quantising to NF4, block by block as the numbers come.

use crate::nf4::{BLOCK, Double, Nf4, Scales, ZERO};
use crate::simd::{Kernel, vectorised};

/// Middles between neighbouring values of the codebook. A number on one takes the lower index.
const THRESHOLDS: [f32; 15] = [
    -0.848_096_4,
    -0.610_632_9,
    -0.459_995_27,
    -0.339_679_42,
    -0.234_607_4,
    -0.137_911_74,
    -0.045_525_018,
    0.039_790_15,
    0.120_255_25,
    0.203_521_25,
    0.292_013_76,
    0.389_312_54,
    0.501_663_45,
    0.642_786_9,
    0.861_478_45,
];

/// The least magnitude that bitsandbytes divides by.
const TINY: f32 = 1e-38;

/// Takes the numbers of a matrix in order and quantises every block as soon as it is whole.
#[derive(Debug)]
pub(crate) struct Quantiser {
    codes: Vec<u8>,
    scales: Vec<f32>,
    /// Less than a block.
    waiting: Vec<f32>,
    len: usize,
}

impl Quantiser {
    /// For about `len` numbers.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            codes: Vec::with_capacity(len.div_ceil(2)),
            scales: Vec::with_capacity(len.div_ceil(BLOCK)),
            waiting: Vec::with_capacity(BLOCK),
            len: 0,
        }
    }

    /// The next numbers; finite.
    pub(crate) fn push(&mut self, mut values: &[f32]) {
        self.len += values.len();
        if !self.waiting.is_empty() {
            let (now, later) = values.split_at(values.len().min(BLOCK - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            values = later;
            if self.waiting.len() < BLOCK {
                return;
            }
            let block = std::mem::take(&mut self.waiting);
            self.whole(&block);
        }
        let (blocks, rest) = values.as_chunks::<BLOCK>();
        for block in blocks {
            self.whole(block);
        }
        self.waiting.extend_from_slice(rest);
    }

    /// The matrix.
    pub(crate) fn finish(mut self, double: bool) -> Nf4 {
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            self.rest(&rest);
        }
        let scales =
            if double { Scales::Double(Double::quantise(&self.scales)) } else { Scales::Plain(self.scales) };
        Nf4::from_parts(self.len, BLOCK, self.codes, scales).expect("blocks and scales are counted alike")
    }

    fn whole(&mut self, block: &[f32]) {
        let scale = largest(block);
        self.scales.push(scale);
        // bitsandbytes multiplies whole blocks by the reciprocal, and divides the last, short one.
        let factor = 1.0 / scale.max(TINY);
        let mut codes = [0; BLOCK];
        vectorised(Nearest, (block, factor, &mut codes));
        self.codes.extend(codes.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low));
    }

    fn rest(&mut self, rest: &[f32]) {
        let scale = largest(rest).max(TINY);
        self.scales.push(scale);
        let code = |x: &f32| index((x / scale).clamp(-1.0, 1.0));
        let pairs = rest.chunks(2);
        self.codes.extend(pairs.map(|pair| code(&pair[0]) << 4 | pair.get(1).map_or(ZERO, code)));
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().map(|x| x.abs()).fold(0.0, f32::max)
}

/// How many thresholds lie below x.
#[inline(always)]
fn index(x: f32) -> u8 {
    THRESHOLDS.iter().map(|threshold| u8::from(*threshold < x)).sum()
}

struct Nearest;

impl Kernel<(&[f32], f32, &mut [u8; BLOCK])> for Nearest {
    type Output = ();

    #[inline(always)]
    fn run((block, factor, codes): (&[f32], f32, &mut [u8; BLOCK])) {
        let mut counts = [0_i32; BLOCK];
        for threshold in THRESHOLDS {
            for (count, x) in counts.iter_mut().zip(block) {
                *count += i32::from(threshold < (x * factor).clamp(-1.0, 1.0));
            }
        }
        for (code, count) in codes.iter_mut().zip(counts) {
            *code = count as u8;
        }
    }
}
