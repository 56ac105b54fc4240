//! The rows `runs` and `run_steps`.

use nightshift_core::clock::rfc3339;
use nightshift_core::rusqlite::{Connection, OptionalExtension, Row, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use serde::Serialize;
use serde_json::Value;

/// A night.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct NightRow {
    /// `<target>/<date>`.
    pub(crate) run_key: String,
    pub(crate) date: String,
    /// running, stopped or failed (both resumable), or ended.
    pub(crate) state: String,
    pub(crate) started_at: String,
    pub(crate) ended_at: Option<String>,
    /// The one sentence.
    pub(crate) summary: Option<String>,
    /// The report as it was printed.
    pub(crate) result: Value,
}

/// A step of a night.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StepRow {
    pub(crate) step: String,
    /// running, done, skipped, failed or stopped.
    pub(crate) state: String,
    pub(crate) attempts: i64,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) result: Value,
}

fn json(text: Option<String>) -> Value {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
}

fn read_night(row: &Row<'_>) -> nightshift_core::rusqlite::Result<NightRow> {
    Ok(NightRow {
        run_key: row.get(0)?,
        date: row.get(1)?,
        state: row.get(2)?,
        started_at: row.get(3)?,
        ended_at: row.get(4)?,
        summary: row.get(5)?,
        result: json(row.get(6)?),
    })
}

const SELECT: &str = "SELECT run_key, date, state, started_at, ended_at, summary, result FROM runs";

/// The night with this key.
pub(crate) fn night(connection: &Connection, run_key: &str) -> Result<Option<NightRow>, Failure> {
    Ok(connection
        .prepare(&format!("{SELECT} WHERE run_key = ?1"))?
        .query_row([run_key], read_night)
        .optional()?)
}

/// The nights of a target, newest first.
pub(crate) fn nights(connection: &Connection, target: &str, limit: usize) -> Result<Vec<NightRow>, Failure> {
    let mut statement =
        connection.prepare(&format!("{SELECT} WHERE target = ?1 ORDER BY date DESC LIMIT ?2"))?;
    let rows = statement.query_map(params![target, limit as i64], read_night)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The steps of a night, by name.
pub(crate) fn step(connection: &Connection, run_key: &str, step: &str) -> Result<Option<StepRow>, Failure> {
    Ok(connection
        .prepare(
            "SELECT step, state, attempts, started_at, ended_at, exit_code, result FROM run_steps
             WHERE run_key = ?1 AND step = ?2",
        )?
        .query_row([run_key, step], |row| {
            Ok(StepRow {
                step: row.get(0)?,
                state: row.get(1)?,
                attempts: row.get(2)?,
                started_at: row.get(3)?,
                ended_at: row.get(4)?,
                exit_code: row.get(5)?,
                result: json(row.get(6)?),
            })
        })
        .optional()?)
}

/// Starts a night, or takes up one that did not end.
pub(crate) fn begin(ctx: &Ctx, store: &mut Store, run_key: &str, date: &str) -> Result<(), Failure> {
    store.write(|tx| {
        tx.execute(
            "INSERT INTO runs (run_key, run_id, target, date, state, started_at) VALUES (?1, ?2, ?3, ?4, 'running', ?5)
             ON CONFLICT (run_key) DO UPDATE SET state = 'running', run_id = excluded.run_id, ended_at = NULL",
            params![run_key, ctx.run_id, ctx.config.target, date, rfc3339(ctx.clock.now())],
        )?;
        Ok(())
    })
}

/// Marks a step as running.
pub(crate) fn begin_step(ctx: &Ctx, store: &mut Store, run_key: &str, step: &str) -> Result<(), Failure> {
    store.write(|tx| {
        tx.execute(
            "INSERT INTO run_steps (run_key, step, state, attempts, started_at) VALUES (?1, ?2, 'running', 1, ?3)
             ON CONFLICT (run_key, step) DO UPDATE SET state = 'running', attempts = attempts + 1,
                started_at = excluded.started_at, ended_at = NULL",
            params![run_key, step, rfc3339(ctx.clock.now())],
        )?;
        Ok(())
    })
}

/// Records how a step ended.
pub(crate) fn end_step(
    ctx: &Ctx,
    store: &mut Store,
    run_key: &str,
    step: &str,
    (state, exit_code, result): (&str, Option<i32>, &Value),
) -> Result<(), Failure> {
    store.write(|tx| {
        tx.execute(
            "INSERT INTO run_steps (run_key, step, state, ended_at, exit_code, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (run_key, step) DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at,
                exit_code = excluded.exit_code, result = excluded.result",
            params![run_key, step, state, rfc3339(ctx.clock.now()), exit_code, result.to_string()],
        )?;
        Ok(())
    })
}

/// Records how the night ended.
pub(crate) fn end(
    ctx: &Ctx,
    store: &mut Store,
    run_key: &str,
    (state, summary, result): (&str, &str, &Value),
) -> Result<(), Failure> {
    store.write(|tx| {
        tx.execute(
            "UPDATE runs SET state = ?2, ended_at = ?3, summary = ?4, result = ?5 WHERE run_key = ?1",
            params![run_key, state, rfc3339(ctx.clock.now()), summary, result.to_string()],
        )?;
        Ok(())
    })
}
