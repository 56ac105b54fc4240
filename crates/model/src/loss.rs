//! Cross-entropy over the output head: forward and gradient in one sweep over chunks of rows, so that
//! `[rows, vocab]` never exists as a whole.

use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::packed;
use crate::real::Real;
use crate::simd::{Kernel, exp_shifted, max, vectorised};
use crate::threads::Threads;
use crate::weight::Weight;
use crate::workspace::fit;

/// Numbers in one chunk of logits, unless the vocabulary asks for more.
const CHUNK: usize = 1 << 21;
/// Rows of a chunk at least, so that the head is not read too often.
const MIN_ROWS: usize = 64;

/// Negative log-likelihood of a number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Sum over the scored tokens, in nats.
    pub nll_sum: f64,
    /// Number of scored tokens.
    pub tokens: usize,
    /// How many of them had the highest probability of all tokens.
    pub correct: usize,
}

impl Loss {
    /// Nats per token; `None` when no token was scored.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nll_sum / self.tokens as f64)
    }
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.nll_sum += other.nll_sum;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }
}

/// Where gradients of the loss go.
#[derive(Debug)]
pub(crate) struct LossGrads<'a, T> {
    /// The loss is multiplied by this.
    pub(crate) scale: T,
    /// `[rows, hidden]`, overwritten.
    pub(crate) hidden: &'a mut [T],
    /// `[vocab, hidden]`, added to; `None` while the head is frozen.
    pub(crate) head: Option<&'a mut [T]>,
}

/// Rows whose logits exist at a time.
pub(crate) fn rows_at_once(vocab: usize) -> usize {
    (CHUNK / vocab).max(MIN_ROWS)
}

/// Hands the nats of each row to `take`, in order, with whether its label is the likeliest token, and
/// computes the gradients that are asked for. `hidden` is `[labels.len(), width]`, `head`
/// `[vocab, width]`; `logits` and `panel` are scratch.
pub(crate) fn cross_entropy<T: Real>(
    threads: Threads,
    hidden: &[T],
    head: &Weight<T>,
    labels: &[u32],
    mut grads: Option<LossGrads<'_, T>>,
    [logits, panel]: [&mut Vec<T>; 2],
    mut take: impl FnMut(usize, f64, bool),
) {
    if labels.is_empty() {
        return;
    }
    let (vocab, width) = (head.rows(), head.cols());
    let rows_at_once = rows_at_once(vocab);
    let mut nll = vec![T::ZERO; rows_at_once.min(labels.len())];
    let mut hits = nll.clone();
    for (chunk, labels) in labels.chunks(rows_at_once).enumerate() {
        let (rows, first) = (labels.len(), chunk * rows_at_once);
        let x = Mat::new(&hidden[first * width..][..rows * width], rows, width);
        let logits = fit(logits, rows * vocab);
        packed::times_transposed(threads, (&mut *logits, Store::Replace), x, head, panel);
        let scale = grads.as_ref().map(|grads| grads.scale);
        threads.rows(rows, [(&mut *logits, vocab), (&mut nll, 1), (&mut hits, 1)], &|range, out| {
            vectorised(Rows, (out, &labels[range], scale));
        });
        for (row, (nll, hit)) in nll[..rows].iter().zip(&hits).enumerate() {
            take(first + row, nll.to_f64(), *hit > T::ZERO);
        }
        if let Some(grads) = &mut grads {
            let out = (&mut grads.hidden[first * width..], Store::Replace);
            packed::times(threads, out, logits, head, panel);
            if let Some(dhead) = &mut grads.head {
                let dlogits = Mat::new(&*logits, rows, vocab);
                matmul(threads, MatMut::new(dhead, width), Store::Add, T::ONE, dlogits.t(), x);
            }
        }
    }
}

/// nll := `-log softmax(row)[label]`, hit := 1 where the label is the likeliest; with a scale the row
/// becomes scale * (softmax - onehot).
struct Rows;

impl<T: Real> Kernel<([&mut [T]; 3], &[u32], Option<T>)> for Rows {
    type Output = ();

    #[inline(always)]
    fn run(([logits, nll, hits], labels, scale): ([&mut [T]; 3], &[u32], Option<T>)) {
        let vocab = logits.len() / labels.len();
        let rows = logits.chunks_exact_mut(vocab).zip(nll).zip(hits);
        for (((row, nll), hit), &label) in rows.zip(labels) {
            let wanted = row[label as usize];
            let largest = max(row);
            *hit = if wanted >= largest { T::ONE } else { T::ZERO };
            let sum = exp_shifted(row, largest);
            if let Some(scale) = scale {
                let factor = scale / sum;
                for p in &mut *row {
                    *p *= factor;
                }
                row[label as usize] -= scale;
            }
            *nll = sum.ln() + largest - wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_formula_also_across_chunks() {
        let (rows, width, vocab) = (150, 3, 40_000);
        let hidden: Vec<f64> = (0..rows * width).map(|i| (i as f64 * 0.7).sin()).collect();
        let head: Vec<f64> = (0..vocab * width).map(|i| (i as f64 * 1.3).cos()).collect();
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * 13 % vocab as u32).collect();
        let mut seen = Vec::new();
        let (mut logits, mut panel) = (Vec::new(), Vec::new());
        let weight = Weight::new(head.clone(), vocab, width);
        let scratch = [&mut logits, &mut panel];
        cross_entropy(Threads::ONE, &hidden, &weight, &labels, None, scratch, |row, nll, hit| {
            seen.push((row, nll, hit));
        });
        assert_eq!(seen.len(), rows);
        for (row, nll, hit) in seen {
            let x = &hidden[row * width..][..width];
            let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            let sum: f64 = head.chunks(width).map(|w| dot(w).exp()).sum();
            let wanted = sum.ln() - dot(&head[labels[row] as usize * width..][..width]);
            assert!((nll - wanted).abs() < 1e-12, "row {row}: {nll} {wanted}");
            let label = dot(&head[labels[row] as usize * width..][..width]);
            assert_eq!(hit, head.chunks(width).all(|w| dot(w) <= label), "row {row}");
        }
    }
}
