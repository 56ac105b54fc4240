//! `Real`: the arithmetic that the model is written in, for f32 (production) and f64 (tests of the
//! gradients, where finite differences need the digits).
//!
//! One documented approximation lives here: [`Real::exp`] of f32 is a polynomial, because softmax,
//! SiLU and the cross-entropy spend their time in it and the library call does not vectorise.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Range, Sub, SubAssign};

use crate::compiled::Compiled;
use crate::matmul::Stored;
use crate::nf4::Nf4;

/// A floating-point number that weights, activations and gradients are made of: f32 or f64.
pub trait Real:
    Compiled
    + Stored
    + Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;

    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// The same value, exactly.
    fn from_f32(x: f32) -> Self;
    /// The same value as f64, exactly.
    fn to_f64(self) -> f64;
    /// Writes numbers of a quantised matrix into `out`; the same values as for f32.
    fn dequantise(values: &Nf4, range: Range<usize>, out: &mut [Self]);
    /// e to the `self`. For f32: a polynomial with a relative error below 2e-7 between -87 and 88;
    /// below it 1.2e-38 or so instead of a subnormal, above it 2.4e38 or so. NaN stays NaN.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// For f32 the nearest bf16, ties to even; NaN stays NaN. f64 stays as it is: there bf16 weights
    /// are multiplied without rounding anything, so that derivatives can be checked.
    fn rounded_to_bf16(self) -> Self;
    /// The same slice where this is f32, for which there are kernels of our own.
    fn as_f32(numbers: &[Self]) -> Option<&[f32]>;
    /// As [`Real::as_f32`].
    fn as_f32_mut(numbers: &mut [Self]) -> Option<&mut [f32]>;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn dequantise(values: &Nf4, range: Range<usize>, out: &mut [Self]) {
        values.dequantise(range, out);
    }

    #[inline(always)]
    fn exp(self) -> Self {
        exp_f32(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn rounded_to_bf16(self) -> Self {
        let bits = self.to_bits();
        let near = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
        // Rounding would carry some NaN into infinity.
        Self::from_bits(if self.is_nan() { bits } else { near })
    }

    #[inline(always)]
    fn as_f32(numbers: &[Self]) -> Option<&[f32]> {
        Some(numbers)
    }

    #[inline(always)]
    fn as_f32_mut(numbers: &mut [Self]) -> Option<&mut [f32]> {
        Some(numbers)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        Self::from(x)
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    fn dequantise(values: &Nf4, range: Range<usize>, out: &mut [Self]) {
        let mut narrow = vec![0.0; out.len()];
        values.dequantise(range, &mut narrow);
        out.iter_mut().zip(narrow).for_each(|(out, value)| *out = Self::from(value));
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn rounded_to_bf16(self) -> Self {
        self
    }

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

/// e^x by range reduction to |r| <= ln(2)/2 and the degree-6 polynomial of Cephes `expf`
/// (S. Moshier, netlib cephes/single/expf.c). Branch-free, so that loops around it vectorise.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons and not `clamp`, so that NaN falls through both.
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    // The low bits of `shifted` hold n; moved into the exponent they are 2^n.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    y * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        let mut worst = 0.0_f64;
        let mut x = -87.0_f32;
        while x < 88.0 {
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_f32(x)) - exact).abs() / exact);
            x += 0.001_37;
        }
        assert!(worst < 2e-7, "relative error {worst}");
        assert_eq!(exp_f32(0.0), 1.0);
    }

    #[test]
    fn exp_saturates_and_keeps_nan() {
        assert!(exp_f32(-1e30) < 1.3e-38 && exp_f32(-1e30) >= 0.0);
        assert!(exp_f32(f32::NEG_INFINITY) < 1.3e-38);
        assert!(exp_f32(1e30).is_finite() && exp_f32(1e30) > 1e38);
        assert!(exp_f32(f32::NAN).is_nan());
    }
}
