use nightshift_stats::interval::newcombe;
use nightshift_stats::rng::SplitMix64;
use nightshift_stats::stratified::{
    Compared, Excess, Rates, Scored, compare, compare_rates, mean_above_zero,
};

use crate::golden::close;

fn rates(before: (u64, u64), after: (u64, u64)) -> Rates {
    Rates { before, after }
}

#[test]
fn newcombes_own_example() {
    // Newcombe 1998, "Interval estimation for the difference between independent proportions", table II (a).
    let interval = newcombe((48.0, 80.0), (56.0, 70.0), 0.95).unwrap();
    close(interval.low, 0.0524, 5e-5, "low");
    close(interval.high, 0.3339, 5e-5, "high");
    assert!(newcombe((2.0, 1.0), (0.0, 1.0), 0.95).is_err());
    let nothing = newcombe((0.0, 0.0), (0.0, 0.0), 0.95).unwrap();
    assert!(nothing.low < -0.7 && nothing.high > 0.7, "no data says nothing: {nothing:?}");
}

#[test]
fn one_table_is_fishers_with_half_of_the_observed() {
    // Fisher's tea (1935): 3 of 4 right on both sides. P(4) = 1/70, P(3) = 16/70.
    let tea = compare_rates(&[rates((1, 4), (3, 4))]);
    close(tea.p, (1.0 + 16.0 / 2.0) / 70.0, 1e-12, "mid-p");
    assert_eq!((tea.overdispersion, tea.strata), (1.0, 1));
}

#[test]
fn strata_keep_a_wave_from_counting() {
    // By day 10 % fail and by night 50 %; after the change there are more nights. Pooled, it would look worse.
    let wave = [rates((100, 1000), (10, 100)), rates((50, 100), (500, 1000))];
    assert!(compare_rates(&wave).p > 0.4);
    let pooled = compare_rates(&[rates((150, 1100), (510, 1100))]);
    assert!(pooled.p < 1e-6);
    // Half as much again in both.
    assert!(compare_rates(&[rates((100, 1000), (15, 100)), rates((50, 100), (750, 1000))]).p < 1e-5);
}

#[test]
fn the_exact_form_and_the_normal_one_agree_on_many_events() {
    let strata: Vec<Rates> = (0..20).map(|i| rates((40 + i, 200), (48 + i, 210))).collect();
    let exact = compare_rates(&strata);
    let scores: Vec<Excess> = strata
        .iter()
        .map(|s| {
            let others = |(k, n): (u64, u64)| n - k;
            Excess::of([
                Scored { score: 1.0, before: s.before.0, after: s.after.0 },
                Scored { score: 0.0, before: others(s.before), after: others(s.after) },
            ])
        })
        .collect();
    close(exact.z, compare(&scores).z, 0.01, "z");
}

#[test]
fn an_empty_side_and_equal_scores_are_no_evidence() {
    let nothing = |compared: Compared| assert_eq!((compared.z, compared.p), (0.0, 0.5), "{compared:?}");
    nothing(compare_rates(&[]));
    nothing(compare_rates(&[rates((5, 10), (0, 0)), rates((0, 0), (7, 9)), rates((0, 10), (0, 10))]));
    nothing(compare(&[Excess::of([Scored { score: 2.0, before: 5, after: 6 }])]));
    assert!(mean_above_zero(&[1.0; 7]).is_none() && mean_above_zero(&[1.0; 9]).is_none());
}

/// Share of 2,000 runs whose p is at most 5 %, with hours that are good or bad as a whole by `spread`.
fn false_alarms(spread: f64, carried: f64) -> f64 {
    let mut rng = SplitMix64::new(11);
    let mut normal = move || {
        let (u, v) = (1.0 - rng.uniform(), rng.uniform());
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    };
    let mut draws = SplitMix64::new(12);
    let alarms = (0..2000).filter(|_| {
        let mut level = [normal() * spread, normal() * spread];
        let strata: Vec<Rates> = (0..48)
            .map(|_| {
                let mut side = [(0, 40); 2];
                for (side, level) in side.iter_mut().zip(&mut level) {
                    *level = carried * *level + (1.0 - carried * carried).sqrt() * spread * normal();
                    let rate = 1.0 / (1.0 + (2.0 - *level).exp());
                    side.0 = (0..40).filter(|_| draws.chance(rate)).count() as u64;
                }
                rates(side[0], side[1])
            })
            .collect();
        compare_rates(&strata).p <= 0.05
    });
    alarms.count() as f64 / 2000.0
}

#[test]
fn false_alarms_stay_rare_when_hours_follow_one_another() {
    assert!(false_alarms(0.0, 0.0) <= 0.055, "{}", false_alarms(0.0, 0.0));
    assert!(false_alarms(0.4, 0.0) <= 0.07, "{}", false_alarms(0.4, 0.0));
    assert!(false_alarms(0.4, 0.5) <= 0.09, "{}", false_alarms(0.4, 0.5));
}
