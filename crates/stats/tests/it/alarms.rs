//! The e-processes: exact values, the promise under the null, and cells of the planning simulation.

use nightshift_stats::eprocess::{RateAlarm, ReplayAlarm, SlowAlarm, SwitchAlarm};
use nightshift_stats::rng::SplitMix64;
use nightshift_stats::special::{beta_quantile, ln_choose};
use proptest::prelude::*;

use crate::golden::{close_relative, rows};

/// Share of watches of n requests that raise the alarm, each against its own drawn history of 200 requests.
fn switch_alarm_rate(base: f64, candidate: f64, n: usize, runs: u32, alpha: f64) -> f64 {
    let mut rng = SplitMix64::new((base * 1e4) as u64 + n as u64);
    // A started watch depends on the number of failures only; starting is the dear part.
    let mut started: Vec<Option<SwitchAlarm>> = vec![None; 201];
    let mut alarms = 0;
    for _ in 0..runs {
        let k0 = (0..200).filter(|_| rng.chance(base)).count();
        let mut alarm = started[k0]
            .get_or_insert_with(|| SwitchAlarm::new(k0 as u64, 200, alpha).expect("a valid history"))
            .clone();
        alarms += u32::from((0..n).any(|_| alarm.observe(rng.chance(candidate)).alarm));
    }
    f64::from(alarms) / f64::from(runs)
}

#[test]
fn cells_of_the_planning_table_are_reproduced() {
    // Failure rate of base and candidate, requests, share of rollbacks in the table, runs.
    let cells = [
        (0.05, 0.05, 30, 0.015, 1500),
        (0.10, 0.10, 30, 0.024, 1500),
        (0.20, 0.10, 30, 0.002, 1000),
        (0.01, 0.10, 100, 0.852, 400),
        (0.05, 0.15, 100, 0.645, 400),
        (0.05, 0.30, 30, 0.890, 800),
        (0.10, 0.50, 30, 0.986, 800),
        (0.05, 1.00, 10, 1.000, 200),
    ];
    for (base, candidate, n, want, runs) in cells {
        let got = switch_alarm_rate(base, candidate, n, runs, 0.05);
        let error = (want * (1.0_f64 - want) / f64::from(runs)).sqrt();
        // Three standard errors of ours, and as much again for the table's own 1,500 runs.
        let allowed = 4.5 * error + 0.006;
        assert!((got - want).abs() <= allowed, "{base} -> {candidate}, n {n}: {got} instead of {want}");
    }
}

#[test]
fn switch_values_agree_with_a_fine_quadrature() {
    for r in rows("switch") {
        let (k0, n0, fails, n) = (r[0] as u64, r[1] as u64, r[2] as u64, r[3] as u64);
        let mut alarm = SwitchAlarm::new(k0, n0, 0.05).unwrap();
        for i in 0..n {
            alarm.observe(i < fails);
        }
        let got = alarm.state().e_value;
        // 33 points are plenty around the thresholds; far beyond them the tail of the Beta distribution is coarse.
        let tolerance = if r[4] < 1e4 { 0.03 } else { 0.15 };
        close_relative(got, r[4], tolerance, &format!("E for {fails} of {n} against {k0} of {n0}"));
    }
}

#[test]
fn switch_e_has_mean_one_under_its_null() {
    // Exactly: the sum over all outcomes of P_null times E, for several histories and horizons.
    for (k0, n0) in [(0, 0), (0, 200), (10, 200), (3, 12)] {
        let n = 25;
        let (a, b) = (k0 as f64 + 0.5, (n0 - k0) as f64 + 0.5);
        let mut total = 0.0;
        for fails in 0..=n {
            let mut alarm = SwitchAlarm::new(k0, n0, 0.05).unwrap();
            for i in 0..n {
                alarm.observe(i < fails);
            }
            let beta = nightshift_stats::special::ln_beta;
            let null = ln_choose(n, fails) + beta(a + fails as f64, b + (n - fails) as f64) - beta(a, b);
            total += null.exp() * alarm.state().e_value;
        }
        assert!((total - 1.0).abs() < 1e-9, "mean {total} for a history of {k0} of {n0}");
    }
}

#[test]
fn histories_at_the_edge() {
    // No history: nothing is known, so even a dead adapter is not proven worse within a short watch.
    let mut blank = SwitchAlarm::new(0, 0, 0.03).unwrap();
    assert_eq!(blank.state().e_value, 1.0);
    assert!(!(0..30).any(|_| blank.observe(true).alarm));
    // A history that never failed: a failure or two ring, and success never does.
    let mut spotless = SwitchAlarm::new(0, 200, 0.03).unwrap();
    assert!(!(0..500).any(|_| spotless.observe(false).alarm));
    let mut spotless = SwitchAlarm::new(0, 200, 0.03).unwrap();
    let rang = (1..10).find(|_| spotless.observe(true).alarm);
    assert!(matches!(rang, Some(1 | 2)), "{rang:?}");
    let mut later = SwitchAlarm::new(0, 200, 0.03).unwrap();
    assert!(!(0..30).any(|i| later.observe(i == 20).alarm), "one failure among thirty is no evidence");
    // Once raised it stays, whatever follows.
    for _ in 0..1000 {
        spotless.observe(false);
    }
    let state = spotless.state();
    assert!(state.alarm && state.e_value < 1.0, "{state:?}");
    assert_eq!(state.observed, 1000 + rang.unwrap());
    // A history that always failed cannot be undercut.
    let mut dead = SwitchAlarm::new(50, 50, 0.03).unwrap();
    assert!(!(0..200).any(|_| dead.observe(true).alarm));
    assert!(SwitchAlarm::new(3, 2, 0.05).is_err());
    assert!(SwitchAlarm::new(0, 2, 0.0).is_err());
}

#[test]
fn fixed_rate_needs_evidence() {
    // The seed's floor: 85 % success.
    let mut dead = RateAlarm::new(0.15, 0.05).unwrap();
    let rang = (1..=10).find(|_| dead.observe(true).alarm);
    assert!(matches!(rang, Some(2..=4)), "{rang:?}");
    // At the floor itself: at most alpha, whatever the number of looks.
    let mut rng = SplitMix64::new(11);
    let runs = 2000;
    let alarms = (0..runs)
        .filter(|_| {
            let mut alarm = RateAlarm::new(0.15, 0.05).unwrap();
            (0..200).any(|_| alarm.observe(rng.chance(0.15)).alarm)
        })
        .count();
    assert!((alarms as f64) < 0.05 * f64::from(runs) + 3.0 * 9.7, "{alarms} of {runs}");
    // Above the cap of the alternatives the alarm is silent, not wrong.
    let mut near_one = RateAlarm::new(0.99, 0.05).unwrap();
    assert!(!(0..100).any(|_| near_one.observe(true).alarm));
    assert!(RateAlarm::new(0.0, 0.05).is_err() && RateAlarm::new(1.0, 0.05).is_err());
}

/// Lognormal costs around 150 with sigma 0.6 (Box-Muller).
fn cost(rng: &mut SplitMix64, factor: f64) -> f64 {
    let radius = (-2.0 * (1.0 - rng.uniform()).ln()).sqrt();
    factor * 150.0 * (0.6 * radius * (std::f64::consts::TAU * rng.uniform()).cos()).exp()
}

#[test]
fn slow_adapters_are_seen_and_equal_ones_are_not() {
    let mut rng = SplitMix64::new(3);
    // Table 4.5(b): factor, requests, share of alarms at alpha 0.05.
    for (factor, n, want) in [(1.0, 30, 0.021), (2.0, 30, 0.988), (1.5, 100, 0.954)] {
        let runs = 300;
        let alarms = (0..runs)
            .filter(|_| {
                let baseline: Vec<f64> = (0..200).map(|_| cost(&mut rng, 1.0)).collect();
                let mut alarm = SlowAlarm::new(&baseline, 0.05).unwrap();
                (0..n).any(|_| alarm.observe(cost(&mut rng, factor)).alarm)
            })
            .count();
        let got = alarms as f64 / f64::from(runs);
        assert!((got - want).abs() < 0.045, "x{factor}, n {n}: {got} instead of {want}");
    }
}

#[test]
fn slow_alarm_edges() {
    let constant = SlowAlarm::new(&[5.0; 40], 0.02).unwrap();
    assert_eq!(constant.limits(), (5.0, 5.0));
    let mut same = constant.clone();
    assert!(!(0..100).any(|_| same.observe(5.0).alarm));
    let mut hung = constant;
    assert!((0..10).any(|_| hung.observe(f64::NAN).alarm), "a request without a cost counts as slow");
    assert!(SlowAlarm::new(&[], 0.02).is_err());
    assert!(SlowAlarm::new(&[1.0, f64::INFINITY], 0.02).is_err());
    assert!(SlowAlarm::new(&[1.0], 1.0).is_err());
}

#[test]
fn replay_counts_discordant_pairs_only() {
    let mut alarm = ReplayAlarm::new(0.05).unwrap();
    for _ in 0..50 {
        assert_eq!(alarm.observe(true, true).e_value, 1.0);
        assert_eq!(alarm.observe(false, false).e_value, 1.0);
    }
    assert_eq!(alarm.pairs(), 100);
    let rang = (1..20).find(|_| alarm.observe(true, false).alarm).unwrap();
    assert!((5..=7).contains(&rang), "{rang}");
    // By hand: mean over t of (2t)^2 * 2(1-t) after two worse and one better.
    let mut mixed = ReplayAlarm::new(0.05).unwrap();
    mixed.observe(true, false);
    mixed.observe(true, false);
    let state = mixed.observe(false, true);
    let want: f64 =
        [0.6_f64, 0.7, 0.8, 0.9, 0.97].iter().map(|t| (2.0 * t).powi(2) * 2.0 * (1.0 - t)).sum::<f64>() / 5.0;
    assert!((state.e_value - want).abs() < 1e-12);
    assert_eq!((state.events, state.observed), (2, 3));
    assert!(ReplayAlarm::new(-1.0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The mean of E over draws from the null stays at one or below, at any horizon.
    #[test]
    fn e_is_a_martingale_under_the_null(seed in any::<u64>(), k0 in 1_u64..60, n in 1_usize..60) {
        let mut rng = SplitMix64::new(seed);
        let (a, b) = (k0 as f64 + 0.5, (200 - k0) as f64 + 0.5);
        let start = SwitchAlarm::new(k0, 200, 0.05).unwrap();
        let fixed = RateAlarm::new(0.15, 0.05).unwrap();
        let runs = 300;
        let (mut switch, mut rate) = (0.0, 0.0);
        for _ in 0..runs {
            let p = beta_quantile(a, b, rng.uniform()).unwrap();
            let (mut s, mut f) = (start.clone(), fixed.clone());
            for _ in 0..n {
                s.observe(rng.chance(p));
                f.observe(rng.chance(0.15));
            }
            // E has a heavy tail; cutting it at 20 keeps the mean below one and the noise small.
            switch += s.state().e_value.min(20.0);
            rate += f.state().e_value.min(20.0);
        }
        let runs = f64::from(runs);
        prop_assert!(switch / runs < 1.5 && rate / runs < 1.5, "{} {}", switch / runs, rate / runs);
    }

    /// Failures raise E and successes lower it; the order of observations does not matter.
    #[test]
    fn e_depends_on_counts_only(mut outcomes in prop::collection::vec(any::<bool>(), 1..60), seed in any::<u64>()) {
        let run = |xs: &[bool]| {
            let mut alarm = SwitchAlarm::new(12, 150, 1e-9).unwrap();
            xs.iter().map(|x| alarm.observe(*x).e_value).last().unwrap()
        };
        let before = run(&outcomes);
        SplitMix64::new(seed).shuffle(&mut outcomes);
        prop_assert_eq!(before, run(&outcomes));
        let fails = outcomes.iter().filter(|x| **x).count() as u64;
        outcomes.push(true);
        let more = run(&outcomes);
        prop_assert!(more >= before || fails * 150 < 12 * outcomes.len() as u64);
    }
}
