use nightshift_stats::describe::{bootstrap, mean, median, quantile, variance};
use nightshift_stats::rng::SplitMix64;
use proptest::prelude::*;

use crate::golden::{close, golden, numbers};

fn average(xs: &[f64]) -> f64 {
    xs.iter().sum::<f64>() / xs.len() as f64
}

#[test]
fn agrees_with_numpy() {
    let want = golden("describe");
    let xs = numbers(&want["values"]);
    close(mean(&xs).unwrap(), want["mean"].as_f64().unwrap(), 1e-14, "mean");
    close(variance(&xs).unwrap(), want["variance"].as_f64().unwrap(), 1e-13, "variance");
    for pair in want["quantiles"].as_array().unwrap() {
        let pair = numbers(pair);
        close(quantile(&xs, pair[0]).unwrap(), pair[1], 1e-14, "quantile");
    }
    assert_eq!(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5);
}

#[test]
fn variance_survives_a_large_offset() {
    let xs: Vec<f64> = [4.0, 7.0, 13.0, 16.0].iter().map(|x| x + 1e9).collect();
    close(variance(&xs).unwrap(), 30.0, 1e-9, "variance beside 1e9");
    assert_eq!(variance(&[5.0]).unwrap(), 0.0);
}

#[test]
fn refuses_nothing_and_nan() {
    assert_eq!(mean(&[]).unwrap_err().to_string(), "values is empty: at least one value is needed");
    assert!(median(&[1.0, f64::NAN]).is_err());
    assert!(quantile(&[1.0], 1.5).is_err());
    assert!(bootstrap(&[1.0], average, 0, 0.9, 1).is_err());
    assert!(bootstrap(&[0.0, 1.0], |_| f64::NAN, 10, 0.9, 1).is_err());
}

#[test]
fn bootstrap_repeats_with_its_seed_and_covers() {
    let mut rng = SplitMix64::new(5);
    let mut covered = 0;
    for trial in 0..300 {
        // Exponential with mean 1.
        let xs: Vec<f64> = (0..60).map(|_| -(1.0 - rng.uniform()).ln()).collect();
        let interval = bootstrap(&xs, average, 300, 0.9, trial).unwrap();
        assert_eq!(interval, bootstrap(&xs, average, 300, 0.9, trial).unwrap());
        covered += u32::from(interval.contains(1.0));
    }
    // 90 % nominal, about 87 % for a skewed mean at n = 60; standard error 1.9 points.
    assert!((246..=285).contains(&covered), "{covered} of 300 cover");
}

#[test]
fn the_generator_is_pinned_and_even() {
    // First outputs of the reference implementation for the seed 1234567.
    let mut rng = SplitMix64::new(1234567);
    let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
    assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    let mut counts = [0_u32; 7];
    for _ in 0..70_000 {
        counts[rng.below(7)] += 1;
    }
    let chi2: f64 = counts.iter().map(|c| (f64::from(*c) - 1e4).powi(2) / 1e4).sum();
    assert!(chi2 < 22.5, "chi-squared {chi2} with 6 degrees of freedom");
    assert_eq!(rng.below(0), 0);
    let mut deck: Vec<usize> = (0..52).collect();
    rng.shuffle(&mut deck);
    assert_ne!(deck, (0..52).collect::<Vec<_>>());
    deck.sort_unstable();
    assert_eq!(deck, (0..52).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn quantiles_rise_and_stay_within(mut xs in prop::collection::vec(-1e6_f64..1e6, 1..60), p in 0.0_f64..1.0, q in 0.0_f64..1.0) {
        let (low, high) = (p.min(q), p.max(q));
        let (a, b) = (quantile(&xs, low).unwrap(), quantile(&xs, high).unwrap());
        xs.sort_by(f64::total_cmp);
        prop_assert!(a <= b + 1e-9 && a >= xs[0] && b <= xs[xs.len() - 1]);
    }
}
