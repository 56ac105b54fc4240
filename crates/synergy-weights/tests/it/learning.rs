//! What is learned, and what is not.

use nightshift_synergy_weights::learn::{Evidence, Kind, Learned, Options, Sample, Session};

use crate::world::{BETA, World, cosine, regret};

fn learn(kind: Kind, from_scratch: bool, seed: u64, rows: &[Sample]) -> Learned {
    let options = Options { kind, seed, from_scratch, ..Options::default() };
    Session::start([1.0; 7], &options).observe(rows).unwrap()
}

/// Mean cosine and regret over worlds.
fn recovery(kind: Kind, from_scratch: bool, worlds: u64, rows: usize) -> (f64, f64) {
    let learned: Vec<[f64; 7]> = (0..worlds)
        .map(|seed| learn(kind, from_scratch, seed, &World::new(300 + seed, 0.3).rows(rows)).weights)
        .collect();
    let mean = |of: &dyn Fn(&[f64; 7]) -> f64| learned.iter().map(of).sum::<f64>() / worlds as f64;
    (mean(&|w| cosine(w, &BETA)), mean(&|w| regret(w, &BETA, 1000)))
}

#[test]
fn the_critic_recovers_what_a_regression_does() {
    for (rows, worlds, least, most) in
        [(50, 200, 0.82, 0.15), (200, 40, 0.945, 0.085), (1000, 12, 0.985, 0.065)]
    {
        let (cosine, regret) = recovery(Kind::ActorCritic, false, worlds, rows);
        assert!(cosine >= least && regret <= most, "{rows} rows: cosine {cosine}, regret {regret}");
    }
}

#[test]
fn deep_learners_do_not_fall_behind_once_adopted() {
    for kind in [Kind::Dqn, Kind::DoubleDqn, Kind::Td3, Kind::Sac] {
        let (cosine, regret) = recovery(kind, false, 3, 200);
        assert!(cosine >= 0.91 && regret <= 0.11, "{kind}: cosine {cosine}, regret {regret}");
    }
}

#[test]
fn deep_learners_learn_by_themselves() {
    for kind in [Kind::Dqn, Kind::DoubleDqn, Kind::Td3, Kind::Sac] {
        let (cosine, _) = recovery(kind, true, 4, 200);
        assert!(cosine >= 0.84, "{kind}: cosine {cosine}, unit weights have 0.61");
    }
}

#[test]
fn noise_moves_nothing() {
    for seed in 0..60 {
        let learned = learn(Kind::ActorCritic, false, seed, &World::new(9000 + seed, 0.0).rows(200));
        assert!(
            learned.weights.iter().all(|w| (w - 1.0).abs() <= 0.25),
            "seed {seed}: {:?}",
            learned.weights
        );
        assert!(!learned.enough && learned.p > learned.level);
        assert!(learned.evidence.iter().all(|e| e.to_string() == "no evidence"), "{:?}", learned.evidence);
    }
}

#[test]
fn of_short_histories_of_noise_one_in_twenty_moves_a_weight() {
    for rows in [16, 50, 100] {
        let far = |seed: &u64| {
            let learned = learn(Kind::ActorCritic, false, 0, &World::new(40_000 + seed, 0.0).rows(rows));
            learned.weights.iter().any(|w| (w - 1.0).abs() > 0.25)
        };
        let moved = (0..100).filter(far).count();
        // Three standard errors above five.
        assert!(moved <= 11, "{moved} of 100 with {rows} rows");
    }
}

#[test]
fn what_only_hurts_loses_its_weight_and_nothing_gains() {
    let mut world = World::new(12, 0.3);
    world.beta = [0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0];
    let learned = learn(Kind::ActorCritic, false, 0, &world.rows(80));
    assert!(learned.enough && learned.evidence[3].to_string() == "strong evidence that it hurts");
    assert!(learned.weights[3] < 0.2, "{:?}", learned.weights);
    for (i, weight) in learned.weights.iter().enumerate().filter(|(i, _)| *i != 3) {
        assert!((0.75..=1.0).contains(weight), "{i}: {:?}", learned.weights);
    }
}

#[test]
fn a_change_of_the_rules_is_noticed_and_followed() {
    let mut world = World::new(21, 0.3);
    let mut rows = world.rows(500);
    world.beta.rotate_right(4);
    rows.extend(world.rows(250));
    let learned = learn(Kind::ActorCritic, false, 0, &rows);
    assert_eq!(learned.changes.len(), 1, "{:?}", learned.changes);
    assert!(learned.changes[0].abs_diff(501) < 40, "{:?}", learned.changes);
    assert!(cosine(&learned.weights, &world.beta) > 0.9, "{:?}", learned.weights);
}

#[test]
fn effects_come_with_sign_error_and_words() {
    let learned = learn(Kind::ActorCritic, false, 0, &World::new(5, 0.3).rows(1000));
    for (i, beta) in BETA.iter().enumerate() {
        assert!((learned.signed[i] - beta).abs() < 4.0 * learned.stderr[i], "{i}: {learned:?}");
        assert!((learned.z[i] - learned.signed[i] / learned.stderr[i]).abs() < 1e-12);
    }
    // Noise of variance 2.9 and an explained share of each metric of its own of 0.64 at least.
    assert!((0.03..0.09).contains(&learned.stderr[0]), "{}", learned.stderr[0]);
    assert!(learned.enough && learned.p < 1e-10);
    assert_eq!(learned.evidence[0].to_string(), "strong evidence that it helps");
    assert_eq!(learned.evidence[3].to_string(), "strong evidence that it hurts");
    assert!(learned.weights[3] < 0.01, "what hurts has no weight; its effect keeps its sign");
}

#[test]
fn the_size_of_units_does_not_matter() {
    let rows = World::new(6, 0.3).rows(200);
    let scaled: Vec<Sample> = rows
        .iter()
        .map(|row| Sample { deltas: row.deltas.map(|d| 1e9 * d), roi_delta: 1e-3 * row.roi_delta })
        .collect();
    let (plain, scaled) =
        (learn(Kind::ActorCritic, false, 0, &rows), learn(Kind::ActorCritic, false, 0, &scaled));
    for i in 0..7 {
        assert!((plain.weights[i] - scaled.weights[i]).abs() < 1e-6);
        assert!((plain.signed[i] * 1e-12 - scaled.signed[i]).abs() < 1e-18);
    }
}

#[test]
fn a_metric_that_never_varies_keeps_its_weight() {
    let mut rows = World::new(7, 0.3).rows(300);
    for row in &mut rows {
        row.deltas[4] = 0.25;
    }
    let options = Options::default();
    let learned = Session::start([1.2, 0.8, 1.0, 1.0, 1.7, 1.0, 1.0], &options).observe(&rows).unwrap();
    assert!((learned.weights[4] - 1.7).abs() < 1e-12);
    assert_eq!((learned.signed[4], learned.z[4], learned.evidence[4]), (0.0, 0.0, Evidence::NeverVaried));
    assert!(learned.weights[0] > 2.0);
}

#[test]
fn one_step_nudges_as_the_original_promised() {
    let deltas = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for kind in Kind::ALL {
        let mut session = Session::start([1.0; 7], &Options { kind, ..Options::default() });
        let up = session.update(1.0, deltas).unwrap().weights;
        assert!(up[0] > 1.0 && up[0] < 1.25, "{kind}: {up:?}");
        assert_eq!(up[1..], [1.0; 6], "what did not move is not judged");
        let down = session.update(-1.0, deltas).unwrap().weights;
        assert!(down[0] < up[0], "{kind}: {down:?}");
        let mut session = Session::start([1.0; 7], &Options { kind, ..Options::default() });
        assert!(session.update(-1.0, deltas).unwrap().weights[0] < 1.0);
    }
}

#[test]
fn a_slower_rate_gets_there_later() {
    let rows = World::new(8, 0.3).rows(120);
    let distance = |rate: f64| {
        let options = Options { rate, ..Options::default() };
        let weights = Session::start([1.0; 7], &options).observe(&rows).unwrap().weights;
        weights.iter().map(|w| (w - 1.0).abs()).sum::<f64>()
    };
    assert!(distance(0.001) < distance(0.01) && distance(0.01) < distance(1.0));
}

#[test]
fn weights_stay_in_range_whatever_comes() {
    let mut world = World::new(9, 0.3);
    let mut rows = world.rows(60);
    rows[20].deltas = [1e99; 7];
    rows[30].roi_delta = -1e99;
    rows[40] = Sample { deltas: [0.0; 7], roi_delta: 0.0 };
    let identical = vec![Sample { deltas: [0.5; 7], roi_delta: 2.0 }; 60];
    for kind in Kind::ALL {
        for rows in [&rows, &identical] {
            let learned =
                Session::start([9.0, 0.0, 10.0, 1.0, 1.0, 1.0, 1.0], &Options { kind, ..Options::default() })
                    .observe(rows)
                    .unwrap();
            assert!(learned.weights.iter().all(|w| (0.0..=10.0).contains(w)), "{kind}: {learned:?}");
            assert!(
                learned.signed.iter().chain(&learned.stderr).all(|v| v.is_finite()),
                "{kind}: {learned:?}"
            );
        }
    }
}
