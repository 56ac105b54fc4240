//! The same computation on a device: forward and backward over candle tensors.
//!
//! Written by hand like the host's, for the same reason: candle's autograd computes and keeps dW of frozen
//! weights, and several of its fused operations have no gradient. Nothing here is a variable, so no graph
//! is kept: a tensor is gone when the step that reads it is done. The base lies on the device as it is held
//! (f32, bf16, packed NF4); a matrix that is not f32 is made whole for one product and freed behind it.
//! Adapter and gradients belong to the host: every pass takes the factors over and brings gradients back,
//! so optimiser, checkpoints and files are the host's own.
//!
//! [`crate::Workspace::set_device`] makes the passes of [`crate::train`] run here. Decoding stays on the
//! host. Without the cargo feature `cuda` the only device is candle's CPU one, on which tests run.

mod attention;
mod layer;
mod linear;
mod matrix;
mod ops;
mod pass;

use std::fmt;
use std::str::FromStr;

pub use candle_core::Device;
use candle_core::{DType, Tensor, WithDType};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::params::Model;
use crate::real::Real;
use layer::Layer;
use matrix::{Matrix, product};

/// Numbers that both the host and candle know: f32, and f64 for tests.
pub(crate) trait Number: Real + WithDType {}

impl Number for f32 {}
impl Number for f64 {}

/// Scores of an attention that exist at a time (256 MiB as f32).
const SCORES: usize = 1 << 26;
/// Logits that exist at a time, likewise.
const LOGITS: usize = 1 << 26;

/// Where passes are computed, as settings name it: `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Our own kernels on the processor.
    #[default]
    Host,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Host),
            None if text == "cuda" => Some(0),
            Some(("cuda", number)) => number.parse().ok(),
            _ => None,
        };
        number.map(Self::Cuda).ok_or_else(|| "write cpu, cuda, or cuda:N with the number of a GPU".to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Place {
    /// Whether this build can compute there.
    pub const fn is_built(self) -> bool {
        matches!(self, Self::Host) || cfg!(feature = "cuda")
    }

    /// The device; `None` for the host.
    ///
    /// # Errors
    /// [`ModelError::Device`] when the machine has no such device, or this build cannot use it.
    pub fn open(self) -> Result<Option<Device>> {
        match self {
            Self::Host => Ok(None),
            Self::Cuda(number) => Ok(Some(Device::new_cuda(number)?)),
        }
    }
}

/// A base model on a device.
pub struct DeviceModel {
    device: Device,
    dtype: DType,
    config: ModelConfig,
    embed: Matrix,
    layers: Vec<Layer>,
    final_norm: Tensor,
    head: Option<Matrix>,
    /// [`SCORES`] and [`LOGITS`], but in tests.
    scores_at_once: usize,
    logits_at_once: usize,
}

impl fmt::Debug for DeviceModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceModel").field("device", &self.device).finish_non_exhaustive()
    }
}

impl DeviceModel {
    /// Copies a base to a device, every matrix as it is held.
    ///
    /// # Errors
    /// [`ModelError::Device`], mostly for want of memory.
    pub fn new(model: &Model, device: &Device) -> Result<Self> {
        Self::of(model, device)
    }

    pub(crate) fn of<T: Number>(model: &Model<T>, device: &Device) -> Result<Self> {
        let weights = &model.weights;
        let layers: candle_core::Result<Vec<Layer>> =
            weights.layers.iter().map(|layer| Layer::new(layer, device)).collect();
        Ok(Self {
            device: device.clone(),
            dtype: <T as WithDType>::DTYPE,
            config: model.config.clone(),
            embed: Matrix::new(&weights.embed, device)?,
            layers: layers?,
            final_norm: vector(&weights.final_norm, device)?,
            head: weights.head.as_ref().map(|head| Matrix::new(head, device)).transpose()?,
            scores_at_once: SCORES,
            logits_at_once: LOGITS,
        })
    }

    fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        // What follows is where candle was.
        let text = error.to_string();
        Self::Device(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn vector<T: WithDType>(values: &[T], device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, values.len(), device)
}

#[cfg(test)]
mod tests;
