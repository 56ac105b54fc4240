//! Access to fixtures/stats/golden.json.

use serde_json::Value;

pub(crate) fn golden(key: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../../fixtures/stats/golden.json"))
        .expect("golden.json is JSON");
    let value = all[key].clone();
    assert!(!value.is_null(), "golden.json has no {key}");
    value
}

/// Rows of numbers.
pub(crate) fn rows(key: &str) -> Vec<Vec<f64>> {
    serde_json::from_value(golden(key)).expect("rows of numbers")
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("numbers")
}

/// Relative distance, absolute below one.
#[track_caller]
pub(crate) fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    let distance = (got - want).abs() / want.abs().max(1.0);
    assert!(distance <= tolerance, "{what}: {got:e} instead of {want:e} (off by {distance:e})");
}

/// Relative distance, however small the number.
#[track_caller]
pub(crate) fn close_relative(got: f64, want: f64, tolerance: f64, what: &str) {
    let distance = if want == 0.0 { got.abs() } else { ((got - want) / want).abs() };
    assert!(distance <= tolerance, "{what}: {got:e} instead of {want:e} (off by {distance:e})");
}
