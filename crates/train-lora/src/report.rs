//! What `--json` prints and what the folder's two metric files hold.

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_core::Ctx;
use nightshift_core::clock::rfc3339;
use nightshift_model::{Adapter, ModelConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::{self, HeldBase};
use crate::data::{DataSet, Dropped};
use crate::engine::EngineReport;
use crate::memory::Estimate;
use crate::objective::Rewards;
use crate::servers::{self, Form};
use crate::settings::Settings;
use crate::speed;
use crate::train::{End, Trained};
use crate::variant;

/// A mean loss per answer token above this is said to be too high: the adapter learned little.
pub(crate) const HIGH_LOSS: f64 = 2.0;
/// Dropped rows that a report names; the log names all.
pub(crate) const NAMED_ROWS: usize = 50;

/// One optimiser step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepMetric {
    /// From 1.
    pub(crate) step: usize,
    /// From 0.
    pub(crate) epoch: usize,
    /// Mean negative log-likelihood per answer token of the step's window, nats; of judged answers the
    /// mean loss of the objective.
    pub(crate) loss: f64,
    /// Learning rate used.
    pub(crate) lr: f64,
    /// L2 norm of the gradients before clipping.
    pub(crate) grad_norm: f64,
    /// Tokens read, prompts included (there is no padding).
    pub(crate) tokens: usize,
    /// Tokens scored.
    pub(crate) answer_tokens: usize,
    /// Share of the scored tokens that were the likeliest ones.
    pub(crate) mean_token_accuracy: f64,
    /// Wall time.
    pub(crate) seconds: f64,
    /// 10⁹ floating-point operations of its matrix products.
    #[serde(default)]
    pub(crate) gflop: f64,
    /// What matrix products reach on this machine, 10⁹ operations a second; unknown in the first step of a
    /// process.
    #[serde(default)]
    pub(crate) peak_gflops: Option<f64>,
    /// Resident memory after the step.
    pub(crate) rss_bytes: u64,
    /// When it ended, in seconds since 1970.
    pub(crate) at_s: f64,
    /// Judged answers: how they are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rewards: Option<Rewards>,
}

impl StepMetric {
    /// Tokens per second of this step.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    /// Its speed for a person.
    pub(crate) fn speed(&self) -> String {
        let percent = self.peak_gflops.map(|peak| speed::percent(self.gflop, self.seconds, peak));
        speed::words(self.tokens_per_s(), percent, self.peak_gflops)
    }

    /// One line for the log.
    pub(crate) fn sentence(&self) -> String {
        let Self { step, epoch, loss, lr, grad_norm, tokens, .. } = self;
        let speed = self.speed();
        format!(
            "step {step} epoch {epoch}: loss {loss:.4}, lr {lr:.3e}, gradient {grad_norm:.3}, {tokens} tokens, \
             {speed}"
        )
    }
}

/// Rows by class.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Examples {
    /// Accepted rows of the newest harvest (direct form: the file's rows).
    pub(crate) new: usize,
    /// Accepted rows of older harvests.
    pub(crate) older: usize,
    /// Replayed answers in each epoch.
    pub(crate) replay: usize,
    /// Answers that replay is drawn from.
    pub(crate) replay_pool: usize,
    /// Rows that are evaluated on while training.
    pub(crate) evaluation: usize,
    /// Rows that did not take part, by reason.
    pub(crate) dropped: BTreeMap<&'static str, usize>,
    /// Direct form: rows read, by form.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) forms: BTreeMap<&'static str, usize>,
    /// Rows whose prompt was cut.
    pub(crate) truncated: usize,
    /// Rows that say the same as an earlier one, and took part.
    pub(crate) repeated: usize,
}

/// What a training did, or under `--dry-run` would do.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct TrainReport {
    /// Name of the release; absent in the direct form and before publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter_id: Option<String>,
    /// The adapter's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Rows by class.
    pub(crate) examples: Examples,
    /// The first rows that did not take part.
    pub(crate) dropped_rows: Vec<Dropped>,
    /// Optimiser steps done (planned, under `--dry-run`).
    pub(crate) steps: usize,
    /// Tokens trained on, prompts and repeats included.
    pub(crate) tokens: usize,
    /// Loss of the first step.
    pub(crate) loss_first: Option<f64>,
    /// Loss of the last step.
    pub(crate) loss_last: Option<f64>,
    /// Evaluation loss before the first step.
    pub(crate) eval_loss_first: Option<f64>,
    /// Evaluation loss of the state that is published.
    pub(crate) eval_loss: Option<f64>,
    /// After which step the adapter is as it is published.
    pub(crate) published_step: Option<usize>,
    /// Why the training ended.
    pub(crate) ended: Option<End>,
    /// Wall time of all steps, those before a resume included.
    pub(crate) seconds: f64,
    /// Tokens per second, the first step excluded.
    pub(crate) tokens_per_s: Option<f64>,
    /// What matrix products reach on this machine in the arithmetic of the base, 10⁹ operations a second.
    pub(crate) peak_gflops: Option<f64>,
    /// The matrix products of the counted steps in percent of that; nothing that is computed twice to save
    /// memory counts.
    pub(crate) peak_percent: Option<f64>,
    /// Estimated seconds, under `--dry-run` and when older rows had to fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) estimated_s: Option<f64>,
    /// Estimated memory, before anything is loaded.
    pub(crate) memory: Option<Estimate>,
    /// Peak resident memory of this process.
    pub(crate) peak_rss_bytes: u64,
    /// The step whose checkpoint this run went on from.
    pub(crate) resumed_from_step: Option<usize>,
    /// Digest of the rows.
    pub dataset_sha256: String,
    /// Fingerprint of the base.
    pub(crate) base_fingerprint: String,
    /// How the base is held in memory.
    pub(crate) base_held: HeldBase,
    /// The device that computed; absent when it was the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Accepted rows of each harvest date.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) nights: BTreeMap<String, usize>,
    /// Bytes of the adapter's file, as its form gives them.
    pub(crate) adapter_bytes: u64,
    /// What an external trainer did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine: Option<EngineReport>,
    /// Things to look at.
    pub(crate) warnings: Vec<String>,
}

impl TrainReport {
    /// Takes over what a training did.
    pub(crate) fn add(&mut self, trained: &Trained) {
        self.add_steps(&trained.steps);
        if let Some(engine) = &self.engine {
            // Its curve may be thinner than its steps.
            self.steps = engine.steps;
        }
        self.resumed_from_step = trained.resumed_from_step;
        self.peak_rss_bytes = nightshift_core::process::peak_rss_bytes();
        (self.ended, self.published_step) = (Some(trained.ended), Some(trained.published_step));
        let after = |step: usize| trained.evals.iter().find(|eval| eval.step == step)?.loss;
        (self.eval_loss_first, self.eval_loss) = (after(0), after(trained.published_step));
        self.warnings.extend(trained.warnings.iter().cloned());
        if let (Some(first), Some(published)) = (self.eval_loss_first, self.eval_loss)
            && published >= first
        {
            self.warnings.push(format!(
                "the evaluation loss never fell below {first:.4}, that of the base: the adapter does not \
                 generalise; look at the rows, or lower train.learning_rate"
            ));
        }
    }

    /// What the form of the adapter says before the first step: its size, and the servers that will refuse it.
    pub(crate) fn add_form(&mut self, adapter: &Adapter, base: &ModelConfig) {
        self.adapter_bytes = servers::adapter_bytes(adapter);
        self.warnings.extend(Form::of(adapter, base).warnings());
    }

    /// Takes over what an external trainer says and what we measured.
    pub(crate) fn add_engine(&mut self, engine: EngineReport) {
        self.steps = engine.steps;
        self.warnings.extend(engine.warnings.iter().cloned());
        self.engine = Some(engine);
    }

    /// Takes over what the steps say.
    fn add_steps(&mut self, steps: &[StepMetric]) {
        self.steps = steps.len();
        self.tokens = steps.iter().map(|step| step.tokens).sum();
        self.loss_first = steps.first().map(|step| step.loss);
        self.loss_last = steps.last().map(|step| step.loss);
        self.seconds = steps.iter().map(|step| step.seconds).sum();
        self.tokens_per_s = tokens_per_s(steps);
        self.peak_gflops = steps.iter().rev().find_map(|step| step.peak_gflops);
        let counted = counted(steps);
        let total = |of: fn(&StepMetric) -> f64| -> f64 { counted.iter().map(of).sum() };
        self.peak_percent = self
            .peak_gflops
            .map(|peak| speed::percent(total(|step| step.gflop), total(|step| step.seconds), peak));
        if let Some(loss) = self.loss_last.filter(|loss| *loss > HIGH_LOSS) {
            self.warnings.push(format!(
                "the last loss is {loss:.2}, above {HIGH_LOSS}: the adapter learned little; look at the rows, \
                 or raise train.learning_rate or train.num_epochs"
            ));
        }
    }

    /// Takes over the rows that did not take part.
    pub(crate) fn add_dropped(&mut self, dropped: &[Dropped]) {
        self.examples.dropped = crate::data::count(dropped);
        self.dropped_rows = dropped.iter().take(NAMED_ROWS).cloned().collect();
    }

    /// Adds what a data file of the direct form held.
    pub(crate) fn add_set(&mut self, set: &DataSet) {
        for (reason, count) in crate::data::count(&set.dropped) {
            *self.examples.dropped.entry(reason).or_default() += count;
        }
        for (&form, count) in &set.forms {
            *self.examples.forms.entry(form).or_default() += count;
        }
        let room = NAMED_ROWS.saturating_sub(self.dropped_rows.len());
        self.dropped_rows.extend(set.dropped.iter().take(room).cloned());
        self.examples.truncated += set.truncated.len();
        self.examples.repeated += set.repeated.len();
    }

    /// One line for a person.
    pub(crate) fn sentence(&self) -> String {
        let Examples { new, older, replay, .. } = &self.examples;
        let number = |value: Option<f64>| value.map_or("?".into(), |value| format!("{value:.3}"));
        let dropped: usize = self.examples.dropped.values().sum();
        let mut text = format!(
            "{} rows ({new} new, {older} older) and {replay} replayed per epoch, {dropped} left out; \
             {} steps, {} tokens, loss {} -> {}, {:.1} s, {}",
            new + older,
            self.steps,
            self.tokens,
            number(self.loss_first),
            number(self.loss_last),
            self.seconds,
            self.tokens_per_s.map_or("? tokens/s".into(), |tokens_per_s| {
                speed::words(tokens_per_s, self.peak_percent, self.peak_gflops)
            }),
        );
        if let Some(device) = &self.device {
            text.push_str(&format!(" on {device}"));
        }
        if let (Some(loss), Some(step)) = (self.eval_loss, self.published_step) {
            let first = number(self.eval_loss_first);
            text.push_str(&format!("; evaluation {first} -> {loss:.3} after step {step}, which is kept"));
        }
        if let Some(ended) = self.ended.filter(|ended| !matches!(ended, End::Schedule | End::Engine)) {
            text.push_str(&format!("; stopped early: {}", ended.words()));
        }
        text
    }
}

/// The steps that speeds are taken over: all but the first, which warms caches, unless it is alone.
fn counted(steps: &[StepMetric]) -> &[StepMetric] {
    if steps.len() > 1 { &steps[1..] } else { steps }
}

/// Tokens per second over the counted steps.
pub(crate) fn tokens_per_s(steps: &[StepMetric]) -> Option<f64> {
    let counted = counted(steps);
    let seconds: f64 = counted.iter().map(|step| step.seconds).sum();
    let tokens: usize = counted.iter().map(|step| step.tokens).sum();
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// `training_metrics.json`: the four keys of the documents, then ours.
pub(crate) fn metrics_json(report: &TrainReport, trained: &Trained) -> Value {
    json!({
        "training_completed": true,
        "final_loss": report.loss_last,
        "total_steps": report.steps,
        "training_examples": report.examples.new + report.examples.older,
        "examples": report.examples,
        "loss_first": report.loss_first,
        "tokens": report.tokens,
        "seconds": report.seconds,
        "tokens_per_s": report.tokens_per_s,
        "peak_gflops": report.peak_gflops,
        "peak_percent": report.peak_percent,
        "eval_loss_first": report.eval_loss_first,
        "eval_loss": report.eval_loss,
        "published_step": report.published_step,
        "ended": report.ended,
        "memory": report.memory,
        "peak_rss_bytes": report.peak_rss_bytes,
        "resumed_from_step": report.resumed_from_step,
        "dataset_sha256": report.dataset_sha256,
        "base_fingerprint": report.base_fingerprint,
        "base_held": report.base_held,
        "device": report.device,
        "nights": report.nights,
        "engine": report.engine,
        "warnings": report.warnings,
        "evaluations": trained.evals,
        "steps": trained.steps,
    })
}

/// `training_config.json`: the keys of the documents, then ours.
pub(crate) fn config_json(
    ctx: &Ctx,
    settings: &Settings,
    report: &TrainReport,
    places: [String; 3],
) -> Value {
    let [base, data, out] = places;
    let quantized_from = base::quantized_from(Path::new(&base));
    let train = &settings.train;
    json!({
        "base_model": base,
        "training_data": data,
        "output_dir": out,
        "batch_size": train.batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation,
        "learning_rate": train.learning_rate,
        "num_epochs": train.num_epochs,
        "lora_rank": train.rank,
        "lora_alpha": train.alpha,
        "max_seq_length": train.max_length,
        "training_timestamp": rfc3339(ctx.clock.now()),
        "training_examples": report.examples.new + report.examples.older,
        "target_modules": train.targets,
        "variant": variant::identity(train),
        "objective": settings.objective.identity(),
        "gradient_checkpointing": train.gradient_checkpointing,
        "schedule": train.schedule,
        "warmup_steps": train.warmup_steps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "replay_ratio": train.replay_ratio,
        "replay_above": train.replay_above,
        "dtype": train.dtype,
        "quantize": train.quantize,
        "device": train.device,
        "packing": settings.pack,
        "max_steps": settings.max_steps,
        "shuffle": settings.shuffle,
        "seed": settings.seed,
        "settings_sha256": settings.digest(),
        "base_fingerprint": report.base_fingerprint,
        "base_quantized_from": quantized_from,
        "dataset_sha256": report.dataset_sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize, loss: f64, tokens: usize, seconds: f64) -> StepMetric {
        let peak_gflops = (step > 1).then_some(20.0);
        StepMetric { step, loss, tokens, seconds, gflop: 10.0, peak_gflops, ..StepMetric::default() }
    }

    #[test]
    fn speed_leaves_out_the_first_step() {
        assert_eq!(
            tokens_per_s(&[step(1, 1.0, 10, 100.0), step(2, 1.0, 30, 2.0), step(3, 1.0, 10, 2.0)]),
            Some(10.0)
        );
        assert_eq!(tokens_per_s(&[step(1, 1.0, 10, 2.0)]), Some(5.0));
        assert_eq!(tokens_per_s(&[]), None);
    }

    #[test]
    fn a_high_last_loss_is_said() {
        let mut report = TrainReport::default();
        report.add_steps(&[step(1, 5.0, 10, 1.0), step(2, 2.5, 10, 1.0)]);
        assert!(report.warnings[0].contains("2.50"), "{:?}", report.warnings);
        let mut report = TrainReport::default();
        report.add_steps(&[step(1, 5.0, 10, 1.0), step(2, 1.5, 10, 1.0)]);
        assert!(report.warnings.is_empty());
        assert_eq!((report.loss_first, report.loss_last, report.tokens), (Some(5.0), Some(1.5), 20));
        assert_eq!((report.peak_gflops, report.peak_percent), (Some(20.0), Some(50.0)));
        assert!(report.sentence().ends_with("10 tokens/s, 50 % of 20 GFLOP/s"), "{}", report.sentence());
    }
}
