//! DPO and KTO against TRL: loss, rewards and gradient norm of every step.

use nightshift_model::{
    AdamW, Adapter, Dpo, Grads, Kto, Model, Packed, PreferenceSum, Schedule, ScheduleKind, Threads,
    Workspace, dpo_loss_and_grads, evaluate, kto_loss_and_grads,
};
use serde_json::Value;

use crate::fixture::folder;

/// Largest relative difference of a loss, of a gradient norm; largest difference of a reward.
const LOSS: f64 = 1e-4;
const NORM: f64 = 1e-3;
const REWARD: f64 = 1e-4;

struct Run {
    golden: Value,
    model: Model,
    adapter: Adapter,
    ws: Workspace,
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

impl Run {
    fn new() -> Self {
        let text = std::fs::read(folder("../steps/preference.json")).unwrap();
        let model = Model::load(&folder("llama3")).unwrap();
        let adapter = Adapter::load(&folder("../steps/preference-start"), &model.config).unwrap();
        Self { golden: serde_json::from_slice(&text).unwrap(), model, adapter, ws: Workspace::new(2) }
    }

    fn log_probs(&mut self, adapter: bool, batch: &Packed) -> Vec<f64> {
        let adapter = adapter.then_some(&self.adapter);
        let losses = evaluate(&self.model, adapter, batch, &mut self.ws).unwrap();
        losses.into_iter().map(|loss| -loss.nll_sum).collect()
    }

    /// Trains as the file says; `pass` does the passes of a step and gives the sums.
    fn train(
        &mut self,
        name: &str,
        mut pass: impl FnMut(&mut Self, &[Value], &mut Grads) -> (PreferenceSum, Option<f64>),
    ) {
        let golden = self.golden[name].clone();
        let number = |key: &str, step: usize| golden[key][step].as_f64().unwrap();
        let rows = golden["rows"].as_array().unwrap();
        let batch = self.golden["batch"].as_u64().unwrap() as usize;
        let windows: Vec<&[Value]> = rows.chunks(batch).collect();
        let total = golden["losses"].as_array().unwrap().len();
        let schedule = Schedule { kind: ScheduleKind::Linear, warmup: 0, total };
        let (mut adam, mut grads) = (AdamW::default(), Grads::lora(&self.adapter));
        for step in 0..total {
            grads.zero();
            let (sum, kl) = pass(self, windows[step % windows.len()], &mut grads);
            let label = format!("{name}, step {step}: {sum:?}");
            let (loss, theirs) = (sum.loss / sum.items as f64, number("losses", step));
            assert!((loss / theirs - 1.0).abs() < LOSS, "{label}: {loss}, TRL {theirs}");
            for (key, (reward, count)) in [("chosen", sum.chosen), ("rejected", sum.rejected)] {
                let (ours, theirs) = (reward / count as f64, number(key, step));
                assert!((ours - theirs).abs() < REWARD, "{label}: {key} {ours}, TRL {theirs}");
            }
            if let Some(kl) = kl {
                assert!((kl - number("kl", step)).abs() < REWARD, "{label}: kl {kl}");
            }
            let norm = grads.clip_global_norm(1.0).unwrap();
            assert!((norm / number("grad_norms", step) - 1.0).abs() < NORM, "{label}: norm {norm}");
            let rate = self.golden["lr"].as_f64().unwrap() * schedule.factor(step);
            adam.step(&mut grads.with_adapter(&mut self.adapter, 1.0), rate).unwrap();
            self.adapter.prepare(&self.model, Threads::ONE);
        }
        assert!(number("losses", total - 1) < number("losses", 0), "{name} learns");
    }
}

fn push(batch: &mut Packed, prompt: &[u32], answer: &[u32]) {
    let tokens = [prompt, answer].concat();
    let scored: Vec<bool> = (0..tokens.len()).map(|at| at >= prompt.len()).collect();
    batch.push(&tokens, &scored);
}

#[test]
fn dpo_has_trls_losses_and_rewards() {
    let mut run = Run::new();
    let dpo = Dpo { beta: run.golden["beta"].as_f64().unwrap(), label_smoothing: 0.0 };
    run.train("dpo", |run, rows, grads| {
        let mut batch = Packed::new();
        for row in rows {
            push(&mut batch, &ids(&row["prompt"]), &ids(&row["chosen"]));
            push(&mut batch, &ids(&row["prompt"]), &ids(&row["rejected"]));
        }
        let reference = run.log_probs(false, &batch);
        let (scale, models) = (1.0 / rows.len() as f64, (&run.model, &run.adapter));
        (dpo_loss_and_grads(&dpo, models, &batch, &reference, scale, grads, &mut run.ws).unwrap(), None)
    });
}

#[test]
fn kto_has_trls_losses_rewards_and_distance() {
    let mut run = Run::new();
    let weight = |run: &Run, key: &str| run.golden["kto"][key].as_f64().unwrap();
    let kto = Kto {
        beta: run.golden["beta"].as_f64().unwrap(),
        desirable: weight(&run, "desirable_weight"),
        undesirable: weight(&run, "undesirable_weight"),
    };
    run.train("kto", |run, rows, grads| {
        let (mut batch, mut strangers) = (Packed::new(), Packed::new());
        for (at, row) in rows.iter().enumerate() {
            let other = &rows[(at + rows.len() - 1) % rows.len()];
            push(&mut batch, &ids(&row["prompt"]), &ids(&row["completion"]));
            push(&mut strangers, &ids(&row["prompt"]), &ids(&other["completion"]));
        }
        let kl = Kto::kl(&run.log_probs(true, &strangers), &run.log_probs(false, &strangers));
        let reference = run.log_probs(false, &batch);
        let wanted: Vec<bool> = rows.iter().map(|row| row["label"].as_bool().unwrap()).collect();
        let (scale, models) = (1.0 / rows.len() as f64, (&run.model, &run.adapter));
        let sides = (wanted.as_slice(), reference.as_slice());
        let sum = kto_loss_and_grads((&kto, kl), models, &batch, sides, scale, grads, &mut run.ws);
        (sum.unwrap(), Some(kl))
    });
}
