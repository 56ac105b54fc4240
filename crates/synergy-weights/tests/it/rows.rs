//! Histories made from a generator, so that no file of anybody is needed.

use serde_json::{Value, json};

/// A number in -1..1 for a place: an integer hash (Steele et al. 2014, splitmix64).
fn draw(place: u64) -> f64 {
    let mut x = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

fn row(at: u64, roi_delta: impl Fn(f64, f64, f64) -> f64) -> Value {
    let metric = |index: u64| draw(at * 8 + index);
    json!({
        "synergy_roi": metric(0), "synergy_efficiency": metric(1), "synergy_resilience": metric(2),
        "synergy_reliability": metric(4), "synergy_throughput": metric(6),
        "roi_delta": roi_delta(metric(1), metric(4), metric(7)),
    })
}

/// Rows whose ROI rises with efficiency and falls with reliability, from number `first` on.
pub(crate) fn telling(count: u64, first: u64) -> Vec<Value> {
    (first..first + count)
        .map(|at| row(at, |efficiency, reliability, noise| efficiency - 0.5 * reliability + 0.5 * noise))
        .collect()
}

/// Rows whose ROI has nothing to do with anything.
pub(crate) fn noise(count: u64) -> Vec<Value> {
    (0..count).map(|at| row(at, |_, _, noise| noise)).collect()
}

/// As JSON Lines.
pub(crate) fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| row.to_string() + "\n").collect()
}
