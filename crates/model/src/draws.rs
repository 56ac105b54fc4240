//! What a training pass draws at random: dropout masks, and the noise on embeddings (NEFTune).
//!
//! Every number is a function of the seed, the sequence's place in the batch, the token's place in the
//! sequence, the module and the column, so it does not matter which thread computes a sequence, with which
//! others, or how often.

use crate::batch::Packed;
use crate::passes::Pass;
use crate::real::Real;
use crate::simd::{Kernel, vectorised};
use crate::workspace::Extent;

/// Keeps the noise on embeddings apart from every dropout mask of the same seed.
const NOISE_KEY: u64 = 0x6E65_6674_756E_6521;

/// A key for each row of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draws {
    rows: Vec<u64>,
    /// Those of the scored rows, the only ones behind the last attention.
    scored: Vec<u64>,
}

impl Draws {
    /// The keys of one pass.
    pub(crate) fn new(seed: u64, pass: &Pass) -> Self {
        let Pass { batch: Packed { labels, .. }, segments, extents } = pass;
        let sequence = |(segment, extent): (&usize, &Extent)| {
            let key = mix(seed ^ mix(*segment as u64));
            (0..extent.rows as u64).map(move |position| mix(key.wrapping_add(position)))
        };
        let rows: Vec<u64> = segments.iter().zip(extents).flat_map(sequence).collect();
        let scored =
            rows.iter().zip(labels).filter(|(_, label)| label.is_some()).map(|(key, _)| *key).collect();
        Self { rows, scored }
    }

    /// The mask of one module: all rows, or the scored ones.
    pub(crate) fn dropout(&self, rate: f32, module: usize, scored: bool) -> Dropout<'_> {
        let rows = if scored { &self.scored } else { &self.rows };
        Dropout { rate, module: mix(module as u64 + 1), rows }
    }

    /// Adds noise of this alpha to the embeddings of a pass (Jain et al. 2023, algorithm 1).
    pub(crate) fn add_noise<T: Real>(&self, alpha: f64, extents: &[Extent], hidden: usize, x: &mut [T]) {
        let sizes = extents.iter().flat_map(|extent| {
            std::iter::repeat_n(alpha / ((extent.tokens * hidden) as f64).sqrt(), extent.rows)
        });
        for ((x, key), size) in x.chunks_exact_mut(hidden).zip(&self.rows).zip(sizes) {
            vectorised(Noise, (mix(key ^ NOISE_KEY), size, x));
        }
    }
}

/// Dropout of one module in one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout<'a> {
    /// Probability of dropping an element.
    rate: f32,
    module: u64,
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
        let Dropout { rate, module, rows } = dropout;
        let width = x.len() / rows.len();
        let keep = T::from_f64(1.0 / (1.0 - f64::from(rate)));
        let limit = (f64::from(rate) * 2.0_f64.powi(32)) as u64;
        for ((out, x), key) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rows) {
            for (column, (out, &x)) in out.iter_mut().zip(x).enumerate() {
                let hash = mix((key ^ module).wrapping_add(column as u64)) >> 32;
                *out = if hash < limit { T::ZERO } else { x * keep };
            }
        }
    }
}

/// x += size * (uniform between -1 and 1), a number for each counter from the key on.
struct Noise;

impl<T: Real> Kernel<(u64, f64, &mut [T])> for Noise {
    type Output = ();

    #[inline(always)]
    fn run((key, size, x): (u64, f64, &mut [T])) {
        for (index, x) in x.iter_mut().enumerate() {
            let share = (mix(key.wrapping_add(index as u64)) >> 11) as f64 * 0.5_f64.powi(52);
            *x += T::from_f64(size * (share - 1.0));
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a well-mixed number for each counter.
#[inline(always)]
pub(crate) const fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
