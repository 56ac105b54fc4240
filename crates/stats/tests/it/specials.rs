use nightshift_stats::special::{
    beta_cdf, beta_quantile, binomial_tail, ln_beta, ln_choose, ln_gamma, normal_cdf, normal_quantile,
};
use proptest::prelude::*;

use crate::golden::{close, close_relative, rows};

#[test]
fn agree_with_scipy() {
    for r in rows("normal_quantile") {
        close(normal_quantile(r[0]).unwrap(), r[1], 1e-13, "normal quantile");
    }
    for r in rows("normal_cdf") {
        close_relative(normal_cdf(r[0]), r[1], 1e-12, "normal cdf");
    }
    for r in rows("ln_gamma") {
        close(ln_gamma(r[0]), r[1], 1e-14, "ln gamma");
    }
    for r in rows("ln_beta") {
        close(ln_beta(r[0], r[1]), r[2], 1e-14, "ln beta");
    }
    for r in rows("beta_cdf") {
        close_relative(beta_cdf(r[0], r[1], r[2]).unwrap(), r[3], 1e-12, "beta cdf");
    }
    for r in rows("beta_quantile") {
        close_relative(beta_quantile(r[0], r[1], r[2]).unwrap(), r[3], 1e-12, "beta quantile");
    }
    for r in rows("binomial_tail") {
        close_relative(binomial_tail(r[0] as u64, r[1], r[2] as u64).unwrap(), r[3], 1e-12, "binomial tail");
    }
}

#[test]
fn choose_counts() {
    close(ln_choose(5, 2), 10_f64.ln(), 1e-14, "5 over 2");
    close(ln_choose(52, 5), 2_598_960_f64.ln(), 1e-14, "52 over 5");
    assert_eq!(ln_choose(7, 0), 0.0);
    assert_eq!(ln_choose(7, 7), 0.0);
}

#[test]
fn refuse_what_they_are_not_defined_for() {
    for bad in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(normal_quantile(bad).is_err(), "{bad}");
    }
    assert!(beta_cdf(0.0, 1.0, 0.5).is_err());
    assert!(beta_cdf(1.0, f64::INFINITY, 0.5).is_err());
    assert!(beta_quantile(1.0, 1.0, 1.1).is_err());
    assert!(binomial_tail(3, -0.1, 1).is_err());
    let message = normal_quantile(2.0).unwrap_err().to_string();
    assert_eq!(message, "probability must be strictly between 0 and 1, got 2");
}

proptest! {
    #[test]
    fn normal_quantile_inverts_the_cdf(p in 1e-12_f64..1.0) {
        prop_assume!(p < 1.0);
        let back = normal_cdf(normal_quantile(p).unwrap());
        prop_assert!(((back - p) / p).abs() < 1e-12, "{p} came back as {back}");
    }

    #[test]
    fn beta_quantile_inverts_the_cdf(a in 0.3_f64..500.0, b in 0.3_f64..500.0, p in 1e-6_f64..0.999) {
        let x = beta_quantile(a, b, p).unwrap();
        let back = beta_cdf(a, b, x).unwrap();
        // Where the density is enormous one unit in the last place of x already moves the probability.
        prop_assert!((back - p).abs() < 1e-9, "Beta({a}, {b}) at {p}: {back}");
    }

    #[test]
    fn beta_cdf_is_symmetric(a in 0.3_f64..300.0, b in 0.3_f64..300.0, x in 0.001_f64..0.999) {
        let sum = beta_cdf(a, b, x).unwrap() + beta_cdf(b, a, 1.0 - x).unwrap();
        prop_assert!((sum - 1.0).abs() < 1e-10, "{sum}");
    }

    #[test]
    fn binomial_tail_falls(n in 1_u64..300, p in 0.0_f64..1.0, k in 0_u64..300) {
        let here = binomial_tail(n, p, k).unwrap();
        let next = binomial_tail(n, p, k + 1).unwrap();
        prop_assert!((0.0..=1.0).contains(&here) && next <= here + 1e-12);
    }
}

#[test]
fn student_quantiles_match_the_tables() {
    use nightshift_stats::special::student_quantile;
    // Fisher and Yates, table III; the last is the normal limit.
    for (p, freedom, want) in [
        (0.975, 1.0, 12.7062047362),
        (0.975, 4.0, 2.7764451052),
        (0.95, 10.0, 1.8124611228),
        (0.975, 1e7, 1.9599642217),
    ] {
        let got = student_quantile(p, freedom).unwrap();
        assert!((got - want).abs() < 1e-7, "{p} {freedom}: {got}");
    }
    assert_eq!(student_quantile(0.5, 3.0).unwrap(), 0.0);
    assert!(student_quantile(0.1, 3.0).unwrap() < 0.0);
    assert!(student_quantile(0.9, 0.0).is_err() && student_quantile(1.0, 3.0).is_err());
}
