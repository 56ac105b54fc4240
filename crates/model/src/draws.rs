//! The random numbers of a training pass: dropout masks and noise on the embeddings (NEFTune).
//!
//! Each number follows from the step's seed, the sequence's own draw ([`Packed::draws`]), the position in
//! the sequence, the module and the column, and from nothing else: how sequences are cut into passes and
//! shared among threads cannot be seen in it, and a backward pass (or a layer that is computed once more)
//! finds the numbers of its forward pass again.

use crate::batch::Packed;
use crate::lora::Target;
use crate::real::Real;
use crate::simd::{Kernel, vectorised};
use crate::workspace::Extent;

/// Keeps the noise on embeddings apart from every dropout mask of the same seed.
const NOISE_KEY: u64 = 0x6E65_6674_756E_6521;

/// A key for each row of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draws {
    /// For the rows that enter the layers.
    rows: Vec<u64>,
    /// For those that leave the last attention: the rows with a label.
    wanted: Vec<u64>,
}

impl Draws {
    /// The keys of the rows of `batch`.
    pub(crate) fn new(seed: u64, batch: &Packed) -> Self {
        let sequences = batch.ranges().zip(&batch.draws);
        let rows: Vec<u64> = sequences
            .flat_map(|(range, draw)| {
                let sequence = mix(seed ^ mix(*draw));
                (0..range.len() as u64).map(move |position| mix(sequence.wrapping_add(position)))
            })
            .collect();
        let wanted = rows.iter().zip(&batch.labels).filter(|(_, label)| label.is_some());
        Self { wanted: wanted.map(|(row, _)| *row).collect(), rows }
    }

    /// Dropout of one module; `last` says whether it is in the last layer.
    pub(crate) fn dropout(&self, rate: f32, (layer, target): (usize, Target), last: bool) -> Dropout<'_> {
        let module = mix((layer * Target::ALL.len() + target as usize) as u64 + 1);
        Dropout {
            rate,
            module,
            rows: if last && target.follows_attention() { &self.wanted } else { &self.rows },
        }
    }

    /// Adds noise to the embeddings `x`, uniform within alpha / sqrt(tokens * hidden) of each sequence.
    pub(crate) fn add_noise<T: Real>(&self, alpha: f64, extents: &[Extent], x: &mut [T]) {
        let width = x.len() / self.rows.len().max(1);
        let mut keys = self.rows.as_slice();
        let mut rest = x;
        for &Extent { rows, tokens } in extents {
            let (part, later) = rest.split_at_mut(rows * width);
            let (now, behind) = keys.split_at(rows);
            vectorised(Noise, (now, alpha / ((tokens * width) as f64).sqrt(), part));
            (rest, keys) = (later, behind);
        }
    }
}

/// Dropout of one module in one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout<'a> {
    /// Probability of dropping an element.
    rate: f32,
    /// Different for each layer and projection.
    module: u64,
    /// A key for each row of the module's input.
    rows: &'a [u64],
}

impl Dropout<'_> {
    /// out := x with elements zeroed at the rate, the others divided by (1 - rate).
    pub(crate) fn apply<T: Real>(self, x: &[T], out: &mut Vec<T>) {
        out.resize(x.len(), T::ZERO);
        vectorised(DropElements, (self, x, out.as_mut_slice()));
    }
}

struct DropElements;

impl<T: Real> Kernel<(Dropout<'_>, &[T], &mut [T])> for DropElements {
    type Output = ();

    #[inline(always)]
    fn run((dropout, x, out): (Dropout<'_>, &[T], &mut [T])) {
        let keep = T::from_f64(1.0 / (1.0 - f64::from(dropout.rate)));
        let limit = (f64::from(dropout.rate) * 2.0_f64.powi(32)) as u64;
        let width = (x.len() / dropout.rows.len().max(1)).max(1);
        for ((out, x), row) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dropout.rows) {
            let key = mix(row ^ dropout.module);
            for (index, (out, &x)) in out.iter_mut().zip(x).enumerate() {
                let hash = mix(key.wrapping_add(index as u64)) >> 32;
                *out = if hash < limit { T::ZERO } else { x * keep };
            }
        }
    }
}

/// x += size * (uniform between -1 and 1), one key for each row.
struct Noise;

impl<T: Real> Kernel<(&[u64], f64, &mut [T])> for Noise {
    type Output = ();

    #[inline(always)]
    fn run((rows, size, x): (&[u64], f64, &mut [T])) {
        let width = (x.len() / rows.len().max(1)).max(1);
        for (x, row) in x.chunks_exact_mut(width).zip(rows) {
            let key = mix(row ^ NOISE_KEY);
            for (index, x) in x.iter_mut().enumerate() {
                let share = (mix(key.wrapping_add(index as u64)) >> 11) as f64 * 0.5_f64.powi(52);
                *x += T::from_f64(size * (share - 1.0));
            }
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a well-mixed number for each counter.
#[inline(always)]
const fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
