//! The training loop: windows of rows to optimiser steps, with checkpoints in between.
//!
//! Owns what makes a run repeatable: the order comes from the seed, every pass of a window is weighted by
//! the answer tokens of the whole window, and a checkpoint holds adapter and moments to the last bit, so a
//! resumed run ends with the same bytes as an undisturbed one.

use nightshift_core::config::Schedule as Shape;
use nightshift_core::{Ctx, Failure, random};
use nightshift_model::{
    AdamW, Adapter, Grads, Loss, Model, ModelError, Packed, Schedule, ScheduleKind, Workspace, loss_and_grads,
};

use rand::RngExt;

use crate::base::refused;
use crate::checkpoint::{Checkpoints, State, Tensors};
use crate::data::Encoded;
use crate::order::Order;
use crate::report::StepMetric;
use crate::settings::Settings;
use crate::variant;

/// Tokens of one forward pass in an evaluation.
const EVALUATE_TOKENS: usize = 1024;
/// Decay of the moments and the term in the denominator, as PyTorch has them.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Seconds of arithmetic that a speed is measured on.
const PROBE_S: f64 = 0.5;

/// A training to be done.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Clock, stop flag, crash points, printer.
    pub(crate) ctx: &'a Ctx,
    /// The frozen base.
    pub(crate) model: &'a Model,
    /// Rows, then the pool.
    pub(crate) examples: &'a [Encoded],
    /// In which order they are trained on.
    pub(crate) order: Order,
    /// How.
    pub(crate) settings: &'a Settings,
    /// Where the state is kept.
    pub(crate) checkpoints: Checkpoints,
}

/// A training that ended well.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The adapter.
    pub(crate) adapter: Adapter,
    /// Every step, those before a resume included.
    pub(crate) steps: Vec<StepMetric>,
    /// Where this process took over.
    pub(crate) resumed_from_step: Option<usize>,
}

/// What a training tells while it runs.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// Something a person should know.
    Note(&'a str),
    /// A step is done.
    Step(&'a StepMetric),
}

/// The number of threads meant by a setting: 0 is every core.
pub(crate) fn threads(setting: usize) -> usize {
    match setting {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    }
}

/// Trains to the end of the schedule (or `--max-steps`), going on from the newest checkpoint.
///
/// # Errors
/// Exit 1 naming the step where loss or gradient is not finite; 143 or 130, after a checkpoint, when asked to
/// stop.
pub(crate) fn train(job: &Job<'_>, adapter: Adapter, say: &dyn Fn(News<'_>)) -> Result<Trained, Failure> {
    let mut run = Run::new(job, adapter);
    let resumed_from_step = run.resume(say)?;
    let total = job.order.total_steps();
    let last = job.settings.max_steps.map_or(total, |max| max.min(total));
    let bar = job.ctx.printer.bar(last as u64, "training");
    bar.set_position(run.steps.len() as u64);
    let per_epoch = job.order.steps_per_epoch();
    while run.steps.len() < last {
        let epoch = run.steps.len() / per_epoch;
        let rows = job.order.epoch(epoch);
        for window in rows.chunks(job.order.window).skip(run.steps.len() % per_epoch) {
            if run.steps.len() == last {
                break;
            }
            let step = match run.step(window, epoch) {
                Err(stopped) if job.ctx.stop.requested().is_some() => {
                    // Gradients of half a window are given up; whole steps are kept.
                    run.checkpoint()?;
                    return Err(stopped);
                }
                step => step?,
            };
            bar.inc(1);
            bar.set_message(format!("loss {:.3} {:.0} tokens/s", step.loss, step.tokens_per_s()));
            tracing::info!(step = step.step, loss = step.loss, lr = step.lr, "trained");
            say(News::Step(&step));
            run.steps.push(step);
            let done = run.steps.len();
            let every = job.settings.train.checkpoint_steps;
            if done == last || every > 0 && done.is_multiple_of(every) {
                run.checkpoint()?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(Trained { adapter: run.adapter, steps: run.steps, resumed_from_step })
}

/// The changing part of a training.
struct Run<'a> {
    job: &'a Job<'a>,
    adapter: Adapter,
    optimiser: AdamW,
    schedule: Schedule,
    grads: Grads,
    workspace: Workspace,
    lengths: Vec<usize>,
    steps: Vec<StepMetric>,
    /// Steps in the newest checkpoint.
    saved: Option<usize>,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job<'a>, adapter: Adapter) -> Self {
        let train = &job.settings.train;
        let kind = match train.schedule {
            Shape::Linear => ScheduleKind::Linear,
            Shape::Cosine => ScheduleKind::Cosine { floor: 0.0 },
            Shape::Constant => ScheduleKind::Constant,
        };
        Self {
            optimiser: AdamW::new(BETA1, BETA2, EPSILON, train.weight_decay),
            schedule: Schedule { kind, warmup: train.warmup_steps, total: job.order.total_steps() },
            grads: Grads::lora(&adapter),
            workspace: variant::workspace(train, threads(train.threads)),
            lengths: job.examples.iter().map(|row| row.example.tokens.len()).collect(),
            steps: Vec::new(),
            saved: None,
            job,
            adapter,
        }
    }

    /// One optimiser step over the rows of a window.
    fn step(&mut self, window: &[usize], epoch: usize) -> Result<StepMetric, Failure> {
        let (job, clock) = (self.job, &self.job.ctx.clock);
        let started = clock.elapsed();
        let answer_tokens: usize = window.iter().map(|&row| job.examples[row].answer_tokens()).sum();
        self.grads.zero();
        let mut loss = Loss::default();
        for (number, pass) in job.order.passes(window, &self.lengths).iter().enumerate() {
            job.ctx.stop.check()?;
            self.workspace.set_dropout_seed(self.dropout_seed(number));
            let batch = pack(pass.iter().map(|&row| &job.examples[row]));
            let scale = 1.0 / answer_tokens as f32;
            loss += loss_and_grads(
                job.model,
                Some(&self.adapter),
                &batch,
                scale,
                &mut self.grads,
                &mut self.workspace,
            )
            .map_err(|error| self.ran_away(error))?;
        }
        let max = job.settings.train.max_grad_norm;
        let grad_norm = self.grads.clip_global_norm(max).map_err(|error| self.ran_away(error))?;
        let lr = job.settings.train.learning_rate * self.schedule.factor(self.steps.len());
        let ratio = job.settings.train.loraplus_lr_ratio;
        let mut parameters = self.grads.with_adapter(&mut self.adapter, ratio);
        self.optimiser.step(&mut parameters, lr).map_err(refused)?;
        self.adapter.prepare(job.model, self.workspace.threads());
        if let Some(bad) =
            self.adapter.iter().iter().find(|tensor| !tensor.values.iter().all(|x| x.is_finite()))
        {
            return Err(self.ran_away(ModelError::NonFinite(format!("`{}` after the step", bad.name))));
        }
        Ok(StepMetric {
            step: self.steps.len() + 1,
            epoch,
            loss: loss.nll_sum / answer_tokens as f64,
            lr,
            grad_norm,
            tokens: window.iter().map(|&row| self.lengths[row]).sum(),
            answer_tokens,
            seconds: (clock.elapsed() - started).as_secs_f64(),
        })
    }

    /// Seed of dropout and noise in the pass with this number of the step at hand.
    fn dropout_seed(&self, pass: usize) -> u64 {
        let place = format!("dropout {} {pass}", self.steps.len());
        random::rng(self.job.settings.seed, &place).random()
    }

    /// NaN or infinity, with the step; nothing of this run goes live.
    fn ran_away(&self, error: ModelError) -> Failure {
        let step = self.steps.len() + 1;
        if !matches!(error, ModelError::NonFinite(_)) {
            return refused(error);
        }
        let kept = self.saved.map_or(String::new(), |step| format!("; the state of step {step} is kept"));
        Failure::failed(format!("training ran away at step {step}: {error} (nothing was published{kept})"))
            .hint("lower train.learning_rate, or add train.warmup_steps")
    }

    /// Writes the state after the last whole step, unless it is written already.
    fn checkpoint(&mut self) -> Result<(), Failure> {
        let step = self.steps.len();
        if step == 0 || self.saved == Some(step) {
            return Ok(());
        }
        let per_epoch = self.job.order.steps_per_epoch();
        let position = step % per_epoch * self.job.order.window;
        let state = State::new(step, step / per_epoch, position, self.job.settings.seed, self.steps.clone());
        let named = self.adapter.iter().into_iter().chain(self.optimiser.moments(&names(&self.adapter)));
        let tensors: Tensors =
            named.map(|tensor| (tensor.name, (tensor.shape, tensor.values.to_vec()))).collect();
        self.job.checkpoints.save(state, &tensors)?;
        self.saved = Some(step);
        self.job.ctx.crash.reach("train.checkpointed", &step.to_string());
        Ok(())
    }

    /// Goes back to the newest checkpoint of this run, if there is one.
    fn resume(&mut self, say: &dyn Fn(News<'_>)) -> Result<Option<usize>, Failure> {
        let found = self.job.checkpoints.newest()?;
        for note in &found.notes {
            say(News::Note(note));
        }
        let Some((state, mut tensors)) = found.checkpoint else { return Ok(None) };
        let mut take = |name: &str| tensors.remove(name).map(|(_, values)| values);
        for tensor in self.adapter.iter_mut() {
            let values = take(&tensor.name).filter(|values| values.len() == tensor.values.len());
            let values = values.ok_or_else(|| {
                Failure::failed(format!("the checkpoint of step {} lacks `{}`", state.step, tensor.name))
                    .hint("remove the work folder and run again")
            })?;
            tensor.values.copy_from_slice(&values);
        }
        self.adapter.prepare(self.job.model, self.workspace.threads());
        self.optimiser.restore(state.step as u64, &names(&self.adapter), take).map_err(refused)?;
        let total = self.job.order.total_steps();
        say(News::Note(&format!("going on after step {} of {total}", state.step)));
        self.saved = Some(state.step);
        self.steps = state.steps;
        Ok(self.saved)
    }
}

/// Names of the trained tensors, in the optimiser's order.
fn names(adapter: &Adapter) -> Vec<String> {
    adapter.iter().into_iter().map(|tensor| tensor.name).collect()
}

/// Rows laid end to end.
fn pack<'a>(rows: impl Iterator<Item = &'a Encoded>) -> Packed {
    let mut batch = Packed::new();
    rows.for_each(|row| batch.push(&row.example.tokens, &row.example.scored));
    batch
}

/// Sum of the negative log-likelihood of all answers, and the answer tokens.
pub(crate) fn evaluate(
    ctx: &Ctx,
    model: &Model,
    adapter: Option<&Adapter>,
    examples: &[Encoded],
    threads: usize,
) -> Result<Loss, Failure> {
    let mut workspace = Workspace::new(threads);
    let bar = ctx.printer.bar(examples.len() as u64, "evaluating");
    let (mut total, mut rest) = (Loss::default(), examples);
    while !rest.is_empty() {
        ctx.stop.check()?;
        let mut tokens = 0;
        let fits = |row: &&Encoded| {
            tokens += row.example.tokens.len();
            tokens <= EVALUATE_TOKENS
        };
        let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let losses = nightshift_model::evaluate(model, adapter, &pack(now.iter()), &mut workspace);
        losses.map_err(refused)?.into_iter().for_each(|loss| total += loss);
        bar.inc(now.len() as u64);
        rest = later;
    }
    bar.finish_and_clear();
    Ok(total)
}

/// Measures the speed of training steps on some rows; changes nothing.
pub(crate) fn tokens_per_s(
    ctx: &Ctx,
    model: &Model,
    adapter: &Adapter,
    rows: &[Encoded],
    settings: &Settings,
) -> Result<f64, Failure> {
    let mut workspace = variant::workspace(&settings.train, threads(settings.train.threads));
    let mut grads = Grads::lora(adapter);
    let (mut tokens, mut seconds) = (0, 0.0);
    // The first batch warms the caches and is not counted.
    for (number, batch) in rows.chunks(settings.train.batch_size).cycle().enumerate() {
        ctx.stop.check()?;
        let started = ctx.clock.elapsed();
        let batch = pack(batch.iter());
        loss_and_grads(model, Some(adapter), &batch, 1.0, &mut grads, &mut workspace).map_err(refused)?;
        if number > 0 {
            tokens += batch.tokens.len();
            seconds += (ctx.clock.elapsed() - started).as_secs_f64();
        }
        if seconds >= PROBE_S {
            break;
        }
    }
    Ok(tokens as f64 / seconds)
}
