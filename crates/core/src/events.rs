//! An append-only table of events by topic, and the cursors of its consumers.
//!
//! A producer publishes in the transaction that made the news; a consumer moves its cursor in the
//! transaction that applied it. So nothing is lost and nothing is applied twice.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use crate::clock::rfc3339;
use crate::error::{Failure, OrFail};
use jiff::Timestamp;

/// Topic of new interactions.
pub const MEMORY_NEW: &str = "memory:new";
/// Topic of new feedback.
pub const MEMORY_FEEDBACK: &str = "memory:feedback";
/// Topic of finished harvests.
pub const HARVEST_DONE: &str = "harvest:done";
/// Topic of published adapters.
pub const ADAPTER_PUBLISHED: &str = "adapter:published";
/// Topic of pointer changes.
pub const POINTER_MOVED: &str = "pointer:moved";

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Position in the table; increasing.
    pub seq: i64,
    /// When it was published (RFC 3339).
    pub at: String,
    /// Its topic.
    pub topic: String,
    /// What it is about.
    pub key: String,
    /// Its content.
    pub payload: Value,
}

/// Publishes within the producer's transaction.
pub fn publish(
    tx: &Transaction<'_>,
    now: Timestamp,
    topic: &str,
    key: &str,
    payload: &Value,
) -> Result<i64, Failure> {
    tx.prepare_cached("INSERT INTO events (at, topic, key, payload) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![rfc3339(now), topic, key, payload.to_string()])?;
    Ok(tx.last_insert_rowid())
}

/// The events of a topic that a consumer has not applied yet, oldest first.
pub fn pending(
    connection: &Connection,
    consumer: &str,
    topic: &str,
    limit: usize,
) -> Result<Vec<Event>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, at, key, payload FROM events WHERE topic = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement
        .query_map(params![topic, cursor(connection, consumer, topic)?, limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?))
        })?;
    rows.map(|row| {
        let (seq, at, key, payload) = row?;
        let payload = serde_json::from_str(&payload).or_fail(|| format!("event {seq} is not JSON"))?;
        Ok(Event { seq, at, topic: topic.to_owned(), key, payload })
    })
    .collect()
}

/// The last event a consumer has applied; 0 before the first.
pub fn cursor(connection: &Connection, consumer: &str, topic: &str) -> Result<i64, Failure> {
    let seq = connection
        .prepare_cached("SELECT seq FROM cursors WHERE consumer = ?1 AND topic = ?2")?
        .query_row([consumer, topic], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(0))
}

/// Moves a cursor forward (never back) within the transaction that applied the events.
pub fn advance(tx: &Transaction<'_>, consumer: &str, topic: &str, seq: i64) -> Result<(), Failure> {
    tx.prepare_cached(
        "INSERT INTO cursors (consumer, topic, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (consumer, topic) DO UPDATE SET seq = max(seq, excluded.seq)",
    )?
    .execute(params![consumer, topic, seq])?;
    Ok(())
}
