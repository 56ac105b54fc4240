//! Rows of a history to samples.

use nightshift_core::synergy::METRICS;
use nightshift_synergy_weights::learn::{EntriesAre, Sample, samples};
use serde_json::{Map, Value, json};

use crate::world::World;

fn rows(text: Value) -> Vec<Map<String, Value>> {
    serde_json::from_value(text).unwrap()
}

/// A history with these values of the metrics, and `roi_delta` where asked.
fn history(values: &[[f64; 7]], rewards: Option<&[f64]>) -> Vec<Map<String, Value>> {
    values
        .iter()
        .enumerate()
        .map(|(at, values)| {
            let named =
                METRICS.iter().zip(values).map(|(name, value)| (format!("synergy_{name}"), json!(value)));
            named.chain(rewards.map(|r| ("roi_delta".to_owned(), json!(r[at])))).collect()
        })
        .collect()
}

fn levels(deltas: &[Sample]) -> Vec<[f64; 7]> {
    let mut now = [5.0; 7];
    let step = |sample: &Sample| {
        now = std::array::from_fn(|i| now[i] + sample.deltas[i]);
        now
    };
    std::iter::once([5.0; 7]).chain(deltas.iter().map(step)).collect()
}

#[test]
fn levels_become_deltas() {
    let read = samples(
        &rows(json!([
            {"synergy_roi": 0.25, "synergy_efficiency": 1},
            {"synergy_roi": 0.5, "synergy_efficiency": 3, "roi_delta": 7},
            {"synergy_roi": 0.75, "synergy_throughput": 4, "roi_delta": "-1.5"},
            {"synergy_efficiency": 2.0, "synergy_throughput": 5},
            {"synergy_roi": 1.75},
        ])),
        EntriesAre::Levels,
        None,
    );
    let expected = [
        ([0.25, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0], 7.0),
        // Throughput appears: no change of it is known yet.
        ([0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], -1.5),
        // No reward: efficiency moves on, the row teaches nothing. Then ROI has moved since it was last seen.
        ([0.0; 7], 1.0),
    ];
    let got: Vec<_> = read.samples.iter().map(|s| (s.deltas, s.roi_delta)).collect();
    assert_eq!(got, expected);
    assert_eq!((read.skipped_rows, read.own_reward, read.skipped_values), (2, 1, 0));
    assert_eq!(read.levels.last[..2], [Some(1.75), Some(2.0)]);
}

#[test]
fn text_and_nothing_are_counted_never_an_error() {
    let read = samples(
        &rows(json!([
            {"synergy_roi": 0.5, "note": "text kept", "synergy_efficiency": "broken", "security_score": 3},
            {"synergy_roi": "0.25", "synergy_efficiency": "NaN", "synergy_resilience": null, "roi_delta": "inf"},
            {"synergy_roi": 1e300, "synergy_reliability": 2, "roi_delta": 1},
            {"note": "nothing of ours"},
            {},
            {"synergy_reliability": 2},
        ])),
        EntriesAre::Deltas,
        None,
    );
    let rewards: Vec<f64> = read.samples.iter().map(|s| s.roi_delta).collect();
    assert_eq!(rewards, [0.5, 0.25, 1.0]);
    assert_eq!(read.samples[2].deltas, [0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    assert_eq!((read.skipped_values, read.skipped_rows), (5, 3));
    assert!(samples(&[], EntriesAre::Auto, None).samples.is_empty());
}

#[test]
fn a_reward_made_of_the_metric_roi_does_not_judge_that_metric() {
    let read =
        samples(&rows(json!([{"synergy_roi": 0.5, "synergy_efficiency": 0.1}])), EntriesAre::Deltas, None);
    assert_eq!(read.samples, [Sample { deltas: [0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], roi_delta: 0.5 }]);
    assert_eq!(read.own_reward, 1);
}

#[test]
fn auto_tells_levels_from_deltas() {
    for seed in 0..40 {
        for count in [20, 50, 400] {
            let deltas = World::new(seed, 0.3).rows(count);
            let rewards: Vec<f64> = std::iter::once(0.0).chain(deltas.iter().map(|s| s.roi_delta)).collect();
            let plain: Vec<[f64; 7]> = deltas.iter().map(|s| s.deltas).collect();
            for rewards in [None, Some(&rewards[..])] {
                let wandering = samples(&history(&levels(&deltas), rewards), EntriesAre::Auto, None);
                assert_eq!(wandering.levels.are, EntriesAre::Levels, "seed {seed}, {count} rows");
                let first = wandering.samples[0];
                assert!((first.deltas[1] - deltas[0].deltas[1]).abs() < 1e-12);
                let rewards = rewards.map(|r| &r[1..]);
                let jumping = samples(&history(&plain, rewards), EntriesAre::Auto, None);
                assert_eq!(jumping.levels.are, EntriesAre::Deltas, "seed {seed}, {count} rows");
                assert_eq!(jumping.samples.len(), count);
            }
        }
    }
}

#[test]
fn a_short_history_is_levels_unless_it_names_its_reward() {
    let plain = json!([{"synergy_roi": 0.01}, {"synergy_roi": 0.03}]);
    assert_eq!(samples(&rows(plain), EntriesAre::Auto, None).levels.are, EntriesAre::Levels);
    let named = json!([{"synergy_roi": 0.01, "roi_delta": 0.2}, {"synergy_roi": 0.03}]);
    assert_eq!(samples(&rows(named), EntriesAre::Auto, None).levels.are, EntriesAre::Deltas);
}

#[test]
fn reading_goes_on_where_it_was() {
    let deltas = World::new(4, 0.3).rows(60);
    let all = history(&levels(&deltas), None);
    let whole = samples(&all, EntriesAre::Auto, None);
    let first = samples(&all[..30], EntriesAre::Auto, None);
    // One row alone could not be told from a delta.
    let second = samples(&all[30..31], EntriesAre::Auto, Some(&first.levels));
    let third = samples(&all[31..], EntriesAre::Auto, Some(&second.levels));
    let parts: Vec<Sample> = [first.samples, second.samples, third.samples].concat();
    assert_eq!(parts, whole.samples);
    assert_eq!(third.levels, whole.levels);
}
