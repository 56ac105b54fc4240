//! Passes over a packed batch: loss with gradients, weighed sequences, loss alone.

use std::ops::Range;

use candle_core::{D, Tensor, WithDType};

use super::attention::{self, Block};
use super::layer::{Acts, Gradients, View};
use super::linear::{Factors, factors};
use super::ops::{self, Rope};
use super::{DeviceModel, Number};
use crate::attention::Heads;
use crate::batch::Packed;
use crate::draws::Draws;
use crate::error::{ModelError, Result};
use crate::grads::Grads;
use crate::lora::Adapter;
use crate::loss::Loss;
use crate::passes;
use crate::real::Real;
use crate::train::{Weigh, units};
use crate::workspace::{Workspace, fit};

/// Tokens of a pass, unless a single unit has more: a device wants larger products than a processor.
const PASS_TOKENS: usize = 2048;

/// One pass, laid out on the device.
struct Pass<'a> {
    model: &'a DeviceModel,
    share: &'a passes::Pass,
    factors: Factors,
    /// By layer.
    heads: Vec<Heads>,
    /// By the window they are for.
    blocks: Vec<(Option<usize>, Vec<Block>)>,
    rope: Rope,
    /// The scored rows, u32.
    wanted: Tensor,
    /// What is to be predicted there.
    labels: Vec<u32>,
    /// The residual that enters the first layer.
    x: Tensor,
}

/// What a forward pass leaves.
struct Done {
    /// What each layer keeps; under checkpointing its input alone.
    kept: Vec<Held>,
    /// The residual behind the last layer, of the scored rows.
    x: Tensor,
}

impl Done {
    /// Refuses a loss that is not finite, naming the first layer whose output is not, where it was kept.
    fn check_finite(&self, nll: f64) -> Result<()> {
        if nll.is_finite() {
            return Ok(());
        }
        for (index, held) in self.kept.iter().enumerate() {
            if !is_finite(held.x())? {
                return Err(ModelError::non_finite(match index {
                    0 => "the embedding".to_owned(),
                    _ => format!("the output of layer {}", index - 1),
                }));
            }
        }
        let place = if is_finite(&self.x)? { "the loss" } else { "the output of the last layer" };
        Err(ModelError::non_finite(place.to_owned()))
    }
}

enum Held {
    Acts(Box<Acts>),
    Input(Tensor),
}

impl Held {
    fn x(&self) -> &Tensor {
        match self {
            Self::Acts(acts) => &acts.x,
            Self::Input(x) => x,
        }
    }
}

/// Losses of the scored rows, in order, with whether the label is the likeliest token; and the gradient of
/// the final norm's output.
struct Scored {
    rows: Vec<Loss>,
    gradient: Option<Tensor>,
}

impl DeviceModel {
    /// As [`crate::loss_and_grads`].
    pub(crate) fn loss_and_grads<T: Number>(
        &self,
        adapter: Option<&Adapter<T>>,
        batch: &Packed,
        scale: T,
        grads: &mut Grads<T>,
        ws: &mut Workspace<T>,
    ) -> Result<Loss> {
        check(adapter, grads)?;
        let mut total = Loss::default();
        for share in &passes::in_turn(batch, 1, PASS_TOKENS) {
            let pass = Pass::new(self, adapter, share, Some(&mut *ws))?;
            let done = pass.forward(true, ws.checkpointing)?;
            let scored = pass.score(&done, Some(Real::to_f64(scale)))?;
            for row in scored.rows {
                total += row;
            }
            done.check_finite(total.nll_sum)?;
            pass.backward(done, scored.gradient.as_ref(), grads)?;
        }
        Ok(total)
    }

    /// As [`crate::sequence_grads`].
    pub(crate) fn sequence_grads<T: Number>(
        &self,
        adapter: &Adapter<T>,
        batch: &Packed,
        grads: &mut Grads<T>,
        ws: &mut Workspace<T>,
        (unit, weigh): (usize, Weigh<'_>),
    ) -> Result<Vec<Loss>> {
        check(Some(adapter), grads)?;
        let mut losses = vec![Loss::default(); batch.segments()];
        for share in &passes::in_turn(batch, unit, PASS_TOKENS) {
            let pass = Pass::new(self, Some(adapter), share, Some(&mut *ws))?;
            let done = pass.forward(true, ws.checkpointing)?;
            let scored = pass.score(&done, Some(1.0))?;
            pass.add_up(&scored.rows, &done, &mut losses)?;
            let own: Vec<Loss> = share.segments.iter().map(|at| losses[*at]).collect();
            let mut weights = vec![0.0; batch.segments()];
            for (number, all) in units(share, &own, unit) {
                let given = weigh(number, &all);
                assert_eq!(given.len(), all.len(), "one weight for each sequence");
                // The last unit may be cut off by the end of the batch.
                let place = number * unit..batch.segments().min((number + 1) * unit);
                weights[place.clone()].copy_from_slice(&given[..place.len()]);
            }
            let weights: Vec<T> = pass.sequences().map(|at| Real::from_f64(weights[at])).collect();
            let weights = Tensor::from_vec(weights, (pass.labels.len(), 1), &self.device)?;
            let gradient = scored.gradient.map(|gradient| gradient.broadcast_mul(&weights)).transpose()?;
            pass.backward(done, gradient.as_ref(), grads)?;
        }
        Ok(losses)
    }

    /// As [`crate::evaluate`].
    pub(crate) fn evaluate<T: Number>(
        &self,
        adapter: Option<&Adapter<T>>,
        batch: &Packed,
    ) -> Result<Vec<Loss>> {
        let mut losses = vec![Loss::default(); batch.segments()];
        for share in &passes::in_turn(batch, 1, PASS_TOKENS) {
            let pass = Pass::new::<T>(self, adapter, share, None)?;
            let done = pass.forward(false, false)?;
            let scored = pass.score(&done, None)?;
            pass.add_up(&scored.rows, &done, &mut losses)?;
        }
        Ok(losses)
    }
}

/// Refuses what is computed on the host only.
fn check<T: Number>(adapter: Option<&Adapter<T>>, grads: &Grads<T>) -> Result<()> {
    if grads.weights.is_some() {
        return Err(ModelError::Input("base weights are trained on the processor only".to_owned()));
    }
    if adapter.is_some_and(|adapter| adapter.config.dropout > 0.0) {
        return Err(ModelError::Input("dropout is made on the processor only".to_owned()));
    }
    Ok(())
}

impl<'a> Pass<'a> {
    /// Lays a share out. `train` brings the noise of a training pass.
    fn new<T: Number>(
        model: &'a DeviceModel,
        adapter: Option<&Adapter<T>>,
        share: &'a passes::Pass,
        train: Option<&mut Workspace<T>>,
    ) -> Result<Self> {
        if model.dtype != <T as WithDType>::DTYPE {
            return Err(ModelError::Input("the model on the device is of another precision".to_owned()));
        }
        let (config, device, batch) = (&model.config, &model.device, &share.batch);
        let index = |rows: &[u32]| Tensor::from_slice(rows, rows.len(), device);
        let mut x = model.embed.select(&index(&batch.tokens)?)?;
        if let Some(ws) = train.filter(|ws| ws.noise > 0.0) {
            fit(&mut ws.x, x.elem_count()).fill(T::ZERO);
            Draws::new(ws.dropout_seed, batch).add_noise(ws.noise, &share.extents, &mut ws.x);
            x = (x + Tensor::from_slice(&ws.x, (batch.tokens.len(), config.hidden_size), device)?)?;
        }
        let heads: Vec<Heads> = (0..config.num_layers).map(|layer| Heads::of(config, layer)).collect();
        let sequences: Vec<Range<usize>> = batch.ranges().collect();
        let mut blocks: Vec<(Option<usize>, Vec<Block>)> = Vec::new();
        for heads in &heads {
            if blocks.iter().all(|(window, _)| *window != heads.window) {
                let of = (device, model.dtype);
                let list = attention::blocks(&sequences, heads, model.scores_at_once, of)?;
                blocks.push((heads.window, list));
            }
        }
        let positions: Vec<u32> = sequences.iter().flat_map(|rows| 0..rows.len() as u32).collect();
        let scored = batch.labels.iter().enumerate().filter_map(|(row, label)| Some((row as u32, (*label)?)));
        let (rows, labels): (Vec<u32>, Vec<u32>) = scored.unzip();
        Ok(Self {
            factors: factors(adapter, device)?,
            rope: Rope::new(config, &positions, &x)?,
            wanted: index(&rows)?,
            model,
            share,
            heads,
            blocks,
            labels,
            x,
        })
    }

    fn view(&self, index: usize) -> View<'_> {
        let heads = self.heads[index];
        let blocks = self.blocks.iter().find(|(window, _)| *window == heads.window);
        View {
            layer: &self.model.layers[index],
            index,
            config: &self.model.config,
            heads,
            blocks: blocks.map_or(&[][..], |(_, blocks)| blocks.as_slice()),
            rope: &self.rope,
            factors: &self.factors,
            wanted: (index + 1 == self.model.layers.len()).then_some(&self.wanted),
        }
    }

    fn forward(&self, keep: bool, checkpointing: bool) -> Result<Done> {
        let (mut x, mut kept) = (self.x.clone(), Vec::new());
        for index in 0..self.model.layers.len() {
            let (next, acts) = self.view(index).forward(&x)?;
            match (keep, checkpointing) {
                (false, _) => {}
                (true, true) => kept.push(Held::Input(x)),
                (true, false) => kept.push(Held::Acts(Box::new(acts))),
            }
            x = next;
        }
        Ok(Done { kept, x })
    }

    /// The losses of the scored rows; with a scale also the gradient of scale * their sum.
    fn score(&self, done: &Done, scale: Option<f64>) -> Result<Scored> {
        let (model, device) = (self.model, &self.model.device);
        let hidden = ops::norm(&done.x, &model.final_norm, model.config.rms_norm_eps)?;
        let at_once = (model.logits_at_once / model.config.vocab_size).max(1);
        let (mut nll, mut hits, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, labels) in self.labels.chunks(at_once).enumerate() {
            let hidden = hidden.narrow(0, chunk * at_once, labels.len())?;
            let labels = Tensor::from_slice(labels, (labels.len(), 1), device)?;
            let logits = model.head().times_transposed(&hidden)?;
            let wanted = logits.gather(&labels, 1)?;
            let largest = logits.max_keepdim(D::Minus1)?;
            let e = logits.broadcast_sub(&largest)?.exp()?;
            drop(logits);
            let sum = e.sum_keepdim(D::Minus1)?;
            nll.push(((sum.log()? + &largest)? - &wanted)?);
            hits.push(wanted.ge(&largest)?);
            if let Some(scale) = scale {
                let p = e.broadcast_mul(&(sum.recip()? * scale)?)?;
                let one = (wanted.ones_like()? * -scale)?;
                gradients.push(model.head().times(&p.scatter_add(&labels, &one, 1)?)?);
            }
        }
        let nll = Tensor::cat(&nll, 0)?.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
        let hits = Tensor::cat(&hits, 0)?.flatten_all()?.to_vec1::<u8>()?;
        let rows = nll.into_iter().zip(hits);
        let rows =
            rows.map(|(nll_sum, hit)| Loss { nll_sum, tokens: 1, correct: usize::from(hit) }).collect();
        let gradient = if gradients.is_empty() { None } else { Some(Tensor::cat(&gradients, 0)?) };
        Ok(Scored { rows, gradient })
    }

    /// For each scored row the sequence of the whole batch that it belongs to.
    fn sequences(&self) -> impl Iterator<Item = usize> + '_ {
        let ranges = self.share.batch.ranges().zip(&self.share.segments);
        ranges.flat_map(move |(rows, segment)| {
            let scored = self.share.batch.labels[rows].iter().flatten().count();
            std::iter::repeat_n(*segment, scored)
        })
    }

    /// Adds the losses of the rows to those of their sequences.
    fn add_up(&self, rows: &[Loss], done: &Done, losses: &mut [Loss]) -> Result<()> {
        for (sequence, row) in self.sequences().zip(rows) {
            losses[sequence] += *row;
        }
        done.check_finite(rows.iter().map(|row| row.nll_sum).sum())
    }

    /// Adds the gradients of the adapter to `grads`, from that of the final norm's output.
    fn backward<T: Number>(&self, done: Done, gradient: Option<&Tensor>, grads: &mut Grads<T>) -> Result<()> {
        let (Some(gradient), Some(lowest)) = (gradient, grads.lora.keys().map(|key| key.0).min()) else {
            return Ok(());
        };
        let model = self.model;
        let mut dx = ops::norm_back(gradient, &done.x, &model.final_norm, model.config.rms_norm_eps)?;
        let mut gradients = Gradients::new();
        let mut kept = done.kept;
        for index in (lowest..model.layers.len()).rev() {
            let view = self.view(index);
            // Taken out, so that it is freed behind its layer.
            let acts = match kept.pop() {
                Some(Held::Acts(acts)) => acts,
                Some(Held::Input(x)) => Box::new(view.forward(&x)?.1),
                None => break,
            };
            match view.backward(&acts, &dx, index > lowest, &mut gradients)? {
                Some(next) => dx = next,
                None => break,
            }
        }
        // Read back at the end, so that the device never waits for the host in between.
        for (key, gradient) in gradients {
            let Some(sum) = grads.lora.get_mut(&key) else { continue };
            add(&mut sum.a, &gradient.a)?;
            add(&mut sum.b, &gradient.b)?;
            if let Some(magnitude) = &gradient.magnitude {
                add(&mut sum.magnitude, magnitude)?;
            }
        }
        Ok(())
    }
}

fn add<T: Number>(sum: &mut [T], part: &Tensor) -> Result<()> {
    let part = part.flatten_all()?.to_vec1::<T>()?;
    crate::simd::add(sum, &part);
    Ok(())
}

/// Whether a sum of magnitudes is: f64, so that it cannot overflow by itself.
fn is_finite(x: &Tensor) -> Result<bool> {
    let sum = x.to_dtype(candle_core::DType::F64)?.abs()?.sum_all()?;
    Ok(sum.to_scalar::<f64>()?.is_finite())
}
