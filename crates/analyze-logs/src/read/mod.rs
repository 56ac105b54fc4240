//! From files to batches of records, in the order of the files and lines whatever the number of
//! workers: a source hands out chunks, each worker turns chunks into batches, and batches are
//! folded one after the other by whichever worker is at hand. So folds are plain single-threaded
//! code, parallel equals serial bit for bit, and nothing has to be merged.

mod batch;
mod inputs;
mod source;

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nightshift_core::Failure;
use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::signal::Stop;

use crate::line::Reader;
use crate::tally::Limits;

pub use batch::{BadLine, Batch, NONE, Ops, Shape, Step, Text, hash};
pub use inputs::{Input, Problem, expand};
pub(crate) use source::{End, Job, TAIL, open};

use batch::{Renumber, Worker};
use source::{Chunk, Source};

/// Which entries count: microseconds since 1970, `[since, until)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// First instant inside.
    pub since: Option<i64>,
    /// First instant after.
    pub until: Option<i64>,
}

impl Window {
    /// Whether an entry of this time counts; one without a time only counts when there is no window.
    #[inline]
    pub fn holds(self, at: Option<i64>) -> bool {
        match (self.since, self.until, at) {
            (None, None, _) => true,
            (.., None) => false,
            (since, until, Some(at)) => {
                since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until)
            }
        }
    }
}

/// How to read.
#[derive(Debug)]
pub struct Options<'a> {
    /// Keys, words and the longest line.
    pub settings: &'a AnalyzeLogs,
    /// Zone of stamps that name none.
    pub zone: &'a TimeZone,
    /// Which entries count.
    pub window: Window,
    /// Worker threads; 0 is one a core.
    pub threads: usize,
    /// Ends the reading early.
    pub stop: &'a Stop,
}

/// How the reading went.
#[derive(Debug)]
pub(crate) struct Read {
    /// What could not be read.
    pub(crate) problems: Vec<Problem>,
    /// How far each input was read.
    pub(crate) ends: Vec<End>,
}

/// Batches that wait for an earlier one, a few per worker at most.
const MOST_WAITING: usize = 4;

/// Folds batches in order.
struct Order<F> {
    next: u64,
    waiting: BTreeMap<u64, (usize, Batch)>,
    numbers: Vec<Renumber>,
    fold: F,
    failure: Option<Failure>,
}

/// Hands every batch of the jobs to `fold`, in order; `ops` gets the names of new operations first.
pub(crate) fn read(
    jobs: Vec<Job>,
    options: &Options<'_>,
    ops: &mut Ops,
    fold: impl FnMut(&Batch, &Ops) -> Result<(), Failure> + Send,
) -> Result<Read, Failure> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let limits = Limits::of(options.settings);
    let worker = || Ok(Worker::new(Reader::new(options.settings, options.zone)?, options.window, limits));
    let workers = (0..threads).map(|_| worker()).collect::<Result<Vec<_>, Failure>>()?;
    let source = Mutex::new(Source::new(jobs, options.settings.max_line_mib << 20));
    let mut fold = fold;
    let order = Mutex::new(Order {
        next: 0,
        waiting: BTreeMap::new(),
        numbers: (0..threads).map(|_| Renumber::default()).collect(),
        fold: |batch: &mut Batch, numbers: &mut Renumber| {
            numbers.apply(batch, ops);
            fold(batch, ops)
        },
        failure: None,
    });
    let moved = Condvar::new();
    std::thread::scope(|scope| {
        for (index, mut worker) in workers.into_iter().enumerate() {
            let (source, order, moved) = (&source, &order, &moved);
            scope.spawn(move || {
                let mut chunk = Chunk::default();
                while options.stop.requested().is_none() && lock(source).next(&mut chunk) {
                    let batch = worker.batch(&chunk);
                    let mut order = lock(order);
                    order.take(chunk.seq, index, batch);
                    moved.notify_all();
                    while order.waiting.len() > MOST_WAITING * threads && order.failure.is_none() {
                        order = moved.wait(order).unwrap_or_else(PoisonError::into_inner);
                    }
                    if order.failure.is_some() {
                        break;
                    }
                }
                // Whoever waits for a chunk that will never come must not wait for ever.
                if options.stop.requested().is_some() {
                    let mut order = lock(order);
                    if order.failure.is_none() {
                        order.failure = options.stop.check().err();
                    }
                    moved.notify_all();
                }
            });
        }
    });
    if let Some(failure) = order.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
        return Err(failure);
    }
    let source = source.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Read { problems: source.problems, ends: source.ends })
}

/// A panic elsewhere ends the scope anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: FnMut(&mut Batch, &mut Renumber) -> Result<(), Failure>> Order<F> {
    /// Takes a batch, and folds whatever is next.
    fn take(&mut self, seq: u64, worker: usize, batch: Batch) {
        self.waiting.insert(seq, (worker, batch));
        while let Some((worker, mut batch)) = self.waiting.remove(&self.next) {
            self.next += 1;
            if self.failure.is_none()
                && let Err(failure) = (self.fold)(&mut batch, &mut self.numbers[worker])
            {
                self.failure = Some(failure);
            }
        }
    }
}
