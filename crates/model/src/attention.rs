//! Causal grouped-query attention over packed segments or a key/value cache, and its backward.
//!
//! A query sees the keys of its own segment up to its own position, and with a sliding window W only
//! the last W of them. Scores are never stored: the backward pass computes them again from the
//! log-sum of each row (Dao et al. 2022, arXiv 2205.14135, section 3.1). Work is cut into blocks of
//! query rows; groups of neighbouring blocks go to different threads.
//!
//! Rows of q and o are `heads * head_dim` wide, rows of k and v `kv_heads * head_dim`; query head i
//! uses key/value head i / (heads / kv_heads).

use std::mem;
use std::ops::Range;

use crate::config::ModelConfig;
use crate::matmul::{Mat, MatMut, Store, dots, matmul};
use crate::real::Real;
use crate::simd::{Kernel, LANES, exp_shifted, max, sum2, vectorised};
use crate::threads::Threads;
use crate::workspace::fit;

/// Query rows handled together: enough for the matrix product, little waste above the diagonal.
pub(crate) const BLOCK: usize = 64;

/// Heads of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Keys that a query sees, itself included; `None` is all.
    pub(crate) window: Option<usize>,
}

impl Heads {
    /// Those of a layer.
    pub(crate) fn of(config: &ModelConfig, layer: usize) -> Self {
        Self {
            heads: config.num_heads,
            kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
            window: config.sliding_window[layer],
        }
    }
}

/// Some query rows of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Rows of q.
    rows: Range<usize>,
    /// Row of k where the segment begins.
    keys: usize,
    /// Position of the first row inside the segment.
    position: usize,
}

/// Memory that is used again from call to call, one for each thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttentionScratch<T> {
    scores: Vec<T>,
    gradients: Vec<T>,
    /// Per row: 1 / sum of exponentials (forward) or dO · O (backward).
    per_row: Vec<T>,
    /// Gradients of keys and values that belong to rows before the group's own.
    early_k: Vec<T>,
    early_v: Vec<T>,
}

#[cfg(test)]
impl AttentionScratch<f32> {
    /// Numbers held.
    pub(crate) fn numbers(&self) -> usize {
        let Self { scores, gradients, per_row, early_k, early_v } = self;
        [scores, gradients, per_row, early_k, early_v].iter().map(|buffer| buffer.capacity()).sum()
    }
}

/// Appends the blocks of one segment: `rows` of q, whose first row has `position` in the segment that
/// begins at row `keys` of k.
pub(crate) fn push_blocks(blocks: &mut Vec<Block>, rows: Range<usize>, keys: usize, position: usize) {
    for start in rows.clone().step_by(BLOCK) {
        let end = rows.end.min(start + BLOCK);
        blocks.push(Block { rows: start..end, keys, position: position + start - rows.start });
    }
}

/// o := attention(q, k, v); `lse` (`[rows, heads]`) keeps the log-sum of each row of scores.
pub(crate) fn forward<T: Real>(
    threads: Threads,
    heads: Heads,
    blocks: &[Block],
    [q, k, v]: [&[T]; 3],
    o: &mut [T],
    lse: &mut [T],
    scratch: &mut Vec<AttentionScratch<T>>,
) {
    if let [block] = blocks
        && block.rows.len() == 1
    {
        return one_query(threads, heads, block, [q, k, v], o, lse);
    }
    scratch.resize_with(threads.count(), AttentionScratch::default);
    let groups = groups(blocks, heads, threads);
    let (mut o, mut lse) = (o, lse);
    let mut tasks = Vec::with_capacity(groups.len());
    for (blocks, scratch) in groups.iter().zip(scratch) {
        let rows = blocks[0].rows.start..blocks[blocks.len() - 1].rows.end;
        let (o_part, o_rest) = mem::take(&mut o).split_at_mut(rows.len() * heads.q_width());
        let (lse_part, lse_rest) = mem::take(&mut lse).split_at_mut(rows.len() * heads.heads);
        (o, lse) = (o_rest, lse_rest);
        tasks.push(move || {
            for block in *blocks {
                forward_block(heads, block, rows.start, [q, k, v], o_part, lse_part, scratch);
            }
        });
    }
    run(tasks);
}

/// From `dout` the gradients of q, k and v. `dq`, `dk` and `dv` are overwritten.
pub(crate) fn backward<T: Real>(
    threads: Threads,
    heads: Heads,
    blocks: &[Block],
    [q, k, v, o, lse, dout]: [&[T]; 6],
    [dq, dk, dv]: [&mut [T]; 3],
    scratch: &mut Vec<AttentionScratch<T>>,
) {
    scratch.resize_with(threads.count(), AttentionScratch::default);
    dk.fill(T::ZERO);
    dv.fill(T::ZERO);
    let groups = groups(blocks, heads, threads);
    let kv_width = heads.kv_width();
    {
        let (mut dq, mut dk, mut dv) = (&mut *dq, &mut *dk, &mut *dv);
        let mut tasks = Vec::with_capacity(groups.len());
        for (blocks, scratch) in groups.iter().zip(&mut *scratch) {
            let rows = blocks[0].rows.start..blocks[blocks.len() - 1].rows.end;
            let (dq_part, dq_rest) = mem::take(&mut dq).split_at_mut(rows.len() * heads.q_width());
            let (dk_part, dk_rest) = mem::take(&mut dk).split_at_mut(rows.len() * kv_width);
            let (dv_part, dv_rest) = mem::take(&mut dv).split_at_mut(rows.len() * kv_width);
            (dq, dk, dv) = (dq_rest, dk_rest, dv_rest);
            tasks.push(move || {
                let early = (rows.start - blocks[0].keys) * kv_width;
                zeroed(&mut scratch.early_k, early);
                zeroed(&mut scratch.early_v, early);
                for block in *blocks {
                    let into = [&mut *dq_part, &mut *dk_part, &mut *dv_part];
                    backward_block(heads, block, rows.start, [q, k, v, o, lse, dout], into, scratch);
                }
            });
        }
        run(tasks);
    }
    for (blocks, scratch) in groups.iter().zip(scratch) {
        let from = blocks[0].keys * kv_width;
        crate::simd::add(&mut dk[from..], &scratch.early_k);
        crate::simd::add(&mut dv[from..], &scratch.early_v);
    }
}

impl Heads {
    const fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    const fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// First element of the key/value head that query head `head` uses, within a row.
    const fn kv_column(self, head: usize) -> usize {
        head / (self.heads / self.kv_heads) * self.head_dim
    }

    fn scale<T: Real>(self) -> T {
        T::from_f64(1.0 / (self.head_dim as f64).sqrt())
    }

    /// Positions that the query at `position` sees.
    fn visible(self, position: usize) -> Range<usize> {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }

    /// Positions that some query of `block` sees.
    fn visible_to(self, block: &Block) -> Range<usize> {
        self.visible(block.position).start..block.position + block.rows.len()
    }
}

/// Neighbouring blocks with about equal work, one group for each thread (or fewer).
fn groups(blocks: &[Block], heads: Heads, threads: Threads) -> Vec<&[Block]> {
    let work = |block: &Block| block.rows.len() * heads.visible_to(block).len();
    let total: usize = blocks.iter().map(work).sum();
    let mut groups = Vec::with_capacity(threads.count());
    let (mut from, mut done) = (0, 0);
    for (index, block) in blocks.iter().enumerate() {
        done += work(block);
        let due = total * (groups.len() + 1) / threads.count();
        if done >= due || index + 1 == blocks.len() {
            groups.push(&blocks[from..=index]);
            from = index + 1;
        }
    }
    groups
}

fn run(mut tasks: Vec<impl FnOnce() + Send>) {
    match tasks.len() {
        0 => {}
        1 => tasks.remove(0)(),
        _ => rayon::scope(|scope| tasks.into_iter().for_each(|task| scope.spawn(move |_| task()))),
    }
}

fn forward_block<T: Real>(
    heads: Heads,
    block: &Block,
    base: usize,
    [q, k, v]: [&[T]; 3],
    o: &mut [T],
    lse: &mut [T],
    scratch: &mut AttentionScratch<T>,
) {
    let (d, width) = (heads.head_dim, heads.q_width());
    let keys = heads.visible_to(block);
    let (rows, row) = (block.rows.len(), block.rows.start - base);
    let stride = keys.len().next_multiple_of(LANES);
    fit(&mut scratch.scores, rows * stride);
    fit(&mut scratch.per_row, rows);
    let (scores, inverse) = (&mut scratch.scores[..rows * stride], &mut scratch.per_row[..rows]);
    for head in 0..heads.heads {
        score(heads, block, head, q, k, scores);
        let lse = &mut lse[row * heads.heads + head..];
        vectorised(Softmax, (heads, block, &mut *scores, &mut *inverse, lse));
        let values = &v[(block.keys + keys.start) * heads.kv_width() + heads.kv_column(head)..];
        let out = &mut o[row * width + head * d..];
        matmul(
            Threads::ONE,
            MatMut::columns(out, width),
            Store::Replace,
            T::ONE,
            Mat::columns(scores, rows, keys.len(), stride),
            Mat::columns(values, keys.len(), d, heads.kv_width()),
        );
        vectorised(ScaleRows, (&*inverse, width, d, out));
    }
}

/// Attention of a single query, as a token has it that is decoded: threads share the heads.
fn one_query<T: Real>(
    threads: Threads,
    heads: Heads,
    block: &Block,
    [q, k, v]: [&[T]; 3],
    o: &mut [T],
    lse: &mut [T],
) {
    let (d, width) = (heads.head_dim, heads.kv_width());
    let keys = heads.visible_to(block);
    let first = (block.keys + keys.start) * width;
    let work = 2 * heads.heads * keys.len() * d;
    threads.rows_of(heads.heads, work, [(o, d), (lse, 1)], &|range, [o, lse]| {
        let mut scores = vec![T::ZERO; keys.len().next_multiple_of(LANES)];
        for ((head, o), lse) in range.zip(o.chunks_exact_mut(d)).zip(lse) {
            let from = first + heads.kv_column(head);
            let rows = Mat::columns(&k[from..], keys.len(), d, width);
            dots(Mat::new(&q[head * d..][..d], 1, d), rows, &mut scores[..keys.len()]);
            *lse = vectorised(OneQuery, (heads.scale(), &mut scores, keys.len(), (&v[from..], width), o));
        }
    });
}

/// One head of one query: o := softmax(scale * scores) V, rows of V a width apart; gives the log-sum of the
/// scaled scores. What lies behind the scores, to a multiple of [`LANES`], is scratch.
struct OneQuery;

impl<T: Real> Kernel<(T, &mut [T], usize, (&[T], usize), &mut [T])> for OneQuery {
    type Output = T;

    #[inline(always)]
    fn run((scale, scores, keys, (v, width), o): (T, &mut [T], usize, (&[T], usize), &mut [T])) -> T {
        for score in &mut scores[..keys] {
            *score *= scale;
        }
        scores[keys..].fill(T::NEG_INFINITY);
        let largest = max(scores);
        let sum = exp_shifted(scores, largest);
        let inverse = T::ONE / sum;
        for (at, o) in o.chunks_mut(LANES).enumerate() {
            let mut sums = [T::ZERO; LANES];
            let rows = v[at * LANES..].chunks(width).zip(&scores[..keys]);
            if let Ok(o) = <&mut [T; LANES]>::try_from(&mut *o) {
                for (values, &p) in rows.filter_map(|(row, p)| Some((row.first_chunk::<LANES>()?, p))) {
                    for lane in 0..LANES {
                        sums[lane] += p * values[lane];
                    }
                }
                *o = sums;
            } else {
                o.fill(T::ZERO);
                for (values, &p) in rows {
                    for (o, &value) in o.iter_mut().zip(values) {
                        *o += p * value;
                    }
                }
            }
            for o in o {
                *o *= inverse;
            }
        }
        largest + sum.ln()
    }
}

fn backward_block<T: Real>(
    heads: Heads,
    block: &Block,
    base: usize,
    [q, k, v, o, lse, dout]: [&[T]; 6],
    [dq, dk, dv]: [&mut [T]; 3],
    scratch: &mut AttentionScratch<T>,
) {
    let (d, width, kv_width) = (heads.head_dim, heads.q_width(), heads.kv_width());
    let keys = heads.visible_to(block);
    let (rows, row) = (block.rows.len(), block.rows.start);
    let stride = keys.len().next_multiple_of(LANES);
    fit(&mut scratch.scores, rows * stride);
    fit(&mut scratch.gradients, rows * stride);
    fit(&mut scratch.per_row, rows);
    let AttentionScratch { scores, gradients, per_row, early_k, early_v } = scratch;
    let (scores, gradients) = (&mut scores[..rows * stride], &mut gradients[..rows * stride]);
    let per_row = &mut per_row[..rows];
    for head in 0..heads.heads {
        let column = heads.kv_column(head);
        let key_at = (block.keys + keys.start) * kv_width + column;
        let at = row * width + head * d;
        let rows_of = |x| Mat::columns(x, rows, d, width);
        score(heads, block, head, q, k, scores);
        matmul(
            Threads::ONE,
            MatMut::columns(gradients, stride),
            Store::Replace,
            T::ONE,
            rows_of(&dout[at..]),
            Mat::columns(&v[key_at..], keys.len(), d, kv_width).t(),
        );
        vectorised(RowDots, (&dout[at..], &o[at..], width, d, &mut *per_row));
        let lse = &lse[row * heads.heads + head..];
        vectorised(SoftmaxGradient, (heads, block, &mut *scores, &mut *gradients, lse, &*per_row));
        let (p, ds) = (&*scores, &*gradients);
        let over_keys = |x| Mat::columns(x, rows, keys.len(), stride);
        matmul(
            Threads::ONE,
            MatMut::columns(&mut dq[(row - base) * width + head * d..], width),
            Store::Replace,
            T::ONE,
            over_keys(ds),
            Mat::columns(&k[key_at..], keys.len(), d, kv_width),
        );
        // Keys before the group's first row belong to another thread; their share is kept apart.
        let first_key = block.keys + keys.start;
        let early = base.saturating_sub(first_key).min(keys.len());
        for (dx, early_dx, weights, rows_matrix) in [
            (&mut *dk, &mut *early_k, ds, rows_of(&q[at..])),
            (&mut *dv, &mut *early_v, p, rows_of(&dout[at..])),
        ] {
            if early > 0 {
                let out = &mut early_dx[keys.start * kv_width + column..];
                let weights = Mat::columns(weights, rows, early, stride).t();
                matmul(
                    Threads::ONE,
                    MatMut::columns(out, kv_width),
                    Store::Add,
                    T::ONE,
                    weights,
                    rows_matrix,
                );
            }
            if early < keys.len() {
                let out = &mut dx[(first_key + early - base) * kv_width + column..];
                let weights = Mat::columns(&weights[early..], rows, keys.len() - early, stride).t();
                matmul(
                    Threads::ONE,
                    MatMut::columns(out, kv_width),
                    Store::Add,
                    T::ONE,
                    weights,
                    rows_matrix,
                );
            }
        }
    }
}

/// scores := scale * Q Kᵀ of one head, rows padded to a multiple of [`LANES`].
fn score<T: Real>(heads: Heads, block: &Block, head: usize, q: &[T], k: &[T], scores: &mut [T]) {
    let (d, width, kv_width) = (heads.head_dim, heads.q_width(), heads.kv_width());
    let keys = heads.visible_to(block);
    let queries = &q[block.rows.start * width + head * d..];
    let key_rows = &k[(block.keys + keys.start) * kv_width + heads.kv_column(head)..];
    matmul(
        Threads::ONE,
        MatMut::columns(scores, keys.len().next_multiple_of(LANES)),
        Store::Replace,
        heads.scale(),
        Mat::columns(queries, block.rows.len(), d, width),
        Mat::columns(key_rows, keys.len(), d, kv_width).t(),
    );
}

/// `out[row]` *= `factors[row]`, for rows `d` wide and `width` apart.
struct ScaleRows;

impl<T: Real> Kernel<(&[T], usize, usize, &mut [T])> for ScaleRows {
    type Output = ();

    #[inline(always)]
    fn run((factors, width, d, out): (&[T], usize, usize, &mut [T])) {
        for (out, &factor) in out.chunks_mut(width).zip(factors) {
            for out in &mut out[..d] {
                *out *= factor;
            }
        }
    }
}

/// `sums[row]` := `a[row]` · `b[row]`, for rows `d` wide and `width` apart.
struct RowDots;

impl<T: Real> Kernel<(&[T], &[T], usize, usize, &mut [T])> for RowDots {
    type Output = ();

    #[inline(always)]
    fn run((a, b, width, d, sums): (&[T], &[T], usize, usize, &mut [T])) {
        for ((a, b), sum) in a.chunks(width).zip(b.chunks(width)).zip(sums) {
            *sum = sum2(&a[..d], &b[..d], |a, b| a * b);
        }
    }
}

/// Scores become exp(score - row maximum), 0 where masked; `inverse` the reciprocal of the row sums.
struct Softmax;

impl<T: Real> Kernel<(Heads, &Block, &mut [T], &mut [T], &mut [T])> for Softmax {
    type Output = ();

    #[inline(always)]
    fn run((heads, block, scores, inverse, lse): (Heads, &Block, &mut [T], &mut [T], &mut [T])) {
        let keys = heads.visible_to(block);
        let stride = keys.len().next_multiple_of(LANES);
        for (row, (scores, inverse)) in scores.chunks_exact_mut(stride).zip(inverse).enumerate() {
            let seen = heads.visible(block.position + row);
            let (from, to) = (seen.start - keys.start, seen.end - keys.start);
            // Whole vectors only; what sticks out is masked, which is cheaper than a remainder loop.
            let (low, high) = (from / LANES * LANES, to.next_multiple_of(LANES));
            scores[low..from].fill(T::NEG_INFINITY);
            scores[to..high].fill(T::NEG_INFINITY);
            let largest = max(&scores[low..high]);
            let sum = exp_shifted(&mut scores[low..high], largest);
            scores[..from].fill(T::ZERO);
            scores[to..].fill(T::ZERO);
            *inverse = T::ONE / sum;
            lse[row * heads.heads] = largest + sum.ln();
        }
    }
}

/// Scores become probabilities P, and `gradients` (dP) become dS = P (dP - dO·O) * scale.
struct SoftmaxGradient;

impl<T: Real> Kernel<(Heads, &Block, &mut [T], &mut [T], &[T], &[T])> for SoftmaxGradient {
    type Output = ();

    #[inline(always)]
    fn run((heads, block, scores, gradients, lse, per_row): (Heads, &Block, &mut [T], &mut [T], &[T], &[T])) {
        let keys = heads.visible_to(block);
        let stride = keys.len().next_multiple_of(LANES);
        let scale: T = heads.scale();
        let rows = scores.chunks_exact_mut(stride).zip(gradients.chunks_exact_mut(stride)).zip(per_row);
        for (row, ((scores, gradients), &mean)) in rows.enumerate() {
            let seen = heads.visible(block.position + row);
            let (from, to) = (seen.start - keys.start, seen.end - keys.start);
            let (low, high) = (from / LANES * LANES, to.next_multiple_of(LANES));
            gradients[keys.len()..].fill(T::ZERO);
            scores[low..from].fill(T::NEG_INFINITY);
            scores[to..high].fill(T::NEG_INFINITY);
            exp_shifted(&mut scores[low..high], lse[row * heads.heads]);
            scores[..from].fill(T::ZERO);
            scores[to..].fill(T::ZERO);
            for (gradient, &p) in gradients.iter_mut().zip(&*scores) {
                *gradient = p * (*gradient - mean) * scale;
            }
        }
    }
}

fn zeroed<T: Real>(buffer: &mut Vec<T>, len: usize) {
    buffer.clear();
    buffer.resize(len, T::ZERO);
}
