//! The newest row of a history, read when somebody asks, and only when it can have changed.
//!
//! SQLite's `data_version` moves with every commit of another connection; a file that was put in place of the
//! one that is open is noticed by its inode. Both cost microseconds, so every scrape looks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nightshift_core::clock::Clock;
use nightshift_core::commit::with_suffix;
use nightshift_core::signal::Stop;
use nightshift_core::synergy::history::{self, History, HistoryError, Scope};
use nightshift_core::synergy::number;

use crate::export::page::metric_name;

/// How long a reader waits for a writer, and how long it then leaves the file alone.
const PATIENCE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the newest row.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Its numbers, by metric name.
    pub(crate) values: Vec<(String, f64)>,
    /// Its id.
    pub(crate) id: Option<i64>,
    /// When the history was written last, epoch seconds.
    pub(crate) written: Option<f64>,
    /// When the history was read last, epoch seconds.
    pub(crate) updated: Option<f64>,
    /// Readings that failed.
    pub(crate) failures: u64,
    /// Why the newest reading failed.
    pub(crate) trouble: Option<String>,
    /// The last good reading is so old that its values are not shown any more.
    pub(crate) stale: bool,
}

/// A reader of one history.
#[derive(Debug)]
pub(crate) struct Latest {
    path: PathBuf,
    clock: Clock,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<(History, (u64, u64))>,
    version: Option<i64>,
    view: View,
    good_at: Option<Duration>,
    tried_at: Option<Duration>,
}

impl Latest {
    /// A reader that calls values stale which it could not confirm for three times `interval`, at least 10 s.
    pub(crate) fn new(path: PathBuf, clock: Clock, interval: Duration) -> Self {
        let limit = (interval * 3).max(Duration::from_secs(10));
        Self { path, clock, limit, state: Mutex::default() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks, and says what is known.
    pub(crate) fn look(&self) -> View {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed();
        let pausing = state.view.trouble.is_some() && state.tried_at.is_some_and(|at| now < at + PAUSE);
        if !pausing {
            state.tried_at = Some(now);
            match self.refresh(&mut state) {
                Ok(()) => {
                    state.good_at = Some(now);
                    state.view.trouble = None;
                    state.view.updated = Some(self.clock.real().as_microsecond() as f64 / 1e6);
                }
                Err(error) => {
                    let first = state.view.trouble.is_none();
                    state.view.failures += 1;
                    let trouble = nightshift_core::Failure::from(error).chain();
                    if first {
                        tracing::warn!(error = trouble, "the history cannot be read");
                    }
                    (state.open, state.version) = (None, None);
                    state.view.trouble = Some(trouble);
                }
            }
        }
        let mut view = state.view.clone();
        view.stale = view.trouble.is_some() && state.good_at.is_none_or(|at| now > at + self.limit);
        if view.stale {
            view.values.clear();
        }
        view
    }

    fn refresh(&self, state: &mut State) -> Result<(), HistoryError> {
        let file = std::fs::metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if state.open.as_ref().map(|(_, file)| *file) != file || file.is_none() {
            (state.open, state.version) = (None, None);
            history::migrate(&self.path, &self.clock, &Stop::default())?;
            let history = History::open(&self.path)?.patience(PATIENCE)?;
            let meta = std::fs::metadata(&self.path).map_err(|_| HistoryError::Missing(self.path.clone()))?;
            state.open = Some((history, (meta.dev(), meta.ino())));
        }
        let missing = || HistoryError::Missing(self.path.clone());
        let mut history = &state.open.as_ref().ok_or_else(missing)?.0;
        // Before the row: what is written after this moves it, and is read the next time.
        let mut version = history.version()?;
        if state.version == Some(version) {
            return Ok(());
        }
        if history.lacks_table() {
            let again = History::open(&self.path)?.patience(PATIENCE)?;
            state.open = Some((again, file.unwrap_or_default()));
            history = &state.open.as_ref().ok_or_else(missing)?.0;
            version = history.version()?;
        }
        let row = history.latest(&Scope::All)?;
        state.view.id = row.as_ref().map(|row| row.id);
        state.view.written = row.as_ref().and_then(|_| written(&self.path));
        state.view.values = row.map(|row| values(&row.entry)).unwrap_or_default();
        state.version = Some(version);
        Ok(())
    }
}

/// The numbers of an entry under names that Prometheus takes; the first of two that become one name.
fn values(entry: &serde_json::Map<String, serde_json::Value>) -> Vec<(String, f64)> {
    let mut values: Vec<(String, f64)> = Vec::with_capacity(entry.len());
    for (key, value) in entry {
        let name = metric_name(key);
        if let Some(value) = number(value)
            && !values.iter().any(|(known, _)| *known == name)
        {
            values.push((name, value));
        }
    }
    values
}

/// When the database or its log was written last.
fn written(path: &Path) -> Option<f64> {
    let at = |path: &Path| {
        std::fs::metadata(path).map(|meta| meta.mtime() as f64 + meta.mtime_nsec() as f64 / 1e9)
    };
    let log = at(&with_suffix(path, "-wal")).unwrap_or(0.0);
    at(path).ok().map(|at| at.max(log))
}
