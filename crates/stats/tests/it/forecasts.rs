//! The forecaster against statsmodels (fixtures/forecast/make.py), and where it must never fail.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use nightshift_stats::StatsError;
use nightshift_stats::forecast::{Arima, Forecast, Method, forecast, forecast_known, legacy_ema};
use nightshift_stats::rng::SplitMix64;
use nightshift_stats::special::normal_quantile;
use serde_json::Value;

use crate::golden::{close_relative, numbers};

fn goldens() -> Value {
    serde_json::from_str(include_str!("../../../../fixtures/forecast/golden.json")).expect("JSON")
}

fn series_of(golden: &Value, index: &Value) -> Vec<f64> {
    let values = golden["series"][index.as_u64().unwrap() as usize].as_array().unwrap();
    values.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn order_of(case: &Value) -> [usize; 3] {
    serde_json::from_value(case["order"].clone()).unwrap()
}

/// Means near zero are compared on the scale of the interval, not of themselves.
#[track_caller]
fn close_on(scale: f64, got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-6 * want.abs().max(scale), "{what}: {got:e} instead of {want:e}");
}

#[test]
fn fixed_parameters_give_the_numbers_of_statsmodels() {
    let golden = goldens();
    let cases = golden["fixed"].as_array().unwrap();
    assert!(cases.len() >= 60);
    for case in cases {
        let name = format!("series {} order {}", case["series"], case["order"]);
        let series = series_of(&golden, &case["series"]);
        let number = |key: &str| case[key].as_f64().unwrap();
        let (ar, ma) = (numbers(&case["ar"]), numbers(&case["ma"]));
        let model = Arima::at_fixed(order_of(case), number("const"), &ar, &ma, number("sigma2")).unwrap();
        close_relative(model.log_likelihood(&series).unwrap(), number("loglik"), 1e-6, &name);
        let path = model.path(&series, 5).unwrap();
        let ahead = forecast_known(&model, &series, 5, 0.95).unwrap();
        for h in 0..5 {
            let want = |key: &str| numbers(&case[key])[h];
            close_relative(path.variance[h], want("variance"), 1e-6, &name);
            let scale = want("variance").sqrt();
            close_on(scale, path.mean[h], want("mean"), &name);
            close_on(scale, ahead.lower[h], want("lower"), &name);
            close_on(scale, ahead.upper[h], want("upper"), &name);
        }
    }
}

#[test]
fn full_fits_reach_the_likelihood_of_statsmodels() {
    let golden = goldens();
    let (mut reached, mut converged) = (0, 0);
    for case in golden["fits"].as_array().unwrap() {
        if case["converged"] != true {
            continue;
        }
        converged += 1;
        let [p, d, q] = order_of(case);
        let series = series_of(&golden, &case["series"]);
        let fit = forecast(&series, Method::Order { p, d, q, drift: false }, 1, 0.95).unwrap();
        assert_eq!(fit.model.order(), [p, d, q]);
        let want = case["loglik"].as_f64().unwrap();
        // What is reported is what the model has.
        close_relative(fit.model.log_likelihood(&series).unwrap(), fit.log_likelihood, 1e-8, "reported");
        reached += usize::from(fit.log_likelihood >= want - 0.02);
    }
    assert!(converged >= 60, "{converged}");
    assert!(reached as f64 >= 0.95 * f64::from(converged), "{reached} of {converged}");
}

/// Gaussian noise by inversion, seeded.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = SplitMix64::new(seed);
    (0..n).map(|_| normal_quantile(rng.uniform().max(1e-12)).unwrap()).collect()
}

fn autoregression(seed: u64, n: usize, phi: f64) -> Vec<f64> {
    let mut y = 0.0;
    noise(seed, n)
        .into_iter()
        .map(|e| {
            y = phi * y + e;
            y
        })
        .collect()
}

fn walk(seed: u64, n: usize) -> Vec<f64> {
    autoregression(seed, n, 1.0)
}

fn auto(series: &[f64]) -> Forecast {
    forecast(series, Method::Arima, 3, 0.95).unwrap()
}

#[test]
fn differencing_and_orders_follow_the_process() {
    assert_eq!(auto(&walk(1, 200)).model.d, 1);
    let stationary = auto(&autoregression(2, 200, 0.6));
    assert_eq!(stationary.model.d, 0);
    let phi = stationary.model.ar[0];
    assert!((0.4..0.8).contains(&phi), "{phi}");
    let ramp: Vec<f64> = walk(3, 100).iter().zip(0..).map(|(y, t)| y + 3.0 * f64::from(t)).collect();
    let drifting = auto(&ramp);
    assert!((2.0..4.0).contains(&drifting.model.constant), "{}", drifting.model.constant);
    assert!(drifting.mean[2] > drifting.mean[1], "a drift goes on");
    let line: Vec<f64> = noise(13, 100).iter().zip(0..).map(|(e, t)| 0.2 * f64::from(t) + e).collect();
    let ahead = auto(&line);
    assert!((ahead.mean[0] - 20.0).abs() < 1.0 && ahead.model.ma.iter().sum::<f64>() < -0.8, "{ahead:?}");
}

#[test]
fn a_series_in_other_units_gives_the_same_forecast_in_those_units() {
    let base = autoregression(4, 90, 0.7);
    let plain = auto(&base);
    for (scale, shift) in [(1e9, 0.0), (1e-9, 0.0), (1.0, 1e9), (1e9, -1e9), (1e150, 0.0)] {
        let moved: Vec<f64> = base.iter().map(|y| shift + scale * y).collect();
        let other = auto(&moved);
        assert_eq!(other.model.order(), plain.model.order(), "{scale} {shift}");
        let back = (other.mean[0] - shift) / scale;
        assert!((back - plain.mean[0]).abs() < 1e-4, "{scale} {shift}: {back} {}", plain.mean[0]);
    }
}

#[test]
fn every_finite_series_gets_a_finite_forecast() {
    let mut cases: Vec<Vec<f64>> = vec![
        vec![3.0],
        vec![1.0, 2.0],
        vec![1.0, 2.0, 3.0],
        vec![5.0; 40],
        vec![0.0; 3],
        vec![1e308, -1e308, 1e308],
        (0..12).map(|t| 0.01 * f64::from(t)).collect(),
        (0..60).map(f64::from).collect(),
        (0..60).map(|t| f64::from(t).sin()).collect(),
        (0..60).map(|t| f64::from(t % 2)).collect(),
        (0..40).map(|t| 2f64.powi(t)).collect(),
        vec![1e-300, 2e-300, 1e-300],
        vec![f64::NAN, 2.0, f64::NAN],
        (0..50).map(|t| if t == 20 { 1e9 } else { 1.0 }).collect(),
    ];
    let gaps = |(t, y): (usize, f64)| if t % 3 == 0 { f64::NAN } else { y };
    cases.push(walk(5, 60).into_iter().enumerate().map(gaps).collect());
    cases.extend((1..40).map(|n| walk(100 + n as u64, n)));
    let order = |p, d, q| Method::Order { p, d, q, drift: true };
    let methods =
        [Method::Arima, Method::Ema, Method::LegacyEma, Method::Naive, order(2, 1, 2), order(3, 0, 1)];
    for series in &cases {
        for method in methods {
            let f = forecast(series, method, 4, 0.95).unwrap();
            let finite = |xs: &[f64]| xs.len() == 4 && xs.iter().all(|x| x.is_finite());
            assert!(finite(&f.mean) && finite(&f.lower) && finite(&f.upper), "{method:?} {series:?}: {f:?}");
            assert!(f.log_likelihood.is_finite(), "{method:?} {series:?}: {f:?}");
            let ordered = f.lower.iter().zip(&f.upper).all(|(low, high)| low <= high);
            assert!(ordered, "{method:?} {series:?}: {f:?}");
        }
    }
}

#[test]
fn constants_and_short_series_follow_their_rules() {
    let constant = auto(&[0.7; 25]);
    assert_eq!(
        (constant.rule, constant.mean[2], constant.lower[2], constant.upper[2]),
        ("constant", 0.7, 0.7, 0.7)
    );
    let few = auto(&[1.0, 4.0, 2.0]);
    assert_eq!((few.rule, few.model.order(), few.mean[1]), ("last value", [0, 1, 0], 2.0));
    assert!(few.lower[0] < 0.0 && few.upper[0] > 4.0, "three values promise little: {few:?}");
    let line: Vec<f64> = (0..12).map(|t| 0.01 * f64::from(t + 1)).collect();
    let ramp = auto(&line);
    assert_eq!((ramp.rule, ramp.model.order()), ("short series", [0, 1, 0]));
    assert!((ramp.mean[0] - 0.13).abs() < 1e-12, "a ramp goes on");
    for seed in 0..20 {
        let short = auto(&noise(seed, 9));
        assert!(short.model.ar.len() + short.model.ma.len() <= 1, "at most n / 5 parameters");
    }
}

#[test]
fn an_outlier_is_treated_as_missing_and_a_new_level_is_not() {
    let mut spike = autoregression(7, 120, 0.5);
    let clean = auto(&spike);
    spike[60] += 25.0;
    let with = auto(&spike);
    assert_eq!(with.outliers, [60]);
    assert_eq!(with.observed, 119);
    assert!(with.model.sigma2 < 1.2 * clean.model.sigma2, "{} {}", with.model.sigma2, clean.model.sigma2);
    let mut shifted = walk(8, 120);
    shifted[80..].iter_mut().for_each(|y| *y += 30.0);
    assert_eq!(auto(&shifted).outliers, Vec::<usize>::new(), "the walk goes on from its new level");
    let mut newest = walk(9, 120);
    newest[119] += 30.0;
    assert_eq!(auto(&newest).outliers, Vec::<usize>::new(), "nothing after it says what it is");
}

#[test]
fn a_gap_widens_the_interval_and_leading_gaps_change_nothing() {
    let model = Arima::at_fixed([0, 1, 0], 0.0, &[], &[], 1.0).unwrap();
    let path = model.path(&[1.0, 2.0, f64::NAN, f64::NAN], 1).unwrap();
    assert_eq!((path.mean[0], path.variance[0]), (2.0, 3.0));
    let model = Arima::at_fixed([1, 1, 1], 0.0, &[0.5], &[0.3], 2.0).unwrap();
    let tail = walk(10, 30);
    let mut led = vec![f64::NAN; 4];
    led.extend(&tail);
    let want = model.log_likelihood(&tail).unwrap();
    close_relative(model.log_likelihood(&led).unwrap(), want, 1e-12, "leading gap");
}

#[test]
fn ema_fits_its_alpha_and_the_legacy_one_does_not() {
    let ema = forecast(&walk(11, 150), Method::Ema, 1, 0.95).unwrap();
    assert!(1.0 + ema.model.ma[0] > 0.8, "a random walk is smoothed little");
    let ema = forecast(&noise(12, 150), Method::Ema, 1, 0.95).unwrap();
    assert!(1.0 + ema.model.ma[0] < 0.2, "noise is smoothed much");
    let few = forecast(&[1.0, 2.0, 3.0, 4.0], Method::Ema, 1, 0.95).unwrap();
    assert_eq!(few.model.ma, [0.3 - 1.0], "four values fit nothing");
    assert_eq!(legacy_ema(&[1.0, 2.0, 3.0, 4.0]), 2.467);
    assert_eq!(legacy_ema(&[0.5, 1.0, 1.5, 2.0]), 1.2335);
    assert_eq!(legacy_ema(&[9.0, 1.0, 2.0, f64::NAN, 3.0, 4.0, 4.0]), legacy_ema(&[1.0, 2.0, 3.0, 4.0, 4.0]));
    assert_eq!((legacy_ema(&[]), legacy_ema(&[7.0])), (0.0, 0.0));
    let one = forecast(&[7.0], Method::LegacyEma, 2, 0.95).unwrap();
    assert_eq!(one.mean, [7.0, 7.0]);
    let four = forecast(&[1.0, 2.0, 3.0, 4.0], Method::LegacyEma, 1, 0.95).unwrap();
    assert_eq!(four.mean, [2.467]);
    assert!(four.lower[0] < 2.467 && four.upper[0] > 2.467);
}

#[test]
fn intervals_cover_what_they_promise() {
    let (mut inside, mut all) = (0, 0);
    for seed in 0..60 {
        for (n, series) in [(10, walk(seed, 11)), (25, noise(seed, 26)), (80, autoregression(seed, 81, 0.7))]
        {
            let f = forecast(&series[..n], Method::Arima, 1, 0.95).unwrap();
            inside += usize::from((f.lower[0]..=f.upper[0]).contains(&series[n]));
            all += 1;
        }
    }
    let share = inside as f64 / f64::from(all);
    assert!((0.90..=0.99).contains(&share), "{share}");
}

#[test]
fn bad_arguments_are_named() {
    let model = |order, ar: &[f64], sigma2| Arima::at_fixed(order, 0.0, ar, &[], sigma2);
    assert!(matches!(model([1, 0, 0], &[1.1], 1.0), Err(StatsError::Domain { got: 1.1, .. })));
    assert!(matches!(model([2, 0, 0], &[0.1], 1.0), Err(StatsError::Length { left: 1, right: 2, .. })));
    assert!(matches!(model([0, 2, 0], &[], 1.0), Err(StatsError::Domain { what: "d", .. })));
    assert!(matches!(model([0, 0, 0], &[], 0.0), Err(StatsError::Domain { what: "sigma2", .. })));
    let none = forecast(&[f64::NAN; 3], Method::Arima, 1, 0.95).unwrap_err();
    assert_eq!(none, StatsError::Empty { what: "series, its missing values left out," });
    let infinite = forecast(&[1.0, f64::INFINITY], Method::Arima, 1, 0.95).unwrap_err();
    assert!(infinite.to_string().contains("finite or missing"), "{infinite}");
    assert!(forecast(&[1.0], Method::Arima, 1, 1.0).is_err());
    assert!(forecast(&[1.0], Method::Order { p: 30, d: 0, q: 0, drift: false }, 1, 0.9).is_err());
}
