//! `--engine command`: somebody else's trainer, on one machine or many, instead of the loop in `train`.
//!
//! We hand over a job folder, start a program, watch it, and believe nothing: what comes back is checked
//! exactly like a stranger's adapter, measured with our evaluator, and only then published. `job` writes what
//! goes out, `launch` runs the program, `outcome` checks what comes back. The contract is in docs/engines.md.
//!
//! A job that ended while nobody watched (this program was killed) is taken over at the next start; one that
//! still runs then is ended first. What was refused is set aside as `refused/` and trained anew.

mod flags;
mod job;
mod launch;
mod outcome;

use std::path::Path;

use nightshift_core::{Ctx, Failure, files};
use nightshift_model::Adapter;
use serde::Serialize;
use serde_json::Value;

use crate::base::{Base, refused};
use crate::data::Encoded;
use crate::evals::EvalMetric;
use crate::measure;
use crate::order::Order;
use crate::report::StepMetric;
use crate::settings::Settings;
use crate::train::{End, Trained, threads};

pub(crate) use flags::EngineSettings;
pub use flags::{EngineFlags, EngineName};

/// Training rows that stand in where nothing is held out.
const EVALUATED_ROWS: usize = 64;

/// A training that an external program does.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Clock, signals, printer.
    pub(crate) ctx: &'a Ctx,
    /// The base.
    pub(crate) base: &'a Base,
    /// How to train.
    pub(crate) settings: &'a Settings,
    /// Rows, then the pool, as the program reads them.
    pub(crate) wire: &'a [Value],
    /// The same in tokens.
    pub(crate) examples: &'a [Encoded],
    /// Rows held out, in both forms.
    pub(crate) held_out: (&'a [Value], &'a [Encoded]),
    /// Order of the rows.
    pub(crate) order: &'a Order,
    /// The run's name.
    pub(crate) run_key: &'a str,
    /// Where job and result lie; kept until the adapter is published.
    pub(crate) folder: &'a Path,
    /// The adapter to go on from.
    pub(crate) start: Option<&'a Adapter>,
}

/// What the report says of an external training.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct EngineReport {
    /// What the program calls itself.
    pub(crate) trainer: String,
    /// The program that was started.
    pub(crate) program: String,
    /// Optimiser steps, as it says.
    pub(crate) steps: usize,
    /// Scored tokens of one pass over the rows, as it says.
    pub(crate) scored_tokens: u64,
    /// Its own wall time.
    pub(crate) wall_s: f64,
    /// The step whose state it gave back.
    pub(crate) best_step: Option<usize>,
    /// `eval` (rows held out) or `train`.
    pub(crate) evaluated_on: &'static str,
    /// Rows evaluated by us.
    pub(crate) evaluated_rows: usize,
    /// Our mean loss of the base on them.
    pub(crate) nll_base: f64,
    /// Our mean loss with the adapter.
    pub(crate) nll_adapter: f64,
    /// Things to look at.
    pub(crate) warnings: Vec<String>,
}

/// Has the job done and checks what came back.
///
/// # Errors
/// 1 when the program fails, goes silent or cannot be started; 4 when what it gave back is refused; 10 at the
/// deadline; 143 or 130 when asked to stop.
pub(crate) fn train(
    request: &Request<'_>,
    engine: &EngineSettings,
) -> Result<(Trained, EngineReport), Failure> {
    let places = job::Places::new(request.folder)?;
    launch::end_stray(&places)?;
    let work = job::Work::of(request.order);
    let rows = &work.rows;
    let expected: u64 = rows.iter().map(|&row| request.examples[row].answer_tokens() as u64).sum();
    if places.result().exists() {
        request.ctx.printer.note(&format!("the job in {} has ended: checking it", places.root.display()));
    } else {
        job::write(request, &places, &work, engine)?;
        launch::run(
            request.ctx,
            &places,
            &request.base.dir,
            request.run_key,
            engine,
            request.settings.train.threads,
        )?;
    }
    let asked = outcome::Asked {
        shape: &request.base.model.config,
        settings: request.settings,
        scored_tokens: expected,
        epochs: work.epochs,
    };
    let returned = outcome::read(&places, &asked).and_then(|returned| {
        let report = measure(request, rows, &returned, engine)?;
        Ok((returned, report))
    });
    let (returned, report) = match returned {
        Ok(returned) => returned,
        Err(failure) => {
            // The next start must not find the same result again; one that was not yet judged is kept.
            if request.ctx.stop.requested().is_none() {
                set_aside(&places)?;
            }
            return Err(failure);
        }
    };
    let steps = steps(&returned, request.order);
    let published_step = report.best_step.unwrap_or(report.steps);
    let trained = Trained {
        adapter: returned.adapter,
        evals: evals(&report, published_step),
        steps,
        published_step,
        ended: End::Engine,
        resumed_from_step: None,
        warnings: Vec::new(),
    };
    Ok((trained, report))
}

/// Moves what was refused out of the way, for a person to look at.
fn set_aside(places: &job::Places) -> Result<(), Failure> {
    let refused = places.root.join("refused");
    files::remove_dir(&refused)?;
    Ok(files::rename(&places.out, &refused)?)
}

/// Base and adapter with our evaluator, on what was held out or else on the rows themselves.
fn measure(
    request: &Request<'_>,
    rows: &[usize],
    returned: &outcome::Returned,
    engine: &EngineSettings,
) -> Result<EngineReport, Failure> {
    let held_out = request.held_out.1;
    let mut chosen: Vec<usize> = rows.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    let own: Vec<Encoded> =
        chosen.iter().take(EVALUATED_ROWS).map(|&row| request.examples[row].clone()).collect();
    let (evaluated_on, examples) =
        if held_out.is_empty() { ("train", own.as_slice()) } else { ("eval", held_out) };
    let threads = threads(request.settings.train.threads);
    let nll = |adapter: Option<&Adapter>| {
        let loss = measure::evaluate(request.ctx, request.base, adapter, examples, threads)?;
        Ok::<f64, Failure>(loss.nll_sum / loss.tokens as f64)
    };
    let (nll_base, nll_adapter) = (nll(None)?, nll(Some(&returned.adapter))?);
    let mut warnings = returned.warnings.clone();
    if nll_adapter >= nll_base {
        warnings.push(format!(
            "the adapter of the external trainer is no better than the base on the {evaluated_on} rows: {nll_adapter:.4} \
             against {nll_base:.4} nats per token; look at its scale, its learning rate and its template"
        ));
    }
    Ok(EngineReport {
        trainer: returned.result.trainer.clone(),
        program: engine.command.first().cloned().unwrap_or_default(),
        steps: returned.result.steps,
        scored_tokens: returned.result.scored_tokens,
        wall_s: returned.result.wall_s,
        best_step: returned.result.best_step,
        evaluated_on,
        evaluated_rows: examples.len(),
        nll_base,
        nll_adapter,
        warnings,
    })
}

/// The program's curve as ours. What it did not write (gradient norms) is not a number.
fn steps(returned: &outcome::Returned, order: &Order) -> Vec<StepMetric> {
    let count = returned.metrics.len().max(1) as f64;
    let step = |metric: &outcome::Metric| StepMetric {
        step: metric.step,
        epoch: metric.step.saturating_sub(1) / order.steps_per_epoch().max(1),
        loss: metric.loss,
        lr: metric.lr.unwrap_or(f64::NAN),
        grad_norm: metric.grad_norm.unwrap_or(f64::NAN),
        tokens: metric.tokens.unwrap_or(0),
        answer_tokens: metric.answer_tokens.unwrap_or(0),
        seconds: returned.result.wall_s / count,
        ..StepMetric::default()
    };
    returned.metrics.iter().map(step).collect()
}

/// What we measured before and after, where rows were held out for it.
fn evals(report: &EngineReport, step: usize) -> Vec<EvalMetric> {
    if report.evaluated_on != "eval" {
        return Vec::new();
    }
    let eval = |step, loss| EvalMetric { step, loss: Some(loss), ..EvalMetric::default() };
    vec![eval(0, report.nll_base), eval(step, report.nll_adapter)]
}

/// A token file that could not be made.
fn bad_tensors(error: safetensors::SafeTensorError) -> Failure {
    refused(nightshift_model::ModelError::Input(error.to_string()))
}
