//! Changes that wait for a person: `approve`, `reject`, `list`.
//!
//! What was shown is what is applied: when the config has another value by then, the approval is refused, and the
//! next cycle shows the change anew.

use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::journal::{self, Change};
use nightshift_core::random::new_id;
use nightshift_core::rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::change::{self, ConfigChange, Planned, Target};
use crate::recommendation::Recommendation;

/// A change that waits, or waited.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Waiting {
    /// UUIDv7.
    pub(super) id: String,
    /// What it follows from.
    pub(super) recommendation: Recommendation,
    /// The config.
    pub(super) file: String,
    /// The key.
    pub(super) key_path: String,
    /// Its value when it was shown.
    pub(super) before: Option<Value>,
    /// Its value with the change.
    pub(super) after: Value,
    /// As `diff -u` prints it.
    pub(super) diff: String,
    /// Why this value, or why it waits.
    pub(super) reason: String,
    /// `pending`, `applied`, `rejected` or `expired`.
    pub(super) status: String,
    /// Why it ended.
    pub(super) why: Option<String>,
    /// The change that it became.
    pub(super) change_id: Option<String>,
    /// RFC 3339.
    pub(super) created_at: String,
    /// RFC 3339.
    pub(super) decided_at: Option<String>,
}

const COLUMNS: &str =
    "id, recommendation, file, key_path, before, after, diff, reason, status, why, change_id,
    created_at, decided_at";

/// What waits (or everything), the oldest first.
pub(super) fn list(connection: &Connection, all: bool) -> Result<Vec<Waiting>, Failure> {
    let which = if all { "" } else { "WHERE status = 'pending'" };
    let mut statement =
        connection.prepare(&format!("SELECT {COLUMNS} FROM approvals {which} ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.push(read(row)?);
    }
    Ok(waiting)
}

/// The waiting change with this id, or with the only id that begins so.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Waiting, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM approvals WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([id])?;
    let unknown = || {
        Failure::refused(format!("nothing with the id `{id}` waits"))
            .hint("analyze-logs list shows what does")
    };
    let found = read(rows.next()?.filter(|_| !id.is_empty()).ok_or_else(unknown)?)?;
    if rows.next()?.is_some() {
        return Err(Failure::usage(format!("several ids begin with `{id}`")));
    }
    if found.status != "pending" {
        return Err(Failure::refused(format!("{} is {} already", found.id, found.status)));
    }
    Ok(found)
}

/// Puts a planned change into the queue; one that waits already is shown as it is planned now. Gives its id, and
/// whether it is new.
pub(super) fn put(
    ctx: &Ctx,
    store: &mut Store,
    planned: &Planned,
    reason: &str,
) -> Result<(String, bool), Failure> {
    let change = planned.change.as_ref().ok_or_else(|| Failure::refused(planned.reason.clone()))?;
    let told = || format!("cannot queue the change of {}", change.key_path);
    let recommendation = serde_json::to_string(&change.recommendation).or_fail(told)?;
    let before = change.before.as_ref().map(Value::to_string);
    let (key, file) = (change.key_path.to_string(), change.file.display().to_string());
    let now = rfc3339(ctx.clock.now());
    store.write(|tx| {
        let known: Option<String> = tx
            .query_row(
                "UPDATE approvals SET recommendation = ?2, file = ?3, key_path = ?4, before = ?5, after = ?6, diff = ?7,
                    reason = ?8 WHERE recommendation_id = ?1 AND status = 'pending' RETURNING id",
                params![planned.recommendation, recommendation, file, key, before, change.after.to_string(), planned.diff, reason],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(id) = known {
            return Ok((id, false));
        }
        let id = new_id(ctx.clock.now());
        tx.execute(
            "INSERT INTO approvals (id, recommendation_id, recommendation, file, key_path, before, after, diff, reason,
                status, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?10)",
            params![
                id,
                planned.recommendation,
                recommendation,
                file,
                key,
                before,
                change.after.to_string(),
                planned.diff,
                reason,
                now
            ],
        )?;
        // The documents' table shows it as pending; the change that it becomes has a row of its own.
        let changes = json!({"path": key, "old_value": change.before, "new_value": change.after});
        let metadata = json!({"confidence": change.recommendation.confidence, "recommendation_id": planned.recommendation});
        tx.execute(
            "INSERT INTO improvements_applied (improvement_id, recommendation_title, action_type, changes, status,
                metadata, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?6)",
            params![
                id,
                planned.title,
                serde_json::to_value(change.recommendation.action_type).or_fail(told)?.as_str(),
                changes.to_string(),
                metadata.to_string(),
                now
            ],
        )?;
        Ok((id, true))
    })
}

/// Whether a person said no to this recommendation since then.
pub(super) fn rejected_since(
    connection: &Connection,
    recommendation: &str,
    since: Timestamp,
) -> Result<bool, Failure> {
    Ok(connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM approvals WHERE recommendation_id = ?1 AND status = 'rejected'
            AND julianday(decided_at) >= julianday(?2))",
        params![recommendation, rfc3339(since)],
        |row| row.get(0),
    )?)
}

/// Drops what waited for more than `days`.
pub(super) fn expire(ctx: &Ctx, store: &mut Store, days: u32) -> Result<usize, Failure> {
    let limit = ctx.clock.now().checked_sub((24 * i64::from(days)).hours()).map(rfc3339).unwrap_or_default();
    store.write(|tx| {
        let ids: Vec<String> = tx
            .prepare("SELECT id FROM approvals WHERE status = 'pending' AND created_at < ?1")?
            .query_map([limit], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in &ids {
            decide(ctx, tx, id, "expired", "nobody approved it in time", None)?;
        }
        Ok(ids.len())
    })
}

/// Applies a waiting change, as it was shown.
pub(super) fn approve(ctx: &Ctx, store: &mut Store, waiting: &Waiting) -> Result<ConfigChange, Failure> {
    let target = Target::open(ctx, std::path::Path::new(&waiting.file), None)?;
    let advice = std::slice::from_ref(&waiting.recommendation);
    let planned = change::plan(ctx, Some(store), &target, advice)?.remove(0);
    let same = planned.change.as_ref().is_some_and(|change| {
        change.before == waiting.before
            && change.after == waiting.after
            && change.key_path.to_string() == waiting.key_path
    });
    if planned.change.is_some() && !same {
        return Err(Failure::refused(format!("{} is not as it was shown any more", waiting.key_path))
            .hint("the next cycle plans it anew; look again with analyze-logs list"));
    }
    let applied = change::apply(ctx, store, &planned)?;
    ctx.crash.reach("cycle.applied", "");
    settle(ctx, store, &waiting.id, &applied.id)?;
    Ok(applied)
}

fn settle(ctx: &Ctx, store: &mut Store, id: &str, change: &str) -> Result<(), Failure> {
    store.write(|tx| decide(ctx, tx, id, "applied", "approved", Some(change)))
}

/// Approvals whose change was applied just before a crash.
pub(super) fn repair(ctx: &Ctx, store: &mut Store) -> Result<(), Failure> {
    let done: Vec<(String, String)> = store
        .read()
        .prepare(
            "SELECT a.id, c.id FROM approvals a JOIN config_changes c ON c.file = a.file AND c.key_path = a.key_path
                AND c.after = a.after AND c.planned_at >= a.created_at
                AND json_extract(c.recommendation, '$.id') = a.recommendation_id
             WHERE a.status = 'pending' AND c.applied_at IS NOT NULL",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    done.iter().try_for_each(|(id, change)| settle(ctx, store, id, change))
}

/// Ends a waiting change without applying it.
pub(super) fn reject(ctx: &Ctx, store: &mut Store, waiting: &Waiting, why: &str) -> Result<(), Failure> {
    store.write(|tx| decide(ctx, tx, &waiting.id, "rejected", why, None))
}

fn decide(
    ctx: &Ctx,
    tx: &Transaction<'_>,
    id: &str,
    status: &str,
    why: &str,
    change: Option<&str>,
) -> Result<(), Failure> {
    let now = rfc3339(ctx.clock.now());
    tx.execute(
        "UPDATE approvals SET status = ?2, why = ?3, change_id = ?4, decided_at = ?5 WHERE id = ?1 AND status = 'pending'",
        params![id, status, why, change, now],
    )?;
    if change.is_some() {
        tx.execute("DELETE FROM improvements_applied WHERE improvement_id = ?1", [id])?;
    } else {
        tx.execute(
            "UPDATE improvements_applied SET status = 'rejected', error = ?2, updated_at = ?3 WHERE improvement_id = ?1",
            params![id, why, now],
        )?;
    }
    let after = json!({"status": status, "change": change});
    let kind = format!("approval.{status}");
    journal::append(
        ctx,
        tx,
        &Change { kind: &kind, subject: id, before: json!({"status": "pending"}), after, why },
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Waiting, Failure> {
    let id: String = row.get(0)?;
    let told = || format!("the queued change {id} cannot be read");
    let json = |text: String| -> Result<Value, Failure> { serde_json::from_str(&text).or_fail(told) };
    Ok(Waiting {
        recommendation: serde_json::from_str(&row.get::<_, String>(1)?).or_fail(told)?,
        file: row.get(2)?,
        key_path: row.get(3)?,
        before: row.get::<_, Option<String>>(4)?.map(json).transpose()?,
        after: json(row.get(5)?)?,
        diff: row.get(6)?,
        reason: row.get(7)?,
        status: row.get(8)?,
        why: row.get(9)?,
        change_id: row.get(10)?,
        created_at: row.get(11)?,
        decided_at: row.get(12)?,
        id,
    })
}
