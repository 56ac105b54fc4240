use nightshift_stats::interval::newcombe;
use nightshift_stats::rng::SplitMix64;
use nightshift_stats::stratified::{self, Block, Compared, Levels, compare, mean_above_zero};

use crate::golden::close;

/// Events and trials of both sides of a stratum.
type Rates = [(u64, u64); 2];

fn rates(before: (u64, u64), after: (u64, u64)) -> Rates {
    [before, after]
}

fn block(time: i64, stratum: usize, after: bool, scores: &[(f64, u64)]) -> Block {
    let mut block = Block { time, stratum: Some(stratum), after, ..Block::default() };
    for (score, times) in scores {
        block.add(*score, *times as f64);
    }
    block
}

fn blocks(strata: &[Rates]) -> Vec<Block> {
    let side = |number: usize, after: bool, (events, trials): (u64, u64)| {
        block(number as i64, number, after, &[(1.0, events), (0.0, trials - events)])
    };
    let both = |(number, [before, after]): (usize, &Rates)| {
        [side(number, false, *before), side(number, true, *after)]
    };
    strata.iter().enumerate().flat_map(both).collect()
}

fn compare_rates(strata: &[Rates]) -> Compared {
    stratified::compare_rates(&blocks(strata), None)
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
    close(exact.z, compare(&blocks(&strata), None).z, 0.01, "z");
}

#[test]
fn an_empty_side_and_equal_scores_are_no_evidence() {
    let nothing = |compared: Compared| assert_eq!((compared.z, compared.p), (0.0, 0.5), "{compared:?}");
    nothing(compare_rates(&[]));
    nothing(compare_rates(&[rates((5, 10), (0, 0)), rates((0, 0), (7, 9)), rates((0, 10), (0, 10))]));
    nothing(compare(&[block(0, 0, false, &[(2.0, 5)]), block(1, 0, true, &[(2.0, 6)])], None));
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

/// Hours of `weeks` weeks before a change and of two days after, their levels as asked for; scores 0 and 1.
fn weeks(rng: &mut SplitMix64, weeks: i64, spread: f64, carried: f64) -> Vec<Block> {
    let mut level = 0.0;
    let hours = -168 * weeks..48;
    hours
        .map(|time| {
            let (u, v) = (1.0 - rng.uniform(), rng.uniform());
            let normal = (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos();
            level = carried * level + (1.0_f64 - carried * carried).sqrt() * normal;
            let rate = (0.3 + 0.05 * (time as f64 / 3.82).sin() + spread * level).clamp(0.01, 0.99);
            let events = (0..20).filter(|_| rng.chance(rate)).count() as u64;
            let stratum = time.rem_euclid(168);
            let mut block = block(time, stratum as usize, time >= 0, &[(1.0, events), (0.0, 20 - events)]);
            block.stratum = block.stratum.filter(|stratum| *stratum < 48);
            block
        })
        .collect()
}

#[test]
fn levels_of_hours_are_found_in_weeks_of_baseline() {
    let mut rng = SplitMix64::new(3);
    let even = Levels::of(&weeks(&mut rng, 4, 0.0, 0.0)).unwrap();
    assert!(even.variance < 0.001, "{even:?}");
    let mut mean = (0.0, 0.0);
    for _ in 0..40 {
        let levels = Levels::of(&weeks(&mut rng, 4, 0.1, 0.6)).unwrap();
        mean = (mean.0 + levels.variance / 40.0, mean.1 + levels.persistence / 40.0);
    }
    close(mean.0, 0.01, 0.0015, "variance");
    close(mean.1, 0.6, 0.08, "persistence");
    // One week: the same hours of its days have to do. Two days tell nothing.
    assert!(Levels::of(&weeks(&mut rng, 1, 0.1, 0.6)).is_some());
    let short = weeks(&mut rng, 1, 0.1, 0.6);
    assert!(Levels::of(&short[120..]).is_none());
}

#[test]
fn rough_hours_widen_the_test_by_what_the_weeks_before_say() {
    let mut rng = SplitMix64::new(4);
    let mut alarms = [0.0; 2];
    for _ in 0..1000 {
        let blocks = weeks(&mut rng, 4, 0.1, 0.6);
        for (alarms, levels) in alarms.iter_mut().zip([Levels::of(&blocks), None]) {
            let draws_alone =
                levels.is_none().then_some(Levels { variance: 0.0, persistence: 0.0, freedom: 1.0 });
            let compared = stratified::compare_rates(&blocks, levels.or(draws_alone));
            *alarms += f64::from(u8::from(compared.p <= 0.05)) / 1000.0;
        }
    }
    assert!(alarms[0] <= 0.065 && alarms[1] > 0.12, "{alarms:?}");
}

#[test]
fn what_a_test_could_see_is_what_a_shift_adds() {
    let mut rng = SplitMix64::new(5);
    let calm = weeks(&mut rng, 4, 0.05, 0.5);
    let mut worse = calm.clone();
    for block in worse.iter_mut().filter(|block| block.after) {
        // Every score 0.1 higher.
        block.cubes += 0.3 * block.squares + 0.03 * block.sum + 0.001 * block.count;
        block.squares += 0.2 * block.sum + 0.01 * block.count;
        block.sum += 0.1 * block.count;
    }
    let levels = Levels::of(&calm);
    let (before, after) = (compare(&calm, levels), compare(&worse, levels));
    close(after.z - before.z, 0.1 * before.sight, 0.1, "shift of z");
}

#[test]
fn one_long_side_makes_few_large_scores_no_rarity() {
    // One in a hundred scores 10. Against 4 times as many calls before, chance alone must not pass too often.
    let mut rng = SplitMix64::new(6);
    let alarms = (0..20_000).filter(|_| {
        let mut side = |time, after, calls: u64| {
            let rare = (0..calls).filter(|_| rng.chance(0.02)).count() as u64;
            block(time, 0, after, &[(10.0, rare), (0.0, calls - rare)])
        };
        let before = side(0, false, 800);
        let after = side(1, true, 200);
        compare(&[before, after], None).p <= 0.01
    });
    let share = alarms.count() as f64 / 20_000.0;
    assert!((0.004..=0.0125).contains(&share), "{share}");
}
