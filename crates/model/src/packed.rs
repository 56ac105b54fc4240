//! Products with a [`Weight`], dense or packed: y = x Wᵀ and dx = dy W.
//!
//! Dense weights go straight to [`matmul`], bf16 ones to [`narrow`]. NF4, and bf16 where no kernel of
//! ours runs, are made dense a panel of rows at a time, in memory that is used again and stays in the
//! cache, and each panel is multiplied at once: the whole matrix never exists. For a few rows of x
//! (decoding) each thread takes dot products with rows of W as they are held, NF4 widened row by row: that
//! reads W once, and memory is what decoding waits for. x is not rounded then, whatever W is held as.

mod narrow;

use std::ops::Range;

use crate::matmul::{FEW_ROWS, Mat, MatMut, Store, dots, matmul};
use crate::real::Real;
use crate::threads::Threads;
use crate::weight::{Numbers, Weight};
use crate::workspace::fit;

/// Numbers of a panel, unless a single row is longer: about a level-2 cache for one thread. Threads that
/// share the products of one panel get larger ones, or they would wait for each other too often (measured
/// with the example nf4: a quarter faster than small panels).
pub(crate) const PANEL: usize = 1 << 18;
pub(crate) const SHARED_PANEL: usize = 1 << 22;

/// A product y (+)= x Wᵀ, `y` as `[rows, out]`.
#[derive(Debug)]
pub(crate) struct Product<'a, T> {
    pub(crate) weight: &'a Weight<T>,
    pub(crate) y: &'a mut [T],
    pub(crate) store: Store,
}

/// The products of one x, `[rows, in]`, with each of the weights; `panel` is scratch.
pub(crate) fn times_transposed_each<T: Real>(
    threads: Threads,
    x: Mat<'_, T>,
    products: &mut [Product<'_, T>],
    panel: &mut Vec<T>,
) {
    if x.rows() <= FEW_ROWS {
        return few_rows(threads, x, products, panel);
    }
    for Product { weight, y, store } in products {
        times_transposed(threads, (y, *store), x, weight, panel);
    }
}

/// y (+)= x Wᵀ; `x` is `[rows, in]`, `y` `[rows, out]`, `panel` scratch.
pub(crate) fn times_transposed<T: Real>(
    threads: Threads,
    (y, store): (&mut [T], Store),
    x: Mat<'_, T>,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let (out, input) = (weight.rows(), weight.cols());
    match weight.numbers() {
        _ if x.rows() <= FEW_ROWS => few_rows(threads, x, &mut [Product { weight, y, store }], panel),
        Numbers::Dense(values) => {
            matmul(threads, MatMut::new(y, out), store, T::ONE, x, Mat::new(values, out, input).t());
        }
        Numbers::Bf16(narrow) => narrow::times_transposed(threads, (y, store), x, (weight, narrow), panel),
        Numbers::Nf4(_) => panels_transposed(threads, (y, store), x, weight, panel),
    }
}

/// dx (+)= dy W; `dy` is `[rows, out]`, `dx` `[rows, in]`, `panel` scratch.
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
        Numbers::Bf16(narrow) => narrow::times(threads, (dx, store), dy, (weight, narrow), panel),
        Numbers::Nf4(_) => panels(threads, (dx, store), dy, weight, panel),
    }
}

/// [`times_transposed`] with a dense panel of W at a time.
fn panels_transposed<T: Real>(
    threads: Threads,
    (y, store): (&mut [T], Store),
    x: Mat<'_, T>,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let (out, input) = (weight.rows(), weight.cols());
    for_each_panel(threads, weight, panel, |first, rows, panel| {
        let into = MatMut::columns(&mut y[first..], out);
        matmul(threads, into, store, T::ONE, x, Mat::new(panel, rows, input).t());
    });
}

/// [`times`] with a dense panel of W at a time.
fn panels<T: Real>(
    threads: Threads,
    (dx, store): (&mut [T], Store),
    dy: &[T],
    weight: &Weight<T>,
    panel: &mut Vec<T>,
) {
    let (out, input) = (weight.rows(), weight.cols());
    let count = dy.len() / out;
    for_each_panel(threads, weight, panel, |first, rows, panel| {
        let dy = Mat::columns(&dy[first..], count, rows, out);
        let store = if first == 0 { store } else { Store::Add };
        matmul(threads, MatMut::new(dx, input), store, T::ONE, dy, Mat::new(panel, rows, input));
    });
}

/// Calls `product` with the first row, the number of rows and the numbers of each panel, in order.
fn for_each_panel<T: Real>(
    threads: Threads,
    weight: &Weight<T>,
    panel: &mut Vec<T>,
    mut product: impl FnMut(usize, usize, &[T]),
) {
    let cols = weight.cols();
    let numbers = if threads.count() == 1 { PANEL } else { SHARED_PANEL };
    let at_once = (numbers / cols).max(1);
    for first in (0..weight.rows()).step_by(at_once) {
        let rows = at_once.min(weight.rows() - first);
        let panel = fit(panel, rows * cols);
        threads.rows(rows, [(&mut *panel, cols)], &|range, [part]| {
            weight.dequantise_rows(first + range.start..first + range.end, part);
        });
        product(first, rows, panel);
    }
}

/// [`times_transposed_each`] for at most [`FEW_ROWS`] rows of x. Threads share the rows of all weights as if
/// they were one matrix, for handing out work takes as long as reading ten rows. `scratch` holds the products
/// as `[out, rows]`.
fn few_rows<T: Real>(threads: Threads, x: Mat<'_, T>, products: &mut [Product<'_, T>], scratch: &mut Vec<T>) {
    let (count, input) = (x.rows(), x.cols());
    let out: usize = products.iter().map(|product| product.weight.rows()).sum();
    if count == 0 {
        return;
    }
    let found = fit(scratch, out * count);
    let all = &*products;
    threads.rows_of(out, out * input, [(&mut *found, count)], &|range, [mut part]| {
        let mut first = 0;
        for Product { weight, .. } in all {
            let end = first + weight.rows();
            let rows = range.start.max(first)..range.end.min(end);
            if !rows.is_empty() {
                let found;
                (found, part) = std::mem::take(&mut part).split_at_mut(rows.len() * count);
                row_products(x, weight, rows.start - first..rows.end - first, found);
            }
            first = end;
        }
    });
    let mut found = &*found;
    for Product { weight, y, store } in products {
        let (own, rest) = found.split_at(weight.rows() * count);
        for (row, y) in y.chunks_exact_mut(weight.rows()).enumerate() {
            for (y, product) in y.iter_mut().zip(own.iter().skip(row).step_by(count)) {
                *y = if *store == Store::Add { *y + *product } else { *product };
            }
        }
        found = rest;
    }
}

/// Products of x with some rows of a weight, `[rows of the weight, rows of x]`.
fn row_products<T: Real>(x: Mat<'_, T>, weight: &Weight<T>, rows: Range<usize>, out: &mut [T]) {
    let input = weight.cols();
    let numbers = rows.start * input..rows.end * input;
    match weight.numbers() {
        Numbers::Dense(values) => dots(x, Mat::new(&values[numbers], rows.len(), input), out),
        Numbers::Bf16(values) => dots(x, Mat::new(&values[numbers], rows.len(), input), out),
        Numbers::Nf4(_) => {
            let mut row = vec![T::ZERO; input];
            for (at, out) in rows.zip(out.chunks_exact_mut(x.rows())) {
                weight.dequantise_rows(at..at + 1, &mut row);
                dots(x, Mat::new(&row, 1, input), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::nf4::Nf4;

    fn wave(count: usize, step: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * step).sin()).collect()
    }

    #[test]
    fn packed_products_are_those_of_the_dequantised_weight() {
        // The last has more than one panel of one thread, and rows that are not whole blocks.
        for (out, input) in [(1, 1), (3, 130), (70, 33), (2500, 129)] {
            let values: Vec<f32> = wave(out * input, 0.7).into_iter().map(|x| x as f32).collect();
            let narrow = values.iter().map(|x| bf16::from_f32(*x)).collect();
            let all: [Weight<f64>; 3] = [
                Weight::from_bf16(narrow, out, input),
                Weight::from_nf4(Nf4::quantise(&values, false), out, input),
                Weight::from_nf4(Nf4::quantise(&values, true), out, input),
            ];
            for (weight, rows) in all.iter().flat_map(|weight| [1, 2, 4, 9].map(|rows| (weight, rows))) {
                let dense = weight.to_dense();
                assert_eq!(weight.dense(), None);
                for (threads, store) in [(1, Store::Replace), (2, Store::Add)] {
                    let threads = Threads::new(threads);
                    let run = |weight: &Weight<f64>| {
                        let (mut y, mut dx, mut panel) =
                            (wave(rows * out, 0.3), wave(rows * input, 0.4), Vec::new());
                        let x = wave(rows * input, 1.3);
                        let x = Mat::new(&x, rows, input);
                        times_transposed(threads, (&mut y, store), x, weight, &mut panel);
                        times(threads, (&mut dx, store), &wave(rows * out, 1.1), weight, &mut panel);
                        [y, dx].concat()
                    };
                    let (ours, wanted) = (run(weight), run(&dense));
                    let worst = ours.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(worst < 1e-10, "{} [{out}, {input}] x {rows}: {worst}", weight.storage());
                }
            }
        }
    }
}
