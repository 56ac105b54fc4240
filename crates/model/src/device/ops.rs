//! What lies between the products: norms, rope, SwiGLU, forward and backward, composed of plain tensor
//! operations. candle's fused ones exist for some devices only.

use candle_core::{D, Device, Result, Tensor};

use crate::config::ModelConfig;
use crate::rope::frequencies;

/// 1 / sqrt(mean(x²) + eps) of each row, `[.., 1]`.
fn rstd(x: &Tensor, eps: f64) -> Result<Tensor> {
    (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()
}

/// RMSNorm over rows, times w.
pub(super) fn norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_mul(&rstd(x, eps)?)?.broadcast_mul(w)
}

/// Gradient of x from that of [`norm`]: rstd * (g - xh * mean(g * xh)), g = dy * w, xh = x * rstd.
pub(super) fn norm_back(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let rstd = rstd(x, eps)?;
    let (g, xh) = (dy.broadcast_mul(w)?, x.broadcast_mul(&rstd)?);
    let pull = (&g * &xh)?.mean_keepdim(D::Minus1)?;
    (g - xh.broadcast_mul(&pull)?)?.broadcast_mul(&rstd)
}

/// The norm of each head of `[n, heads * head_dim]`, forward or backward by `each`.
pub(super) fn by_heads<const N: usize>(
    x: [&Tensor; N],
    head_dim: usize,
    each: impl Fn([Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    let dims = x[0].dims2()?;
    let mut heads = Vec::with_capacity(N);
    for x in x {
        heads.push(x.reshape((dims.0 * dims.1 / head_dim, head_dim))?);
    }
    match <[Tensor; N]>::try_from(heads) {
        Ok(heads) => each(heads)?.reshape(dims),
        Err(_) => candle_core::bail!("as many heads as there are tensors"),
    }
}

/// silu(gate) * up.
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (gate * sigmoid(gate)?)? * up
}

/// Gradients of gate and up: dgate = d * up * s * (1 + gate * (1 - s)), dup = d * gate * s.
pub(super) fn swiglu_back(d: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    let s = sigmoid(gate)?;
    let silu = (gate * &s)?;
    let slope = (s * ((gate - &silu)? + 1.0)?)?;
    Ok((((d * up)? * slope)?, (d * silu)?))
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// Cosines and sines of the positions of one pass, `[n, 1, 1, head_dim / 2]` each.
#[derive(Debug)]
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
    back: Tensor,
}

impl Rope {
    /// For rows at these positions.
    pub(super) fn new(config: &ModelConfig, positions: &[u32], like: &Tensor) -> Result<Self> {
        let frequencies = frequencies(config);
        let longest = positions.iter().max().map_or(0, |last| *last as usize + 1);
        let angles = (0..longest).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sin, cos): (Vec<f64>, Vec<f64>) = angles.map(f64::sin_cos).unzip();
        let (device, half) = (like.device(), frequencies.len());
        let rows = Tensor::from_slice(positions, positions.len(), device)?;
        let table = |values: Vec<f64>| {
            let table = Tensor::from_vec(values, (longest, half), &Device::Cpu)?.to_dtype(like.dtype())?;
            table.to_device(device)?.index_select(&rows, 0)?.reshape((positions.len(), 1, 1, half))
        };
        let (cos, sin) = (table(cos)?, table(sin)?);
        Ok(Self { back: sin.neg()?, cos, sin })
    }

    /// Rotates every head of `[n, heads * head_dim]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.turn(x, &self.sin)
    }

    /// By the opposite angles: the gradient.
    pub(super) fn backward(&self, x: &Tensor) -> Result<Tensor> {
        self.turn(x, &self.back)
    }

    fn turn(&self, x: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let half = sin.dim(D::Minus1)?;
        let pairs = x.reshape((rows, width / (2 * half), 2, half))?;
        let (low, high) = (pairs.narrow(2, 0, 1)?, pairs.narrow(2, 1, 1)?);
        let turned = [
            (low.broadcast_mul(&self.cos)? - high.broadcast_mul(sin)?)?,
            (high.broadcast_mul(&self.cos)? + low.broadcast_mul(sin)?)?,
        ];
        Tensor::cat(&turned, 2)?.reshape((rows, width))
    }
}
