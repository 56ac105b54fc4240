//! How many threads a computation may use, and how rows are shared among them.
//!
//! The number is explicit everywhere; nothing reads the environment. With one thread nothing of
//! rayon is touched. The split of rows depends on the number of threads only, so results do too.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::real::Real;

/// A number of threads, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(usize);

/// Below this many numbers a second thread costs more than it brings.
const WORTH_SHARING: usize = 1 << 15;

/// Below this many multiply-adds (some 40 microseconds) waking a second thread costs more than it
/// brings; gemm's own limit is far lower.
const PRODUCT_WORTH_SHARING: usize = 1 << 21;

/// The same for numbers that are read once, by threads that are awake.
const READ_WORTH_SHARING: usize = 1 << 17;

impl Threads {
    /// No parallelism.
    pub const ONE: Self = Self(1);

    /// `count` threads of rayon's pool; 0 is taken as 1.
    pub const fn new(count: usize) -> Self {
        Self(if count == 0 { 1 } else { count })
    }

    /// The number.
    pub const fn count(self) -> usize {
        self.0
    }

    /// For a matrix product of `work` multiply-adds.
    pub(crate) const fn gemm(self, work: usize) -> gemm::Parallelism {
        if self.0 == 1 || work < PRODUCT_WORTH_SHARING {
            return gemm::Parallelism::None;
        }
        gemm::Parallelism::Rayon(self.0)
    }

    /// Does `work` with the other threads awake: what it shares out is taken up within a microsecond, where
    /// waking a sleeping thread takes ten times as long as one of its parts. For work of a few milliseconds
    /// that is cut into hundreds of parts, such as decoding a token.
    pub(crate) fn awake<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
        if self.0 == 1 {
            return work();
        }
        rayon::scope(|_| {
            let awake = Arc::new(AtomicBool::new(true));
            for _ in 1..self.0 {
                let awake = Arc::clone(&awake);
                // A thread that comes by here while it waits for a part of its own work has better things to do.
                rayon::spawn(move || {
                    while !WORKING.get() && awake.load(Ordering::Acquire) {
                        if rayon::yield_now() != Some(rayon::Yield::Executed) {
                            std::hint::spin_loop();
                        }
                    }
                });
            }
            let _working = Working { before: WORKING.replace(true), awake };
            work()
        })
    }

    /// Calls `f` for all `rows`, in pieces on several threads when that is worth it. Each of `outs`
    /// is a buffer with its row width; `f` gets a range of rows and the buffers' parts for them.
    pub(crate) fn rows<T: Real, const N: usize>(
        self,
        rows: usize,
        outs: [(&mut [T], usize); N],
        f: &(impl Fn(Range<usize>, [&mut [T]; N]) + Sync),
    ) {
        let numbers: usize = outs.iter().map(|(_, width)| rows * width).sum();
        let pieces = if numbers < WORTH_SHARING { 1 } else { self.0 };
        split(pieces, 0..rows, outs, f);
    }

    /// As [`Threads::rows`], for rows that take `work` multiply-adds in all to compute, as many as numbers are
    /// read from memory: that takes several times as long as a product of matrices.
    pub(crate) fn rows_of<T: Real, const N: usize>(
        self,
        rows: usize,
        work: usize,
        outs: [(&mut [T], usize); N],
        f: &(impl Fn(Range<usize>, [&mut [T]; N]) + Sync),
    ) {
        split(if work < READ_WORTH_SHARING { 1 } else { self.0 }, 0..rows, outs, f);
    }
}

thread_local! {
    /// Whether this thread is inside the work of [`Threads::awake`].
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Lets the threads that wait for parts of some work sleep again when it is dropped.
struct Working {
    before: bool,
    awake: Arc<AtomicBool>,
}

impl Drop for Working {
    fn drop(&mut self) {
        WORKING.set(self.before);
        self.awake.store(false, Ordering::Release);
    }
}

fn split<T: Real, const N: usize>(
    pieces: usize,
    rows: Range<usize>,
    outs: [(&mut [T], usize); N],
    f: &(impl Fn(Range<usize>, [&mut [T]; N]) + Sync),
) {
    if pieces < 2 || rows.len() < 2 {
        return f(rows.clone(), outs.map(|(out, width)| &mut out[..rows.len() * width]));
    }
    let left_pieces = pieces / 2;
    let left = rows.len() * left_pieces / pieces;
    let middle = rows.start + left;
    let mut rights = Vec::with_capacity(N);
    let lefts = outs.map(|(out, width)| {
        let (a, b) = out.split_at_mut(left * width);
        rights.push((b, width));
        (a, width)
    });
    let rights: [(&mut [T], usize); N] = rights.try_into().expect("one right half per buffer");
    rayon::join(
        || split(left_pieces, rows.start..middle, lefts, f),
        || split(pieces - left_pieces, middle..rows.end, rights, f),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_that_keep_each_other_awake_all_end() {
        // More threads than the pool may have, several works at once, works inside works.
        let sum = |seed: usize| {
            Threads::new(3).awake(|| {
                (0..50).map(|i| rayon::join(|| i + seed, || i * 2)).map(|(a, b)| a + b).sum::<usize>()
            })
        };
        let wanted = |seed: usize| (0..50).map(|i| 3 * i + seed).sum::<usize>();
        std::thread::scope(|scope| {
            let works: Vec<_> = (0..4).map(|seed| scope.spawn(move || sum(seed))).collect();
            for (seed, work) in works.into_iter().enumerate() {
                assert_eq!(work.join().unwrap(), wanted(seed));
            }
        });
        assert_eq!(Threads::new(2).awake(|| sum(7) + Threads::ONE.awake(|| 1)), wanted(7) + 1);
    }

    #[test]
    fn every_row_is_visited_once_whatever_the_number_of_threads() {
        for count in [1, 2, 3, 5] {
            let rows = 40_000;
            let (mut a, mut b) = (vec![0.0_f32; rows], vec![0.0_f32; 2 * rows]);
            Threads::new(count).rows(rows, [(&mut a, 1), (&mut b, 2)], &|range, [a, b]| {
                for (offset, row) in range.enumerate() {
                    a[offset] += row as f32;
                    b[2 * offset + 1] += 1.0;
                }
            });
            assert!(a.iter().enumerate().all(|(row, value)| *value == row as f32));
            assert!(b.chunks(2).all(|pair| pair == [0.0, 1.0]));
        }
    }
}
