//! One case of `fixtures/steps/steps.json`: our losses of every step beside those of PEFT and torch.

use std::path::Path;
use std::sync::Arc;

use nightshift_model::device::Device;
use nightshift_model::{
    AdamW, Adapter, DeviceModel, Grads, Loss, Model, Packed, Result, Schedule, ScheduleKind, Threads,
    Workspace, loss_and_grads,
};
use serde::Deserialize;

/// Tokens of a packed pass.
const PACK: usize = 128;

/// The file.
#[derive(Debug, Deserialize)]
pub(crate) struct Steps {
    batch: usize,
    window: usize,
    epochs: usize,
    rows: Vec<Row>,
    /// The cases.
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Row {
    tokens: Vec<u32>,
    /// Tokens that are not scored.
    prompt: usize,
}

/// A training, and what the peer found in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    /// What is special about it.
    pub(crate) name: String,
    /// The base, below `fixtures/model`.
    pub(crate) family: String,
    adapter: String,
    lr: f64,
    schedule: String,
    warmup: usize,
    weight_decay: f64,
    clip: f64,
    ratio_b: f64,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
    rates: Vec<f64>,
}

/// Largest relative differences over all steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    /// Steps compared.
    pub(crate) steps: usize,
    /// Of the losses.
    pub(crate) loss: f64,
    /// Of the gradient norms.
    pub(crate) grad_norm: f64,
    /// Of the learning rates.
    pub(crate) rate: f64,
    /// Last loss over the first: what was learned.
    pub(crate) learned: f64,
}

impl Steps {
    /// Trains a case as the file says, from the adapter folder below `fixtures`; on a device, if one is given.
    /// Loss, gradient norm and learning rate of every step, and the adapter behind the last one.
    pub(crate) fn train(
        &self,
        case: &Case,
        fixtures: &Path,
        packed: bool,
        device: Option<&Device>,
    ) -> Result<(Vec<[f64; 3]>, Adapter)> {
        let model = Model::load(&fixtures.join("model").join(&case.family))?;
        let mut adapter = Adapter::load(&fixtures.join(&case.adapter), &model.config)?;
        adapter.prepare(&model, Threads::ONE);
        let kind = match case.schedule.as_str() {
            "linear" => ScheduleKind::Linear,
            "cosine" => ScheduleKind::Cosine { floor: 0.0 },
            _ => ScheduleKind::Constant,
        };
        let windows: Vec<&[Row]> = self.rows.chunks(self.window).collect();
        let schedule = Schedule { kind, warmup: case.warmup, total: windows.len() * self.epochs };
        let mut adam = AdamW::new(0.9, 0.999, 1e-8, case.weight_decay);
        let (mut grads, mut ws) = (Grads::lora(&adapter), Workspace::new(1));
        if let Some(device) = device {
            ws.set_device(Arc::new(DeviceModel::new(&model, device)?));
        }
        let mut steps = Vec::with_capacity(case.losses.len());
        for step in 0..case.losses.len() {
            let window = windows[step % windows.len()];
            let passes = if packed { pack(window) } else { window.chunks(self.batch).map(batch).collect() };
            let answers: usize = passes.iter().map(Packed::scored).sum();
            grads.zero();
            let mut loss = Loss::default();
            for pass in &passes {
                let scale = 1.0 / answers as f32;
                loss += loss_and_grads(&model, Some(&adapter), pass, scale, &mut grads, &mut ws)?;
            }
            let norm = grads.clip_global_norm(case.clip)?;
            let rate = case.lr * schedule.factor(step);
            adam.step(&mut grads.with_adapter(&mut adapter, case.ratio_b), rate)?;
            adapter.prepare(&model, Threads::ONE);
            steps.push([loss.mean().unwrap_or(f64::NAN), norm, rate]);
        }
        Ok((steps, adapter))
    }

    /// Trains a case and holds it against the peer.
    pub(crate) fn compare(
        &self,
        case: &Case,
        fixtures: &Path,
        packed: bool,
        device: Option<&Device>,
    ) -> Result<Difference> {
        let (steps, _) = self.train(case, fixtures, packed, device)?;
        let worst = |at: usize, theirs: &[f64]| {
            steps.iter().zip(theirs).fold(0.0, |worst, (ours, theirs)| largest(worst, ours[at], *theirs))
        };
        Ok(Difference {
            steps: steps.len(),
            loss: worst(0, &case.losses),
            grad_norm: worst(1, &case.grad_norms),
            rate: worst(2, &case.rates),
            learned: steps[steps.len() - 1][0] / steps[0][0],
        })
    }
}

/// The larger of a difference so far and that of two numbers, relative to the second.
pub(crate) fn largest(so_far: f64, ours: f64, theirs: f64) -> f64 {
    let difference = (ours - theirs).abs() / theirs.abs().max(f64::MIN_POSITIVE);
    // NaN must not be passed over.
    if difference <= so_far { so_far } else { difference }
}

fn batch(rows: &[Row]) -> Packed {
    let mut batch = Packed::new();
    for row in rows {
        push(&mut batch, row);
    }
    batch
}

/// Rows in as few passes as hold them in order.
fn pack(rows: &[Row]) -> Vec<Packed> {
    let mut passes: Vec<Packed> = Vec::new();
    for row in rows {
        match passes.last_mut().filter(|pass| pass.tokens.len() + row.tokens.len() <= PACK) {
            Some(pass) => push(pass, row),
            None => passes.push(batch(std::slice::from_ref(row))),
        }
    }
    passes
}

fn push(batch: &mut Packed, row: &Row) {
    let scored: Vec<bool> = (0..row.tokens.len()).map(|at| at >= row.prompt).collect();
    batch.push(&row.tokens, &scored);
}
