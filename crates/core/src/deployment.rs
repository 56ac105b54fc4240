//! Rows of `deployments`: written by `deploy`, read by `rollback` and `nightly` too.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

use crate::error::Failure;

/// One attempt to make an adapter live.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deployment {
    /// UUIDv7.
    pub id: String,
    /// The adapter.
    pub candidate: Option<String>,
    /// What was live when it began; absent for the base model.
    pub previous: Option<String>,
    /// validating, loaded, gated, exposed, reverting; or how it ended: deployed, provisional, refused,
    /// rolled_back, not_recovered, interrupted, superseded, failed, abandoned.
    pub state: String,
    /// When (RFC 3339).
    pub started_at: String,
    /// When it ended; absent while it runs or when its process died.
    pub ended_at: Option<String>,
    /// The gate's verdict: PASS, FAIL or INCONCLUSIVE.
    pub verdict: Option<String>,
    /// The reason, for a person.
    pub reason: Option<String>,
    /// The gate's counts.
    pub gate: Option<Value>,
    /// The watch's counts, and the summary that lies in the live folder.
    pub watch: Option<Value>,
    /// The process.
    pub pid: i64,
}

const SELECT: &str =
    "SELECT id, candidate, previous, state, started_at, ended_at, verdict, reason, gate, watch, pid
    FROM deployments";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(Deployment {
        id: row.get(0)?,
        candidate: row.get(1)?,
        previous: row.get(2)?,
        state: row.get(3)?,
        started_at: row.get(4)?,
        ended_at: row.get(5)?,
        verdict: row.get(6)?,
        reason: row.get(7)?,
        gate: json(row.get(8)?),
        watch: json(row.get(9)?),
        pid: row.get(10)?,
    })
}

/// The newest deployments of a target, newest first.
pub fn list(connection: &Connection, target: &str, limit: usize) -> Result<Vec<Deployment>, Failure> {
    let mut statement = connection
        .prepare(&format!("{SELECT} WHERE target = ?1 ORDER BY started_at DESC, rowid DESC LIMIT ?2"))?;
    let rows = statement.query_map(params![target, limit as i64], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The deployment that has not ended, if there is one.
pub fn open(connection: &Connection, target: &str) -> Result<Option<Deployment>, Failure> {
    let mut statement = connection.prepare(&format!("{SELECT} WHERE target = ?1 AND ended_at IS NULL"))?;
    Ok(statement.query_row([target], read_row).optional()?)
}

/// The deployment with this id.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Deployment>, Failure> {
    Ok(connection.prepare(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], read_row).optional()?)
}
