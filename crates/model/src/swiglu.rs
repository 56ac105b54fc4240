//! SwiGLU: silu(gate) * up, and its backward (Shazeer 2020, arXiv 2002.05202).

use crate::real::Real;
use crate::simd::{Kernel, vectorised};
use crate::threads::Threads;

/// act := silu(gate) * up.
pub(crate) fn forward<T: Real>(threads: Threads, gate: &[T], up: &[T], act: &mut [T]) {
    threads.rows(act.len(), [(act, 1)], &|range, [act]| {
        let (gate, up) = (&gate[range.clone()], &up[range]);
        vectorised(Forward, (gate, up, act));
    });
}

/// From `dact` (in `act`) the gradients of gate and up, which replace them:
/// dgate = dact * up * s * (1 + gate * (1 - s)), dup = dact * gate * s, s = sigmoid(gate).
/// `act` leaves holding silu(gate) * up again, which the gradient of the down projection needs.
pub(crate) fn backward<T: Real>(threads: Threads, gate: &mut [T], up: &mut [T], act: &mut [T]) {
    threads.rows(act.len(), [(gate, 1), (up, 1), (act, 1)], &|_, [gate, up, act]| {
        vectorised(Backward, (gate, up, act));
    });
}

struct Forward;

impl<T: Real> Kernel<(&[T], &[T], &mut [T])> for Forward {
    type Output = ();

    #[inline(always)]
    fn run((gate, up, act): (&[T], &[T], &mut [T])) {
        for ((act, &gate), &up) in act.iter_mut().zip(gate).zip(up) {
            *act = gate * sigmoid(gate) * up;
        }
    }
}

struct Backward;

impl<T: Real> Kernel<(&mut [T], &mut [T], &mut [T])> for Backward {
    type Output = ();

    #[inline(always)]
    fn run((gate, up, act): (&mut [T], &mut [T], &mut [T])) {
        for ((gate, up), act) in gate.iter_mut().zip(up).zip(act) {
            let (g, u, dact) = (*gate, *up, *act);
            let s = sigmoid(g);
            let silu = g * s;
            *act = silu * u;
            *gate = dact * u * s * (T::ONE + g - silu);
            *up = dact * silu;
        }
    }
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}
