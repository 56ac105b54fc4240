//! The training loop: windows of rows to optimiser steps, with checkpoints in between.
//!
//! Owns what makes a run repeatable: the order comes from the seed, every pass of a window is weighted by
//! the answer tokens of the whole window, dropout follows from seed, step and row, and a checkpoint holds
//! adapter, moments and curves to the last bit, so a resumed run ends with the same bytes as an undisturbed one.

use std::sync::Arc;
use std::time::Duration;

use nightshift_core::config::Schedule as Shape;
use nightshift_core::{Ctx, Failure, random};
use nightshift_model::{
    AdamW, Adapter, DeviceModel, Grads, Loss, Model, ModelError, Packed, Schedule, ScheduleKind, Workspace,
    loss_and_grads,
};
use rand::RngExt;
use serde::Serialize;

use crate::base::refused;
use crate::checkpoint::{Checkpoints, State, Tensors};
use crate::curves::{Curves, Places};
use crate::data::Encoded;
use crate::evals::{self, EvalMetric};
use crate::health::{self, Dead};
use crate::measure::{Sum, pack, sum};
use crate::objective::Objective;
use crate::order::Order;
use crate::report::StepMetric;
use crate::settings::Settings;
use crate::{speed, variant};

mod judged;

use judged::{LogProbs, check_window, log_probs};

/// Decay of the moments and the term in the denominator, as PyTorch has them.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Rows that the report of a run that ran away names.
const NAMED_ROWS: usize = 8;

/// A training to be done.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Clock, stop flag, crash points, printer.
    pub(crate) ctx: &'a Ctx,
    /// The frozen base.
    pub(crate) model: &'a Model,
    /// The same on the device that computes, if one does.
    pub(crate) device: Option<&'a Arc<DeviceModel>>,
    /// Rows, then the pool.
    pub(crate) examples: &'a [Encoded],
    /// Rows that are evaluated on while training; may be none.
    pub(crate) evaluation: &'a [Encoded],
    /// In which order they are trained on.
    pub(crate) order: Order,
    /// How.
    pub(crate) settings: &'a Settings,
    /// Where the state is kept.
    pub(crate) checkpoints: Checkpoints<'a>,
    /// Where the curves are drawn.
    pub(crate) places: Places,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Every epoch is done.
    Schedule,
    /// `--max-steps`.
    MaxSteps,
    /// `--max-minutes` of the direct form.
    MaxMinutes,
    /// No gain for `early_stop` evaluations.
    EarlyStop,
    /// An external trainer decided.
    Engine,
}

impl End {
    /// As a person is told.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Schedule => "every epoch is done",
            Self::MaxSteps => "--max-steps is reached",
            Self::MaxMinutes => "--max-minutes is up",
            Self::EarlyStop => "the evaluation loss no longer falls",
            Self::Engine => "the external trainer decided",
        }
    }
}

/// A training that ended well.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The adapter to publish.
    pub(crate) adapter: Adapter,
    /// Every step, those before a resume included.
    pub(crate) steps: Vec<StepMetric>,
    /// Every evaluation, likewise.
    pub(crate) evals: Vec<EvalMetric>,
    /// After which step the adapter is as it is published.
    pub(crate) published_step: usize,
    /// Why it ended.
    pub(crate) ended: End,
    /// Where this process took over.
    pub(crate) resumed_from_step: Option<usize>,
    /// What was said of its health.
    pub(crate) warnings: Vec<String>,
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

/// Trains to the end of the schedule (or what ends it earlier), going on from the newest checkpoint.
///
/// # Errors
/// Exit 1 naming step, tensor and rows where loss or gradient is not finite; 143 or 130, after a checkpoint,
/// when asked to stop; 4 for a checkpoint of another run where those are refused.
pub(crate) fn train(job: &Job<'_>, adapter: Adapter, say: &dyn Fn(News<'_>)) -> Result<Trained, Failure> {
    check_window(&job.settings.objective, job.order.window)?;
    let mut run = Run::new(job, adapter);
    let resumed_from_step = run.resume(say)?;
    if job.settings.objective != Objective::Imitate {
        run.references = log_probs(job, None, job.examples, &mut run.workspace)?;
        run.evaluation_references = log_probs(job, None, job.evaluation, &mut run.workspace)?;
    }
    run.curves = Some(Curves::open(&job.places, &run.steps, &run.evals)?);
    let bar = job.ctx.printer.bar(run.last() as u64, "training");
    bar.set_position(run.steps.len() as u64);
    let ended = loop {
        let result = run.settle(say).and_then(|ended| match ended {
            Some(ended) => Ok(Some(ended)),
            None => run.step(say).map(|()| None),
        });
        match result {
            Ok(Some(ended)) => break ended,
            Ok(None) => {
                bar.set_position(run.steps.len() as u64);
                bar.set_message(run.message());
            }
            Err(failure) => {
                if job.ctx.stop.requested().is_some() {
                    // Gradients of half a window are given up; whole steps are kept.
                    run.checkpoint()?;
                    let done = run.steps.len();
                    say(News::Note(&format!("stopped: a checkpoint of step {done} is written")));
                }
                return Err(failure);
            }
        }
    };
    bar.finish_and_clear();
    let published_step = run.take_best()?;
    let Run { adapter, steps, evals, mut warnings, .. } = run;
    warnings.splice(0..0, health::spikes(&steps));
    Ok(Trained { adapter, steps, evals, published_step, ended, resumed_from_step, warnings })
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
    /// An epoch and its rows in training order.
    epoch: Option<(usize, Vec<usize>)>,
    steps: Vec<StepMetric>,
    evals: Vec<EvalMetric>,
    best_sha256: Option<String>,
    curves: Option<Curves>,
    /// Lines of the curves that are drawn: the start, then one for each step.
    drawn: usize,
    dead: Dead,
    warnings: Vec<String>,
    /// Wall time of earlier processes.
    seconds_before: f64,
    /// Judged answers: what the reference says of the rows, and of those evaluated on.
    references: LogProbs,
    evaluation_references: LogProbs,
    /// Steps in the newest checkpoint.
    saved: Option<usize>,
    saved_at: Duration,
    /// What matrix products reach here, once it is measured.
    peak_gflops: Option<f64>,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job<'a>, adapter: Adapter) -> Self {
        let train = &job.settings.train;
        let kind = match train.schedule {
            Shape::Linear => ScheduleKind::Linear,
            Shape::Cosine => ScheduleKind::Cosine { floor: 0.0 },
            Shape::Constant => ScheduleKind::Constant,
        };
        let mut workspace = variant::workspace(train, threads(train.threads), job.device);
        workspace.set_limits(job.order.limits());
        workspace.set_stop(job.ctx.stop.clone());
        Self {
            optimiser: AdamW::new(BETA1, BETA2, EPSILON, train.weight_decay),
            schedule: Schedule { kind, warmup: train.warmup_steps, total: job.order.total_steps() },
            grads: Grads::lora(&adapter),
            workspace,
            lengths: job.examples.iter().map(Encoded::tokens).collect(),
            epoch: None,
            steps: Vec::new(),
            evals: Vec::new(),
            best_sha256: None,
            curves: None,
            drawn: 0,
            dead: Dead::default(),
            warnings: Vec::new(),
            seconds_before: 0.0,
            references: LogProbs::new(),
            evaluation_references: LogProbs::new(),
            saved: None,
            saved_at: job.ctx.clock.elapsed(),
            peak_gflops: None,
            job,
            adapter,
        }
    }

    /// The last step of the run.
    fn last(&self) -> usize {
        let total = self.job.order.total_steps();
        self.job.settings.max_steps.map_or(total, |max| max.min(total))
    }

    /// Wall time spent, in all processes.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.job.ctx.clock.elapsed().as_secs_f64()
    }

    /// Between two steps: evaluates, draws and checkpoints what is due. Says whether the run is over.
    /// Everything is decided by the steps and evaluations done, so a resumed run decides the same.
    fn settle(&mut self, say: &dyn Fn(News<'_>)) -> Result<Option<End>, Failure> {
        let mut ended = self.ended();
        let fresh = self.evaluate(ended.is_some(), say)?;
        let control = &self.job.settings.control;
        if ended.is_none() && evals::exhausted(&self.evals, control.early_stop, control.early_stop_delta) {
            ended = Some(End::EarlyStop);
        }
        self.draw(fresh, say);
        let (done, clock) = (self.steps.len(), &self.job.ctx.clock);
        let by_steps = control.checkpoint_steps.is_some_and(|every| done.is_multiple_of(every));
        let minutes = (clock.elapsed() - self.saved_at).as_secs_f64() / 60.0;
        if ended.is_some() || by_steps || control.checkpoint_minutes.is_some_and(|every| minutes >= every) {
            self.checkpoint()?;
        }
        Ok(ended)
    }

    fn ended(&self) -> Option<End> {
        let done = self.steps.len();
        if done >= self.last() {
            let all = done >= self.job.order.total_steps();
            return Some(if all { End::Schedule } else { End::MaxSteps });
        }
        let limit = self.job.settings.control.stop_after_minutes? * 60.0;
        let spent: f64 = self.steps.iter().map(|step| step.seconds).sum();
        // A step that would not fit is not begun; the first one always is.
        (done > 0 && self.seconds() + spent / done as f64 > limit).then_some(End::MaxMinutes)
    }

    /// Evaluates when it is due (always at the start and at the end); whether it did.
    fn evaluate(&mut self, ended: bool, say: &dyn Fn(News<'_>)) -> Result<bool, Failure> {
        let (job, done) = (self.job, self.steps.len());
        let every = match job.settings.control.eval_every {
            0 => job.order.steps_per_epoch(),
            every => every,
        };
        let due = ended || done.is_multiple_of(every);
        if job.evaluation.is_empty() || !due || self.evals.last().is_some_and(|eval| eval.step == done) {
            return Ok(false);
        }
        let clock = &job.ctx.clock;
        let started = clock.elapsed();
        let sum = match job.settings.objective {
            Objective::Imitate => {
                sum(job.ctx, job.model, Some(&self.adapter), job.evaluation, &mut self.workspace, &|_| ())?
            }
            Objective::Dpo(_) | Objective::Kto(_) => Sum { loss: self.judge_evaluation()?.loss(), bad: None },
        };
        let seconds = (clock.elapsed() - started).as_secs_f64();
        let eval = EvalMetric::new(done, sum.loss, seconds, at_s(job.ctx));
        self.evals.push(eval);
        let best = evals::best(&self.evals).is_some_and(|best| best.step == done);
        let mark = if best { " (best so far)" } else { "" };
        match (eval.loss, sum.bad) {
            (Some(loss), None) => {
                say(News::Note(&format!("evaluation after step {done}: loss {loss:.4}{mark}")));
            }
            (_, bad) => {
                let why = bad.map_or_else(String::new, |error| format!(" ({error})"));
                let text = format!("the evaluation after step {done} is not finite{why}: it is never best");
                say(News::Note(&text));
                self.warnings.push(text);
            }
        }
        job.ctx.crash.reach("train.evaluated", &done.to_string());
        if best && job.settings.control.keep_best {
            self.best_sha256 = Some(job.checkpoints.save_best(done, &self.adapter)?);
            job.ctx.crash.reach("train.best_kept", &done.to_string());
        }
        Ok(true)
    }

    /// Draws the newest step, with the evaluation that followed it.
    fn draw(&mut self, evaluated: bool, say: &dyn Fn(News<'_>)) {
        let eval = self.evals.last().filter(|_| evaluated);
        let step = self.steps.last().filter(|step| step.step > self.drawn);
        if step.is_none() && eval.is_none_or(|eval| eval.step > 0) {
            return;
        }
        self.drawn = self.steps.len();
        if let Some(lost) = self.curves.as_mut().and_then(|curves| curves.push(step, eval)) {
            say(News::Note(&lost));
        }
    }

    /// What the progress bar says.
    fn message(&self) -> String {
        let Some(step) = self.steps.last() else { return String::new() };
        let eval = self.evals.last().and_then(|eval| eval.loss);
        let eval = eval.map_or_else(String::new, |loss| format!(", eval {loss:.3}"));
        format!("loss {:.3}{eval}, {}, {} MB", step.loss, step.speed(), step.rss_bytes / 1_000_000)
    }

    /// One optimiser step.
    fn step(&mut self, say: &dyn Fn(News<'_>)) -> Result<(), Failure> {
        let (done, per_epoch) = (self.steps.len(), self.job.order.steps_per_epoch());
        let (epoch, place) = (done / per_epoch, done % per_epoch);
        let rows = match self.epoch.take() {
            Some((known, rows)) if known == epoch => rows,
            _ => self.job.order.epoch(epoch),
        };
        let window = rows.chunks(self.job.order.window).nth(place).unwrap_or_default();
        let step = self.window(window, epoch)?;
        self.epoch = Some((epoch, rows));
        tracing::info!(step = step.step, loss = step.loss, lr = step.lr, "trained");
        if let Some(text) = health::spike(&self.steps, &step) {
            say(News::Note(&text));
        }
        if let Some(text) = self.dead.look(&self.grads, step.step) {
            say(News::Note(&text));
            self.warnings.push(text);
        }
        say(News::Step(&step));
        // Behind the first step, so that nobody waits for it. It says nothing about a device.
        if self.peak_gflops.is_none() && self.job.device.is_none() {
            let expected_s = step.seconds * (self.last() - done) as f64;
            let threads = threads(self.job.settings.train.threads);
            self.peak_gflops = Some(speed::peak_gflops(self.job.model, threads, expected_s));
        }
        self.steps.push(step);
        self.job.ctx.crash.reach("train.stepped", &self.steps.len().to_string());
        Ok(())
    }

    /// One optimiser step over the rows of a window.
    fn window(&mut self, window: &[usize], epoch: usize) -> Result<StepMetric, Failure> {
        let (job, clock) = (self.job, &self.job.ctx.clock);
        let started = clock.elapsed();
        let answer_tokens: usize = window.iter().map(|&row| job.examples[row].answer_tokens()).sum();
        self.grads.zero();
        let (loss, rewards) = match job.settings.objective {
            Objective::Imitate => (self.imitate(window, answer_tokens)?, None),
            Objective::Dpo(_) | Objective::Kto(_) => {
                let judgement = self.judge(window)?;
                let (loss, Loss { correct, .. }) = (judgement.loss(), judgement.sum.answers);
                (Loss { correct, ..loss }, Some(judgement.rewards))
            }
        };
        let max = job.settings.train.max_grad_norm;
        let norm = self.grads.clip_global_norm(max);
        let grad_norm = norm.map_err(|error| self.ran_away(error, window, true))?;
        let lr = job.settings.train.learning_rate * self.schedule.factor(self.steps.len());
        let ratio = job.settings.train.loraplus_lr_ratio;
        let mut parameters = self.grads.with_adapter(&mut self.adapter, ratio);
        self.optimiser.step(&mut parameters, lr).map_err(refused)?;
        self.adapter.prepare(job.model, self.workspace.threads());
        let tensors = self.adapter.iter();
        let bad = tensors.iter().find(|tensor| !tensor.values.iter().all(|x| x.is_finite()));
        if let Some(bad) = bad {
            let error = ModelError::non_finite(format!("`{}` after the step", bad.name));
            return Err(self.ran_away(error, window, false));
        }
        Ok(StepMetric {
            step: self.steps.len() + 1,
            epoch,
            loss: loss.mean().unwrap_or(f64::NAN),
            lr,
            grad_norm,
            tokens: window.iter().map(|&row| self.lengths[row]).sum(),
            answer_tokens,
            mean_token_accuracy: loss.correct as f64 / answer_tokens as f64,
            seconds: (clock.elapsed() - started).as_secs_f64(),
            rss_bytes: nightshift_core::process::rss_bytes(),
            at_s: at_s(job.ctx),
            rewards,
            gflop: speed::training_gflop(
                job.model,
                &self.adapter,
                &pack(window.iter().map(|&row| &job.examples[row])),
            ),
            peak_gflops: self.peak_gflops,
        })
    }

    /// One window of answers: adds its gradients.
    fn imitate(&mut self, window: &[usize], answer_tokens: usize) -> Result<Loss, Failure> {
        let job = self.job;
        let batch = self.lay_out(window);
        let scale = 1.0 / answer_tokens as f32;
        let Self { adapter, grads, workspace, .. } = self;
        loss_and_grads(job.model, Some(adapter), &batch, scale, grads, workspace)
            .map_err(|error| self.ran_away(error, window, true))
    }

    /// The rows of a window end to end, and what its passes draw at random.
    fn lay_out(&mut self, window: &[usize]) -> Packed {
        let seed = random::rng(self.job.settings.seed, &format!("dropout {}", self.steps.len())).random();
        self.workspace.set_dropout_seed(seed);
        drawing(self.job, window)
    }

    /// NaN or infinity: names step, tensor and rows. While the adapter is `sound`, as it is until the
    /// optimiser has moved it, the state before this step is kept. Nothing of this run goes live.
    fn ran_away(&mut self, error: ModelError, window: &[usize], sound: bool) -> Failure {
        let ModelError::NonFinite { sequences, .. } = &error else { return refused(error) };
        // A row is one sequence, or two.
        let owners: Vec<usize> =
            window.iter().flat_map(|&row| self.job.examples[row].examples().map(move |_| row)).collect();
        let mut rows: Vec<usize> = sequences.iter().map(|&sequence| owners[sequence]).collect();
        rows.dedup();
        let rows = if rows.is_empty() { window } else { rows.as_slice() };
        let (step, job) = (self.steps.len() + 1, self.job);
        let unsaved = if sound { self.checkpoint().err() } else { None };
        let names: Vec<&str> = rows.iter().map(|&row| job.examples[row].name.as_str()).collect();
        let kept = self.saved.map_or_else(String::new, |step| {
            format!("; the state of step {step} is kept in {}", job.checkpoints.folder.display())
        });
        let unsaved = unsaved.map_or_else(String::new, |failure| format!("; {}", failure.chain()));
        let failure = Failure::failed(format!(
            "training ran away at step {step}: {error}; rows in the window: {} (nothing was published{kept}{unsaved})",
            health::listed(&names, NAMED_ROWS)
        ));
        let failure =
            failure.hint("lower train.learning_rate, or add train.warmup_steps; --fresh starts over");
        match self.saved {
            Some(_) => failure.hint("--init-adapter on the kept state goes on from it with other settings"),
            None => failure,
        }
    }

    /// Writes the state after the last whole step, unless it is written already.
    fn checkpoint(&mut self) -> Result<(), Failure> {
        let step = self.steps.len();
        if step == 0 || self.saved == Some(step) {
            return Ok(());
        }
        let state = State {
            step,
            seconds: self.seconds(),
            steps: self.steps.clone(),
            evals: self.evals.clone(),
            best_sha256: self.best_sha256.clone(),
            ..State::default()
        };
        self.job.checkpoints.save(state, &self.adapter, &self.optimiser)?;
        (self.saved, self.saved_at) = (Some(step), self.job.ctx.clock.elapsed());
        self.job.ctx.crash.reach("train.checkpointed", &step.to_string());
        Ok(())
    }

    /// Goes back to the newest checkpoint of this run, if there is one.
    fn resume(&mut self, say: &dyn Fn(News<'_>)) -> Result<Option<usize>, Failure> {
        let found = self.job.checkpoints.newest()?;
        for note in &found.notes {
            say(News::Note(note));
        }
        let Some(found) = found.checkpoint else { return Ok(None) };
        let (state, mut moments) = (found.state, found.moments);
        self.put_back(found.adapter, state.step)?;
        let names: Vec<String> = self.adapter.iter().into_iter().map(|tensor| tensor.name).collect();
        self.optimiser
            .restore(state.step as u64, &names, |name: &str| moments.remove(name))
            .map_err(refused)?;
        let total = self.job.order.total_steps();
        say(News::Note(&format!("going on after step {} of {total}", state.step)));
        (self.saved, self.drawn, self.seconds_before) = (Some(state.step), state.step, state.seconds);
        (self.steps, self.evals, self.best_sha256) = (state.steps, state.evals, state.best_sha256);
        Ok(self.saved)
    }

    /// Puts the best state in place of the last one, where that is asked for; the step it was reached at.
    fn take_best(&mut self) -> Result<usize, Failure> {
        let done = self.steps.len();
        let Some(best) = evals::best(&self.evals).filter(|best| best.step != done) else { return Ok(done) };
        let Some(sha256) = self.best_sha256.as_ref().filter(|_| self.job.settings.control.keep_best) else {
            return Ok(done);
        };
        let tensors = self.job.checkpoints.load_best(best.step, sha256).map_err(|why| {
            Failure::failed(format!("the best state cannot be read back: {why}"))
                .hint("--keep last publishes the last state")
        })?;
        self.put_back(tensors, best.step)?;
        Ok(best.step)
    }

    /// The adapter's tensors as they were after `step` steps.
    fn put_back(&mut self, mut tensors: Tensors, step: usize) -> Result<(), Failure> {
        for tensor in self.adapter.iter_mut() {
            let values = tensors.remove(&tensor.name).filter(|values| values.len() == tensor.values.len());
            let values = values.ok_or_else(|| {
                Failure::failed(format!("the checkpoint of step {step} lacks `{}`", tensor.name))
                    .hint("--fresh throws it away and starts over")
            })?;
            tensor.values.copy_from_slice(&values);
        }
        self.adapter.prepare(self.job.model, self.workspace.threads());
        Ok(())
    }
}

/// Rows laid end to end. What each of them draws in a step follows from its number, so it is the same
/// however the rows of the step are cut into passes and shared among threads.
fn drawing(job: &Job<'_>, rows: &[usize]) -> Packed {
    let mut batch = pack(rows.iter().map(|&row| &job.examples[row]));
    let numbers = rows.iter().flat_map(|&row| {
        (0..job.examples[row].examples().count()).map(move |side| 2 * row as u64 + side as u64)
    });
    batch.draws = numbers.collect();
    batch
}

/// The wall clock, in seconds since 1970.
fn at_s(ctx: &Ctx) -> f64 {
    ctx.clock.now().as_microsecond() as f64 / 1e6
}
