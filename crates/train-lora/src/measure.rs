//! Passes that change nothing: the loss on held-out rows, and the speed of the machine.

use std::sync::Arc;

use nightshift_core::{Ctx, Failure};
use nightshift_model::{Adapter, Grads, Loss, Model, ModelError, Packed, Workspace, loss_and_grads};

use crate::base::{Base, refused};
use crate::data::Encoded;
use crate::settings::Settings;
use crate::train::threads;
use crate::variant;

/// Tokens that an evaluation takes at a time: enough to share them out evenly among a few threads.
const EVALUATE_TOKENS: usize = 8192;
/// Seconds of arithmetic that a speed is measured on.
const PROBE_S: f64 = 0.5;

/// Rows laid end to end.
pub(crate) fn pack<'a>(rows: impl Iterator<Item = &'a Encoded>) -> Packed {
    let mut batch = Packed::new();
    rows.flat_map(Encoded::examples).for_each(|example| batch.push(&example.tokens, &example.scored));
    batch
}

/// Sum of the negative log-likelihood of all answers, and the answer tokens.
pub(crate) fn evaluate(
    ctx: &Ctx,
    base: &Base,
    adapter: Option<&Adapter>,
    examples: &[Encoded],
    threads: usize,
) -> Result<Loss, Failure> {
    let mut workspace = Workspace::new(threads);
    workspace.set_stop(ctx.stop.clone());
    if let Some(device) = &base.device {
        workspace.set_device(Arc::clone(device));
    }
    let bar = ctx.printer.bar(examples.len() as u64, "evaluating");
    let sum = sum(ctx, &base.model, adapter, examples, &mut workspace, &|rows| bar.inc(rows as u64))?;
    bar.finish_and_clear();
    match sum.bad {
        None => Ok(sum.loss),
        Some(error) => Err(refused(error)),
    }
}

/// A sum over rows; `bad` says why it is not finite.
#[derive(Debug)]
pub(crate) struct Sum {
    /// What could be summed up.
    pub(crate) loss: Loss,
    /// Where the numbers ended.
    pub(crate) bad: Option<ModelError>,
}

/// Sums up the rows' losses, without dropout; calls `done` with the rows of each pass.
pub(crate) fn sum(
    ctx: &Ctx,
    model: &Model,
    adapter: Option<&Adapter>,
    examples: &[Encoded],
    workspace: &mut Workspace,
    done: &dyn Fn(usize),
) -> Result<Sum, Failure> {
    let mut loss = Loss::default();
    for pass in evaluation_passes(examples) {
        ctx.stop.check()?;
        match nightshift_model::evaluate(model, adapter, &pack(pass.iter()), workspace) {
            Ok(losses) => losses.into_iter().for_each(|one| loss += one),
            Err(error @ ModelError::NonFinite { .. }) => {
                loss.nll_sum = f64::NAN;
                return Ok(Sum { loss, bad: Some(error) });
            }
            Err(error) => return Err(refused(error)),
        }
        done(pass.len());
    }
    Ok(Sum { loss, bad: None })
}

/// Rows in the batches in which they are evaluated.
pub(crate) fn evaluation_passes(examples: &[Encoded]) -> Vec<&[Encoded]> {
    let (mut passes, mut rest) = (Vec::new(), examples);
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |row: &&Encoded| {
            tokens += row.tokens();
            tokens <= EVALUATE_TOKENS
        };
        let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        passes.push(now);
        rest = later;
    }
    passes
}

/// Measures the speed of training steps on some rows; changes nothing.
pub(crate) fn tokens_per_s(
    ctx: &Ctx,
    base: &Base,
    adapter: &Adapter,
    rows: &[Encoded],
    settings: &Settings,
) -> Result<f64, Failure> {
    let threads = threads(settings.train.threads);
    let mut workspace = variant::workspace(&settings.train, threads, base.device.as_ref());
    let mut grads = Grads::lora(adapter);
    let (mut tokens, mut seconds) = (0, 0.0);
    // The first batch warms the caches and is not counted.
    for (number, batch) in rows.chunks(settings.train.batch_size).cycle().enumerate() {
        ctx.stop.check()?;
        let started = ctx.clock.elapsed();
        let batch = pack(batch.iter());
        loss_and_grads(&base.model, Some(adapter), &batch, 1.0, &mut grads, &mut workspace)
            .map_err(refused)?;
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
