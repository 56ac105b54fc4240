//! Two arms on the same items: the exact McNemar test, its power, and the deployment gate.
//!
//! Only discordant items carry information: of d = lost + won of them, the number won is Binomial(d, 1/2)
//! when the arms are equal (McNemar 1947, exact form). The gate adds a second rule, a limit on the share of
//! items lost, because a candidate that forgets much and learns more still wins the test.

mod gate;
mod power;

pub use gate::{GateDecision, GateRules, Verdict, gate};
pub use power::{items_needed, minimum_detectable, power};

use serde::{Deserialize, Serialize};

use crate::special::binomial_tail;

/// Outcomes of incumbent and candidate on the same items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedCounts {
    /// Both arms right.
    pub both_right: u64,
    /// Incumbent right, candidate wrong.
    pub lost: u64,
    /// Incumbent wrong, candidate right.
    pub won: u64,
    /// Both arms wrong.
    pub both_wrong: u64,
}

impl PairedCounts {
    /// Counts one item.
    pub fn add(&mut self, incumbent_right: bool, candidate_right: bool) {
        match (incumbent_right, candidate_right) {
            (true, true) => self.both_right += 1,
            (true, false) => self.lost += 1,
            (false, true) => self.won += 1,
            (false, false) => self.both_wrong += 1,
        }
    }

    /// Number of items.
    pub fn n(&self) -> u64 {
        self.both_right + self.lost + self.won + self.both_wrong
    }
}

impl FromIterator<(bool, bool)> for PairedCounts {
    /// Counts pairs of (incumbent right, candidate right).
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(pairs: I) -> Self {
        let mut counts = Self::default();
        for (incumbent, candidate) in pairs {
            counts.add(incumbent, candidate);
        }
        counts
    }
}

/// Exact one-sided McNemar p-value: how likely are at least `won` of the `lost + won` discordant items under
/// equal arms. Small means "the candidate is better"; no discordant item gives 1.
pub fn mcnemar_one_sided(lost: u64, won: u64) -> f64 {
    tail_half(lost + won, won)
}

/// Exact two-sided McNemar p-value: twice the smaller tail, at most 1.
pub fn mcnemar_two_sided(lost: u64, won: u64) -> f64 {
    (2.0 * tail_half(lost + won, lost.max(won))).min(1.0)
}

fn tail_half(n: u64, k: u64) -> f64 {
    binomial_tail(n, 0.5, k).expect("one half is a probability")
}
