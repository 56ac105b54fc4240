//! Against torch, by numbers and by hand.

use super::*;

/// Three steps from p = [1, -2] with the gradients of `GRADIENTS`, lr 0.1, decay 0.01. By hand after the
/// first step: m / (1 - b1) = g and sqrt(v / (1 - b2)) = |g|, so p moves by lr * sign(g) after the decay:
/// 1 * 0.999 - 0.1 = 0.899 and -2 * 0.999 + 0.1 = -1.898.
const GRADIENTS: [[f64; 2]; 3] = [[0.5, -0.25], [-0.1, 0.3], [2.0, 0.0]];

/// The update written out from the paper (algorithm 2), with bias-corrected moments.
fn by_the_book(decay: f64) -> [f64; 2] {
    let (mut p, mut m, mut v) = ([1.0, -2.0], [0.0; 2], [0.0; 2]);
    for (step, gradient) in GRADIENTS.iter().enumerate() {
        let t = step as i32 + 1;
        for i in 0..2 {
            m[i] = 0.9 * m[i] + 0.1 * gradient[i];
            v[i] = 0.999 * v[i] + 0.001 * gradient[i] * gradient[i];
            let m_hat = m[i] / (1.0 - 0.9_f64.powi(t));
            let v_hat: f64 = v[i] / (1.0 - 0.999_f64.powi(t));
            p[i] -= 0.1 * (m_hat / (v_hat.sqrt() + 1e-8) + decay * p[i]);
        }
    }
    p
}

fn parameter<'a>(values: &'a mut [f64], gradient: &'a [f64], rate: f64) -> Parameter<'a, f64> {
    Parameter { values, gradient, rate }
}

fn run(adam: &mut AdamW<f64>, p: &mut [f64; 2], gradients: &[[f64; 2]]) {
    for gradient in gradients {
        adam.step(&mut [parameter(p, gradient, 1.0)], 0.1).unwrap();
    }
}

#[test]
fn adamw_equals_the_paper() {
    for decay in [0.0, 0.01] {
        let mut adam = AdamW { weight_decay: decay, ..AdamW::default() };
        let mut p = [1.0, -2.0];
        run(&mut adam, &mut p, &GRADIENTS[..1]);
        assert!((p[0] - (1.0 - 0.1 * decay - 0.1)).abs() < 1e-7, "{p:?}");
        run(&mut adam, &mut p, &GRADIENTS[1..]);
        for (ours, book) in p.iter().zip(by_the_book(decay)) {
            assert!((ours - book).abs() < 1e-12, "{ours} {book}");
        }
    }
}

#[test]
fn stopped_and_restored_it_goes_on_identically() {
    let mut whole = AdamW::default();
    let mut p = [1.0, -2.0];
    run(&mut whole, &mut p, &GRADIENTS);

    let names = ["w".to_owned()];
    let (mut half, mut q) = (AdamW::default(), [1.0, -2.0]);
    run(&mut half, &mut q, &GRADIENTS[..2]);
    let kept: Vec<(String, Vec<f64>)> =
        half.moments(&names).into_iter().map(|named| (named.name, named.values.to_vec())).collect();
    assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["w.exp_avg", "w.exp_avg_sq"]);
    let mut resumed = AdamW::default();
    let find = |name: &str| kept.iter().find(|(known, _)| known == name).map(|(_, values)| values.clone());
    resumed.restore(half.steps(), &names, find).unwrap();
    run(&mut resumed, &mut q, &GRADIENTS[2..]);
    assert_eq!((p, whole), (q, resumed));

    let error = AdamW::<f64>::default().restore(2, &names, |_| None).unwrap_err();
    assert!(error.to_string().contains("w.exp_avg"));
}

#[test]
fn other_parameters_than_before_are_refused() {
    let mut adam = AdamW::<f64>::default();
    adam.step(&mut [parameter(&mut [1.0, 2.0], &[0.1, 0.1], 1.0)], 0.1).unwrap();
    assert!(adam.step(&mut [parameter(&mut [1.0], &[0.1], 1.0)], 0.1).is_err());
}

#[test]
fn schedules_equal_those_of_transformers() {
    let factors = |kind, warmup| {
        (0..6).map(|step| Schedule { kind, warmup, total: 5 }.factor(step)).collect::<Vec<_>>()
    };
    assert_eq!(factors(ScheduleKind::Linear, 0), [1.0, 0.8, 0.6, 0.4, 0.19999999999999996, 0.0]);
    assert_eq!(factors(ScheduleKind::Linear, 2)[..3], [0.0, 0.5, 1.0]);
    assert_eq!(factors(ScheduleKind::Constant, 2), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
    let cosine = factors(ScheduleKind::Cosine { floor: 0.0 }, 1);
    assert!((cosine[3] - 0.5).abs() < 1e-12 && cosine[5] < 1e-12 && cosine[1] == 1.0);
    assert!((factors(ScheduleKind::Cosine { floor: 0.05 }, 1)[5] - 0.05).abs() < 1e-12);
}

#[test]
fn a_tensor_with_a_rate_of_its_own_moves_as_with_that_learning_rate() {
    let mut alone = AdamW { weight_decay: 0.01, ..AdamW::default() };
    let mut both = alone.clone();
    let (mut wanted, mut slow, mut fast) = ([1.0, -2.0], [1.0, -2.0], [1.0, -2.0]);
    for gradient in &GRADIENTS {
        alone.step(&mut [parameter(&mut wanted, gradient, 1.0)], 0.16).unwrap();
        both.step(&mut [parameter(&mut slow, gradient, 1.0), parameter(&mut fast, gradient, 16.0)], 0.01)
            .unwrap();
    }
    assert_eq!(fast, wanted);
    assert!((slow[0] - fast[0]).abs() > 0.1);
}
