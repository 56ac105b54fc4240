//! Products with a [`Weight`], dense or packed: y = x Wᵀ and dx = dy W.
//!
//! Dense weights go straight to [`matmul`]. Packed ones are made dense a panel of rows at a time, in
//! memory of this thread that stays in its cache, and each panel is multiplied at once: the whole
//! matrix never exists. A few rows of x (decoding) are dotted with one row of W at a time instead.

use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::real::Real;
use crate::threads::Threads;
use crate::weight::{Numbers, Weight};
use crate::workspace::fit;

/// Numbers of a panel, unless a single row is longer.
const PANEL: usize = 1 << 18;

/// y (+)= x Wᵀ, `[x rows, out]`; `panel` is scratch.
pub(crate) fn times_transposed<T: Real>(
    threads: Threads,
    (y, store): (&mut [T], Store),
    x: Mat<'_, T>,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let (out, input) = (weight.rows(), weight.cols());
    match weight.numbers() {
        Numbers::Dense(values) => {
            matmul(threads, MatMut::new(y, out), store, T::ONE, x, Mat::new(values, out, input).t());
        }
        Numbers::Bf16(_) => for_each_panel(threads, weight, panel, |first, rows, panel| {
            let into = MatMut::columns(&mut y[first..], out);
            matmul(threads, into, store, T::ONE, x, Mat::new(panel, rows, input).t());
        }),
    }
}

/// dx (+)= dy W, `[dy rows, in]`; `dy` is `[rows, out]`, `panel` is scratch.
pub(crate) fn times<T: Real>(
    threads: Threads,
    (dx, store): (&mut [T], Store),
    dy: &[T],
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let (out, input) = (weight.rows(), weight.cols());
    let count = dy.len() / out;
    match weight.numbers() {
        Numbers::Dense(values) => {
            let (dy, weight) = (Mat::new(dy, count, out), Mat::new(values, out, input));
            matmul(threads, MatMut::new(dx, input), store, T::ONE, dy, weight);
        }
        Numbers::Bf16(_) => for_each_panel(threads, weight, panel, |first, rows, panel| {
            let dy = Mat::columns(&dy[first..], count, rows, out);
            let store = if first == 0 { store } else { Store::Add };
            matmul(threads, MatMut::new(dx, input), store, T::ONE, dy, Mat::new(panel, rows, input));
        }),
    }
}

/// Calls `product` with the first row, the number of rows and the numbers of each panel, in order.
fn for_each_panel<T: Real>(
    threads: Threads,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
    mut product: impl FnMut(usize, usize, &[T]),
) {
    let cols = weight.cols();
    let at_once = (PANEL * threads.count() / cols).max(1);
    for first in (0..weight.rows()).step_by(at_once) {
        let rows = at_once.min(weight.rows() - first);
        let panel = fit(panel, rows * cols);
        threads.rows(rows, [(&mut *panel, cols)], &|range, [part]| {
            weight.dequantise_rows(first + range.start..first + range.end, part);
        });
        product(first, rows, panel);
    }
}
