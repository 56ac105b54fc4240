//! Matrix products on the calling thread.
//!
//! candle counts the processors for each of its products, on most machines by reading /proc/cpuinfo: for networks as small
//! as these that takes longer than the product (measured: half of a whole training). The product itself is the same
//! `gemm`, but never split over threads, so that the bits do not depend on their number either.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// (batch, m, k) times (batch, k, n).
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, Product)
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (&[batch, m, k], &[other, inner, n]) = (la.dims(), lb.dims()) else {
            bail!("a product of {:?} and {:?}", la.dims(), lb.dims())
        };
        if (batch, k) != (other, inner) {
            bail!("a product of {:?} and {:?}", la.dims(), lb.dims())
        }
        let mut out = vec![0.0_f32; batch * m * n];
        for (at, out) in out.chunks_exact_mut((m * n).max(1)).enumerate() {
            let (a, rows_a, columns_a) = matrix(a.as_slice()?, la, at)?;
            let (b, rows_b, columns_b) = matrix(b.as_slice()?, lb, at)?;
            #[expect(
                unsafe_code,
                reason = "gemm takes pointers; `matrix` has checked that every element lies in its slice"
            )]
            // SAFETY: `out` holds m x n values, row-major; a and b hold m x k and k x n at the strides given.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    out.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    columns_a as isize,
                    rows_a as isize,
                    b.as_ptr(),
                    columns_b as isize,
                    rows_b as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        }
        Ok((CpuStorage::F32(out), (batch, m, n).into()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        slope: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(product(slope, &b.transpose(1, 2)?)?), Some(product(&a.transpose(1, 2)?, slope)?)))
    }
}

/// The values of one matrix of a batch, from its first on, with the steps to the next row and column.
fn matrix<'a>(values: &'a [f32], layout: &Layout, at: usize) -> Result<(&'a [f32], usize, usize)> {
    let (&[_, rows, columns], &[batch, row, column]) = (layout.dims(), layout.stride()) else {
        bail!("a matrix of {:?}", layout.dims())
    };
    let from = layout.start_offset() + at * batch;
    let last = from + rows.saturating_sub(1) * row + columns.saturating_sub(1) * column;
    match values.get(from..) {
        Some(rest) if last < values.len() => Ok((rest, row, column)),
        _ => bail!("a matrix of {rows} x {columns} beyond {} values", values.len()),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn ramp(shape: (usize, usize, usize), step: f32) -> Tensor {
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2).map(|i| (i as f32 * step).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn values_and_gradients_are_candles() {
        let (a, b) = (
            Var::from_tensor(&ramp((2, 5, 3), 0.7)).unwrap(),
            Var::from_tensor(&ramp((2, 3, 4), 1.3)).unwrap(),
        );
        let (ours, theirs) = (product(&a, &b).unwrap(), a.matmul(&b).unwrap());
        assert!(distance(&ours, &theirs) < 1e-6);
        let [ours, theirs] =
            [ours, theirs].map(|out| out.sqr().unwrap().sum_all().unwrap().backward().unwrap());
        for variable in [&a, &b] {
            assert!(distance(ours.get(variable).unwrap(), theirs.get(variable).unwrap()) < 1e-5);
        }
        let across = b.transpose(1, 2).unwrap().narrow(0, 1, 1).unwrap();
        let along = a.transpose(1, 2).unwrap().narrow(0, 1, 1).unwrap();
        assert!(distance(&product(&across, &along).unwrap(), &across.matmul(&along).unwrap()) < 1e-6);
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() {
        assert!(product(&ramp((1, 2, 3), 1.0), &ramp((1, 4, 2), 1.0)).is_err());
        assert!(product(&ramp((1, 2, 3), 1.0), &ramp((2, 3, 2), 1.0)).is_err());
    }
}
