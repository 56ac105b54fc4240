//! One decoder layer, forward and backward.

use candle_core::{Device, Result, Tensor};

use super::attention::{self, Block};
use super::linear::{DeviceLinear, Factors, Kept, Lora, LoraGradient};
use super::ops::{self, Rope, by_heads};
use super::{Number, vector};
use crate::attention::Heads;
use crate::config::ModelConfig;
use crate::lora::{ModuleKey, Target};
use crate::params::LayerWeights;

/// The weights of a layer on the device.
#[derive(Debug)]
pub(super) struct Layer {
    input_norm: Tensor,
    /// By `Target as usize`.
    linears: Vec<DeviceLinear>,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    post_norm: Tensor,
}

/// What one layer of one pass computes with.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) layer: &'a Layer,
    pub(super) index: usize,
    pub(super) config: &'a ModelConfig,
    pub(super) heads: Heads,
    pub(super) blocks: &'a [Block],
    pub(super) rope: &'a Rope,
    pub(super) factors: &'a Factors,
    /// In the last layer: the rows that go on behind the attention.
    pub(super) wanted: Option<&'a Tensor>,
}

/// What a layer keeps for its backward pass; the names are those of the host's `LayerActs`.
#[derive(Debug)]
pub(super) struct Acts {
    pub(super) x: Tensor,
    q_raw: Tensor,
    k_raw: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Of the rows that go on.
    o: Tensor,
    mid: Tensor,
    gate: Tensor,
    up: Tensor,
    /// By `Target as usize`.
    kept: [Option<Kept>; 7],
}

/// Gradients of the modules of all layers.
pub(super) type Gradients = Vec<(ModuleKey, LoraGradient)>;

impl Layer {
    pub(super) fn new<T: Number>(layer: &LayerWeights<T>, device: &Device) -> Result<Self> {
        let linears = Target::ALL.map(|target| DeviceLinear::new(layer.linear(target), device));
        let norm = |norm: Option<&[T]>| norm.map(|norm| vector(norm, device)).transpose();
        Ok(Self {
            input_norm: vector(&layer.input_norm, device)?,
            linears: linears.into_iter().collect::<Result<_>>()?,
            q_norm: norm(layer.q_norm.as_deref())?,
            k_norm: norm(layer.k_norm.as_deref())?,
            post_norm: vector(&layer.post_norm, device)?,
        })
    }
}

impl View<'_> {
    fn lora(&self, target: Target) -> Option<&Lora> {
        self.factors.get(&(self.index, target))
    }

    fn trains(&self, target: Target) -> bool {
        self.lora(target).is_some()
    }

    /// The residual behind the layer.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Acts)> {
        let eps = self.config.rms_norm_eps;
        let mut kept = [const { None }; 7];
        let mut project = |target: Target, x: &Tensor| {
            let (y, mine) = self.layer.linears[target as usize].forward(self.lora(target), x)?;
            kept[target as usize] = mine;
            Ok::<_, candle_core::Error>(y)
        };
        let h = ops::norm(x, &self.layer.input_norm, eps)?;
        let (q_raw, k_raw) = (project(Target::Q, &h)?, project(Target::K, &h)?);
        let v = project(Target::V, &h)?;
        let q = self.rope.forward(&self.head_norm(&q_raw, self.layer.q_norm.as_ref())?)?;
        let k = self.rope.forward(&self.head_norm(&k_raw, self.layer.k_norm.as_ref())?)?;
        let o = self.wanted_of(&attention::forward(&self.heads, self.blocks, [&q, &k, &v])?)?;
        let mid = (self.wanted_of(x)? + project(Target::O, &o)?)?;
        let h = ops::norm(&mid, &self.layer.post_norm, eps)?;
        let (gate, up) = (project(Target::Gate, &h)?, project(Target::Up, &h)?);
        let out = (&mid + project(Target::Down, &ops::swiglu(&gate, &up)?)?)?;
        Ok((out, Acts { x: x.clone(), q_raw, k_raw, q, k, v, o, mid, gate, up, kept }))
    }

    fn head_norm(&self, x: &Tensor, w: Option<&Tensor>) -> Result<Tensor> {
        let Some(w) = w else { return Ok(x.clone()) };
        by_heads([x], self.config.head_dim, |[x]| ops::norm(&x, w, self.config.rms_norm_eps))
    }

    fn head_norm_back(&self, dy: &Tensor, x: &Tensor, w: Option<&Tensor>) -> Result<Tensor> {
        let Some(w) = w else { return Ok(dy.clone()) };
        let eps = self.config.rms_norm_eps;
        by_heads([dy, x], self.config.head_dim, |[dy, x]| ops::norm_back(&dy, &x, w, eps))
    }

    fn wanted_of(&self, x: &Tensor) -> Result<Tensor> {
        self.wanted.map_or_else(|| Ok(x.clone()), |rows| x.index_select(rows, 0))
    }

    /// The inverse: zeros where no wanted row is.
    fn spread(&self, dx: Tensor, rows: usize) -> Result<Tensor> {
        let Some(wanted) = self.wanted else { return Ok(dx) };
        let zeros = Tensor::zeros((rows, dx.dim(1)?), dx.dtype(), dx.device())?;
        zeros.index_add(wanted, &dx, 0)
    }

    /// From the gradient of the residual behind the layer to that before it, unless nothing below is
    /// trained; appends the gradients of its modules.
    pub(super) fn backward(
        &self,
        acts: &Acts,
        dx: &Tensor,
        deeper: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let (eps, Acts { x, mid, gate, up, o, .. }) = (self.config.rms_norm_eps, acts);
        let mut back = Back { view: self, acts, gradients };
        let act = ops::swiglu(gate, up)?;
        let d_act = back.step(Target::Down, &act, dx)?;
        let (d_gate, d_up) = ops::swiglu_back(&d_act, gate, up)?;
        let h = ops::norm(mid, &self.layer.post_norm, eps)?;
        let dh = (back.step(Target::Gate, &h, &d_gate)? + back.step(Target::Up, &h, &d_up)?)?;
        let d_mid = (dx + ops::norm_back(&dh, mid, &self.layer.post_norm, eps)?)?;
        let d_o = back.step(Target::O, o, &d_mid)?;
        if !deeper && ![Target::Q, Target::K, Target::V].iter().any(|target| self.trains(*target)) {
            return Ok(None);
        }
        let rows = x.dim(0)?;
        let (d_mid, d_o) = (self.spread(d_mid, rows)?, self.spread(d_o, rows)?);
        let [dq, dk, dv] = attention::backward(&self.heads, self.blocks, [&acts.q, &acts.k, &acts.v, &d_o])?;
        let (dq, dk) = (self.rope.backward(&dq)?, self.rope.backward(&dk)?);
        let dq = self.head_norm_back(&dq, &acts.q_raw, self.layer.q_norm.as_ref())?;
        let dk = self.head_norm_back(&dk, &acts.k_raw, self.layer.k_norm.as_ref())?;
        let h = ops::norm(x, &self.layer.input_norm, eps)?;
        let mut dh: Option<Tensor> = None;
        for (target, dy) in [(Target::Q, dq), (Target::K, dk), (Target::V, dv)] {
            if let Some(part) = back.step_if(target, &h, &dy, deeper)? {
                dh = Some(match dh {
                    None => part,
                    Some(dh) => (dh + part)?,
                });
            }
        }
        let Some(dh) = dh else { return Ok(None) };
        Ok(Some((d_mid + ops::norm_back(&dh, x, &self.layer.input_norm, eps)?)?))
    }
}

/// The projections of a layer, on the way back.
struct Back<'a> {
    view: &'a View<'a>,
    acts: &'a Acts,
    gradients: &'a mut Gradients,
}

impl Back<'_> {
    /// Gradient of the input of a projection; that of its module is noted.
    fn step(&mut self, target: Target, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        match self.step_if(target, x, dy, true)? {
            Some(dx) => Ok(dx),
            None => candle_core::bail!("no gradient of the input of {}", target.name()),
        }
    }

    fn step_if(&mut self, target: Target, x: &Tensor, dy: &Tensor, deeper: bool) -> Result<Option<Tensor>> {
        let (view, kept) = (self.view, self.acts.kept[target as usize].as_ref());
        let linear = &view.layer.linears[target as usize];
        let (dx, gradient) = linear.backward(view.lora(target), (x, kept), dy, deeper)?;
        self.gradients.extend(gradient.map(|gradient| ((view.index, target), gradient)));
        Ok(dx)
    }
}
