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
use crate::real::Real;
use crate::share::{self, Share, shares};
use crate::timing::{self, Part};
use crate::workspace::{Scratch, Workspace, fit};

/// Negative log-likelihood of the labels of `batch`, and d(scale * nll_sum) added to `grads`.
///
/// What is trained is decided by `grads` ([`Grads::lora`] or [`Grads::full`]). To normalise over an
/// accumulation window pass `scale` = 1 / scored tokens of the whole window. A batch without labels
/// gives a loss of zero tokens and no gradient.
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
    let shares = shares(batch, ws.threads);
    let losses = run_with_grads(&shares, grads, ws, |share, grads, ws| {
        let draws = Draws::new(ws.dropout_seed, &share.batch);
        one_share(&training(model, adapter, &draws), share, scale, grads, ws)
    });
    let mut total = Loss::default();
    for loss in losses {
        total += loss?;
    }
    Ok(total)
}

/// Does `work` for every share; what the shares add to their gradients ends up in `grads`.
fn run_with_grads<T: Real, R: Send>(
    shares: &[Share],
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    work: impl Fn(&Share, &mut Grads<T>, &mut Workspace<T>) -> R + Sync,
) -> Vec<R> {
    let mut extra = std::mem::take(&mut ws.extra_grads);
    extra.retain(|other| other.same_shape(grads));
    extra.resize_with(shares.len().saturating_sub(1), || grads.clone());
    extra.iter_mut().for_each(Grads::zero);
    let targets: Vec<&mut Grads<T>> = std::iter::once(&mut *grads).chain(&mut extra).collect();
    let results = share::run(shares, targets, ws, |share, grads, ws| work(share, grads, ws));
    for other in &extra {
        grads.add(other);
    }
    ws.extra_grads = extra;
    results
}

fn one_share<T: Real>(
    stack: &Stack<'_, T>,
    share: &Share,
    scale: T,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<Loss> {
    let (model, batch) = (stack.model, &share.batch);
    let labels = lay_out(model, share, ws);
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

/// Negative log-likelihood of the labels of each sequence, and d(sum of w_i * nll_i) added to `grads`,
/// where the weights w_i follow from these very numbers: `weigh` is called once, between the forward and
/// the backward pass, with the losses of all sequences in order, and gives a weight for each.
///
/// # Errors
/// As [`loss_and_grads`]; [`ModelError::Input`] also for gradients of base weights.
pub fn sequence_grads<T: Real>(
    model: &Model<T>,
    adapter: &Adapter<T>,
    batch: &Packed,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    weigh: &mut dyn FnMut(&[Loss]) -> Vec<f64>,
) -> Result<Vec<Loss>> {
    T::sequence_grads(model, adapter, batch, grads, ws, weigh)
}

pub(crate) fn compute_sequence_grads<T: Real>(
    model: &Model<T>,
    adapter: &Adapter<T>,
    batch: &Packed,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
    weigh: &mut dyn FnMut(&[Loss]) -> Vec<f64>,
) -> Result<Vec<Loss>> {
    if grads.weights.is_some() {
        return Err(ModelError::Input("sequences are weighed while an adapter is trained only".to_owned()));
    }
    let shares = shares(batch, ws.threads);
    // Forward on every thread, up to the gradient of the unweighted loss by the final norm's output.
    let parts = share::run(&shares, vec![(); shares.len()], ws, |share, (), ws| {
        let draws = Draws::new(ws.dropout_seed, &share.batch);
        sequence_losses(&training(model, Some(adapter), &draws), share, ws)
    });
    let losses = gather_losses(batch, &shares, parts)?;
    let weights = weigh(&losses);
    assert_eq!(weights.len(), losses.len(), "one weight for each sequence");
    // The loss is linear in the weights, so they may come behind its gradient.
    run_with_grads(&shares, grads, ws, |share, grads, ws| {
        let width = model.config.hidden_size;
        let Workspace { rows, scratch, .. } = &mut *ws;
        for (row, dh) in rows.iter().zip(scratch.dh.chunks_exact_mut(width)) {
            let segment = share.segments[segment_of(&share.batch, *row)];
            crate::simd::scale(dh, T::from_f64(weights[segment]));
        }
        let draws = Draws::new(ws.dropout_seed, &share.batch);
        backward(&training(model, Some(adapter), &draws), &share.batch.tokens, grads, ws);
    });
    Ok(losses)
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
    let shares = shares(batch, ws.threads);
    let stack = Stack { model, adapter, purpose: Purpose::Infer, draws: None };
    let states = vec![(); shares.len()];
    let parts = share::run(&shares, states, ws, |share, (), ws| sequence_losses(&stack, share, ws));
    gather_losses(batch, &shares, parts)
}

/// The losses of a share's sequences by a forward pass; in training also the gradient of their sum by the
/// final norm's output, in `ws.scratch.dh`.
fn sequence_losses<T: Real>(stack: &Stack<'_, T>, share: &Share, ws: &mut Workspace<T>) -> Result<Vec<Loss>> {
    let batch = &share.batch;
    let labels = lay_out(stack.model, share, ws);
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

/// The losses of all sequences of a batch from those of its shares.
fn gather_losses(batch: &Packed, shares: &[Share], parts: Vec<Result<Vec<Loss>>>) -> Result<Vec<Loss>> {
    let mut losses = vec![Loss::default(); batch.segments()];
    for (share, part) in shares.iter().zip(parts) {
        for (segment, loss) in share.segments.iter().zip(part?) {
            losses[*segment] = loss;
        }
    }
    Ok(losses)
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

/// Lays a share out and chooses its scored rows; their labels.
fn lay_out<T: Real>(model: &Model<T>, share: &Share, ws: &mut Workspace<T>) -> Vec<u32> {
    let batch = &share.batch;
    ws.lay_out(&model.config, batch);
    ws.extents.clone_from(&share.extents);
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
