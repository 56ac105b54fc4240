//! The gate's verdict on a candidate.

use serde::{Deserialize, Serialize};

use crate::{Result, closed_unit, open_unit};

use super::{PairedCounts, items_needed, mcnemar_one_sided};

/// What the gate asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GateRules {
    /// Level of the one-sided test of superiority.
    pub alpha: f64,
    /// Largest share of all items that the candidate may lose (0 to 1).
    pub max_lost_share: f64,
    /// Power for which an INCONCLUSIVE verdict says how many items are missing.
    pub power: f64,
}

impl Default for GateRules {
    /// 5 %, 4 % of the items, power 0.8.
    fn default() -> Self {
        Self { alpha: 0.05, max_lost_share: 0.04, power: 0.8 }
    }
}

/// Only PASS deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Better with p < alpha, and within the limit on what is lost.
    Pass,
    /// Too much is lost, or the candidate is worse with p < alpha.
    Fail,
    /// Neither: the incumbent stays.
    Inconclusive,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
        })
    }
}

/// The verdict with everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateDecision {
    /// The verdict.
    pub verdict: Verdict,
    /// Items judged.
    pub n: u64,
    /// Items both arms answered right.
    pub both_right: u64,
    /// Items only the incumbent answered right.
    pub lost: u64,
    /// Items only the candidate answered right.
    pub won: u64,
    /// One-sided exact McNemar p-value of "the candidate is better".
    pub p_value: f64,
    /// `lost / n`, 0 without items.
    pub lost_share: f64,
    /// INCONCLUSIVE only: items to add so that the test has the wanted power at the rates seen. `None` when no
    /// number of items would do (the candidate did not win more than it lost).
    pub needed_items: Option<u64>,
    /// One sentence for people.
    pub reason: String,
}

/// Judges a candidate against the incumbent.
///
/// FAIL: more than `max_lost_share` of the items lost, or significantly worse (one-sided, same alpha). PASS:
/// p < alpha and within the limit. Otherwise INCONCLUSIVE, with the number of items that are missing.
///
/// # Errors
/// `alpha` or `power` outside of (0, 1), `max_lost_share` outside of [0, 1].
pub fn gate(counts: &PairedCounts, rules: &GateRules) -> Result<GateDecision> {
    open_unit("alpha", rules.alpha)?;
    open_unit("power", rules.power)?;
    closed_unit("max_lost_share", rules.max_lost_share)?;
    let PairedCounts { both_right, lost, won, .. } = *counts;
    let n = counts.n();
    let lost_share = if n == 0 { 0.0 } else { lost as f64 / n as f64 };
    let p_value = mcnemar_one_sided(lost, won);
    let worse = mcnemar_one_sided(won, lost);
    let seen = format!("{won} won and {lost} lost of {n} items");
    let mut needed_items = None;
    let (verdict, reason) = if n == 0 {
        (Verdict::Inconclusive, "no items were judged".to_owned())
    } else if lost_share > rules.max_lost_share {
        (
            Verdict::Fail,
            format!(
                "{:.1} % of the items lost, more than the {:.1} % allowed ({seen})",
                100.0 * lost_share,
                100.0 * rules.max_lost_share
            ),
        )
    } else if worse < rules.alpha {
        (Verdict::Fail, format!("significantly worse: {seen}, p = {worse:.2e} for worse"))
    } else if p_value < rules.alpha {
        (Verdict::Pass, format!("better: {seen}, p = {p_value:.2e} < {}", rules.alpha))
    } else {
        needed_items = missing_items(counts, rules)?;
        let missing = match needed_items {
            Some(more) => {
                format!("about {more} more items would give power {} at these rates", rules.power)
            }
            None => "it did not win more than it lost, so more items alone would not help".to_owned(),
        };
        (Verdict::Inconclusive, format!("not shown to be better: {seen}, p = {p_value:.3}; {missing}"))
    };
    Ok(GateDecision { verdict, n, both_right, lost, won, p_value, lost_share, needed_items, reason })
}

/// Items to add to reach the wanted power at the observed rates. At least one: a set that had the power and
/// still missed alpha needs a fresh look, not zero items.
fn missing_items(counts: &PairedCounts, rules: &GateRules) -> Result<Option<u64>> {
    let n = counts.n() as f64;
    let total = items_needed(counts.lost as f64 / n, counts.won as f64 / n, rules.alpha, rules.power)?;
    Ok(total.map(|t| t.saturating_sub(counts.n()).max(1)))
}
