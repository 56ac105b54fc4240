//! The cycles in the store: their numbers, how they ended, and how much of a day's quota is used.

use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::Timestamp;
use nightshift_core::rusqlite::{Connection, OptionalExtension, Row, params};
use nightshift_core::store::Store;
use nightshift_core::{Failure, OrFail};
use serde::Serialize;
use serde_json::Value;

/// Who asked for a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedBy {
    /// The schedule of a running loop.
    Schedule,
    /// `loop trigger`.
    Trigger,
    /// `loop run`.
    Run,
}

impl AskedBy {
    const fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Trigger => "trigger",
            Self::Run => "run",
        }
    }
}

/// A cycle as the store has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Past {
    /// Its number.
    pub(super) cycle_number: i64,
    /// `schedule`, `trigger` or `run`.
    pub(super) asked_by: String,
    /// `running`, `completed`, `failed` or `interrupted`.
    pub(super) status: String,
    /// RFC 3339.
    pub(super) started_at: String,
    /// RFC 3339.
    pub(super) completed_at: Option<String>,
    /// What it reported.
    pub(super) result: Option<Value>,
}

/// Begins a cycle and gives its number. Whoever holds the lock may say that cycles before, which never ended, were
/// interrupted.
pub(super) fn begin(store: &mut Store, now: Timestamp, asked_by: AskedBy) -> Result<i64, Failure> {
    store.write(|tx| {
        let at = rfc3339(now);
        tx.execute(
            "UPDATE cycles SET status = 'interrupted', completed_at = ?1 WHERE status = 'running'",
            [&at],
        )?;
        Ok(tx.query_row(
            "INSERT INTO cycles (asked_by, status, started_at) VALUES (?1, 'running', ?2) RETURNING number",
            params![asked_by.name(), at],
            |row| row.get(0),
        )?)
    })
}

/// Ends a cycle.
pub(super) fn end(
    connection: &Connection,
    number: i64,
    status: &str,
    now: Timestamp,
    result: &impl Serialize,
) -> Result<(), Failure> {
    let result = serde_json::to_string(result).or_fail(|| "cannot record the cycle".into())?;
    connection.execute(
        "UPDATE cycles SET status = ?2, completed_at = ?3, result = ?4 WHERE number = ?1",
        params![number, status, rfc3339(now), result],
    )?;
    Ok(())
}

/// The newest cycle, ended or not.
pub(super) fn newest(connection: &Connection) -> Result<Option<Past>, Failure> {
    one(connection, "1 = 1", 0)
}

/// The first cycle after `number` that has ended.
pub(super) fn ended_after(connection: &Connection, number: i64) -> Result<Option<Past>, Failure> {
    one(connection, "status <> 'running'", number)
}

/// The newest cycle after `number` for which something holds.
fn one(connection: &Connection, holds: &str, number: i64) -> Result<Option<Past>, Failure> {
    let sql = format!(
        "SELECT number, asked_by, status, started_at, completed_at, result FROM cycles
         WHERE number > ?1 AND {holds} ORDER BY number DESC LIMIT 1"
    );
    Ok(connection.prepare_cached(&sql)?.query_row([number], read).optional()?)
}

fn read(row: &Row<'_>) -> nightshift_core::rusqlite::Result<Past> {
    Ok(Past {
        cycle_number: row.get(0)?,
        asked_by: row.get(1)?,
        status: row.get(2)?,
        started_at: row.get(3)?,
        completed_at: row.get(4)?,
        result: row.get::<_, Option<String>>(5)?.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// Cycles that were completed, and when the newest one began that was (or was not) on schedule.
pub(super) fn completed(connection: &Connection) -> Result<(u64, Option<String>), Failure> {
    let sql = "SELECT count(*), max(started_at) FROM cycles WHERE status = 'completed'";
    Ok(connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)))?)
}

/// Changes that were applied since an instant, whatever became of them.
pub(super) fn applied_since(connection: &Connection, since: Timestamp) -> Result<u32, Failure> {
    let sql = "SELECT count(*) FROM config_changes WHERE julianday(applied_at) >= julianday(?1)";
    Ok(connection.query_row(sql, [rfc3339(since)], |row| row.get(0))?)
}
