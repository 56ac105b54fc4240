//! `capture.db`: every exchange and every opinion on one, appended by one thread.
//!
//! The answer's last byte waits for the commit (a fraction of a millisecond, shared by everything
//! that waits), its tokens do not. So an answer that a client saw whole is in the file, whatever
//! happens to the process; a power cut can cost the last second of exchanges, never an opinion.
//! When the file cannot be written, exchanges wait in memory and are tried again; beyond
//! [`BACKLOG_LIMIT`] the server refuses new work instead of forgetting.

mod prune;
mod schema;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nightshift_core::Failure;
use nightshift_core::interaction::Interaction;
use nightshift_core::random::sha256_hex;
use tokio::sync::oneshot;

pub(crate) use prune::Pruning;

/// Exchanges that may wait for the file before new requests are refused.
pub(crate) const BACKLOG_LIMIT: usize = 1024;

/// Whose traffic an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A user's.
    Live,
    /// A probe of `deploy` or of monitoring.
    Probe,
    /// The gate's questions.
    Gate,
}

impl Kind {
    /// As the column `kind` and the header have it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Probe => "probe",
            Self::Gate => "gate",
        }
    }
}

/// One row of the table `exchange`.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Generation of the pointer that chose the adapter; 0 when a request named it itself.
    pub(crate) generation: i64,
    /// Whose traffic.
    pub(crate) kind: Kind,
    /// False for 5xx, timeout, empty answer, and invalid JSON where JSON was asked for.
    pub(crate) ok: bool,
    /// Class of a failure, or `cancelled`.
    pub(crate) failure_class: Option<&'static str>,
    /// The row for `memory`; its id, time, adapter, tags and latency become columns.
    pub(crate) body: Interaction,
}

/// One row of the table `feedback`.
#[derive(Debug, Clone)]
pub(crate) struct Opinion {
    /// UUIDv7.
    pub(crate) id: String,
    /// When (RFC 3339).
    pub(crate) at: String,
    /// The exchange.
    pub(crate) exchange_id: String,
    /// -1 (bad) to 1 (good).
    pub(crate) value: f64,
    /// user, verifier, operator, ...
    pub(crate) source: String,
    /// Why.
    pub(crate) comment: Option<String>,
    /// What the answer should have been.
    pub(crate) correction: Option<String>,
}

/// What became of an opinion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Recorded.
    Yes,
    /// No such exchange.
    Unknown,
    /// The file could not be written, with the reason.
    Failed(String),
}

enum Task {
    Exchange(Box<Exchange>, oneshot::Sender<()>),
    Opinion(Box<Opinion>, oneshot::Sender<Noted>),
    Stop,
}

#[derive(Debug, Default)]
struct State {
    backlog: AtomicUsize,
    recorded: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl State {
    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// The way to the writer; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    tasks: mpsc::Sender<Task>,
    state: Arc<State>,
    salt: Arc<str>,
}

/// The writer's thread.
#[derive(Debug)]
pub(crate) struct Writer {
    tasks: mpsc::Sender<Task>,
    thread: JoinHandle<usize>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exchange(..) => "Exchange",
            Self::Opinion(..) => "Opinion",
            Self::Stop => "Stop",
        })
    }
}

impl Recorder {
    /// Opens or makes `capture` and starts the writer. `store` is asked about exchanges that are
    /// no longer in `capture`, and how far `memory` has come.
    pub(crate) fn start(capture: &Path, store: &Path, pruning: Pruning) -> Result<(Self, Writer), Failure> {
        let (connection, salt) = schema::open(capture)?;
        let state = Arc::new(State::default());
        let (tasks, incoming) = mpsc::channel();
        let thread = writer::spawn((connection, pruning), store.to_owned(), incoming, Arc::clone(&state))?;
        Ok((Self { tasks: tasks.clone(), state, salt: salt.into() }, Writer { tasks, thread }))
    }

    /// Hands over an exchange; completes when it is on file.
    pub(crate) fn record(&self, exchange: Exchange) -> oneshot::Receiver<()> {
        let (done, receipt) = oneshot::channel();
        self.state.backlog.fetch_add(1, Ordering::Relaxed);
        // The writer outlives every sender but the last; a send can fail only after its panic,
        // which drops `done`, so nobody waits for ever.
        if self.tasks.send(Task::Exchange(Box::new(exchange), done)).is_err() {
            tracing::error!("the capture writer is gone; an exchange was not recorded");
        }
        receipt
    }

    /// Hands over an opinion; completes when it is on disk or refused.
    pub(crate) async fn note(&self, opinion: Opinion) -> Noted {
        let (done, noted) = oneshot::channel();
        let gone = || Noted::Failed("the capture writer is gone".into());
        if self.tasks.send(Task::Opinion(Box::new(opinion), done)).is_err() {
            return gone();
        }
        noted.await.unwrap_or_else(|_| gone())
    }

    /// A user's name as it is stored: hashed with a salt that never leaves this home.
    pub(crate) fn hash_user(&self, user: &str) -> String {
        sha256_hex(format!("{}\0{user}", self.salt).as_bytes())
    }

    /// Exchanges on file since the start.
    pub(crate) fn recorded(&self) -> u64 {
        self.state.recorded.load(Ordering::Relaxed)
    }

    /// Exchanges that wait for the file.
    pub(crate) fn backlog(&self) -> usize {
        self.state.backlog.load(Ordering::Relaxed)
    }

    /// Why the file cannot be written at the moment.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Writer {
    /// Writes what was handed over and ends; the number of exchanges that could not be written.
    pub(crate) fn finish(self) -> usize {
        let _ = self.tasks.send(Task::Stop);
        self.thread.join().unwrap_or(usize::MAX)
    }
}
