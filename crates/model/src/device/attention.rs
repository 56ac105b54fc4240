//! Causal grouped-query attention over the sequences of a packed batch, each by itself, and its backward.
//!
//! A sequence is taken in blocks of query rows, so that no more than a set number of scores exists at a
//! time; a block sees the keys from its sequence's first (or its window's) on. Probabilities are computed
//! again in the backward pass. The heads that share keys and values are laid under each other, so that
//! nothing is repeated for them.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};

use crate::attention::Heads;

/// What a hidden key has added to its score: e to its power is zero beside any score.
const HIDDEN: f64 = -1e30;

/// Some query rows of one sequence with the keys that any of them sees.
#[derive(Debug)]
pub(super) struct Block {
    rows: Range<usize>,
    keys: Range<usize>,
    /// Zero, or [`HIDDEN`], `[rows, keys]`.
    mask: Tensor,
}

/// The blocks of all sequences for one window.
pub(super) fn blocks(
    sequences: &[Range<usize>],
    heads: &Heads,
    scores_at_once: usize,
    (device, dtype): (&Device, DType),
) -> Result<Vec<Block>> {
    let mut masks: HashMap<[usize; 3], Tensor> = HashMap::new();
    let mut blocks = Vec::new();
    for sequence in sequences {
        let at_once = (scores_at_once / (heads.heads * sequence.len())).max(1);
        for start in sequence.clone().step_by(at_once) {
            let rows = start..sequence.end.min(start + at_once);
            let unseen = heads.window.map_or(0, |window| (start - sequence.start + 1).saturating_sub(window));
            let keys = sequence.start + unseen..rows.end;
            let form = [rows.len(), keys.len(), rows.start - keys.start];
            let mask = match masks.get(&form) {
                Some(mask) => mask.clone(),
                None => mask(form, heads.window, device, dtype)?,
            };
            masks.insert(form, mask.clone());
            blocks.push(Block { rows, keys, mask });
        }
    }
    Ok(blocks)
}

/// The mask of so many rows over so many keys, the first row standing `offset` behind the first key.
fn mask(
    [rows, keys, offset]: [usize; 3],
    window: Option<usize>,
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let count = |from: usize, many: usize| Tensor::arange(from as i64, (from + many) as i64, device);
    let (rows, keys) = (count(offset, rows)?.unsqueeze(1)?, count(0, keys)?.unsqueeze(0)?);
    let behind = rows.broadcast_sub(&keys)?;
    let mut hidden = behind.lt(0_i64)?;
    if let Some(window) = window {
        hidden = (hidden + behind.ge(window as i64)?)?;
    }
    hidden.to_dtype(dtype)? * HIDDEN
}

/// Attention of q over k and v (`[n, heads * head_dim]`, `[n, kv_heads * head_dim]`).
pub(super) fn forward(heads: &Heads, blocks: &[Block], [q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (q, k, v) =
            (queries(heads, q, &block.rows)?, keys(heads, k, &block.keys)?, keys(heads, v, &block.keys)?);
        let p = probabilities(heads, block, &q, &k)?;
        parts.push(rows_of(heads, &super::product(&p, &v)?)?);
    }
    Tensor::cat(&parts, 0)
}

/// Gradients of q, k and v from that of the output.
pub(super) fn backward(heads: &Heads, blocks: &[Block], [q, k, v, d_o]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
    let scale = 1.0 / (heads.head_dim as f64).sqrt();
    let mut dq = Vec::with_capacity(blocks.len());
    let (mut dk, mut dv) = (Sum::new(k), Sum::new(v));
    for block in blocks {
        let (k, v) = (keys(heads, k, &block.keys)?, keys(heads, v, &block.keys)?);
        let (q, d_o) = (queries(heads, q, &block.rows)?, queries(heads, d_o, &block.rows)?);
        let p = probabilities(heads, block, &q, &k)?;
        let dp = super::product(&d_o, &v.t()?)?;
        let pull = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let ds = ((&p * dp.broadcast_sub(&pull)?)? * scale)?;
        dq.push(rows_of(heads, &super::product(&ds, &k)?)?);
        dk.add(&block.keys, &rows_of_keys(&super::product(&ds.t()?, &q)?)?)?;
        dv.add(&block.keys, &rows_of_keys(&super::product(&p.t()?, &d_o)?)?)?;
    }
    Ok([Tensor::cat(&dq, 0)?, dk.whole()?, dv.whole()?])
}

/// softmax(scale q kᵀ + mask), `[kv_heads, group * rows, keys]`.
fn probabilities(heads: &Heads, block: &Block, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let (rows, keys) = (block.rows.len(), block.keys.len());
    let scores = (super::product(q, &k.t()?)? / (heads.head_dim as f64).sqrt())?;
    let scores = scores.reshape((heads.heads, rows, keys))?.broadcast_add(&block.mask)?;
    let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
    p.reshape((heads.kv_heads, heads.heads / heads.kv_heads * rows, keys))
}

/// Rows of q as `[kv_heads, group * rows, head_dim]`.
fn queries(heads: &Heads, q: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
    let (kv, group) = (heads.kv_heads, heads.heads / heads.kv_heads);
    let q = q.narrow(0, rows.start, rows.len())?.reshape((rows.len(), kv, group, heads.head_dim))?;
    q.permute((1, 2, 0, 3))?.contiguous()?.reshape((kv, group * rows.len(), heads.head_dim))
}

/// Back from the form of [`queries`] to `[rows, heads * head_dim]`.
fn rows_of(heads: &Heads, x: &Tensor) -> Result<Tensor> {
    let (kv, group) = (heads.kv_heads, heads.heads / heads.kv_heads);
    let rows = x.dim(1)? / group;
    let x = x.reshape((kv, group, rows, heads.head_dim))?.permute((2, 0, 1, 3))?;
    x.contiguous()?.reshape((rows, heads.heads * heads.head_dim))
}

/// Rows of k or v as `[kv_heads, rows, head_dim]`.
fn keys(heads: &Heads, k: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
    let k = k.narrow(0, rows.start, rows.len())?.reshape((rows.len(), heads.kv_heads, heads.head_dim))?;
    k.transpose(0, 1)?.contiguous()
}

/// Back from the form of [`keys`] to `[rows, kv_heads * head_dim]`.
fn rows_of_keys(x: &Tensor) -> Result<Tensor> {
    let (kv, rows, head_dim) = x.dims3()?;
    x.transpose(0, 1)?.contiguous()?.reshape((rows, kv * head_dim))
}

/// A sum over ranges of rows, which may overlap.
struct Sum<'a> {
    like: &'a Tensor,
    sum: Option<Tensor>,
}

impl<'a> Sum<'a> {
    const fn new(like: &'a Tensor) -> Self {
        Self { like, sum: None }
    }

    fn add(&mut self, rows: &Range<usize>, part: &Tensor) -> Result<()> {
        let part = part.pad_with_zeros(0, rows.start, self.like.dim(0)? - rows.end)?;
        self.sum = Some(match self.sum.take() {
            None => part,
            Some(sum) => (sum + part)?,
        });
        Ok(())
    }

    fn whole(self) -> Result<Tensor> {
        self.sum.map_or_else(|| self.like.zeros_like(), Ok)
    }
}
