//! The world that the learners are measured in: seven metrics with pairwise correlation 0.36, of which three help
//! ROI, one hurts and three do nothing, and noise.

use nightshift_stats::rng::SplitMix64;
use nightshift_synergy_weights::learn::Sample;

/// Effects on ROI.
pub(crate) const BETA: [f64; 7] = [0.8, 0.5, 0.0, -0.4, 0.3, 0.0, 0.0];
/// Correlation of any two metrics.
const RHO: f64 = 0.36;

/// A seeded source of rows.
pub(crate) struct World {
    rng: SplitMix64,
    /// Effects that hold now.
    pub(crate) beta: [f64; 7],
    noise: f64,
}

impl World {
    /// `r2`: the share of ROI's variance that the metrics explain with [`BETA`]. At 0 nothing does.
    pub(crate) fn new(seed: u64, r2: f64) -> Self {
        let beta = if r2 > 0.0 { BETA } else { [0.0; 7] };
        let sum: f64 = BETA.iter().sum();
        let squares: f64 = BETA.iter().map(|b| b * b).sum();
        let signal = (1.0 - RHO) * squares + RHO * sum * sum;
        let noise = if r2 > 0.0 { (signal * (1.0 - r2) / r2).sqrt() } else { signal.sqrt() };
        Self { rng: SplitMix64::new(seed), beta, noise }
    }

    /// Deltas of one candidate.
    pub(crate) fn candidate(&mut self) -> [f64; 7] {
        let shared = RHO.sqrt() * self.normal();
        std::array::from_fn(|_| shared + (1.0 - RHO).sqrt() * self.normal())
    }

    /// The row that follows when a candidate is taken.
    pub(crate) fn outcome(&mut self, deltas: [f64; 7]) -> Sample {
        Sample { deltas, roi_delta: value(&self.beta, &deltas) + self.noise * self.normal() }
    }

    /// Rows of candidates taken without looking.
    pub(crate) fn rows(&mut self, count: usize) -> Vec<Sample> {
        (0..count)
            .map(|_| {
                let deltas = self.candidate();
                self.outcome(deltas)
            })
            .collect()
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.rng.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.rng.uniform()).cos()
    }
}

pub(crate) fn value(weights: &[f64; 7], deltas: &[f64; 7]) -> f64 {
    weights.iter().zip(deltas).map(|(w, d)| w * d).sum()
}

/// Cosine between weights and the effects that a weight can express.
pub(crate) fn cosine(weights: &[f64; 7], beta: &[f64; 7]) -> f64 {
    let helpful = beta.map(|b| b.max(0.0));
    let length = |v: &[f64; 7]| value(v, v).sqrt();
    value(weights, &helpful) / (length(weights) * length(&helpful)).max(1e-300)
}

/// What is lost by ranking eight candidates with these weights, as a share of what the best one brings.
pub(crate) fn regret(weights: &[f64; 7], beta: &[f64; 7], sets: usize) -> f64 {
    let mut world = World::new(77, 0.3);
    let (mut got, mut best) = (0.0, 0.0);
    for _ in 0..sets {
        let candidates: Vec<[f64; 7]> = (0..8).map(|_| world.candidate()).collect();
        let taken = pick(weights, &candidates);
        got += value(beta, &candidates[taken]);
        best += candidates.iter().map(|c| value(beta, c)).fold(f64::MIN, f64::max);
    }
    1.0 - got / best
}

/// The candidate that weights rank first.
pub(crate) fn pick(weights: &[f64; 7], candidates: &[[f64; 7]]) -> usize {
    (0..candidates.len())
        .max_by(|a, b| value(weights, &candidates[*a]).total_cmp(&value(weights, &candidates[*b])))
        .expect("candidates were offered")
}
