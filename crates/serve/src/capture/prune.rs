//! Old rows of `capture.db` that `memory` has taken over: removed a few at a time, between writes.
//!
//! Nothing goes that `memory` does not have: its cursors in the store say how far it has come. A store that
//! cannot be read keeps everything.

use std::path::Path;
use std::time::{Duration, Instant};

use nightshift_core::clock::{Clock, rfc3339};
use nightshift_core::exchange::{DRAIN, EXCHANGE_TOPIC, FEEDBACK_TOPIC};
use nightshift_core::jiff::SignedDuration;
use nightshift_core::store::Store;
use nightshift_core::{Failure, events};
use rusqlite::{Connection, params};

/// Pause between two looks for old rows.
const EVERY: Duration = Duration::from_secs(3600);
/// Rows removed in one go: a few milliseconds.
const CHUNK: usize = 1000;

/// What is old, and when it was last looked for.
#[derive(Debug)]
pub(crate) struct Pruning {
    clock: Clock,
    keep: SignedDuration,
    looked: Option<Instant>,
}

impl Pruning {
    /// Rows stay for `days`.
    pub(crate) fn new(clock: Clock, days: u32) -> Self {
        Self { clock, keep: SignedDuration::from_hours(24 * i64::from(days)), looked: None }
    }

    /// Removes a chunk when it is time to; failures are for the log, the rows wait for the next time.
    pub(super) fn turn(&mut self, capture: &Connection, store: &Path) {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        match self.chunk(capture, store) {
            // There may be more of them: the next turn goes on.
            Ok(removed) if removed >= CHUNK => {}
            Ok(_) => self.looked = Some(Instant::now()),
            Err(failure) => {
                tracing::warn!("old rows of capture.db stay: {}", failure.chain());
                self.looked = Some(Instant::now());
            }
        }
    }

    fn chunk(&self, capture: &Connection, store: &Path) -> Result<usize, Failure> {
        let Some(store) = Store::open_read_only(store)? else { return Ok(0) };
        let before = rfc3339(self.clock.now() - self.keep);
        let mut removed = 0;
        for (table, topic) in [("exchange", EXCHANGE_TOPIC), ("feedback", FEEDBACK_TOPIC)] {
            let taken = events::cursor(store.read(), DRAIN, topic)?;
            let sql = format!(
                "DELETE FROM {table} WHERE seq IN
                 (SELECT seq FROM {table} WHERE seq <= ?1 AND at < ?2 ORDER BY seq LIMIT ?3)"
            );
            removed += capture.prepare_cached(&sql)?.execute(params![taken, before, CHUNK as i64])?;
        }
        Ok(removed)
    }
}
