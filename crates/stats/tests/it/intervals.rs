use nightshift_stats::interval::{
    clopper_pearson, clopper_pearson_lower, clopper_pearson_upper, wilson, wilson_lower, wilson_upper,
};
use nightshift_stats::special::ln_choose;
use proptest::prelude::*;

use crate::golden::{close, rows};

#[test]
fn agree_with_statsmodels() {
    for r in rows("wilson") {
        let i = wilson(r[0] as u64, r[1] as u64, r[2]).unwrap();
        close(i.low, r[3], 1e-12, "wilson low");
        close(i.high, r[4], 1e-12, "wilson high");
    }
    for r in rows("clopper_pearson") {
        let i = clopper_pearson(r[0] as u64, r[1] as u64, r[2]).unwrap();
        close(i.low, r[3], 1e-12, "exact low");
        close(i.high, r[4], 1e-12, "exact high");
    }
    for r in rows("one_sided") {
        let (k, n, c) = (r[0] as u64, r[1] as u64, r[2]);
        close(wilson_lower(k, n, c).unwrap(), r[3], 1e-12, "wilson lower");
        close(wilson_upper(k, n, c).unwrap(), r[4], 1e-12, "wilson upper");
        close(clopper_pearson_lower(k, n, c).unwrap(), r[5], 1e-12, "exact lower");
        close(clopper_pearson_upper(k, n, c).unwrap(), r[6], 1e-12, "exact upper");
    }
}

#[test]
fn no_data_says_nothing_and_bad_data_is_refused() {
    for i in [wilson(0, 0, 0.95).unwrap(), clopper_pearson(0, 0, 0.95).unwrap()] {
        assert_eq!((i.low, i.high), (0.0, 1.0));
    }
    assert!(wilson(3, 2, 0.95).unwrap_err().to_string().contains("at most the number of trials"));
    assert!(clopper_pearson(1, 2, 1.0).is_err());
    assert!(wilson_lower(1, 2, f64::NAN).is_err());
}

#[test]
fn exact_interval_covers_at_least_nominally() {
    let n = 40;
    let intervals: Vec<_> = (0..=n).map(|k| clopper_pearson(k, n, 0.9).unwrap()).collect();
    for step in 1..100 {
        let p = f64::from(step) / 100.0;
        let covered: f64 = (0..=n)
            .filter(|k| intervals[*k as usize].contains(p))
            .map(|k| (ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp())
            .sum();
        assert!(covered >= 0.9 - 1e-9, "coverage {covered} at {p}");
    }
}

proptest! {
    #[test]
    fn hold_the_observed_rate_and_grow_with_confidence(n in 1_u64..2000, share in 0.0_f64..=1.0) {
        let k = (share * n as f64) as u64;
        let rate = k as f64 / n as f64;
        let slack = |x: f64, low: f64, high: f64| x >= low - 1e-12 && x <= high + 1e-12;
        for f in [wilson, clopper_pearson] {
            let (narrow, wide) = (f(k, n, 0.8).unwrap(), f(k, n, 0.99).unwrap());
            prop_assert!(slack(rate, narrow.low, narrow.high));
            prop_assert!(wide.low <= narrow.low + 1e-12 && wide.high >= narrow.high - 1e-12);
            prop_assert!(wide.low >= 0.0 && wide.high <= 1.0);
        }
    }
}
