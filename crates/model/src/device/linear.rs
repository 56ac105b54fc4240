//! A linear layer with LoRA beside it, as [`crate::linear`] has it, without dropout.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::{Matrix, Number, product, vector};
use crate::lora::{Adapter, LoraModule, ModuleKey};
use crate::params::Linear;
use crate::real::Real;

/// A frozen linear layer on the device.
#[derive(Debug)]
pub(super) struct DeviceLinear {
    weight: Matrix,
    bias: Option<Tensor>,
}

/// The adapter on the device, for one pass.
pub(super) type Factors = BTreeMap<ModuleKey, Lora>;

/// One module of it.
#[derive(Debug)]
pub(super) struct Lora {
    a: Tensor,
    b: Tensor,
    scale: f64,
    dora: Option<Gain>,
}

/// DoRA's m / n, and n.
#[derive(Debug)]
struct Gain {
    gain: Tensor,
    norms: Tensor,
}

/// What a module keeps for its backward pass: x Aᵀ, and for DoRA what it scales.
#[derive(Debug)]
pub(super) struct Kept {
    u: Tensor,
    raw: Option<Tensor>,
}

/// Gradients of one module.
#[derive(Debug)]
pub(super) struct LoraGradient {
    pub(super) a: Tensor,
    pub(super) b: Tensor,
    pub(super) magnitude: Option<Tensor>,
}

/// Copies an adapter to the device.
pub(super) fn factors<T: Number>(adapter: Option<&Adapter<T>>, device: &Device) -> Result<Factors> {
    let modules = adapter.into_iter().flat_map(|adapter| &adapter.modules);
    modules.map(|(key, module)| Ok((*key, Lora::new(module, device)?))).collect()
}

impl Lora {
    fn new<T: Number>(module: &LoraModule<T>, device: &Device) -> Result<Self> {
        let gain = |dora: &crate::dora::Dora<T>| {
            let mut gain = Vec::new();
            dora.gain(&mut gain);
            Ok::<_, candle_core::Error>(Gain {
                gain: vector(&gain, device)?,
                norms: vector(&dora.norms, device)?,
            })
        };
        Ok(Self {
            a: Tensor::from_slice(&module.a, (module.rank, module.in_features()), device)?,
            b: Tensor::from_slice(&module.b, (module.out_features(), module.rank), device)?,
            scale: Real::to_f64(module.scale),
            dora: module.dora.as_ref().map(gain).transpose()?,
        })
    }
}

impl DeviceLinear {
    pub(super) fn new<T: Number>(linear: &Linear<T>, device: &Device) -> Result<Self> {
        let bias = linear.bias.as_deref().map(|bias| vector(bias, device)).transpose()?;
        Ok(Self { weight: Matrix::new(&linear.weight, device)?, bias })
    }

    /// y of `x`, `[n, in]`.
    pub(super) fn forward(&self, lora: Option<&Lora>, x: &Tensor) -> Result<(Tensor, Option<Kept>)> {
        let mut y = self.weight.times_transposed(x)?;
        let mut kept = None;
        if let Some(Lora { a, b, scale, dora }) = lora {
            let u = product(x, &a.t()?)?;
            y = (y + (product(&u, &b.t()?)? * *scale)?)?;
            let mut raw = None;
            if let Some(Gain { gain, .. }) = dora {
                let scaled = y.broadcast_mul(gain)?;
                raw = Some(std::mem::replace(&mut y, scaled));
            }
            kept = Some(Kept { u, raw });
        }
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        Ok((y, kept))
    }

    /// Gradient of `x`, unless nobody reads it, and of the module.
    pub(super) fn backward(
        &self,
        lora: Option<&Lora>,
        (x, kept): (&Tensor, Option<&Kept>),
        dy: &Tensor,
        deeper: bool,
    ) -> Result<(Option<Tensor>, Option<LoraGradient>)> {
        let (Some(Lora { a, b, scale, dora }), Some(Kept { u, raw })) = (lora, kept) else {
            let dx = deeper.then(|| self.weight.times(dy)).transpose()?;
            return Ok((dx, None));
        };
        let scaled = match dora {
            None => dy.clone(),
            Some(Gain { gain, .. }) => dy.broadcast_mul(gain)?,
        };
        let du = (product(&scaled, b)? * *scale)?;
        let dx = if deeper { Some((self.weight.times(&scaled)? + product(&du, a)?)?) } else { None };
        let magnitude = match (dora, raw) {
            (Some(Gain { norms, .. }), Some(raw)) => Some(((dy * raw)?.sum(0)? / norms)?),
            _ => None,
        };
        let gradient =
            LoraGradient { a: product(&du.t()?, x)?, b: (product(&scaled.t()?, u)? * *scale)?, magnitude };
        Ok((dx, Some(gradient)))
    }
}
