//! What trainers and tests call: loss with gradients, loss alone, logits.

use crate::backward::backward;
use crate::batch::{Packed, check_tokens};
use crate::draws::Draws;
use crate::error::{ModelError, Result};
use crate::forward::{Purpose, Stack, checked, forward};
use crate::grads::Grads;
use crate::lora::Adapter;
use crate::loss::{self, Loss, LossGrads};
use crate::matmul::{Mat, Store};
use crate::packed;
use crate::params::{Model, Named, Weights};
use crate::passes::{self, Limits, Pass, Plan, passes};
use crate::real::Real;
use crate::timing::{self, Part};
use crate::workspace::{Scratch, Workspace, fit};

/// Negative log-likelihood of the labels of `batch`, and d(scale * nll_sum) added to `grads`.
///
/// What is trained is decided by `grads` ([`Grads::lora`] or [`Grads::full`]). To normalise over an
/// accumulation window pass `scale` = 1 / scored tokens of the whole window. A batch without labels
/// gives a loss of zero tokens and no gradient. A batch may be a whole window: how much of it is computed
/// at a time is decided by [`Workspace::set_limits`] and what is fastest.
///
/// # Errors
/// [`ModelError::Input`] for tokens outside the vocabulary, a malformed batch or gradients that do
/// not belong to `adapter`; [`ModelError::NonFinite`] when the loss is not finite, naming the first
/// layer whose output is not. Gradients are checked by [`Grads::norm`]. After an error `grads` holds
/// part of a batch: zero it.
pub fn loss_and_grads<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    batch: &Packed,
    scale: T,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<Loss> {
    T::loss_and_grads(model, adapter, batch, scale, grads, ws)
}

pub(crate) fn compute_loss_and_grads<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    batch: &Packed,
    scale: T,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<Loss> {
    let (plan, seed) = (passes(batch, 1, ws.threads, ws.limits), ws.dropout_seed);
    let losses = run_with_grads(&plan, grads, ws, |pass, grads, ws| {
        let draws = Draws::new(seed, &pass.batch);
        one_pass(&training(model, adapter, &draws), pass, scale, grads, ws)
    })?;
    let mut total = Loss::default();
    for loss in losses {
        total += loss;
    }
    Ok(total)
}

/// Does `work` for every pass; what the passes add to their gradients ends up in `grads`.
fn run_with_grads<T: Real, R: Send>(
    plan: &Plan<Pass>,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    work: impl Fn(&Pass, &mut Grads<T>, &mut Workspace<T>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut extra = std::mem::take(&mut ws.extra_grads);
    extra.retain(|other| other.same_shape(grads));
    let others = plan.workers() - 1;
    extra.resize_with(others.max(extra.len()), || grads.clone());
    let used = &mut extra[..others];
    used.iter_mut().for_each(Grads::zero);
    let states: Vec<&mut Grads<T>> = std::iter::once(&mut *grads).chain(used).collect();
    let results = passes::run(plan, states, ws, |pass, grads, ws| work(pass, grads, ws));
    for other in &extra[..others] {
        grads.add(other);
    }
    ws.extra_grads = extra;
    results
}

fn one_pass<T: Real>(
    stack: &Stack<'_, T>,
    pass: &Pass,
    scale: T,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<Loss> {
    let (model, batch) = (stack.model, &pass.batch);
    let labels = lay_out(model, pass, ws);
    forward(stack, &batch.tokens, None, ws);
    let (mut nll_sum, mut correct) = (0.0, 0);
    let Workspace { threads, hidden, scratch: Scratch { dh, logits, linear, .. }, .. } = &mut *ws;
    let head_grad = grads.weights.as_mut().and_then(|weights| {
        let Weights { head, embed, .. } = weights;
        head.as_mut().unwrap_or(embed).dense_mut()
    });
    let loss_grads = LossGrads { scale, hidden: fit(dh, hidden.len()), head: head_grad };
    let (head, scratch) = (model.weights.head(), [logits, &mut linear.panel]);
    let watch = timing::watch(Part::Head);
    loss::cross_entropy(*threads, hidden, head, &labels, Some(loss_grads), scratch, |_, nll, hit| {
        nll_sum += nll;
        correct += usize::from(hit);
    });
    drop(watch);
    let nll_sum = checked(nll_sum, ws, Purpose::Train)?;
    backward(stack, &batch.tokens, grads, ws);
    Ok(Loss { nll_sum, tokens: labels.len(), correct })
}

/// Weights of a unit's sequences from the number of the unit and the losses of its sequences.
pub(crate) type Weigh<'a> = &'a (dyn Fn(usize, &[Loss]) -> Vec<f64> + Sync);

/// Negative log-likelihood of the labels of each sequence, and d(sum of w_i * nll_i) added to `grads`,
/// where the weights w_i follow from these very numbers. Sequences come in units of `unit` neighbours:
/// `weigh` gets the number of a unit and the losses of its sequences, and gives a weight for each; it is
/// called once for every unit that has a label, between its forward and its backward pass.
///
/// # Errors
/// As [`loss_and_grads`]; [`ModelError::Input`] also for gradients of base weights.
pub fn sequence_grads<T: Real>(
    model: &Model<T>,
    adapter: &Adapter<T>,
    batch: &Packed,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    (unit, weigh): (usize, Weigh<'_>),
) -> Result<Vec<Loss>> {
    T::sequence_grads(model, adapter, batch, grads, ws, (unit, weigh))
}

pub(crate) fn compute_sequence_grads<T: Real>(
    model: &Model<T>,
    adapter: &Adapter<T>,
    batch: &Packed,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    (unit, weigh): (usize, Weigh<'_>),
) -> Result<Vec<Loss>> {
    if grads.weights.is_some() {
        return Err(ModelError::Input("sequences are weighed while an adapter is trained only".to_owned()));
    }
    let (plan, seed) = (passes(batch, unit, ws.threads, ws.limits), ws.dropout_seed);
    let parts = run_with_grads(&plan, grads, ws, |pass, grads, ws| {
        let draws = Draws::new(seed, &pass.batch);
        let stack = training(model, Some(adapter), &draws);
        // Up to the gradient of the unweighted loss by the final norm's output.
        let losses = sequence_losses(&stack, pass, ws)?;
        let mut weights = Vec::with_capacity(losses.len());
        for (number, all) in units(pass, &losses, unit) {
            let given = weigh(number, &all);
            assert_eq!(given.len(), all.len(), "one weight for each sequence");
            weights.push((number, given));
        }
        // The loss is linear in the weights, so they may come behind its gradient.
        let width = model.config.hidden_size;
        let Workspace { rows, scratch, .. } = &mut *ws;
        for (row, dh) in rows.iter().zip(scratch.dh.chunks_exact_mut(width)) {
            let segment = pass.segments[segment_of(&pass.batch, *row)];
            let (_, given) = &weights[weights.partition_point(|(number, _)| *number < segment / unit)];
            crate::simd::scale(dh, T::from_f64(given[segment % unit]));
        }
        backward(&stack, &pass.batch.tokens, grads, ws);
        Ok(losses)
    })?;
    Ok(gather_losses(batch, &plan, parts))
}

/// The numbers of the units of a pass with the losses of all their sequences, those without a label included.
pub(crate) fn units(pass: &Pass, losses: &[Loss], unit: usize) -> Vec<(usize, Vec<Loss>)> {
    let mut found: Vec<(usize, Vec<Loss>)> = Vec::new();
    for (segment, loss) in pass.segments.iter().zip(losses) {
        if found.last().is_none_or(|(number, _)| *number != segment / unit) {
            found.push((segment / unit, vec![Loss::default(); unit]));
        }
        if let Some((_, all)) = found.last_mut() {
            all[segment % unit] = *loss;
        }
    }
    found
}

/// A pass that a backward pass follows.
const fn training<'a, T>(
    model: &'a Model<T>,
    adapter: Option<&'a Adapter<T>>,
    draws: &'a Draws,
) -> Stack<'a, T> {
    Stack { model, adapter, purpose: Purpose::Train, draws: Some(draws) }
}

/// Negative log-likelihood of the labels of each sequence of `batch`. No dropout.
///
/// # Errors
/// As [`loss_and_grads`].
pub fn evaluate<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    batch: &Packed,
    ws: &mut Workspace<T>,
) -> Result<Vec<Loss>> {
    T::evaluate(model, adapter, batch, ws)
}

pub(crate) fn compute_evaluation<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    batch: &Packed,
    ws: &mut Workspace<T>,
) -> Result<Vec<Loss>> {
    let plan = passes(batch, 1, ws.threads, Limits::NONE);
    let stack = Stack { model, adapter, purpose: Purpose::Infer, draws: None };
    let states = vec![(); plan.workers()];
    let parts = passes::run(&plan, states, ws, |pass, (), ws| sequence_losses(&stack, pass, ws))?;
    Ok(gather_losses(batch, &plan, parts))
}

/// The losses of a pass's sequences by a forward pass; in training also the gradient of their sum by the
/// final norm's output, in `ws.scratch.dh`.
fn sequence_losses<T: Real>(stack: &Stack<'_, T>, pass: &Pass, ws: &mut Workspace<T>) -> Result<Vec<Loss>> {
    let batch = &pass.batch;
    let labels = lay_out(stack.model, pass, ws);
    forward(stack, &batch.tokens, None, ws);
    let Workspace { threads, hidden, rows, scratch, .. } = &mut *ws;
    let Scratch { logits, dh, linear, .. } = scratch;
    let train = stack.purpose == Purpose::Train;
    let grads = train.then(|| LossGrads { scale: T::ONE, hidden: fit(dh, hidden.len()), head: None });
    let (head, scratch) = (stack.model.weights.head(), [logits, &mut linear.panel]);
    let mut losses = vec![Loss::default(); batch.segments()];
    loss::cross_entropy(*threads, hidden, head, &labels, grads, scratch, |index, nll, hit| {
        let loss = Loss { nll_sum: nll, tokens: 1, correct: usize::from(hit) };
        losses[segment_of(batch, rows[index])] += loss;
    });
    for loss in &losses {
        checked(loss.nll_sum, ws, stack.purpose)?;
    }
    Ok(losses)
}

/// The losses of all sequences of a batch from those of its passes.
fn gather_losses(batch: &Packed, plan: &Plan<Pass>, parts: Vec<Vec<Loss>>) -> Vec<Loss> {
    let mut losses = vec![Loss::default(); batch.segments()];
    for (pass, part) in plan.iter().zip(parts) {
        for (segment, loss) in pass.segments.iter().zip(part) {
            losses[*segment] = loss;
        }
    }
    losses
}

/// Which sequence a row belongs to.
fn segment_of(batch: &Packed, row: usize) -> usize {
    batch.starts.partition_point(|start| *start <= row) - 1
}

/// Logits at every position of one sequence, `[tokens.len(), vocab]` row-major. Meant for tests and
/// small inputs: the whole matrix exists at once.
///
/// # Errors
/// [`ModelError::Input`] for no tokens or tokens outside the vocabulary.
pub fn logits<T: Real>(model: &Model<T>, adapter: Option<&Adapter<T>>, tokens: &[u32]) -> Result<Vec<T>> {
    T::logits(model, adapter, tokens)
}

pub(crate) fn compute_logits<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    tokens: &[u32],
) -> Result<Vec<T>> {
    let config = &model.config;
    check_tokens(tokens, config.vocab_size)?;
    check_adapter(model, adapter)?;
    let mut ws = Workspace::new(1);
    ws.lay_out_after(config, 0, tokens.len());
    ws.rows.extend(0..tokens.len());
    let stack = Stack { model, adapter, purpose: Purpose::Infer, draws: None };
    forward(&stack, tokens, None, &mut ws);
    let mut logits = vec![T::ZERO; tokens.len() * config.vocab_size];
    let hidden = Mat::new(&ws.hidden, tokens.len(), config.hidden_size);
    let (out, panel) = ((logits.as_mut_slice(), Store::Replace), &mut ws.scratch.linear.panel);
    packed::times_transposed(ws.threads, out, hidden, model.weights.head(), panel);
    Ok(logits)
}

/// Lays a pass out and chooses its scored rows; their labels.
fn lay_out<T: Real>(model: &Model<T>, pass: &Pass, ws: &mut Workspace<T>) -> Vec<u32> {
    let batch = &pass.batch;
    ws.lay_out(&model.config, batch);
    ws.extents.clone_from(&pass.extents);
    ws.rows.clear();
    let scored = batch.labels.iter().enumerate().filter(|(_, label)| label.is_some());
    ws.rows.extend(scored.map(|(row, _)| row));
    batch.labels.iter().flatten().copied().collect()
}

/// Refuses a batch or an adapter that the model cannot take.
pub(crate) fn check<T: Real>(model: &Model<T>, adapter: Option<&Adapter<T>>, batch: &Packed) -> Result<()> {
    batch.check(model.config.vocab_size)?;
    check_adapter(model, adapter)
}

/// Refuses an adapter whose factors do not fit the model's layers.
pub(crate) fn check_adapter<T: Real>(model: &Model<T>, adapter: Option<&Adapter<T>>) -> Result<()> {
    let Some(adapter) = adapter else { return Ok(()) };
    if !(0.0..1.0).contains(&adapter.config.dropout) {
        let rate = adapter.config.dropout;
        return Err(ModelError::Input(format!("lora dropout {rate} is not between 0 and 1")));
    }
    for ((layer, target), module) in &adapter.modules {
        let (out, input) = target.shape(&model.config);
        let fits =
            module.rank > 0 && module.a.len() == module.rank * input && module.b.len() == module.rank * out;
        if *layer >= model.config.num_layers || !fits {
            let name = target.path();
            return Err(ModelError::Input(format!(
                "adapter module layers.{layer}.{name} does not fit the model"
            )));
        }
        if let Some(dora) = &module.dora
            && (dora.magnitude.len() != out || dora.norms.len() != out)
        {
            return Err(ModelError::Input(
                "a DoRA adapter must be prepared for its model after it is loaded or changed".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Refuses gradients that do not belong to what is trained.
pub(crate) fn check_grads<T: Real>(
    model: &Model<T>,
    adapter: Option<&Adapter<T>>,
    grads: &Grads<T>,
) -> Result<()> {
    if grads.weights.is_some()
        && let Some(Named { name, values, .. }) = model.weights.packed()
    {
        return Err(ModelError::Input(format!(
            "`{name}` is held as {}, which cannot be trained; load the base as f32, or train an adapter",
            values.storage()
        )));
    }
    let dora = adapter.is_some_and(|adapter| adapter.modules.values().any(|module| module.dora.is_some()));
    if dora && grads.weights.is_some() {
        // The norms are constants of the backward pass, and base weights are in them.
        return Err(ModelError::Input("base weights are not trained beneath a DoRA adapter".to_owned()));
    }
    let fits = grads.lora.iter().all(|((layer, target), grad)| {
        let module = adapter.and_then(|adapter| adapter.module(*layer, *target));
        module.is_some_and(|module| {
            let magnitude = module.dora.as_ref().map_or(0, |dora| dora.magnitude.len());
            let lengths = (module.a.len(), module.b.len(), magnitude);
            lengths == (grad.a.len(), grad.b.len(), grad.magnitude.len())
        })
    });
    if fits { Ok(()) } else { Err(ModelError::Input("gradients were made for another adapter".to_owned())) }
}

#[cfg(test)]
mod tests;
