//! How likely it is that a finding is about a real problem: a logistic curve over what all findings have in common,
//! fitted on generated weeks whose planted problems are known (`scripts/fit-confidence`, which prints these numbers).

use crate::pattern::{Pattern, PatternType};

/// What the curve looks at, in this order.
pub const FEATURES: [&str; 4] = ["ln occurrences", "impact", "evidence", "has evidence"];

/// The readings of a finding: ln(1 + occurrences), impact 0-10, -log10 of the smallest p- or q-value in its metadata
/// (at most 30), and whether there is one.
pub fn features(pattern: &Pattern) -> [f64; 4] {
    let value = ["q_value", "p_value", "q", "p"]
        .iter()
        .find_map(|name| pattern.metadata.get(*name)?.as_f64().filter(|p| (0.0..=1.0).contains(p)));
    let evidence = value.map_or(0.0, |p| -p.max(1e-30).log10());
    let impact = if pattern.impact_score.is_finite() { pattern.impact_score.clamp(0.0, 10.0) } else { 0.0 };
    [
        (pattern.occurrences as f64).ln_1p() / 10.0,
        impact / 10.0,
        evidence / 30.0,
        f64::from(u8::from(value.is_some())),
    ]
}

/// Kinds of findings, in the order of their offsets.
pub const KINDS: [PatternType; 17] = [
    PatternType::RecurringError,
    PatternType::SlowOperation,
    PatternType::InefficientChain,
    PatternType::HighCostOperation,
    PatternType::SuccessfulPattern,
    PatternType::TimeoutPattern,
    PatternType::LevelShift,
    PatternType::TailGrowth,
    PatternType::Burst,
    PatternType::Anomaly,
    PatternType::Drift,
    PatternType::Trend,
    PatternType::BreachForecast,
    PatternType::Correlation,
    PatternType::NewTemplate,
    PatternType::VanishedTemplate,
    PatternType::Skill,
];

// From `scripts/fit-confidence --weeks 40 --seed 2000` (1,803 findings, see docs/recommendations.md);
// L2 penalty 1. What is counted against a threshold and what has no truth has offset 0.
const INTERCEPT: f64 = 5.122;
const WEIGHTS: [f64; FEATURES.len()] = [-0.604, 0.951, 3.179, -2.349];
const OFFSETS: [f64; KINDS.len()] = [
    1.208, 0.0, 0.642, 0.0, 0.0, 0.500, -1.869, -1.076, -0.647, -1.245, 0.439, 0.028, 0.549, 0.303, 0.588,
    0.579, 0.0,
];

/// Probability that a finding is about a real problem.
pub fn confidence(pattern: &Pattern) -> f64 {
    let sum: f64 = features(pattern).iter().zip(WEIGHTS).map(|(x, weight)| x * weight).sum();
    let kind = KINDS.iter().position(|kind| *kind == pattern.pattern_type);
    let logit = INTERCEPT + sum + kind.map_or(0.0, |kind| OFFSETS[kind]);
    // No finding is certain, and what was found is seldom nothing.
    (1.0 / (1.0 + (-logit).exp())).clamp(0.05, 0.99)
}
