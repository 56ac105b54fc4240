//! From what the critic knows to weights from 0 to 10.
//!
//! The policy picks candidates by a softmax of w.x. With compatible features the natural gradient of its value is
//! the critic's own parameter vector (Sutton et al. 2000; Kakade 2001; Peters and Schaal 2008), so the actor goes
//! where the critic points: w <- w + a (target - w). Weights only rank, so their scale is free: the target keeps
//! the mean of the weights the user started with.
//!
//! Two things hold a weight at its start. `known`, per weight: the share of its effect that comes from rows; a
//! metric that never varies keeps its weight. And the evidence, for all: an F test of "no metric matters". Until
//! its p value falls below a level, no weight leaves its start by more than [`NUDGE`]. The level is 0.5 from 16 to 70
//! rows (a sixteenth of it with the first) and falls with the sixth power of their number to 0.0004: early on a wrong
//! move costs little and a right one is worth much, while a long history that still says nothing must not move
//! anything by accident. Chosen by simulation; `scripts/bench-synergy` prints what it costs and saves.

use std::fmt;

use nightshift_stats::special::beta_cdf;

use super::COUNT;
use super::critic::Estimate;
use super::linear::Vector;

/// Largest weight.
pub(super) const MOST: f64 = 10.0;
/// Share of its start that a weight may move by without evidence.
const NUDGE: f64 = 0.2;
/// ln p / ln level from which on the evidence is followed in full; in between linearly.
const FULL: f64 = 1.2;

/// What the rows say of one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The metric never changed: nothing can be said.
    NeverVaried,
    /// The rows are what chance would give.
    None,
    /// Estimate one to two standard errors from zero.
    Weak {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
    /// Two to three standard errors.
    Moderate {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
    /// More than three standard errors.
    Strong {
        /// Whether ROI rises with the metric.
        helps: bool,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (strength, helps) = match self {
            Self::NeverVaried => return f.write_str("never varied"),
            Self::None => return f.write_str("no evidence"),
            Self::Weak { helps } => ("weak", helps),
            Self::Moderate { helps } => ("moderate", helps),
            Self::Strong { helps } => ("strong", helps),
        };
        write!(f, "{strength} evidence that it {}", if *helps { "helps" } else { "hurts" })
    }
}

/// How far the evidence carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Chance of an F statistic like this one if no metric mattered.
    pub(super) p: f64,
    /// What `p` has to fall below.
    pub(super) level: f64,
}

impl Verdict {
    pub(super) fn of(estimate: &Estimate) -> Self {
        let (top, bottom) = (estimate.active as f64 / 2.0, estimate.freedom / 2.0);
        // F(a, b) >= W / a  <=>  Beta(b/2, a/2) <= b / (b + W).
        let share = estimate.freedom / (estimate.freedom + estimate.wald);
        let p =
            if estimate.wald > 0.0 && top > 0.0 { beta_cdf(bottom, top, share).unwrap_or(1.0) } else { 1.0 };
        let rows = estimate.effective.max(1.0);
        let level = (0.5 * (rows / 16.0).min(1.0) * (70.0 / rows).min(1.0).powi(6)).max(0.0004);
        Self { p, level }
    }

    /// Whether the rows say anything at all.
    pub(super) fn speaks(self) -> bool {
        self.p <= self.level
    }

    /// What is said of each weight.
    pub(super) fn words(self, estimate: &Estimate) -> [Evidence; COUNT] {
        std::array::from_fn(|i| {
            let z = estimate.effect[i] / estimate.error[i];
            let helps = z > 0.0;
            match z.abs() {
                _ if estimate.sd[i] == 0.0 => Evidence::NeverVaried,
                _ if !self.speaks() => Evidence::None,
                z if z > 3.0 => Evidence::Strong { helps },
                z if z > 2.0 => Evidence::Moderate { helps },
                z if z > 1.0 => Evidence::Weak { helps },
                _ => Evidence::None,
            }
        })
    }
}

/// What the critic itself would weigh by: effects per unit of each metric, none negative.
pub(super) fn direction(estimate: &Estimate) -> Vector {
    std::array::from_fn(|i| if estimate.sd[i] > 0.0 { estimate.helpful[i] / estimate.sd[i] } else { 0.0 })
}

/// The mean of the start, spread in proportion to `direction`. All zero where nothing helps.
pub(super) fn spread(start: &Vector, direction: &Vector) -> Vector {
    let total: f64 = direction.iter().sum();
    let mean = start.iter().sum::<f64>() / COUNT as f64;
    let mean = if mean > 0.0 { mean } else { 1.0 };
    direction.map(|d| if total > 0.0 { (d / total * COUNT as f64 * mean).min(MOST) } else { 0.0 })
}

/// Where the weights should be: from `start` towards `direction`, as far as the evidence carries.
pub(super) fn target(start: &Vector, estimate: &Estimate, direction: &Vector) -> Vector {
    let verdict = Verdict::of(estimate);
    let goal = spread(start, direction);
    let step: Vector = std::array::from_fn(|i| estimate.known[i] * (goal[i] - start[i]));
    let strength = verdict.p.max(f64::MIN_POSITIVE).ln() / verdict.level.ln();
    let reach = step
        .iter()
        .zip(start)
        // A weight set to 0 may be nudged as one of 1 may.
        .map(|(step, start)| step.abs() / if *start > 0.0 { *start } else { 1.0 })
        .fold(0.0, f64::max);
    let nudge = if reach > 0.0 { (NUDGE * strength.min(1.0) / reach).min(1.0) } else { 0.0 };
    let followed = nudge + (1.0 - nudge) * ((strength - 1.0) / (FULL - 1.0)).clamp(0.0, 1.0);
    std::array::from_fn(|i| (start[i] + followed * step[i]).clamp(0.0, MOST))
}
