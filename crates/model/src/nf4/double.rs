//! Double quantisation: the scales of NF4 blocks in eight bits each.
//!
//! From the scales their mean is taken away; what is left is cut into blocks of 256, each with its
//! own largest magnitude, and each number becomes the index of the nearest entry of a fixed map of
//! 256 values ("dynamic" numbers: a sign, a decimal exponent, and a linear fraction in the bits
//! that are left; Dettmers 2015, arXiv 1511.04561).

use std::sync::{Arc, LazyLock};

/// Scales in a block, unless a checkpoint says otherwise.
pub(crate) const BLOCK: usize = 256;

/// The map that bitsandbytes makes (`create_dynamic_map`).
pub(crate) static DYNAMIC: LazyLock<Arc<[f32; 256]>> = LazyLock::new(|| Arc::new(dynamic_map()));

/// Scales in eight bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Double {
    pub(crate) codes: Vec<u8>,
    pub(crate) block: usize,
    /// Largest magnitude of each block of scales.
    pub(crate) absmax: Vec<f32>,
    pub(crate) map: Arc<[f32; 256]>,
    /// Mean of the scales.
    pub(crate) offset: f32,
}

impl Double {
    /// Quantises scales. The mean is taken in f64 and rounded once; bitsandbytes' is torch's, whose
    /// last bit depends on the processor's vectors.
    pub(crate) fn quantise(scales: &[f32]) -> Self {
        let sum: f64 = scales.iter().copied().map(f64::from).sum();
        let offset = if scales.is_empty() { 0.0 } else { (sum / scales.len() as f64) as f32 };
        let map = Arc::clone(&DYNAMIC);
        let (mut codes, mut absmax) = (Vec::with_capacity(scales.len()), Vec::new());
        for block in scales.chunks(BLOCK) {
            let largest = block.iter().map(|scale| (scale - offset).abs()).fold(0.0, f32::max);
            absmax.push(largest);
            codes.extend(block.iter().map(|scale| nearest(&map, (scale - offset) / largest)));
        }
        Self { codes, block: BLOCK, absmax, map, offset }
    }

    /// Number of scales.
    pub(crate) fn len(&self) -> usize {
        self.codes.len()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(self.absmax.as_slice())
    }

    /// The scales from `first` on.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) {
        let codes = &self.codes[first..first + out.len()];
        for ((at, code), out) in (first..).zip(codes).zip(out) {
            // Two roundings, as bitsandbytes has them: no fused multiply-add.
            *out = self.map[usize::from(*code)] * self.absmax[at / self.block] + self.offset;
        }
    }
}

/// Index of the nearest entry of an ascending map, for x from -1 to 1, as bitsandbytes finds it on a CPU:
/// x is first put on a grid of 65536 points, so that within 1.6e-5 of the middle between two entries
/// either may be taken. NaN (a block without any magnitude) falls on the first point.
fn nearest(map: &[f32; 256], x: f32) -> u8 {
    let point = ((x + 1.0) * 32_767.5 + 0.5) as u16;
    let x = f64::from(point) / 65_535.0 * 2.0 - 1.0;
    let above = map.partition_point(|entry| f64::from(*entry) < x).clamp(1, map.len() - 1);
    let below = above - 1;
    let nearer = x - f64::from(map[below]) <= f64::from(map[above]) - x;
    if nearer { below as u8 } else { above as u8 }
}

/// For each exponent i from 0 to 6 the interval from 0.1 to 1 is cut into 2^i cells; their middles
/// times 10^(i - 6), with both signs; then 0 and 1. All in f32, as torch computes it.
fn dynamic_map() -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for exponent in 0..7_i32 {
        let cells = 1_usize << exponent;
        let edges: Vec<f32> = (0..=cells).map(|at| linspace(at, cells + 1)).collect();
        let power = 10.0_f64.powi(exponent - 6) as f32;
        for pair in edges.windows(2) {
            let middle = f32::midpoint(pair[0], pair[1]);
            values.extend([power * middle, -power * middle]);
        }
    }
    values.sort_by(f32::total_cmp);
    values.try_into().expect("two and twice 127 values")
}

/// Number `at` of `steps` evenly spaced ones from 0.1 to 1, counted from the nearer end as torch does.
fn linspace(at: usize, steps: usize) -> f32 {
    let step = (1.0_f32 - 0.1) / (steps - 1) as f32;
    // One rounding, as torch's vectors have it.
    if at < steps / 2 { step.mul_add(at as f32, 0.1) } else { (-step).mul_add((steps - at - 1) as f32, 1.0) }
}
