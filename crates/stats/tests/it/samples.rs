//! Rank, exact and trend tests, change points: SciPy, ruptures and pymannkendall (fixtures/stats/make_tests.py).

use nightshift_stats::change::{CountSums, Fit, Levels, Sums, Within, changes};
use nightshift_stats::count::{TwoByTwo, fisher, poisson_at_most, poisson_tail};
use nightshift_stats::multiple::benjamini_hochberg;
use nightshift_stats::rank::{kolmogorov_smirnov, kolmogorov_tail, mann_whitney};
use nightshift_stats::rng::SplitMix64;
use nightshift_stats::special::ln_gamma;
use nightshift_stats::trend::{mann_kendall, theil_sen};
use proptest::prelude::*;
use serde_json::Value;

use crate::golden::{close, close_relative, numbers};

fn golden(key: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../../fixtures/stats/tests.json"))
        .expect("tests.json is JSON");
    let value = all[key].clone();
    assert!(!value.is_null(), "tests.json has no {key}");
    value
}

fn list(key: &str) -> Vec<Value> {
    golden(key).as_array().expect("a list").clone()
}

/// Values of two samples as ascending classes.
fn classes(x: &[f64], y: &[f64]) -> Vec<(u64, u64)> {
    let mut all: Vec<f64> = x.iter().chain(y).copied().collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let count = |values: &[f64], class: f64| values.iter().filter(|v| **v == class).count() as u64;
    all.iter().map(|class| (count(x, *class), count(y, *class))).collect()
}

#[test]
fn rank_tests_agree_with_scipy() {
    for case in list("mann_whitney") {
        let test = mann_whitney(&classes(&numbers(&case["x"]), &numbers(&case["y"])));
        close(test.u, case["u"].as_f64().unwrap(), 1e-14, "U");
        close_relative(test.p, case["p"].as_f64().unwrap(), 1e-10, "Mann-Whitney p");
    }
    for case in list("kolmogorov_smirnov") {
        let test = kolmogorov_smirnov(&classes(&numbers(&case["x"]), &numbers(&case["y"])));
        close(test.distance, case["distance"].as_f64().unwrap(), 1e-14, "D");
    }
    for row in list("kolmogorov_tail") {
        let row = numbers(&row);
        close_relative(kolmogorov_tail(row[0]), row[1], 1e-9, "Kolmogorov tail");
    }
    assert_eq!(mann_whitney(&[(3, 0)]).p, 1.0, "one sample says nothing");
    assert_eq!(mann_whitney(&[(3, 9)]).p, 1.0, "one class says nothing");
    assert_eq!(kolmogorov_smirnov(&[(0, 9)]).p, 1.0);
}

#[test]
fn exact_tests_agree_with_scipy() {
    for row in list("fisher") {
        let row = numbers(&row);
        let n = |i: usize| row[i] as u64;
        let test = fisher(TwoByTwo { hits: n(0), of: n(1), other_hits: n(2), other_of: n(3) }).unwrap();
        close_relative(test.greater, row[4], 1e-9, "greater");
        close_relative(test.less, row[5], 1e-9, "less");
        close_relative(test.two_sided, row[6], 1e-9, "two-sided");
    }
    assert!(fisher(TwoByTwo { hits: 3, of: 2, other_hits: 0, other_of: 1 }).is_err());
    for row in list("poisson") {
        let row = numbers(&row);
        close_relative(poisson_tail(row[0] as u64, row[1]).unwrap(), row[2], 1e-10, "Poisson tail");
        close_relative(poisson_at_most(row[0] as u64, row[1]).unwrap(), row[3], 1e-10, "Poisson head");
    }
    assert_eq!((poisson_tail(1, 0.0).unwrap(), poisson_at_most(0, 0.0).unwrap()), (0.0, 1.0));
    assert!(poisson_tail(1, -1.0).is_err() && poisson_at_most(1, f64::NAN).is_err());
}

#[test]
fn many_tests_agree_with_scipy() {
    let case = golden("benjamini_hochberg");
    let adjusted = benjamini_hochberg(&numbers(&case["p"]));
    for (got, want) in adjusted.iter().zip(numbers(&case["adjusted"])) {
        close_relative(*got, want, 1e-12, "q");
    }
    assert_eq!(benjamini_hochberg(&[f64::NAN, 0.01]), [1.0, 0.02]);
    assert!(benjamini_hochberg(&[]).is_empty());
}

#[test]
fn change_points_agree_with_ruptures() {
    for case in list("pelt") {
        let y = numbers(&case["y"]);
        let sums = Sums::of(y.iter().map(|y| (*y, 1.0)));
        let found = changes(&sums, case["penalty"].as_f64().unwrap());
        assert_eq!(Value::from(found), case["changes"]);
    }
    assert!(changes(&Sums::of([]), 1.0).is_empty());
    assert!(changes(&Sums::of([(2.0, 1.0)]), 1.0).is_empty());
    assert!(changes(&CountSums::of([(3.0, 0.0), (0.0, 0.0)]), 1.0).is_empty());
}

#[test]
fn trends_agree_with_scipy_and_pymannkendall() {
    for case in list("theil_sen") {
        let y = numbers(&case["y"]);
        let x: Vec<f64> = (0..y.len()).map(|i| i as f64).collect();
        let line = theil_sen(&x, &y, 0.95).unwrap();
        for (got, key) in [
            (line.slope, "slope"),
            (line.intercept, "intercept"),
            (line.interval.low, "low"),
            (line.interval.high, "high"),
        ] {
            close(got, case[key].as_f64().unwrap(), 1e-12, key);
        }
    }
    for case in list("mann_kendall") {
        let test = mann_kendall(&numbers(&case["y"])).unwrap();
        let want = |key: &str| case[key].as_f64().unwrap();
        close(test.s, want("s"), 1e-14, "S");
        close(test.tau, want("tau"), 1e-12, "tau");
        close(test.correction, want("correction").max(1.0), 1e-9, "correction");
        if want("correction") >= 1.0 {
            close(test.z, want("z"), 1e-9, "z");
            close_relative(test.p, want("p"), 1e-8, "p");
        } else {
            close(test.z, want("naive_z"), 1e-9, "z without a correction below 1");
        }
    }
    assert_eq!(mann_kendall(&[1.0, 2.0, 3.0]).unwrap().p, 1.0);
    assert_eq!(mann_kendall(&[2.0; 9]).unwrap().p, 1.0);
    assert!(mann_kendall(&[1.0, f64::NAN]).is_err());
    assert!(theil_sen(&[1.0, 1.0], &[1.0, 2.0], 0.9).is_err());
    assert!(theil_sen(&[1.0], &[1.0, 2.0], 0.9).is_err());
}

#[test]
fn a_change_of_counts_is_found_where_it_is() {
    let mut rng = SplitMix64::new(3);
    let counts: Vec<(f64, f64)> = (0..100)
        .map(|hour| {
            let rate = if (60..70).contains(&hour) { 0.5 } else { 0.03 };
            ((0..20).filter(|_| rng.chance(rate)).count() as f64, 20.0)
        })
        .collect();
    let sums = CountSums::of(counts);
    assert_eq!(changes(&sums, 15.0), [60, 70]);
}

/// A few levels with noise, and weights that are now and then 0.
fn levels(range: std::ops::Range<f64>) -> impl Strategy<Value = Vec<(f64, f64)>> {
    let weight = prop_oneof![1 => Just(0.0), 9 => 0.1_f64..3.0];
    let stretch = (range, prop::collection::vec((-1.0_f64..1.0, weight), 1..40));
    let stretches = prop::collection::vec(stretch, 1..5);
    stretches.prop_map(|stretches| {
        stretches
            .into_iter()
            .flat_map(|(level, noise)| noise.into_iter().map(move |(noise, weight)| (level + noise, weight)))
            .collect()
    })
}

/// The cost of what `changes` found, and that of the best of all segmentations, found the slow way.
fn costs(series: &impl Levels, penalty: f64) -> (f64, f64) {
    let mut ends = changes(series, penalty);
    let mut found = penalty * ends.len() as f64;
    ends.push(series.length());
    let mut start = 0;
    for end in ends {
        found += series.fit(start, end).cost;
        start = end;
    }
    let mut best = vec![-penalty];
    for end in 1..=series.length() {
        let least = (0..end).map(|start| best[start] + penalty + series.fit(start, end).cost);
        best.push(least.fold(f64::INFINITY, f64::min));
    }
    (found, best[series.length()])
}

/// Counts how often it is asked.
struct Asked<L>(L, std::cell::Cell<usize>);

impl<L: Levels> Levels for Asked<L> {
    fn length(&self) -> usize {
        self.0.length()
    }

    fn fit(&self, start: usize, end: usize) -> Fit {
        self.1.set(self.1.get() + 1);
        self.0.fit(start, end)
    }

    fn within(fit: Fit, more: f64) -> Within {
        L::within(fit, more)
    }
}

#[test]
fn a_series_that_never_changes_costs_little() {
    let mut rng = SplitMix64::new(5);
    let hits: Vec<f64> = (0..2000).map(|_| (0..20).filter(|_| rng.chance(0.1)).count() as f64).collect();
    let means = Asked(Sums::of(hits.iter().map(|hits| (*hits, 0.5))), 0.into());
    let rates = Asked(CountSums::of(hits.iter().map(|hits| (*hits, 20.0))), 0.into());
    assert!(changes(&means, 30.0).is_empty());
    assert!(changes(&rates, 30.0).is_empty());
    for asked in [means.1.get(), rates.1.get()] {
        assert!(asked < 15 * 2000, "{asked}");
    }
}

proptest! {
    #[test]
    fn changes_of_means_are_the_best(values in levels(-3.0..3.0), penalty in 0.5_f64..9.0) {
        let sums = Sums::of(values.iter().map(|(v, weight)| (*v, *weight)));
        let (found, least) = costs(&sums, penalty);
        prop_assert!((found - least).abs() < 1e-6, "{} instead of {}", found, least);
    }

    #[test]
    fn changes_of_rates_are_the_best(rates in levels(-9.0..2.0), seed in 0_u64..1000, penalty in 0.5_f64..9.0) {
        let mut rng = SplitMix64::new(seed);
        let hits = rates.iter().map(|(ln, exposure)| {
            let tries = (exposure * 20.0) as usize;
            ((0..tries).filter(|_| rng.chance(ln.exp().min(1.0))).count() as f64, *exposure)
        });
        let (found, least) = costs(&CountSums::of(hits), penalty);
        prop_assert!((found - least).abs() < 1e-6, "{} instead of {}", found, least);
    }

    #[test]
    fn poisson_parts_add_up(k in 0_u64..400, mean in 0.001_f64..400.0) {
        let (above, below) = (poisson_tail(k + 1, mean).unwrap(), poisson_at_most(k, mean).unwrap());
        prop_assert!((above + below - 1.0).abs() < 1e-11);
        let mass = (k as f64 * mean.ln() - mean - ln_gamma(k as f64 + 1.0)).exp();
        prop_assert!((poisson_tail(k, mean).unwrap() - above - mass).abs() < 1e-11);
    }

    #[test]
    fn samples_of_one_kind_are_rarely_different(trial in 0_u64..200) {
        let mut rng = SplitMix64::new(trial);
        let classes: Vec<(u64, u64)> = (0..20).map(|_| (rng.below(5) as u64, rng.below(5) as u64)).collect();
        prop_assert!(mann_whitney(&classes).p > 1e-4);
        prop_assert!(kolmogorov_smirnov(&classes).p > 1e-4);
    }
}
