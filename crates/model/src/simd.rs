//! Our own inner loops, compiled for several instruction sets; the processor is asked at run time.
//!
//! The crate is built for the oldest x86-64, so a plain loop gets 128-bit vectors. A loop inside
//! [`vectorised`] is compiled again for AVX2 and AVX-512. What is called from there must be
//! `#[inline(always)]`, or it stays behind in the plain version.

use std::marker::PhantomData;

use half::bf16;

use crate::real::Real;

/// Width of the partial sums of a reduction: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// An inner loop over arguments of type `A`. `run` must be `#[inline(always)]`; a closure or a plain
/// function would not do, because nothing can force those inline through a call of `FnOnce`.
pub(crate) trait Kernel<A> {
    type Output;
    fn run(arguments: A) -> Self::Output;
}

/// Runs a kernel, compiled for the widest vectors that this processor has.
#[inline(always)]
pub(crate) fn vectorised<K: Kernel<A>, A>(_: K, arguments: A) -> K::Output {
    pulp::Arch::new().dispatch(Call::<K, A> { arguments, kernel: PhantomData })
}

struct Call<K, A> {
    arguments: A,
    kernel: PhantomData<K>,
}

impl<A, K: Kernel<A>> pulp::NullaryFnOnce for Call<K, A> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        K::run(self.arguments)
    }
}

/// Sum of `f(x, y)` over two slices of one length, in [`LANES`] partial sums so that it vectorises.
/// The order of additions is fixed, so the result does not depend on the processor's vectors.
#[inline(always)]
pub(crate) fn sum2<T: Real>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            lanes[lane] += f(x[lane], y[lane]);
        }
    }
    let mut total = T::ZERO;
    for (&x, &y) in x_rest.iter().zip(y_rest) {
        total += f(x, y);
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// Largest element; minus infinity when empty. NaN is passed over.
#[inline(always)]
pub(crate) fn max<T: Real>(x: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let tail = rest.iter().copied().fold(T::NEG_INFINITY, larger);
    lanes.into_iter().fold(tail, larger)
}

/// x := exp(x - shift) in place; the sum of the results.
#[inline(always)]
pub(crate) fn exp_shifted<T: Real>(x: &mut [T], shift: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = (chunk[lane] - shift).exp();
            lanes[lane] += chunk[lane];
        }
    }
    let mut total = T::ZERO;
    for value in rest {
        *value = (*value - shift).exp();
        total += *value;
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// y += x.
pub(crate) fn add<T: Real>(y: &mut [T], x: &[T]) {
    vectorised(Add, (y, x));
}

struct Add;

impl<T: Real> Kernel<(&mut [T], &[T])> for Add {
    type Output = ();

    #[inline(always)]
    fn run((y, x): (&mut [T], &[T])) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// x *= factor.
pub(crate) fn scale<T: Real>(x: &mut [T], factor: T) {
    vectorised(Scale, (x, factor));
}

struct Scale;

impl<T: Real> Kernel<(&mut [T], T)> for Scale {
    type Output = ();

    #[inline(always)]
    fn run((x, factor): (&mut [T], T)) {
        for x in x {
            *x *= factor;
        }
    }
}

/// out := values, exactly.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn widen<T: Real>(values: &[bf16], out: &mut [T]) {
    assert_eq!(values.len(), out.len(), "widened numbers");
    vectorised(Widen, (values, out));
}

struct Widen;

impl<T: Real> Kernel<(&[bf16], &mut [T])> for Widen {
    type Output = ();

    #[inline(always)]
    fn run((values, out): (&[bf16], &mut [T])) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = T::from_f32(f32::from_bits(u32::from(value.to_bits()) << 16));
        }
    }
}

/// Whether every element is finite.
pub(crate) fn all_finite<T: Real>(x: &[T]) -> bool {
    vectorised(AllFinite, x)
}

struct AllFinite;

impl<T: Real> Kernel<&[T]> for AllFinite {
    type Output = bool;

    #[inline(always)]
    fn run(x: &[T]) -> bool {
        // x * 0 is 0 for finite x and NaN otherwise, and NaN survives every later addition.
        sum2(x, x, |x, _| x * T::ZERO) == T::ZERO
    }
}
