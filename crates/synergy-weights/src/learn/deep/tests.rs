//! The cores on problems with known answers.

use super::*;
use crate::learn::Optimizer;

const WIDE: [usize; 2] = [32, 32];

fn q(sizes: &[usize], double: bool, sync: u64, rate: f64, seed: u64) -> Q {
    Q::new(sizes, double, 0.9, rate, sync, Optimizer::Adam, &mut SplitMix64::new(seed))
}

/// Stable-Baselines3's identity environment: the right action in a state is the state's own number. Each step is
/// followed by any state.
#[test]
fn q_learners_solve_the_identity() {
    for double in [false, true] {
        let mut rng = SplitMix64::new(5);
        let mut learner = q(&[10, 32, 32, 10], double, 10, 3e-3, 1);
        let one_hot = |state: usize| (0..10).map(move |at| f32::from(u8::from(at == state)));
        for _ in 0..200 {
            let states: Vec<usize> = (0..16).map(|_| rng.below(10)).collect();
            let next: Vec<usize> = (0..160).map(|_| rng.below(10)).collect();
            let rows: Vec<f32> = states.iter().flat_map(|s| one_hot(*s)).collect();
            let tried = q::Tried {
                states: &rows,
                rewards: &rows,
                next: &next.iter().flat_map(|s| one_hot(*s)).collect::<Vec<_>>(),
            };
            learner.learn(&tried).unwrap();
        }
        let all: Vec<f32> = (0..10).flat_map(one_hot).collect();
        let values = learner.values(&all).unwrap();
        let right = values.chunks(10).enumerate().filter(|(state, values)| q::best(values) == *state).count();
        assert_eq!(right, 10, "double {double}");
        // Always right from here on: 1 + 0.9 + 0.81 + ... = 10, not yet reached, but on its way.
        assert!(values[0] > values[1] + 0.5 && values[0] < 10.5, "{values:?}");
    }
}

/// Ten actions whose rewards are noise around zero: every true value is 0.
#[test]
fn double_dqn_overestimates_less() {
    let bias = |double| {
        let mut sum = 0.0;
        for seed in 0..4 {
            let mut rng = SplitMix64::new(100 + seed);
            let mut learner = q(&[1, 16, 10], double, 25, 1e-2, seed);
            for at in 0..300 {
                let rewards: Vec<f32> = (0..40).map(|_| net::normal(&mut rng) as f32).collect();
                learner.learn(&q::Tried { states: &[1.0; 4], rewards: &rewards, next: &[1.0; 40] }).unwrap();
                if at >= 150 {
                    sum +=
                        f64::from(learner.values(&[1.0]).unwrap().iter().sum::<f32>()) / (10.0 * 150.0 * 4.0);
                }
            }
        }
        sum
    };
    let (single, double) = (bias(false), bias(true));
    assert!(single > 0.2, "DQN is biased upwards: {single}");
    assert!(double.abs() < 0.7 * single, "DQN {single}, Double DQN {double}");
}

fn actor(soft: bool, gamma: f64) -> ActorCritic {
    ActorCritic::new((2, 2), &WIDE, soft, gamma, 3e-3, Optimizer::Adam, &mut SplitMix64::new(2))
}

/// The identity with boxes for numbers: the right action is the state.
#[test]
fn actors_solve_the_identity() {
    for soft in [false, true] {
        let mut rng = SplitMix64::new(6);
        let mut learner = actor(soft, 0.0);
        let draw = |rng: &mut SplitMix64, count: usize| -> Vec<f32> {
            (0..count).map(|_| (1.6 * rng.uniform() - 0.8) as f32).collect()
        };
        for _ in 0..500 {
            let states = draw(&mut rng, 128);
            let actions: Vec<f32> = (0..128).map(|_| (2.0 * rng.uniform() - 1.0) as f32).collect();
            let miss = |pair: (&[f32], &[f32])| -> f32 {
                pair.0.iter().zip(pair.1).map(|(a, b)| (a - b).powi(2)).sum()
            };
            let rewards: Vec<f32> =
                states.chunks(2).zip(actions.chunks(2)).map(|pair| -10.0 * miss(pair)).collect();
            let tried = actor::Tried { states: &states, actions: &actions, rewards: &rewards, next: &[] };
            learner.learn(&tried, &mut rng).unwrap();
        }
        let states = draw(&mut rng, 64);
        let acted = learner.act(&states).unwrap();
        let miss = states.iter().zip(&acted).map(|(s, a)| (s - a).abs()).sum::<f32>() / 64.0;
        assert!(miss < 0.12, "soft {soft}: off by {miss}, guessing is off by 0.5");
    }
}

#[test]
fn td3_smooths_the_action_it_aims_at() {
    let learner = actor(false, 0.9);
    let mut rng = SplitMix64::new(3);
    let next = net::matrix(&[0.3, -0.2].repeat(500), 2).unwrap();
    let smoothed =
        learner.smoothed(&next, &mut rng).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let exact = learner.act(&[0.3, -0.2]).unwrap();
    let noise: Vec<f32> = smoothed.iter().zip(exact.iter().cycle()).map(|(a, b)| a - b).collect();
    let deviation = (noise.iter().map(|n| n * n).sum::<f32>() / 1000.0).sqrt();
    assert!((0.18..0.21).contains(&deviation), "{deviation}");
    assert!(
        noise.iter().all(|n| n.abs() <= 0.5 + 1e-6) && noise.iter().any(|n| n.abs() > 0.45),
        "clipped at 0.5"
    );
    let far = net::matrix(&[50.0, -50.0].repeat(500), 2).unwrap();
    let far = learner.smoothed(&far, &mut rng).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(far.iter().all(|a| a.abs() <= 1.0), "an action stays in its box");
}

#[test]
fn td3_aims_at_the_smaller_of_two_critics() {
    let mut learner = actor(false, 0.9);
    // Without weights a critic is its last bias.
    for value in &mut learner.critics_target.values {
        *value = 0.0;
    }
    let end = learner.critics_target.values.len();
    learner.critics_target.values[end - 2..].copy_from_slice(&[3.0, 2.0]);
    let tried =
        actor::Tried { states: &[0.0, 0.0], actions: &[0.0, 0.0], rewards: &[0.5], next: &[0.1, 0.1] };
    let target = learner.targets(&tried, &mut SplitMix64::new(4)).unwrap();
    assert!((target[0] - (0.5 + 0.9 * 2.0)).abs() < 1e-6, "{target:?}");
}

#[test]
fn td3_delays_its_actor_and_its_copies() {
    let mut learner = actor(false, 0.9);
    let mut rng = SplitMix64::new(4);
    let before = learner.clone();
    let tried =
        actor::Tried { states: &[0.1, 0.2], actions: &[0.5, 0.5], rewards: &[1.0], next: &[0.3, 0.1] };
    learner.learn(&tried, &mut rng).unwrap();
    assert_ne!(learner.critics, before.critics);
    assert_eq!((&learner.actor, &learner.actor_target), (&before.actor, &before.actor_target));
    assert_eq!(learner.critics_target, before.critics_target);
    learner.learn(&tried, &mut rng).unwrap();
    assert_ne!(learner.actor, before.actor);
    for (copy, (old, new)) in
        learner.actor_target.values.iter().zip(before.actor.values.iter().zip(&learner.actor.values))
    {
        assert!((copy - (old + 0.005 * (new - old))).abs() < 1e-7);
    }
    assert_ne!(learner.critics_target, before.critics_target);
}

#[test]
fn q_networks_are_copied_when_it_is_time() {
    let mut learner = q(&[1, 8, 3], true, 2, 1e-2, 1);
    let tried = q::Tried { states: &[1.0], rewards: &[1.0, 0.0, -1.0], next: &[] };
    learner.learn(&tried).unwrap();
    assert_ne!(learner.online, learner.target);
    learner.learn(&tried).unwrap();
    assert_eq!(learner.online, learner.target);
}

#[test]
fn the_reward_is_the_correlation_with_roi() {
    let rows: Vec<Sample> = (0..40_i32)
        .map(|t| f64::from(t * 7 % 11) - 5.0)
        .map(|x| Sample { deltas: [x, -2.0 * x, 3.0, x * x, 0.0, 0.0, 0.0], roi_delta: 4.0 * x + 1.0 })
        .collect();
    let replay = Replay::new(rows.iter());
    let whole = replay.whole();
    assert!((whole.reward(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) - 1.0).abs() < 1e-9);
    assert!((whole.reward(&[0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]) + 1.0).abs() < 1e-9);
    assert_eq!(whole.reward(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]), 0.0, "a constant correlates with nothing");
    assert_eq!(whole.correlations()[2], 0.0);
}

#[test]
fn worse_weights_are_not_adopted() {
    let rows: Vec<Sample> = (0..100_i32)
        .map(|t| (f64::from(t * 37 % 101) - 50.0, f64::from(t * 53 % 97) - 48.0))
        .map(|(x, other)| Sample { deltas: [x, other, 0.0, 0.0, 0.0, 0.0, 0.0], roi_delta: x })
        .collect();
    let replay = Replay::new(rows.iter());
    let (good, bad) = ([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let mut rng = SplitMix64::new(1);
    assert!(not_worse(&replay, &good, &good, &mut rng));
    assert!(!not_worse(&replay, &bad, &good, &mut rng));
    assert!(not_worse(&replay, &good, &bad, &mut rng));
}
