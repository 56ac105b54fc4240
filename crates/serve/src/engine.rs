//! The queue and the workers: as many answers at once as there are workers, the rest waits.
//!
//! A job's events go through a channel to its HTTP task; when that task is gone the worker stops at
//! the next token. The worker records the exchange whatever became of the client, so nothing that
//! the model did is missing in `capture.db`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nightshift_core::config::Serve;
use nightshift_core::{Failure, OrFail};
use nightshift_net::server::Shutdown;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::adapters::{Adapters, Loaded, Pinned};
use crate::base::Base;
use crate::capture::Recorder;
use crate::confidence::Confidence;
use crate::exchange::{Ending, Origin, Outcome};
use crate::meters::Meters;
use crate::worker;

/// Which model a request asked for.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// Whatever is live when a worker begins.
    Live,
    /// The base without an adapter.
    Base,
    /// This adapter.
    Adapter(Arc<Loaded>),
}

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampling {
    /// 0 is greedy.
    pub(crate) temperature: f64,
    /// Nucleus, above 0 and at most 1.
    pub(crate) top_p: f64,
    /// Random seed.
    pub(crate) seed: u64,
}

/// One request on its way to a worker.
#[derive(Debug)]
pub(crate) struct Job {
    /// For the record.
    pub(crate) origin: Origin,
    /// Which model.
    pub(crate) choice: Choice,
    /// Tokens of the prompt; fewer than the context holds.
    pub(crate) prompt: Vec<u32>,
    /// Most answer tokens; prompt and answer fit the context.
    pub(crate) max_tokens: usize,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Strings that end the answer.
    pub(crate) stops: Vec<String>,
    /// Alternatives per token that are wanted; `None` when no log-probabilities are.
    pub(crate) top_logprobs: Option<usize>,
    /// Whether its text is wanted piece by piece.
    pub(crate) pieces: bool,
    /// When it arrived.
    pub(crate) arrived: Instant,
    /// When it has taken too long.
    pub(crate) deadline: Instant,
    /// Where its events go.
    pub(crate) events: UnboundedSender<Event>,
}

/// A token of the answer with its log-probabilities (natural).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenInfo {
    /// The token's text.
    pub(crate) text: String,
    /// Its log-probability.
    pub(crate) logprob: f64,
    /// The most probable tokens with theirs.
    pub(crate) top: Vec<(String, f64)>,
}

/// The next certain part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// Text; may be empty.
    pub(crate) text: String,
    /// Its tokens, when asked for.
    pub(crate) tokens: Vec<TokenInfo>,
}

/// What a worker says of a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// It has begun, with this adapter to the end.
    Started(Pinned),
    /// More of the answer.
    Piece(Piece),
    /// It is over; `Started` may be missing when it never began.
    Ended(Box<Ended>),
}

/// The end of a job.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What was produced.
    pub(crate) outcome: Outcome,
    /// Completes when the exchange is on file; `None` when nothing is recorded.
    pub(crate) receipt: Option<oneshot::Receiver<()>>,
}

impl Ended {
    /// Whether there is a whole answer.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(self.outcome.ending, Ending::Stop | Ending::Length)
    }
}

/// What workers and handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The base model.
    pub(crate) base: Arc<Base>,
    /// The adapters.
    pub(crate) adapters: Arc<Adapters>,
    /// How sure answers are.
    pub(crate) confidence: Arc<Confidence>,
    /// Where exchanges go; `None` with `--no-record`.
    pub(crate) recorder: Option<Recorder>,
    /// Counters.
    pub(crate) meters: Meters,
    /// An answer succeeded when its confidence is above this.
    pub(crate) success_above: f64,
    /// Thrown when the server stops.
    pub(crate) shutdown: Shutdown,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// The way to the workers.
#[derive(Debug)]
pub(crate) struct Engine {
    jobs: Mutex<Option<SyncSender<Job>>>,
    waiting: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    workers: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the workers.
    pub(crate) fn start(shared: &Arc<Shared>, settings: &Serve) -> Result<Self, Failure> {
        let workers = settings.workers.max(1);
        let (jobs, incoming) = mpsc::sync_channel(settings.queue);
        let engine = Self {
            jobs: Mutex::new(Some(jobs)),
            waiting: Arc::default(),
            running: Arc::default(),
            workers,
            threads: Mutex::default(),
        };
        let incoming = Arc::new(Mutex::new(incoming));
        let mut threads = Vec::new();
        for number in 0..workers {
            let line = Line {
                incoming: Arc::clone(&incoming),
                waiting: Arc::clone(&engine.waiting),
                running: Arc::clone(&engine.running),
            };
            let shared = Arc::clone(shared);
            let arithmetic = worker::arithmetic_threads(settings.threads, workers);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker::run(&shared, &line, arithmetic))
                .or_fail(|| "cannot start a worker thread".into())?;
            threads.push(thread);
        }
        engine.threads.lock().unwrap_or_else(PoisonError::into_inner).append(&mut threads);
        Ok(engine)
    }

    /// Puts a job into the queue.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Busy> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = jobs.as_ref() else { return Err(Busy) };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        jobs.try_send(job).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if matches!(error, TrySendError::Disconnected(_)) {
                tracing::error!("every worker is gone");
            }
            Busy
        })
    }

    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Jobs that workers are at.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Number of workers.
    pub(crate) const fn workers(&self) -> usize {
        self.workers
    }

    /// Takes no more jobs, finishes those there are, and ends the workers.
    pub(crate) fn finish(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker's end of the queue.
#[derive(Debug)]
pub(crate) struct Line {
    incoming: Arc<Mutex<Receiver<Job>>>,
    waiting: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
}

impl Line {
    /// Gives the next job to `work`; false when there will be no more.
    pub(crate) fn next(&self, work: impl FnOnce(Job)) -> bool {
        let job = self.incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return false };
        self.running.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        work(job);
        self.running.fetch_sub(1, Ordering::Relaxed);
        true
    }
}
