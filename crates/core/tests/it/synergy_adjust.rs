//! The adjustment against worked cases of the program that the formula comes from, computed with NumPy.

use nightshift_core::synergy::UNIT;
use nightshift_core::synergy::adjust::{Cycle, Norms, Patch, energy, metric_delta};

fn patch(roi_delta: f64, first: [f64; 4]) -> Patch {
    let [a, b, c, d] = first;
    Patch { roi_delta, metrics: [a, b, c, d, 0.0, 0.0, 0.0] }
}

/// Four patches whose ROI is the first metric's; the metrics of a cycle.
fn worked_case() -> ([Patch; 4], [f64; 7]) {
    let patches = [
        patch(1.0, [1.0, 4.0, 2.0, 1.0]),
        patch(2.0, [2.0, 3.0, -2.0, -1.0]),
        patch(3.0, [3.0, 2.0, 2.0, 1.0]),
        patch(4.0, [4.0, 1.0, -2.0, -1.0]),
    ];
    let series = [
        vec![0.0, 0.1, 0.2, 0.3],
        vec![0.3, 0.2, 0.1, 0.0],
        vec![0.0, 2.0, -2.0, 2.0],
        vec![0.0, 1.0, -1.0, 1.0],
    ];
    let mut deltas = [0.0; 7];
    for (delta, series) in deltas.iter_mut().zip(&series) {
        *delta = metric_delta(series, 3);
    }
    (patches, deltas)
}

#[test]
fn the_worked_case() {
    let (patches, deltas) = worked_case();
    let unit = Norms::from_patches(UNIT, &patches);
    assert!((unit.adjustment(&deltas) - -2.057180699301452).abs() < 1e-12, "{}", unit.adjustment(&deltas));
    let custom = Norms::from_patches([1.2, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0], &patches);
    assert!((custom.adjustment(&deltas) - -2.4686168391617422).abs() < 1e-12);
    assert!(unit.weights[1..].iter().all(|weight| *weight < unit.weights[0]));
}

#[test]
fn fewer_patches_than_metrics_have_the_shortest_solution() {
    let patches = [patch(1.0, [1.0, 2.0, 0.0, 0.0]), patch(2.0, [0.0, 1.0, 1.0, 0.0])];
    let norms = Norms::from_patches(UNIT, &patches);
    // A A' = [[5,2],[2,2]]; its inverse times y is (-1/3, 4/3); A' times that is (-1/3, 2/3, 4/3).
    let total = 1.0 / 3.0 + 2.0 / 3.0 + 4.0 / 3.0;
    for (found, expected) in norms.weights.iter().zip([1.0 / 3.0, 2.0 / 3.0, 4.0 / 3.0, 0.0]) {
        assert!((found - expected / total).abs() < 1e-12, "{:?}", norms.weights);
    }
    assert_eq!(norms.scales[3], (0.0, 1.0), "a constant metric is not divided by 0");
}

#[test]
fn nothing_to_look_back_on_leaves_the_weights() {
    let silent = [patch(1.0, [0.0; 4]), patch(2.0, [0.0; 4])];
    assert_eq!(Norms::from_patches(UNIT, &silent), Norms::plain(UNIT));
    assert_eq!(Norms::from_patches(UNIT, &[patch(1.0, [1.0; 4])]), Norms::plain(UNIT));
    // Metrics without any effect share equally.
    let flat = [patch(0.0, [1.0, 0.0, 0.0, 0.0]), patch(0.0, [2.0, 0.0, 0.0, 0.0])];
    assert_eq!(Norms::from_patches(UNIT, &flat).weights, [1.0 / 7.0; 7]);
}

#[test]
fn only_the_newest_twenty_patches_count() {
    let mut patches = vec![patch(9.0, [0.0, 5.0, 0.0, 0.0]); 30];
    patches.extend((1..=20).map(|at| patch(f64::from(at), [f64::from(at), 0.0, 0.0, 0.0])));
    assert!((Norms::from_patches(UNIT, &patches).weights[0] - 1.0).abs() < 1e-12);
}

#[test]
fn deltas_of_short_series() {
    assert_eq!((metric_delta(&[], 3), metric_delta(&[0.4], 3)), (0.0, 0.4));
    assert!((metric_delta(&[1.0, 3.0], 3) - 1.0).abs() < 1e-12, "mean 2 less the second-last value 1");
    assert!(
        (metric_delta(&[0.0, 2.0, -2.0, 2.0], 3) - 2.0 / 3.0).abs() < 1e-12,
        "mean of three less the first"
    );
    assert!((metric_delta(&[1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0], 3) - 3.0).abs() < 1e-12);
}

#[test]
fn profit_and_energy() {
    let (weights, deltas) = ([2.0, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0], [0.1, -4.0, 0.5, 0.25, 9.0, 9.0, 9.0]);
    let cycle = Cycle { profit: 1.0, energy: 3.0 };
    assert_eq!(cycle.adjusted(&weights, &deltas), Cycle { profit: 1.2, energy: 1.75 });
    assert_eq!(cycle.legacy_adjusted(&weights, &deltas), Cycle { profit: 1.2, energy: 1.0 });
    assert_eq!(Cycle { energy: 1.0, ..cycle }.legacy_adjusted(&weights, &deltas).energy, 0.0);
    // round(5 * 1.0) * (1 + adjustment), clamped to 1..=100.
    assert_eq!((energy(1.0, 0.0, 1.0, 0.5, -1.0), energy(1.0, 0.0, 1.0, -2.0, 0.0)), (8, 1));
    assert_eq!(energy(1.0, 100.0, 1.0, 0.0, 0.0), 100);
}
