//! Matrices of the base on the device: f32, bf16 or NF4, made whole only for the product at hand.
//!
//! What a packed matrix stands for is what [`crate::Weight::dequantise_rows`] says, to the last bit: the
//! steps below have the same roundings. bf16 matrices are multiplied as on the host: the other factor is
//! rounded to bf16, sums are f32. TF32 holds every bf16 number exactly, so those products, and no others,
//! may run on TF32 units.

use candle_core::{D, DType, Device, Result, Tensor, WithDType};

use super::Number;
use crate::nf4::{CODEBOOK, Nf4, Scales};
use crate::weight::{Numbers, Weight};

/// A frozen matrix `[rows, cols]` on the device.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    held: Held,
    rows: usize,
    cols: usize,
    /// Of the arithmetic.
    dtype: DType,
}

#[derive(Debug, Clone)]
enum Held {
    /// In the type of the arithmetic.
    Whole(Tensor),
    Bf16(Tensor),
    Nf4(Quantised),
}

/// Four bits a number; see [`crate::nf4`].
#[derive(Debug, Clone)]
struct Quantised {
    /// Two indices each, as many as whole blocks have, u8.
    codes: Tensor,
    /// The two values of each byte, `[256, 2]`.
    pairs: Tensor,
    block: usize,
    len: usize,
    scales: DeviceScales,
}

#[derive(Debug, Clone)]
enum DeviceScales {
    /// `[blocks, 1]`.
    Plain(Tensor),
    /// Eight bits each.
    Double {
        /// As many as whole groups have, u8.
        codes: Tensor,
        /// `[256]`.
        map: Tensor,
        /// `[groups, 1]`.
        absmax: Tensor,
        group: usize,
        offset: f64,
        blocks: usize,
    },
}

impl Matrix {
    /// Copies a weight as it is held.
    pub(super) fn new<T: Number>(weight: &Weight<T>, device: &Device) -> Result<Self> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let held = match weight.numbers() {
            Numbers::Dense(values) => Held::Whole(Tensor::from_slice(values, (rows, cols), device)?),
            Numbers::Bf16(values) => Held::Bf16(Tensor::from_slice(values, (rows, cols), device)?),
            Numbers::Nf4(values) => Held::Nf4(Quantised::new(values, device)?),
        };
        Ok(Self { held, rows, cols, dtype: <T as WithDType>::DTYPE })
    }

    /// The matrix in the type of the arithmetic: the resident one, or scratch for as long as it is held.
    fn whole(&self) -> Result<Tensor> {
        match &self.held {
            Held::Whole(numbers) => Ok(numbers.clone()),
            Held::Bf16(numbers) => numbers.to_dtype(self.dtype),
            Held::Nf4(numbers) => numbers.dequantise()?.reshape((self.rows, self.cols))?.to_dtype(self.dtype),
        }
    }

    /// x Wᵀ; `x` is `[n, cols]`.
    pub(super) fn times_transposed(&self, x: &Tensor) -> Result<Tensor> {
        self.product(x, &self.whole()?.t()?)
    }

    /// dy W; `dy` is `[n, rows]`.
    pub(super) fn times(&self, dy: &Tensor) -> Result<Tensor> {
        self.product(dy, &self.whole()?)
    }

    fn product(&self, x: &Tensor, whole: &Tensor) -> Result<Tensor> {
        if !matches!(self.held, Held::Bf16(_)) {
            return product(x, whole);
        }
        // In f64, where derivatives are checked, the host rounds nothing either.
        let rounded = match self.dtype {
            DType::F32 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32)?,
            _ => x.clone(),
        };
        let before = candle_core::cuda::gemm_reduced_precision_f32();
        candle_core::cuda::set_gemm_reduced_precision_f32(true);
        let product = product(&rounded, whole);
        candle_core::cuda::set_gemm_reduced_precision_f32(before);
        product
    }

    /// The rows with these numbers, `[n, cols]`; `index` is u32.
    pub(super) fn select(&self, index: &Tensor) -> Result<Tensor> {
        match &self.held {
            Held::Whole(numbers) | Held::Bf16(numbers) => {
                numbers.index_select(index, 0)?.to_dtype(self.dtype)
            }
            Held::Nf4(_) => self.whole()?.index_select(index, 0),
        }
    }
}

impl Quantised {
    fn new(values: &Nf4, device: &Device) -> Result<Self> {
        let (len, block) = (values.len(), values.block());
        let blocks = len.div_ceil(block);
        let mut codes = values.codes().to_vec();
        codes.resize(blocks * block / 2, 0);
        let both = |byte: usize| [CODEBOOK[byte >> 4], CODEBOOK[byte & 15]];
        let pairs: Vec<f32> = (0..256).flat_map(both).collect();
        Ok(Self {
            codes: Tensor::from_vec(codes, blocks * block / 2, device)?,
            pairs: Tensor::from_vec(pairs, (256, 2), device)?,
            block,
            len,
            scales: DeviceScales::new(values.scales(), blocks, device)?,
        })
    }

    /// All numbers, flat, f32.
    fn dequantise(&self) -> Result<Tensor> {
        let scales = self.scales.read()?;
        let blocks = scales.dim(0)?;
        let values = look_up(&self.pairs, &self.codes)?.reshape((blocks, self.block))?;
        values.broadcast_mul(&scales)?.flatten_all()?.narrow(0, 0, self.len)
    }
}

impl DeviceScales {
    fn new(scales: &Scales, blocks: usize, device: &Device) -> Result<Self> {
        let double = match scales {
            Scales::Plain(scales) => {
                return Ok(Self::Plain(Tensor::from_slice(scales, (blocks, 1), device)?));
            }
            Scales::Double(double) => double,
        };
        let groups = double.absmax.len();
        let mut codes = double.codes.clone();
        codes.resize(groups * double.block, 0);
        Ok(Self::Double {
            codes: Tensor::from_vec(codes, groups * double.block, device)?,
            map: Tensor::from_slice(&double.map[..], 256, device)?,
            absmax: Tensor::from_slice(&double.absmax, (groups, 1), device)?,
            group: double.block,
            offset: f64::from(double.offset),
            blocks,
        })
    }

    /// The scale of each block, `[blocks, 1]`, f32.
    fn read(&self) -> Result<Tensor> {
        match self {
            Self::Plain(scales) => Ok(scales.clone()),
            Self::Double { codes, map, absmax, group, offset, blocks } => {
                let values = look_up(map, codes)?.reshape((absmax.dim(0)?, *group))?;
                // Two roundings, as on the host: product, then sum.
                let scales = (values.broadcast_mul(absmax)? + *offset)?;
                scales.flatten_all()?.narrow(0, 0, *blocks)?.reshape((*blocks, 1))
            }
        }
    }
}

/// The entries of a table of 256 that bytes name. candle takes the largest number of an index's type for
/// "none" and gives zero for it, so bytes must not be the index themselves.
fn look_up(table: &Tensor, bytes: &Tensor) -> Result<Tensor> {
    table.index_select(&bytes.to_dtype(DType::U32)?, 0)
}

/// a b over the last two dimensions. cuBLAS takes an operand that is contiguous or the transpose of such a
/// one; what else would run on the host only is copied.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    operand(a)?.matmul(&operand(b)?)
}

fn operand(x: &Tensor) -> Result<Tensor> {
    let plain = x.is_contiguous() || x.transpose(D::Minus1, D::Minus2)?.is_contiguous();
    if plain { Ok(x.clone()) } else { x.contiguous() }
}
