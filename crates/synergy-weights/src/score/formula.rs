//! The composite score of a patch.
//!
//! x = s0 coverage + s1 error + s2 roi - s3 complexity + s4 synergy_roi + s5 synergy_efficiency + the other five
//! synergy metrics - flakiness - runtime - historical flakiness - |entropy|; score = 1 / (1 + exp(-x)).
//! The first four are z-scores, (value - mean) / (deviation + 1e-6); synergy metrics are divided by their deviation
//! and multiplied by their weight. The program of the documents computes resilience and antifragility and then leaves
//! them out, against its own page: `legacy_score` is its result.
//!
//! The factors s come from earlier patches: inverse variance times 1 + max(0, correlation with ROI), summing to six,
//! and the one of synergy_roi never falls below 1.

use nightshift_core::synergy::{METRICS, Values, number};
use serde_json::{Map, Value};

/// Earlier patches that count.
const RECORDS: usize = 50;

/// What is standardised, in the order of the factors; the first of the names is used that is there.
const FIELDS: [&[&str]; 6] = [
    &["coverage_delta", "coverage"],
    &["error_delta", "error"],
    &["roi_delta", "roi"],
    &["complexity", "complexity_delta"],
    &["synergy_roi"],
    &["synergy_efficiency"],
];

/// Names of penalties.
const PENALTIES: [(&str, &[&str]); 4] = [
    ("flakiness", &["flakiness"]),
    ("runtime_delta", &["runtime_delta", "runtime_impact"]),
    ("historical_flakiness", &["historical_flakiness"]),
    ("entropy_delta", &["entropy_delta"]),
];

/// Scales and factors from earlier patches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    /// Mean and deviation of each field.
    stats: [(f64, f64); 6],
    /// Deviation of each synergy metric.
    deviations: Values,
    /// s0 to s5.
    pub(crate) factors: [f64; 6],
    /// Patches it rests on.
    pub(crate) records: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self { stats: [(0.0, 1.0); 6], deviations: [1.0; 7], factors: [1.0; 6], records: 0 }
    }
}

/// A patch, scored.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    /// 0 to 1, every metric counted.
    pub(crate) score: f64,
    /// 0 to 1, as the documents' program counts.
    pub(crate) legacy_score: f64,
    /// What each metric adds to x.
    pub(crate) contributions: Vec<(String, f64)>,
}

impl Scale {
    /// From the newest 50 earlier patches, oldest first.
    pub(crate) fn from_records(records: &[Map<String, Value>]) -> Self {
        let recent = &records[records.len().saturating_sub(RECORDS)..];
        if recent.is_empty() {
            return Self::default();
        }
        let columns =
            FIELDS.map(|names| recent.iter().map(|record| field(record, names)).collect::<Vec<f64>>());
        let known = columns.each_ref().map(|column| moments(column));
        let roi = &columns[2];
        let raw: [f64; 6] = std::array::from_fn(|index| {
            let helps = if index == 2 { 0.0 } else { correlation(&columns[index], roi).max(0.0) };
            (1.0 + helps) / (known[index].1 + 1e-6)
        });
        let total: f64 = raw.iter().sum();
        let mut factors = raw.map(|factor| factor / total * 6.0);
        if factors[4] <= 1.0 {
            let others = 6.0 - factors[4];
            let lifted = 1.0 + 1e-6;
            factors = std::array::from_fn(|index| {
                if index == 4 { lifted } else { factors[index] * (6.0 - lifted) / others }
            });
        }
        let deviations = METRICS.map(|name| {
            let name = format!("synergy_{name}");
            let column: Vec<f64> = recent.iter().map(|record| field(record, &[&name])).collect();
            // A metric that earlier patches do not have is taken as it is.
            if recent.iter().any(|record| record.contains_key(&name)) {
                moments(&column).1.sqrt()
            } else {
                1.0
            }
        });
        Self {
            stats: known.map(|(mean, variance)| (mean, variance.sqrt())),
            deviations,
            factors,
            records: recent.len(),
        }
    }

    /// Scores a patch.
    pub(crate) fn score(&self, patch: &Map<String, Value>, weights: &Values) -> Scored {
        let mut contributions = Vec::with_capacity(16);
        for (index, names) in FIELDS[..4].iter().enumerate() {
            let (mean, deviation) = self.stats[index];
            let sign = if index == 3 { -1.0 } else { 1.0 };
            let value = sign * self.factors[index] * (field(patch, names) - mean) / (deviation + 1e-6);
            contributions.push((names[0].to_owned(), value));
        }
        for (index, metric) in METRICS.iter().enumerate() {
            let name = format!("synergy_{metric}");
            let factor = if index < 2 { self.factors[4 + index] } else { 1.0 };
            let deviation = if index < 2 { self.stats[4 + index].1 } else { self.deviations[index] };
            let value = factor * field(patch, &[&name]) / (deviation + 1e-6) * weights[index];
            contributions.push((name, value));
        }
        for (name, names) in PENALTIES {
            let value = field(patch, names);
            contributions
                .push((name.to_owned(), if name == "entropy_delta" { -value.abs() } else { -value }));
        }
        let all: f64 = contributions.iter().map(|(_, value)| value).sum();
        let left_out: f64 = contributions[6..11].iter().map(|(_, value)| value).sum();
        Scored { score: logistic(all), legacy_score: logistic(all - left_out), contributions }
    }
}

/// The first of the names that is there; 0 when none is, or it is no number.
fn field(record: &Map<String, Value>, names: &[&str]) -> f64 {
    names.iter().find_map(|name| record.get(*name)).and_then(number).unwrap_or(0.0)
}

/// Mean and population variance; 1e-6 for a constant.
fn moments(column: &[f64]) -> (f64, f64) {
    let count = column.len() as f64;
    let mean = column.iter().sum::<f64>() / count;
    let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, if variance > 0.0 { variance } else { 1e-6 })
}

fn correlation(left: &[f64], right: &[f64]) -> f64 {
    let ((left_mean, _), (right_mean, _)) = (moments(left), moments(right));
    let (mut cross, mut left_squares, mut right_squares) = (0.0, 0.0, 0.0);
    for (a, b) in left.iter().zip(right) {
        cross += (a - left_mean) * (b - right_mean);
        left_squares += (a - left_mean).powi(2);
        right_squares += (b - right_mean).powi(2);
    }
    if left_squares > 0.0 && right_squares > 0.0 {
        cross / (left_squares * right_squares).sqrt()
    } else {
        0.0
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn better_is_higher_and_complexity_and_entropy_lower_it() {
        let scale = Scale::default();
        let score = |patch: Value, weights: Values| scale.score(&map(patch), &weights).score;
        let zero = score(json!({}), [1.0; 7]);
        assert_eq!(zero, 0.5);
        for name in ["coverage_delta", "error_delta", "roi_delta", "synergy_roi", "synergy_throughput"] {
            assert!(score(json!({name: 0.3}), [1.0; 7]) > zero, "{name}");
        }
        for (name, value) in
            [("complexity", 0.3), ("entropy_delta", -0.3), ("flakiness", 0.3), ("runtime_impact", 0.3)]
        {
            assert!(score(json!({name: value}), [1.0; 7]) < zero, "{name}");
        }
        let reliable = json!({"synergy_reliability": 0.5});
        let weighted = |weight: f64| score(reliable.clone(), [1.0, 1.0, 1.0, 1.0, weight, 1.0, 1.0]);
        assert!(weighted(8.0) > weighted(1.0) && weighted(0.0) == 0.5 && weighted(-2.0) < 0.5);
    }

    #[test]
    fn the_legacy_score_leaves_five_metrics_out() {
        let scored = |patch: Value| Scale::default().score(&map(patch), &[1.2, 0.8, 9.0, 9.0, 9.0, 9.0, 9.0]);
        // 1 / (1 + exp(-(0.4 + 0.2 + 0.1 - 0.3 + 0.5 * 1.2 + 0.25 * 0.8 - 0.05))) with unit scales (and 1e-6 beside them).
        let base = json!({
            "coverage_delta": 0.4, "error_delta": 0.2, "roi_delta": 0.1, "complexity": 0.3,
            "synergy_roi": 0.5, "synergy_efficiency": 0.25, "flakiness": 0.05,
        });
        let expected = 1.0 / (1.0 + (-1.15_f64).exp());
        assert!((scored(base.clone()).legacy_score - expected).abs() < 1e-6);
        let mut more = map(base);
        more.insert("synergy_resilience".into(), json!(3.0));
        let scored = Scale::default().score(&more, &[1.2, 0.8, 9.0, 9.0, 9.0, 9.0, 9.0]);
        assert!((scored.legacy_score - expected).abs() < 1e-6 && scored.score > 0.99);
        let sum: f64 = scored.contributions.iter().map(|(_, value)| value).sum();
        assert!((logistic(sum) - scored.score).abs() < 1e-12, "the contributions are the whole score");
    }

    #[test]
    fn factors_sum_to_six_and_that_of_synergy_roi_never_falls() {
        let record = |at: i32| {
            let value = f64::from(at);
            map(
                json!({"coverage_delta": value / 100.0, "roi_delta": value, "synergy_roi": value * 5.0, "error_delta": 1}),
            )
        };
        let records: Vec<_> = (0..80).map(record).collect();
        let scale = Scale::from_records(&records);
        assert!((scale.factors.iter().sum::<f64>() - 6.0).abs() < 1e-9 && scale.records == 50);
        assert!((scale.factors[4] - 1.000001).abs() < 1e-12, "{:?}", scale.factors);
        // The newest 50 are 30..=79, whose mean is 54.5.
        assert!((scale.stats[2].0 - 54.5).abs() < 1e-12);
        assert_eq!(Scale::from_records(&[]), Scale::default());
    }
}
