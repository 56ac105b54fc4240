//! Training and evaluation in bf16 arithmetic against the same in f32.

use nightshift_model::{
    AdamW, Adapter, Decoder, Grads, KvCache, LoraConfig, Model, ModelConfig, Packed, Target, Workspace,
    evaluate, loss_and_grads,
};

fn config(tied: bool) -> ModelConfig {
    let plain = ModelConfig::llama(64, 176, 2, [4, 2], 96);
    ModelConfig { max_position_embeddings: 256, tie_word_embeddings: tied, ..plain }
}

/// Sequences that count up in steps, from different places.
fn rows() -> Packed {
    let mut packed = Packed::new();
    for row in 0..6_u32 {
        let tokens: Vec<u32> = (0..40 + row).map(|i| (row * 11 + i * (1 + row % 3)) % 96).collect();
        let scored: Vec<bool> = (0..tokens.len()).map(|at| at > 8).collect();
        packed.push(&tokens, &scored);
    }
    packed
}

fn adapter(config: &ModelConfig) -> Adapter {
    let lora = LoraConfig {
        rank: 8,
        alpha: 16.0,
        targets: Target::ALL.to_vec(),
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    Adapter::init(lora, config, 3)
}

/// Mean loss of every step, and the trained adapter.
fn train(model: &Model, threads: usize, steps: usize) -> (Vec<f64>, Adapter) {
    let (batch, mut adapter, mut ws) = (rows(), adapter(&model.config), Workspace::new(threads));
    let (mut grads, mut adam) = (Grads::lora(&adapter), AdamW::default());
    let scale = 1.0 / batch.scored() as f32;
    let losses = (0..steps).map(|_| {
        grads.zero();
        let loss = loss_and_grads(model, Some(&adapter), &batch, scale, &mut grads, &mut ws).unwrap();
        grads.clip_global_norm(1.0).unwrap();
        adam.step(&mut grads.with_adapter(&mut adapter, 1.0), 1e-2).unwrap();
        loss.mean().unwrap()
    });
    (losses.collect(), adapter)
}

#[test]
fn the_loss_curve_in_bf16_is_that_in_f32_within_a_hundredth() {
    for tied in [true, false] {
        let model = Model::random(config(tied), 5);
        let narrow = model.to_bf16();
        let ((wide_losses, trained), (losses, _)) = (train(&model, 1, 40), train(&narrow, 1, 40));
        assert!(wide_losses[39] < 0.9 * wide_losses[0], "nothing was learned: {wide_losses:?}");
        for (step, (wide, narrow)) in wide_losses.iter().zip(&losses).enumerate() {
            assert!((wide - narrow).abs() <= 0.01 * wide, "step {step}: {wide} in f32, {narrow} in bf16");
        }
        assert_ne!(wide_losses, losses);
        let mut ws = Workspace::new(1);
        let mean = |model: &Model, ws: &mut Workspace| {
            let losses = evaluate(model, Some(&trained), &rows(), ws).unwrap();
            losses.iter().map(|loss| loss.nll_sum).sum::<f64>()
        };
        let (wide, narrow) = (mean(&model, &mut ws), mean(&narrow, &mut ws));
        assert!((wide - narrow).abs() <= 0.01 * wide, "{wide} {narrow}");
    }
}

#[test]
fn a_bf16_training_repeats_to_the_last_bit() {
    let model = Model::random(config(true), 5).to_bf16();
    assert_eq!(train(&model, 1, 5), train(&model, 1, 5));
    assert_eq!(train(&model, 2, 5), train(&model, 2, 5));
}

#[test]
fn a_bf16_model_is_half_as_large_and_decodes() {
    let model = Model::random(config(true), 5);
    let narrow = model.to_bf16();
    assert!(narrow.weights.bytes() < model.weights.bytes() * 51 / 100);
    let prompt: Vec<u32> = (0..30).collect();
    let logits = |model: &Model| {
        let (mut decoder, mut cache) = (Decoder::new(1), KvCache::new(&model.config, 40));
        decoder.feed(model, None, &mut cache, &prompt).unwrap();
        decoder.feed(model, None, &mut cache, &[7]).unwrap().to_vec()
    };
    let (wide, narrow) = (logits(&model), logits(&narrow));
    let size = wide.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let worst = wide.iter().zip(&narrow).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 0.03 * size, "{worst} of {size}");
}
