//! The seven synergy weights and the files around them: contracts with other programs.
//!
//! Everything here reads what Python wrote (`NaN` included) and writes what Python reads.

pub mod adjust;
pub mod history;
pub mod log;
pub mod start;
pub mod weights;

use serde_json::{Map, Value};

/// The metrics, in the order that every file, state vector and report uses.
pub const METRICS: [&str; 7] =
    ["roi", "efficiency", "resilience", "antifragility", "reliability", "maintainability", "throughput"];

/// One number for each metric, in the order of [`METRICS`].
pub type Values = [f64; 7];

/// Weights without any knowledge.
pub const UNIT: Values = [1.0; 7];

/// Range of a weight.
pub const RANGE: std::ops::RangeInclusive<f64> = 0.0..=10.0;

/// Which metric `roi` or `synergy_roi` is.
pub fn metric(name: &str) -> Option<usize> {
    let name = name.strip_prefix("synergy_").unwrap_or(name);
    METRICS.iter().position(|metric| *metric == name)
}

/// The values as a JSON object, in order.
pub fn object(values: &Values) -> Map<String, Value> {
    METRICS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

/// A finite number, also one written as text: what `float()` takes in the programs that share these files.
pub fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// Parses JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` become null.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text).or_else(|error| {
        if !text.contains("NaN") && !text.contains("Infinity") {
            return Err(error);
        }
        serde_json::from_str(&without_nan(text))
    })
}

/// Replaces Python's words for what is no number, outside strings.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Every second piece between unescaped quotes is a string.
    let (mut inside, mut start) = (false, 0);
    let mut escaped = false;
    let mut piece = |range: std::ops::Range<usize>, inside: bool| {
        let part = &text[range];
        if inside {
            out.push_str(part);
        } else {
            let part = part.replace("-Infinity", "null").replace("Infinity", "null");
            out.push_str(&part.replace("NaN", "null"));
        }
    };
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => {
                piece(start..at, inside);
                (inside, start) = (!inside, at);
            }
            _ => {}
        }
    }
    piece(start..text.len(), inside);
    out
}
