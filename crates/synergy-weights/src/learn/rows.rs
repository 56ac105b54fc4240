//! Rows of a history, as other programs wrote them, to samples.
//!
//! A value counts where it is a number or text that reads as one, finite and below 1e100; anything else is missing.
//! Missing levels stay where they were, missing deltas are zero.
//!
//! The reward of a row is its `roi_delta`, else the change of `synergy_roi`. In the second case the metric `roi`
//! is the reward itself and would explain it perfectly: it is left out of such a row (delta 0), so that its weight
//! is not moved by a tautology.

use nightshift_core::synergy::METRICS;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{COUNT, Sample};

/// What the entries of a history are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntriesAre {
    /// Changes since the row before.
    Deltas,
    /// Values of the metrics; their changes are what counts.
    Levels,
    /// What they look like. From [`LOOK`] rows on, levels wander: their steps vary less than they themselves (von Neumann
    /// ratio below 1.25; 2 for independent rows). Shorter histories are deltas if a row has `roi_delta`, else levels.
    #[default]
    Auto,
}

impl std::str::FromStr for EntriesAre {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "deltas" => Ok(Self::Deltas),
            "levels" => Ok(Self::Levels),
            "auto" => Ok(Self::Auto),
            _ => Err(format!("{text:?} is not one of deltas, levels, auto")),
        }
    }
}

/// Rows from which on [`EntriesAre::Auto`] looks at the values.
pub const LOOK: usize = 12;

/// What the next rows of a history follow on: kept between two readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// What the entries were taken for.
    pub are: EntriesAre,
    /// Last value of each metric.
    pub last: [Option<f64>; COUNT],
}

/// Rows, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What can be learned from.
    pub samples: Vec<Sample>,
    /// To be passed on with the next rows.
    pub levels: Levels,
    /// Rows that gave no sample: the first of levels, and those without a metric or without a reward.
    pub skipped_rows: usize,
    /// Values of known metrics that were no numbers.
    pub skipped_values: usize,
    /// Samples whose reward is the change of `synergy_roi`.
    pub own_reward: usize,
}

/// Reads rows that follow those of `previous`. A decision that `auto` took stays: with `previous` it is not taken again.
pub fn samples(rows: &[Map<String, Value>], are: EntriesAre, previous: Option<&Levels>) -> Reading {
    let parsed: Vec<Row> = rows.iter().map(Row::read).collect();
    let are = match (are, previous) {
        (EntriesAre::Auto, Some(previous)) if previous.are != EntriesAre::Auto => previous.are,
        (EntriesAre::Auto, _) => look(&parsed),
        (told, _) => told,
    };
    let last = previous.filter(|p| p.are == are).map_or([None; COUNT], |p| p.last);
    let mut reading = Reading {
        samples: Vec::with_capacity(rows.len()),
        levels: Levels { are, last },
        skipped_rows: 0,
        skipped_values: parsed.iter().map(|row| row.unreadable).sum(),
        own_reward: 0,
    };
    for row in &parsed {
        match row.sample(&mut reading.levels) {
            Some((sample, own)) => {
                reading.own_reward += usize::from(own);
                reading.samples.push(sample);
            }
            None => reading.skipped_rows += 1,
        }
    }
    reading
}

/// One row's numbers.
struct Row {
    values: [Option<f64>; COUNT],
    roi_delta: Option<f64>,
    unreadable: usize,
}

impl Row {
    fn read(entry: &Map<String, Value>) -> Self {
        let mut unreadable = 0;
        let mut take = |name: &str| {
            let value = entry.get(name)?;
            let number = number(value);
            unreadable += usize::from(number.is_none());
            number
        };
        let values = METRICS.map(|metric| take(&format!("synergy_{metric}")).or_else(|| take(metric)));
        let roi_delta = take("roi_delta");
        Self { values, roi_delta, unreadable }
    }

    /// The sample, and whether its reward is its own `synergy_roi`.
    fn sample(&self, levels: &mut Levels) -> Option<(Sample, bool)> {
        if self.values.iter().all(Option::is_none) {
            return None;
        }
        let changes = match levels.are {
            EntriesAre::Levels => std::array::from_fn(|i| {
                let before = levels.last[i];
                levels.last[i] = self.values[i].or(before);
                Some(self.values[i]? - before?)
            }),
            _ => self.values,
        };
        if changes.iter().all(Option::is_none) {
            return None;
        }
        let own = self.roi_delta.is_none();
        let roi_delta = self.roi_delta.or(changes[0])?;
        let mut deltas = changes.map(|change| change.unwrap_or(0.0));
        if own {
            deltas[0] = 0.0;
        }
        Some((Sample { deltas, roi_delta }, own))
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.abs() < 1e100)
}

/// The rule of [`EntriesAre::Auto`].
fn look(rows: &[Row]) -> EntriesAre {
    let mut ratios: Vec<f64> = (0..COUNT)
        .filter_map(|i| {
            let column: Vec<f64> = rows.iter().filter_map(|row| row.values[i]).collect();
            if column.len() < LOOK { None } else { von_neumann(&column) }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    match ratios.get(ratios.len() / 2) {
        Some(ratio) if *ratio < 1.25 => EntriesAre::Levels,
        Some(_) => EntriesAre::Deltas,
        None if rows.iter().any(|row| row.roi_delta.is_some()) => EntriesAre::Deltas,
        None => EntriesAre::Levels,
    }
}

/// Mean square of the steps over the variance (von Neumann 1941); `None` for a constant.
fn von_neumann(column: &[f64]) -> Option<f64> {
    // Scaled by the first value, so that squares of 1e99 stay finite.
    let largest = column.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return None;
    }
    let scaled: Vec<f64> = column.iter().map(|v| v / largest).collect();
    let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
    let variance: f64 = scaled.iter().map(|v| (v - mean).powi(2)).sum();
    let steps: f64 = scaled.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    (variance > 1e-20).then(|| steps / variance)
}
