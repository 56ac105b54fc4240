//! The thread that appends: one transaction for everything that waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nightshift_core::store::Store;
use nightshift_core::{Failure, OrFail, interaction};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Exchange, Noted, Opinion, Pruning, State, Task};

/// Most rows of one transaction.
const BATCH: usize = 256;
/// How often committed exchanges are brought to the disk itself.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a failed write waits before it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long a stopping server goes on trying.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// How long another program may hold the file before a write counts as failed.
const BUSY: Duration = Duration::from_secs(1);

struct Appender {
    connection: Connection,
    pruning: Pruning,
    store: PathBuf,
    state: Arc<State>,
    waiting: Vec<(Box<Exchange>, oneshot::Sender<()>)>,
    synced: Instant,
    unsynced: bool,
}

pub(super) fn spawn(
    (connection, pruning): (Connection, Pruning),
    store: PathBuf,
    tasks: Receiver<Task>,
    state: Arc<State>,
) -> Result<JoinHandle<usize>, Failure> {
    connection.busy_timeout(BUSY)?;
    let mut appender = Appender {
        connection,
        pruning,
        store,
        state,
        waiting: Vec::new(),
        synced: Instant::now(),
        unsynced: false,
    };
    std::thread::Builder::new()
        .name("capture".into())
        .spawn(move || appender.run(&tasks))
        .or_fail(|| "cannot start the capture thread".into())
}

impl Appender {
    /// Until [`Task::Stop`]; the number of exchanges that could not be written.
    fn run(&mut self, tasks: &Receiver<Task>) -> usize {
        let mut stopping: Option<Instant> = None;
        loop {
            let mut opinions = Vec::new();
            if stopping.is_none() {
                let patience = if self.waiting.is_empty() { SYNC_EVERY } else { RETRY };
                match tasks.recv_timeout(patience) {
                    Ok(task) => self.take(task, tasks, &mut opinions, &mut stopping),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => stopping = Some(Instant::now()),
                }
            }
            self.write(opinions);
            if stopping.is_none() {
                self.pruning.turn(&self.connection, &self.store);
            }
            if self.unsynced && self.synced.elapsed() >= SYNC_EVERY {
                self.sync();
            }
            if let Some(since) = stopping {
                if self.waiting.is_empty() || since.elapsed() >= LAST_TRIES {
                    self.sync();
                    return self.waiting.len();
                }
                std::thread::sleep(RETRY);
            }
        }
    }

    fn take(
        &mut self,
        first: Task,
        tasks: &Receiver<Task>,
        opinions: &mut Vec<(Box<Opinion>, oneshot::Sender<Noted>)>,
        stopping: &mut Option<Instant>,
    ) {
        for task in std::iter::once(first).chain(tasks.try_iter()) {
            match task {
                Task::Exchange(exchange, done) => self.waiting.push((exchange, done)),
                Task::Opinion(opinion, done) => opinions.push((opinion, done)),
                Task::Stop => *stopping = Some(Instant::now()),
            }
            if self.waiting.len() + opinions.len() >= BATCH && stopping.is_none() {
                break;
            }
        }
    }

    fn write(&mut self, opinions: Vec<(Box<Opinion>, oneshot::Sender<Noted>)>) {
        if self.waiting.is_empty() && opinions.is_empty() {
            return;
        }
        match self.transaction(&opinions) {
            Ok(noted) => {
                self.state.set_trouble(None);
                let count = self.waiting.len();
                self.state.recorded.fetch_add(count as u64, Ordering::Relaxed);
                self.state.backlog.fetch_sub(count, Ordering::Relaxed);
                for (_, done) in self.waiting.drain(..) {
                    let _ = done.send(());
                }
                for ((_, done), noted) in opinions.into_iter().zip(noted) {
                    let _ = done.send(noted);
                }
            }
            Err(failure) => {
                let reason = failure.chain();
                tracing::error!("{} exchanges wait for capture.db: {reason}", self.waiting.len());
                for (_, done) in opinions {
                    let _ = done.send(Noted::Failed(reason.clone()));
                }
                self.state.set_trouble(Some(reason));
            }
        }
    }

    fn transaction(
        &mut self,
        opinions: &[(Box<Opinion>, oneshot::Sender<Noted>)],
    ) -> Result<Vec<Noted>, Failure> {
        // A person's opinion is worth an fsync; traffic is synced every second.
        let durable = if opinions.is_empty() { "NORMAL" } else { "FULL" };
        self.connection.pragma_update(None, "synchronous", durable)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (exchange, _) in &self.waiting {
            insert_exchange(&transaction, exchange)?;
        }
        let mut noted = Vec::with_capacity(opinions.len());
        for (opinion, _) in opinions {
            noted.push(insert_opinion(&transaction, &self.store, opinion)?);
        }
        transaction.commit()?;
        self.unsynced = true;
        Ok(noted)
    }

    /// A checkpoint syncs the log first. Readers may keep it from finishing, which does no harm.
    fn sync(&mut self) {
        let result = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = result {
            tracing::warn!("capture.db was not synced: {error}");
        }
        self.synced = Instant::now();
        self.unsynced = false;
    }
}

fn insert_exchange(connection: &Connection, exchange: &Exchange) -> Result<(), Failure> {
    let body = &exchange.body;
    let json = serde_json::to_string(body).or_fail(|| "an exchange cannot be written as JSON".into())?;
    let tags = serde_json::to_string(&body.tags).or_fail(|| "tags cannot be written as JSON".into())?;
    connection
        .prepare_cached(
            "INSERT INTO exchange (id, at, generation, adapter_id, kind, ok, failure_class, latency_ms, tags, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            body.id,
            body.ts,
            exchange.generation,
            body.adapter_id,
            exchange.kind.as_str(),
            exchange.ok,
            exchange.failure_class,
            body.latency_ms.unwrap_or_default(),
            tags,
            json
        ])?;
    Ok(())
}

fn insert_opinion(connection: &Connection, store: &Path, opinion: &Opinion) -> Result<Noted, Failure> {
    let here: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM exchange WHERE id = ?1)")?
        .query_row([&opinion.exchange_id], |row| row.get(0))?;
    if !here && !in_store(store, &opinion.exchange_id) {
        return Ok(Noted::Unknown);
    }
    connection
        .prepare_cached(
            "INSERT INTO feedback (id, at, exchange_id, value, source, comment, correction)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            opinion.id,
            opinion.at,
            opinion.exchange_id,
            opinion.value,
            opinion.source,
            opinion.comment,
            opinion.correction
        ])?;
    Ok(Noted::Yes)
}

/// Whether `memory` has the exchange: its file here may have been replaced since.
fn in_store(store: &Path, id: &str) -> bool {
    let found = Store::open_read_only(store)
        .and_then(|store| store.map(|store| interaction::by_id(store.read(), id)).transpose());
    matches!(found, Ok(Some(Some(_))))
}
