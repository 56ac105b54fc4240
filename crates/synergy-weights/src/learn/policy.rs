//! From what the critic knows to weights from 0 to 10.
//!
//! The policy picks candidates by a softmax of w.x. With compatible features the natural gradient of its value is
//! the critic's own parameter vector (Sutton et al. 2000; Kakade 2001; Peters and Schaal 2008), so the actor goes
//! where the critic points: w <- w + a (target - w). Weights only rank, so their scale is free: the target keeps
//! the mean of the weights the user started with.
//!
//! Two things hold a weight at its start. `known`, per weight: the share of its effect that comes from rows; a
//! metric that never varies keeps its weight. And the evidence, for all ([`super::evidence`]): until the rows are better
//! than chance, no weight leaves its start by more than [`NUDGE`]. One history of pure noise in twenty passes, at
//! whatever length up to 100 rows, and ever fewer of longer ones. `scripts/bench-synergy` prints what it costs and saves.

use super::COUNT;
use super::critic::Estimate;
use super::evidence::Verdict;
use super::linear::Vector;

/// Largest weight.
pub(super) const MOST: f64 = 10.0;
/// Share of its start that a weight may move by without evidence.
const NUDGE: f64 = 0.24;
/// Rows over which that share is reached.
const NUDGE_ROWS: f64 = 16.0;
/// How much faster than the evidence the nudge grows: a small move costs little.
const HASTE: f64 = 3.0;
/// Rows at which the truncated effects are half of the direction. The best regression without negative effects sets to
/// zero whatever another metric may stand for, and with few rows is less sure of that than it looks (by simulation at 50
/// rows: cosine .856 for half of both, .851 for that regression alone; at 1,000 it is the better one).
const TRUNCATED_ROWS: f64 = 50.0;

/// What the critic itself would weigh by: effects per unit of each metric, none negative.
pub(super) fn direction(estimate: &Estimate) -> Vector {
    let truncated = TRUNCATED_ROWS / (TRUNCATED_ROWS + estimate.effective);
    let mixed = |i: usize| truncated * estimate.effect[i].max(0.0) + (1.0 - truncated) * estimate.helpful[i];
    std::array::from_fn(|i| if estimate.sd[i] > 0.0 { mixed(i) / estimate.sd[i] } else { 0.0 })
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
    if verdict.speaks() && !verdict.helps {
        return lowered(start, estimate);
    }
    let goal = spread(start, direction);
    let step: Vector = std::array::from_fn(|i| estimate.known[i] * (goal[i] - start[i]));
    let step = if verdict.speaks() { step } else { nudge(start, &step, verdict, estimate.effective) };
    std::array::from_fn(|i| (start[i] + step[i]).clamp(0.0, MOST))
}

/// A step kept small. The first rows count as evidence here, but the room they get is a sixteenth of all for each.
fn nudge(start: &Vector, step: &Vector, verdict: Verdict, rows: f64) -> Vector {
    let strength = (verdict.p.max(f64::MIN_POSITIVE).ln() / verdict.level.ln()).max(1.0 / rows.max(1.0));
    let room = NUDGE * (rows / NUDGE_ROWS).min(1.0);
    std::array::from_fn(|i| {
        // A weight set to 0 may be nudged as one of 1 may.
        let room = room * if start[i] > 0.0 { start[i] } else { 1.0 };
        (HASTE * strength * step[i]).clamp(-room, room)
    })
}

/// Nothing helps for sure, but something hurts: what does by more than two standard errors loses its weight, the surer the
/// more (a positive-part James-Stein factor, 1 - 4 / z^2); nothing gains.
fn lowered(start: &Vector, estimate: &Estimate) -> Vector {
    std::array::from_fn(|i| {
        let (effect, error) = (estimate.effect[i], estimate.error[i]);
        let sure = if effect < 0.0 { (1.0 - (2.0 * error / effect).powi(2)).max(0.0) } else { 0.0 };
        start[i] * (1.0 - estimate.known[i] * sure)
    })
}
