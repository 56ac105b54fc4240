//! How many threads a computation may use, and how rows are shared among them.
//!
//! The number is explicit everywhere; nothing reads the environment. With one thread nothing of
//! rayon is touched. Results depend on that number at most: rows are cut by it alone, or (`Threads::rows_of`)
//! do not feel how they are cut.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::matmul::STREAMS;
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

/// Numbers that a thread reads before it asks for more: some forty microseconds. Much smaller pieces were
/// slower, because memory is slow at the beginning of each; twice as large ones, because one thread waits.
const PIECE: usize = 1 << 17;

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
    /// read from memory: that takes several times as long as a product of matrices, and not equally long on
    /// every thread. So threads take pieces, one after the other, until there are none: one that comes late or
    /// reads slowly leaves more to the others. `f` must compute each row by itself, whatever piece it is in.
    pub(crate) fn rows_of<T: Real, const N: usize>(
        self,
        rows: usize,
        work: usize,
        outs: [(&mut [T], usize); N],
        f: &(impl Fn(Range<usize>, [&mut [T]; N]) + Sync),
    ) {
        if self.0 == 1 || work < READ_WORTH_SHARING {
            return split(1, 0..rows, outs, f);
        }
        let at_once = (PIECE * rows / work).clamp(1, rows.div_ceil(self.0));
        let at_once = at_once - at_once % STREAMS.min(at_once);
        let pieces = Mutex::new(Pieces { next: 0, rows, at_once, outs });
        on_each(self.0, &|| {
            loop {
                // The lock is held while a piece is cut off, not while it is computed.
                let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((range, parts)) = piece else { return };
                f(range, parts);
            }
        });
    }
}

/// Rows that no thread has taken yet.
struct Pieces<'a, T, const N: usize> {
    next: usize,
    rows: usize,
    at_once: usize,
    /// Buffers for the rows from `next` on, with their row widths.
    outs: [(&'a mut [T], usize); N],
}

impl<'a, T, const N: usize> Iterator for Pieces<'a, T, N> {
    type Item = (Range<usize>, [&'a mut [T]; N]);

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.next..self.rows.min(self.next + self.at_once);
        self.next = range.end;
        (!range.is_empty()).then(|| {
            let parts = self.outs.each_mut().map(|(out, width)| {
                let (part, rest) = std::mem::take(out).split_at_mut(range.len() * *width);
                *out = rest;
                part
            });
            (range, parts)
        })
    }
}

/// Does `work` on `count` threads at once.
fn on_each(count: usize, work: &(impl Fn() + Sync)) {
    if count < 2 {
        return work();
    }
    rayon::join(|| on_each(count / 2, work), || on_each(count - count / 2, work));
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
            // One piece, a piece for each thread, and many; the last is shorter.
            for (rows, numbers) in [(7, 1), (7, READ_WORTH_SHARING), (4099, 1000)] {
                let (mut a, mut b) = (vec![0.0_f64; rows], vec![0.0_f64; 3 * rows]);
                let outs = [(a.as_mut_slice(), 1), (b.as_mut_slice(), 3)];
                Threads::new(count).rows_of(rows, rows * numbers, outs, &|range, [a, b]| {
                    assert_eq!((a.len(), b.len()), (range.len(), 3 * range.len()));
                    for (offset, row) in range.enumerate() {
                        a[offset] += row as f64;
                        b[3 * offset + 2] += 1.0;
                    }
                });
                assert!(a.iter().enumerate().all(|(row, value)| *value == row as f64));
                assert!(b.chunks(3).all(|three| three == [0.0, 0.0, 1.0]));
            }
        }
    }
}
