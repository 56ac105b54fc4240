//! Taking over what `serve` recorded in `capture.db`, each row exactly once.
//!
//! The cursor moves in the transaction that inserts the rows: a crash repeats or loses nothing.
//! `capture.db` belongs to `serve` and is opened read-only.

use std::time::Duration;

use nightshift_core::exchange::{DRAIN, EXCHANGE_TOPIC, FEEDBACK_TOPIC};
use nightshift_core::interaction::{self, Feedback, Interaction};
use nightshift_core::rusqlite::{Connection, OpenFlags};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail, Outcome, events};
use serde_json::json;

use crate::import;
use crate::judge::Seal;
use crate::report::ImportReport;

/// Rows taken over in one transaction.
const BATCH: i64 = 500;

pub(crate) fn run(ctx: &Ctx) -> Result<Outcome, Failure> {
    let path = ctx.paths.capture();
    if !path.exists() {
        return Err(Failure::nothing(format!(
            "nothing was recorded yet ({} does not exist)",
            path.display()
        ))
        .hint("start serve, or name a file to import"));
    }
    let capture = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .or_fail(|| format!("cannot open {}", path.display()))?;
    capture.busy_timeout(Duration::from_secs(10))?;
    let mut report = ImportReport::default();
    let mut store = ctx.store()?;
    if ctx.dry_run {
        let from = events::cursor(store.read(), DRAIN, EXCHANGE_TOPIC)?;
        let waiting: i64 =
            capture.query_row("SELECT count(*) FROM exchange WHERE seq > ?1", [from], |row| row.get(0))?;
        return Ok(Outcome::done(
            &json!({"waiting": waiting}),
            format!("would take over {waiting} exchanges"),
        ));
    }
    // Two drains at once would both read the same rows; the second waits its turn for nothing.
    let _lock = ctx.lock("drain")?;
    while drain_exchanges(ctx, &capture, &mut store, &mut report)? {
        ctx.crash.reach("memory.drained", "");
        ctx.stop.check()?;
    }
    while drain_feedback(ctx, &capture, &mut store, &mut report)? {
        ctx.stop.check()?;
    }
    for bad in &report.bad_lines {
        ctx.printer.note(&format!("skipped {bad}"));
    }
    Ok(Outcome::done(&report, import::summary(&report)))
}

fn drain_exchanges(
    ctx: &Ctx,
    capture: &Connection,
    store: &mut Store,
    report: &mut ImportReport,
) -> Result<bool, Failure> {
    let from = events::cursor(store.read(), DRAIN, EXCHANGE_TOPIC)?;
    let mut statement = capture
        .prepare_cached("SELECT seq, kind, body FROM exchange WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let rows = statement.query_map([from, BATCH], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let Some(last) = rows.last().map(|row| row.0) else { return Ok(false) };
    let seal = Seal::new(store.read())?;
    store.write(|tx| {
        for (seq, kind, body) in &rows {
            if kind != "live" {
                report.not_live += 1;
                continue;
            }
            match serde_json::from_str::<Interaction>(body) {
                Ok(mut row) => import::add(ctx, tx, &seal, &mut row, report)?,
                Err(error) => report.bad_lines.push(format!("capture.db exchange {seq}: {error}")),
            }
        }
        events::advance(tx, DRAIN, EXCHANGE_TOPIC, last)
    })?;
    Ok(true)
}

fn drain_feedback(
    ctx: &Ctx,
    capture: &Connection,
    store: &mut Store,
    report: &mut ImportReport,
) -> Result<bool, Failure> {
    let from = events::cursor(store.read(), DRAIN, FEEDBACK_TOPIC)?;
    let mut statement = capture.prepare_cached(
        "SELECT seq, id, at, exchange_id, value, source, comment, correction FROM feedback
         WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let rows = statement.query_map([from, BATCH], |row| {
        let id: String = row.get(1)?;
        let feedback = Feedback {
            source_id: id.clone(),
            id,
            ts: row.get(2)?,
            interaction_id: row.get(3)?,
            value: row.get(4)?,
            source: row.get(5)?,
            comment: row.get(6)?,
            correction: row.get(7)?,
        };
        Ok((row.get::<_, i64>(0)?, feedback))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let Some(last) = rows.last().map(|row| row.0) else { return Ok(false) };
    store.write(|tx| {
        for (_, feedback) in &rows {
            if interaction::insert_feedback(tx, feedback)? {
                report.feedback += 1;
                let payload = json!({"value": feedback.value, "source": feedback.source});
                events::publish(
                    tx,
                    ctx.clock.now(),
                    events::MEMORY_FEEDBACK,
                    &feedback.interaction_id,
                    &payload,
                )?;
            }
        }
        events::advance(tx, DRAIN, FEEDBACK_TOPIC, last)
    })?;
    Ok(true)
}
