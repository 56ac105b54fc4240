//! Recorded exchanges as deployment sees them: outcome, latency, tags; no texts.
//!
//! `capture.db` belongs to `serve` and is opened read-only; older exchanges come from the store.
//! An exchange failed when `serve` said so (5xx, timeout, empty answer, invalid JSON where JSON was
//! asked for) or when the newest opinion on it is negative. What a client cancelled is no outcome.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, params};
use serde::Serialize;

use crate::error::{Failure, OrFail};
use crate::paths::Paths;
use crate::store::Store;

/// Who takes recorded exchanges over into the store, in `cursors`.
pub const DRAIN: &str = "memory";
/// How far exchanges have been taken over, in `cursors`.
pub const EXCHANGE_TOPIC: &str = "capture:exchange";
/// How far opinions have been taken over, in `cursors`.
pub const FEEDBACK_TOPIC: &str = "capture:feedback";

/// Failure classes in the store that say nothing about whether the answer could be used.
const SOFT_FAILURES: &str = "'low_confidence', 'truncated', 'cancelled'";

/// One exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Position in `capture.db`; 0 when it came from the store.
    pub seq: i64,
    /// The interaction's id.
    pub id: String,
    /// When (RFC 3339).
    pub at: String,
    /// What `serve` said.
    pub ok: bool,
    /// The newest opinion on it is negative.
    pub negative: bool,
    /// Why it is not ok.
    pub failure_class: Option<String>,
    /// Milliseconds to the whole answer.
    pub latency_ms: f64,
    /// Milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Tokens written.
    pub completion_tokens: Option<i64>,
    /// Labels.
    pub tags: Vec<String>,
}

impl Exchange {
    /// Failed, by the server's account or by an opinion.
    pub const fn failed(&self) -> bool {
        !self.ok || self.negative
    }

    /// Milliseconds to the first token plus milliseconds per further token: does not grow with the
    /// length of the answer. Without a first-token time, milliseconds per token.
    pub fn cost_ms(&self) -> f64 {
        let tokens = self.completion_tokens.unwrap_or(1).max(1) as f64;
        match self.ttft_ms {
            Some(first) => first + (self.latency_ms - first).max(0.0) / (tokens - 1.0).max(1.0),
            None => self.latency_ms / tokens,
        }
    }
}

/// Rates and times over some exchanges.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// How many.
    pub requests: usize,
    /// Share that did not fail (0-1); absent without requests.
    pub success_rate: Option<f64>,
    /// Mean latency in milliseconds.
    pub avg_latency_ms: Option<f64>,
    /// 95th percentile of the latency in milliseconds (nearest rank).
    pub latency_p95_ms: Option<f64>,
}

impl Snapshot {
    /// Over exchanges.
    pub fn over(exchanges: &[Exchange]) -> Self {
        Self::of(exchanges.iter().map(|exchange| (exchange.failed(), exchange.latency_ms)))
    }

    /// Over (failed, latency in milliseconds).
    pub fn of(outcomes: impl IntoIterator<Item = (bool, f64)>) -> Self {
        let (mut failed, mut latencies) = (0_usize, Vec::new());
        for (fail, latency_ms) in outcomes {
            failed += usize::from(fail);
            latencies.push(latency_ms);
        }
        let requests = latencies.len();
        if requests == 0 {
            return Self::default();
        }
        latencies.sort_by(f64::total_cmp);
        let rank = (requests * 95).div_ceil(100).max(1);
        Self {
            requests,
            success_rate: Some(1.0 - failed as f64 / requests as f64),
            avg_latency_ms: Some(latencies.iter().sum::<f64>() / requests as f64),
            latency_p95_ms: Some(latencies[rank - 1]),
        }
    }
}

const COLUMNS: &str = "seq, id, at, ok, failure_class, latency_ms, tags,
    CASE WHEN json_valid(body) THEN json_extract(body, '$.ttft_ms') END,
    CASE WHEN json_valid(body) THEN json_extract(body, '$.completion_tokens') END";

/// An open `capture.db`.
#[derive(Debug)]
pub struct Capture {
    connection: Connection,
}

impl Capture {
    /// Opens it for reading; `None` when nothing was recorded yet.
    pub fn open(paths: &Paths) -> Result<Option<Self>, Failure> {
        let path = paths.capture();
        if !path.exists() {
            return Ok(None);
        }
        let failed = || format!("cannot open {}", path.display());
        let connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).or_fail(failed)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        let ready: bool = connection
            .query_row(
                "SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('exchange', 'feedback')",
                [],
                |row| row.get(0),
            )
            .or_fail(failed)?;
        Ok(ready.then_some(Self { connection }))
    }

    /// Positions of the newest exchange and of the newest opinion.
    pub fn ends(&self) -> Result<(i64, i64), Failure> {
        let sql = "SELECT (SELECT coalesce(max(seq), 0) FROM exchange), (SELECT coalesce(max(seq), 0) FROM feedback)";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// Exchanges after `seq` that this adapter answered under this generation (the gate's own excepted),
    /// oldest first. `negative` is not filled in: see [`Self::opinions`].
    pub fn answered(
        &self,
        seq: i64,
        generation: i64,
        adapter: Option<&str>,
    ) -> Result<Vec<Exchange>, Failure> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM exchange WHERE seq > ?1 AND generation = ?2 AND adapter_id IS ?3
             AND kind IN ('live', 'probe') AND failure_class IS NOT 'cancelled' ORDER BY seq"
        ))?;
        let rows = statement.query_map(params![seq, generation, adapter], read_capture)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Opinions after `seq`, oldest first: position, exchange, value.
    pub fn opinions(&self, seq: i64) -> Result<Vec<(i64, String, f64)>, Failure> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, exchange_id, value FROM feedback WHERE seq > ?1 ORDER BY seq")?;
        let rows = statement.query_map([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest user exchanges of an adapter, newest first.
    fn newest(&self, adapter: Option<&str>, limit: usize) -> Result<Vec<Exchange>, Failure> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM exchange WHERE adapter_id IS ?1 AND kind = 'live'
             AND failure_class IS NOT 'cancelled' ORDER BY seq DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![adapter, limit as i64], read_capture)?;
        let mut exchanges: Vec<Exchange> = rows.collect::<Result<_, _>>()?;
        let newest: HashMap<String, f64> =
            self.opinions(0)?.into_iter().map(|(_, exchange, value)| (exchange, value)).collect();
        for exchange in &mut exchanges {
            exchange.negative = newest.get(&exchange.id).is_some_and(|value| *value < 0.0);
        }
        Ok(exchanges)
    }
}

fn read_capture(row: &Row<'_>) -> rusqlite::Result<Exchange> {
    Ok(Exchange {
        seq: row.get(0)?,
        id: row.get(1)?,
        at: row.get(2)?,
        ok: row.get(3)?,
        negative: false,
        failure_class: row.get(4)?,
        latency_ms: row.get(5)?,
        tags: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
        ttft_ms: row.get(7)?,
        completion_tokens: row.get(8)?,
    })
}

/// The newest user exchanges that an adapter (or the base) answered, newest first, at most `limit`:
/// what `capture.db` holds and what `memory` has taken over, each once.
pub fn history(
    paths: &Paths,
    store: &Store,
    target: &str,
    adapter: Option<&str>,
    limit: usize,
) -> Result<Vec<Exchange>, Failure> {
    let mut exchanges = match Capture::open(paths)? {
        Some(capture) => capture.newest(adapter, limit)?,
        None => Vec::new(),
    };
    let known: HashMap<String, usize> =
        exchanges.iter().enumerate().map(|(index, exchange)| (exchange.id.clone(), index)).collect();
    let mut statement = store.read().prepare(&format!(
        "SELECT 0, i.id, i.ts, i.error IS NULL AND coalesce(i.failure_class IN ({SOFT_FAILURES}), 1), i.failure_class,
            coalesce(i.latency_ms, 0), i.tags, i.ttft_ms, i.completion_tokens,
            (SELECT f.value FROM feedback f WHERE f.interaction_id = i.id ORDER BY f.ts DESC, f.rowid DESC LIMIT 1)
         FROM interactions i WHERE i.target = ?1 AND i.source = 'serve' AND i.adapter_id IS ?2
            AND i.failure_class IS NOT 'cancelled' ORDER BY i.ts DESC, i.rowid DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![target, adapter, limit as i64], |row| {
        let opinion: Option<f64> = row.get(9)?;
        Ok(Exchange { negative: opinion.is_some_and(|value| value < 0.0), ..read_capture(row)? })
    })?;
    for row in rows {
        let exchange = row?;
        match known.get(&exchange.id) {
            Some(index) => exchanges[*index].negative |= exchange.negative,
            None => exchanges.push(exchange),
        }
    }
    exchanges.sort_by(|a, b| b.at.cmp(&a.at));
    exchanges.truncate(limit);
    Ok(exchanges)
}
