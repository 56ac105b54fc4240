//! What may not change a gradient (checkpointing), and what changes it at random (noise, dropout).

use super::*;

#[test]
fn checkpointing_gives_the_same_bits_from_less_memory() {
    for (name, config) in tiny::variants() {
        let (model, mut adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
        adapter.config.dropout = 0.2;
        let batch = tiny::batch(&config, &[9, 12, 10, 8], 3);
        for (threads, train) in [(1, Train::Lora), (2, Train::Lora), (1, Train::Full)] {
            let run = |checkpointing: bool| {
                let mut ws = Workspace::new(threads);
                ws.set_checkpointing(checkpointing);
                ws.set_dropout_seed(7);
                ws.set_noise(5.0);
                let mut grads =
                    if train == Train::Lora { Grads::lora(&adapter) } else { Grads::full(&model) };
                let loss =
                    loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut grads, &mut ws).unwrap();
                // Once more on the same memory: nothing of the first pass may show in the second.
                grads.zero();
                let again =
                    loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut grads, &mut ws).unwrap();
                assert_eq!(loss, again);
                (loss, grads, kept(&ws))
            };
            let (plain, checkpointed) = (run(false), run(true));
            assert_eq!((plain.0, &plain.1), (checkpointed.0, &checkpointed.1), "{name}, {threads} threads");
            assert!(checkpointed.2 < plain.2 * 3 / 4, "{name}: {} of {}", checkpointed.2, plain.2);
        }
    }
}

/// Numbers held for the backward pass.
fn kept(ws: &Workspace<f64>) -> usize {
    let layer = |acts: &crate::workspace::LayerActs<f64>| {
        [&acts.x, &acts.q, &acts.k, &acts.v, &acts.o, &acts.mid, &acts.gate, &acts.up]
            .into_iter()
            .map(Vec::len)
            .sum::<usize>()
    };
    let own: usize =
        ws.layers.iter().map(layer).sum::<usize>() + ws.inputs.iter().map(Vec::len).sum::<usize>();
    own + ws.helpers.iter().map(kept).sum::<usize>()
}

#[test]
fn what_is_not_finite_is_named_under_checkpointing_too() {
    let config = tiny::config();
    let mut model = tiny::model(config.clone(), 1);
    model.weights.layers[0].down.weight.dense_mut().unwrap()[3] = f64::NAN;
    let mut ws = Workspace::new(1);
    ws.set_checkpointing(true);
    let batch = tiny::batch(&config, &LENGTHS, 3);
    let mut grads = Grads::full(&model);
    let error = loss_and_grads(&model, None, &batch, 1.0, &mut grads, &mut ws).unwrap_err();
    assert!(error.to_string().contains("output of layer 0"), "{error}");
}

/// The residual before the first layer with and without noise, for a model wide enough to count.
fn noisy_embeddings(alpha: f64, seed: u64, threads: usize) -> Vec<(Vec<f64>, usize)> {
    let config = ModelConfig { hidden_size: 96, ..tiny::config() };
    let (model, adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &[40, 25], 3);
    let pass = |alpha: f64| {
        let mut ws = Workspace::new(threads);
        ws.set_noise(alpha);
        ws.set_dropout_seed(seed);
        let mut grads = Grads::lora(&adapter);
        loss_and_grads(&model, Some(&adapter), &batch, 1.0, &mut grads, &mut ws).unwrap();
        let parts = std::iter::once(&ws).chain(&ws.helpers);
        parts.map(|ws| (ws.layers[0].x.clone(), ws.extents.clone())).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for ((noisy, extents), (plain, _)) in pass(alpha).into_iter().zip(pass(0.0)) {
        let mut noise = noisy.iter().zip(&plain).map(|(noisy, plain)| noisy - plain);
        for extent in extents {
            found.push((noise.by_ref().take(extent.rows * config.hidden_size).collect(), extent.tokens));
        }
    }
    found
}

#[test]
fn noise_is_uniform_within_its_bound_and_repeats_with_its_seed() {
    let alpha = 5.0;
    let sequences = noisy_embeddings(alpha, 11, 1);
    assert_eq!(sequences.iter().map(|(_, tokens)| *tokens).collect::<Vec<_>>(), [40, 25]);
    for (noise, tokens) in &sequences {
        // Algorithm 1 of the paper: alpha / sqrt(tokens * hidden).
        let bound = alpha / ((tokens * 96) as f64).sqrt();
        let count = noise.len() as f64;
        assert!(noise.iter().all(|x| x.abs() <= bound * (1.0 + 1e-12)));
        let largest = noise.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        assert!(largest > 0.995 * bound, "{largest} of {bound}");
        // Mean 0, variance bound² / 3, a quarter in each quarter of the range: within four deviations.
        let mean = noise.iter().sum::<f64>() / count;
        assert!(mean.abs() < 4.0 * bound / (3.0 * count).sqrt(), "mean {mean}");
        let variance = noise.iter().map(|x| x * x).sum::<f64>() / count;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 4.0 * (0.8 / count).sqrt(), "{variance}");
        for quarter in 0..4 {
            let low = bound * (f64::from(quarter) / 2.0 - 1.0);
            let share = noise.iter().filter(|x| **x >= low && **x < low + bound / 2.0).count() as f64 / count;
            assert!((share - 0.25).abs() < 4.0 * (0.1875 / count).sqrt(), "quarter {quarter}: {share}");
        }
        // Neighbours know nothing of each other.
        let pairs = noise.iter().zip(&noise[1..]).map(|(a, b)| a * b).sum::<f64>() / count;
        assert!(pairs.abs() < 4.0 * bound * bound / 3.0 / count.sqrt(), "{pairs}");
    }
    assert_eq!(sequences, noisy_embeddings(alpha, 11, 1));
    assert_ne!(sequences, noisy_embeddings(alpha, 12, 1));
    assert_eq!(noisy_embeddings(alpha, 11, 2).len(), 2);
}

/// Loss and gradients of four sequences with dropout and noise, cut into these batches.
fn drawn(batches: &[&[usize]], threads: usize) -> (f64, Grads<f64>) {
    let config = tiny::config();
    let (model, mut adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    adapter.config.dropout = 0.3;
    let mut sequences = [9_usize, 12, 10, 8].map(|length| tiny::batch(&config, &[length], length as u64));
    (0..).zip(&mut sequences).for_each(|(draw, sequence)| sequence.draws = vec![draw]);
    let (mut grads, mut ws, mut nll) = (Grads::lora(&adapter), Workspace::new(threads), 0.0);
    ws.set_dropout_seed(7);
    ws.set_noise(5.0);
    for members in batches {
        let batch = tiny::joined(members.iter().map(|&member| &sequences[member]));
        nll += loss_and_grads(&model, Some(&adapter), &batch, 1.0, &mut grads, &mut ws).unwrap().nll_sum;
    }
    (nll, grads)
}

#[test]
fn neither_threads_nor_batches_decide_what_is_drawn() {
    let (nll, grads) = drawn(&[&[0, 1, 2, 3]], 1);
    let largest = grads.iter().iter().flat_map(|n| n.values.iter()).fold(0.0_f64, |m, x| m.max(x.abs()));
    let cuts: [(&[&[usize]], usize); 4] = [
        (&[&[0, 1, 2, 3]], 2),
        (&[&[3, 0], &[2, 1]], 1),
        (&[&[0, 1, 2], &[3]], 2),
        (&[&[0], &[1], &[2], &[3]], 3),
    ];
    for (batches, threads) in cuts {
        let (other, found) = drawn(batches, threads);
        // Equal but for the order in which f64 numbers are added.
        assert!((other / nll - 1.0).abs() < 1e-13, "{batches:?} on {threads}: {other} and {nll}");
        for (a, b) in grads.iter().into_iter().zip(found.iter()) {
            let worst = a.values.iter().zip(b.values).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst < 1e-12 * largest, "{} of {batches:?} on {threads}: {worst}", a.name);
        }
    }
}

#[test]
fn evaluation_and_logits_know_no_noise() {
    let config = tiny::config();
    let (model, adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    let batch = tiny::batch(&config, &LENGTHS, 3);
    let mut ws = Workspace::new(1);
    let plain = evaluate(&model, Some(&adapter), &batch, &mut ws).unwrap();
    ws.set_noise(50.0);
    assert_eq!(plain, evaluate(&model, Some(&adapter), &batch, &mut ws).unwrap());
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    // u = dropout(x) Aᵀ with A the identity on x = 1 shows the mask itself.
    let mut config = tiny::config();
    config.hidden_size = 64;
    let model = tiny::model(config.clone(), 1);
    let lora = LoraConfig {
        rank: 64,
        alpha: 64.0,
        targets: vec![Target::Q],
        rslora: false,
        dropout: 0.3,
        dora: false,
    };
    let mut adapter = Adapter::<f64>::init(lora, &config, 2);
    let module = adapter.modules.get_mut(&(0, Target::Q)).unwrap();
    module.a.iter_mut().enumerate().for_each(|(at, a)| *a = f64::from(u8::from(at % 65 == 0)));
    let batch = tiny::batch(&config, &[180], 3);
    let mut masks = Vec::new();
    for seed in [1, 2] {
        let mut ws = Workspace::new(1);
        ws.set_dropout_seed(seed);
        let mut grads = Grads::lora(&adapter);
        loss_and_grads(&model, Some(&adapter), &batch, 1.0, &mut grads, &mut ws).unwrap();
        let acts = &ws.layers[0];
        let mut x = vec![0.0; acts.x.len()];
        crate::norm::again(
            crate::Threads::ONE,
            &acts.x,
            &model.weights.layers[0].input_norm,
            &acts.rstd_input,
            &mut x,
        );
        let kept: Vec<bool> = acts.kept[Target::Q as usize].u.iter().map(|u| *u != 0.0).collect();
        for ((u, x), kept) in acts.kept[Target::Q as usize].u.iter().zip(&x).zip(&kept) {
            assert!(!kept || (u - x / (1.0 - f64::from(0.3_f32))).abs() < 1e-12, "{u} of {x}");
        }
        let count = kept.len() as f64;
        let share = kept.iter().filter(|kept| **kept).count() as f64 / count;
        assert!((share - 0.7).abs() < 4.0 * (0.21 / count).sqrt(), "{share}");
        masks.push(kept);
    }
    let same = masks[0].iter().zip(&masks[1]).filter(|(a, b)| a == b).count() as f64 / masks[0].len() as f64;
    assert!((same - 0.58).abs() < 0.03, "two seeds agree as strangers do: {same}");
}

#[test]
fn neither_threads_nor_passes_change_what_is_drawn() {
    let config = tiny::config();
    let (model, mut adapter) = (tiny::model(config.clone(), 1), tiny::adapter(&config, 2));
    adapter.config.dropout = 0.2;
    let batch = tiny::batch(&config, &[9, 12, 30, 8, 11, 10], 3);
    let run = |threads: usize, limits: Limits| {
        let mut ws = Workspace::new(threads);
        ws.set_limits(limits);
        ws.set_dropout_seed(7);
        ws.set_noise(5.0);
        let mut grads = Grads::lora(&adapter);
        let loss = loss_and_grads(&model, Some(&adapter), &batch, SCALE, &mut grads, &mut ws).unwrap();
        (loss.nll_sum, grads)
    };
    let (loss, grads) = run(1, Limits::NONE);
    for (threads, passes, tokens) in [(1, 1, 10), (2, 1, 20), (2, 2, 100), (3, 3, 1)] {
        let (other_loss, other) = run(threads, Limits { passes, tokens });
        assert!((loss - other_loss).abs() < 1e-11, "{threads} threads, passes of {tokens} tokens");
        assert_close(&grads, &other, 1e-12);
    }
}
