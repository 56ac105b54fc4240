use nightshift_stats::StatsError;
use nightshift_stats::calibrate::{
    Isotonic, Logistic, auc, brier, expected_calibration_error, log_loss, reliability,
};
use nightshift_stats::rng::SplitMix64;
use proptest::prelude::*;
use serde_json::Value;

use crate::golden::{close, golden, numbers};

fn data() -> (Value, Vec<f64>, Vec<bool>) {
    let all = golden("calibrate");
    let scores = numbers(&all["scores"]);
    let labels = serde_json::from_value(all["labels"].clone()).expect("labels");
    (all, scores, labels)
}

#[test]
fn logistic_agrees_with_scikit_learn() {
    let (all, scores, labels) = data();
    let second = numbers(&all["second"]);
    for fit in all["logistic"].as_array().unwrap() {
        let wide = fit["features"] == 2;
        let rows: Vec<Vec<f64>> =
            scores.iter().zip(&second).map(|(a, b)| if wide { vec![*a, *b] } else { vec![*a] }).collect();
        let got = Logistic::fit(&rows, &labels, fit["l2"].as_f64().unwrap()).unwrap();
        close(got.intercept, fit["intercept"].as_f64().unwrap(), 1e-7, "intercept");
        for (w, want) in got.weights.iter().zip(numbers(&fit["weights"])) {
            close(*w, want, 1e-7, "weight");
        }
        let stored: Logistic = serde_json::from_str(&serde_json::to_string(&got).unwrap()).unwrap();
        close(stored.predict(&rows[0]), got.predict(&rows[0]), 1e-14, "prediction after storing");
    }
}

#[test]
fn isotonic_and_measures_agree_with_scikit_learn() {
    let (all, scores, labels) = data();
    let iso = Isotonic::fit(&scores, &labels).unwrap();
    let want = &all["isotonic"];
    for (x, y) in numbers(&want["at"]).into_iter().zip(numbers(&want["value"])) {
        close(iso.predict(x), y, 1e-12, "isotonic");
    }
    let number = |key: &str| all[key].as_f64().unwrap();
    close(auc(&scores, &labels).unwrap(), number("auc"), 1e-13, "auc");
    let coarse: Vec<f64> = scores.iter().map(|s| (s * 10.0).round_ties_even() / 10.0).collect();
    close(auc(&coarse, &labels).unwrap(), number("auc_coarse"), 1e-13, "auc with ties");
    close(brier(&scores, &labels).unwrap(), number("brier"), 1e-13, "brier");
    close(log_loss(&scores, &labels).unwrap(), number("log_loss"), 1e-12, "log loss");
    close(expected_calibration_error(&scores, &labels, 10).unwrap(), number("ece"), 1e-12, "ece");
    let filled: Vec<_> =
        reliability(&scores, &labels, 10).unwrap().into_iter().filter(|b| b.count > 0).collect();
    let (mean, rate) = (numbers(&all["reliability"][0]), numbers(&all["reliability"][1]));
    assert_eq!(filled.len(), mean.len());
    assert_eq!(filled.iter().map(|b| b.count).sum::<u64>(), labels.len() as u64);
    for (bin, (m, r)) in filled.iter().zip(mean.into_iter().zip(rate)) {
        close(bin.mean_probability, m, 1e-12, "mean probability");
        close(bin.true_rate, r, 1e-12, "true rate");
    }
}

#[test]
fn separable_classes_need_a_penalty() {
    let rows = [[0.1], [0.2], [0.8], [0.9]];
    let labels = [false, false, true, true];
    assert!(matches!(Logistic::fit(&rows, &labels, 0.0), Err(StatsError::NotSettled { .. })));
    let fit = Logistic::fit(&rows, &labels, 0.1).unwrap();
    assert!(fit.predict(&[0.9]) > 0.5 && fit.predict(&[0.1]) < 0.5);
}

#[test]
fn bad_input_is_refused() {
    let rows = [[0.1], [0.2]];
    assert!(matches!(Logistic::fit(&rows, &[true], 1.0), Err(StatsError::Length { .. })));
    assert!(matches!(Logistic::fit(&rows, &[true, true], 1.0), Err(StatsError::OneClass { .. })));
    assert!(Logistic::fit(&rows, &[true, false], -1.0).is_err());
    assert!(Logistic::fit(&[[f64::NAN], [0.0]], &[true, false], 1.0).is_err());
    assert!(Logistic::fit(&[vec![1.0], vec![]], &[true, false], 1.0).is_err());
    assert!(Isotonic::fit(&[], &[]).is_err());
    assert!(brier(&[1.2], &[true]).is_err());
    assert!(auc(&[0.1, 0.2], &[true, true]).unwrap_err().to_string().contains("all 2 labels are true"));
    assert!(reliability(&[0.5], &[true], 0).is_err());
    // Certain and wrong: finite all the same.
    assert!(log_loss(&[0.0], &[true]).unwrap().is_finite());
}

#[test]
fn a_collinear_feature_is_fitted_with_a_penalty() {
    let rows: Vec<[f64; 2]> = (0..40).map(|i| [f64::from(i) / 40.0, f64::from(i) / 20.0]).collect();
    let labels: Vec<bool> = (0..40).map(|i| i % 3 != 0 || i > 20).collect();
    let fit = Logistic::fit(&rows, &labels, 1e-6).unwrap();
    assert!(fit.weights.iter().all(|w| w.is_finite()));
}

proptest! {
    #[test]
    fn auc_is_the_share_of_pairs_won(items in prop::collection::vec((0_u8..12, any::<bool>()), 2..60)) {
        let scores: Vec<f64> = items.iter().map(|i| f64::from(i.0)).collect();
        let labels: Vec<bool> = items.iter().map(|i| i.1).collect();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (s, _) in items.iter().filter(|i| i.1) {
            for (t, _) in items.iter().filter(|i| !i.1) {
                pairs += 1.0;
                won += f64::from(u8::from(s > t)) + 0.5 * f64::from(u8::from(s == t));
            }
        }
        if let Ok(got) = auc(&scores, &labels) {
            prop_assert!((got - won / pairs).abs() < 1e-12);
        } else {
            prop_assert_eq!(pairs, 0.0);
        }
    }

    #[test]
    fn isotonic_rises_and_keeps_the_mean(seed in any::<u64>(), n in 1_usize..80) {
        let mut rng = SplitMix64::new(seed);
        let scores: Vec<f64> = (0..n).map(|_| rng.below(20) as f64 / 20.0).collect();
        let labels: Vec<bool> = (0..n).map(|_| rng.chance(0.4)).collect();
        let iso = Isotonic::fit(&scores, &labels).unwrap();
        prop_assert!(iso.y.is_sorted() && iso.x.is_sorted());
        let fitted: f64 = scores.iter().map(|s| iso.predict(*s)).sum();
        let seen = labels.iter().filter(|y| **y).count() as f64;
        prop_assert!((fitted - seen).abs() < 1e-9);
    }

    #[test]
    fn logistic_stands_where_its_gradient_is_zero(seed in any::<u64>(), l2 in 0.01_f64..10.0) {
        let mut rng = SplitMix64::new(seed);
        let rows: Vec<[f64; 2]> = (0..50).map(|_| [rng.uniform() * 4.0 - 2.0, rng.uniform()]).collect();
        let labels: Vec<bool> = rows.iter().map(|r| rng.chance(1.0 / (1.0 + (-r[0]).exp()))).collect();
        prop_assume!(labels.contains(&true) && labels.contains(&false));
        let fit = Logistic::fit(&rows, &labels, l2).unwrap();
        let residual = |i: usize| fit.predict(&rows[i]) - f64::from(u8::from(labels[i]));
        let free: f64 = (0..50).map(residual).sum();
        prop_assert!(free.abs() < 1e-5, "intercept gradient {free}");
        for (j, weight) in fit.weights.iter().enumerate() {
            let g: f64 = (0..50).map(|i| residual(i) * rows[i][j]).sum::<f64>() + l2 * weight;
            prop_assert!(g.abs() < 1e-5, "gradient {g} of weight {j}");
        }
    }
}
