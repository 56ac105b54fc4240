//! What became of a change: its row in `config_changes`, its row in the documents' `improvements_applied`,
//! and its journal entries, always written together.

use std::path::PathBuf;

use nightshift_core::clock::rfc3339;
use nightshift_core::journal::{self, Change};
use nightshift_core::rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::edit::Edit;
use super::path::KeyPath;
use super::reload::Reloaded;
use crate::recommendation::Recommendation;

/// Where a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Status {
    /// Only thought of; no row has it.
    Planned,
    /// Its intent is recorded; the file may be old or new.
    Applying,
    /// In the file, and not judged yet: the key is taken.
    Applied,
    /// Judged good, or confirmed by a person.
    Kept,
    /// Its reverting is recorded; the file may be new or old.
    Reverting,
    /// Taken back.
    Reverted,
    /// Not applied, because a check said no.
    Refused,
    /// Not applied, because it could not be written or was interrupted.
    Failed,
}

impl Status {
    /// Its word in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Kept => "kept",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The word of the documents, in `improvements_applied`.
    const fn legacy(self) -> &'static str {
        match self {
            Self::Planned => "pending",
            Self::Applying => "applying",
            Self::Applied | Self::Kept | Self::Reverting => "applied",
            Self::Reverted => "rolled_back",
            Self::Refused | Self::Failed => "failed",
        }
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigChange {
    /// UUIDv7; also the `improvement_id`.
    pub id: String,
    /// What it follows from, with the evidence and the expected effect.
    pub recommendation: Recommendation,
    /// The file, links resolved.
    pub file: PathBuf,
    /// The key.
    pub key_path: KeyPath,
    /// What was done to it.
    pub edit: Edit,
    /// Its value before; absent when there was no such key. Of a list, the whole list.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Value,
    /// The bytes that were replaced, and what stands there instead.
    #[serde(skip)]
    pub(super) raw: (String, String),
    /// Of the file when it was planned.
    pub sha256_before: String,
    /// Of the file with the change.
    pub sha256_after: String,
    /// Where it stands.
    pub status: Status,
    /// Why it stands there, for a person.
    pub why: String,
    /// RFC 3339.
    pub planned_at: String,
    /// RFC 3339.
    pub applied_at: Option<String>,
    /// When it was kept, reverted, refused or failed.
    pub ended_at: Option<String>,
    /// What the program that reads the file was told.
    pub reload: Option<Reloaded>,
}

/// Which changes to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// With this status only.
    pub status: Option<Status>,
    /// Of this file (links resolved) only.
    pub file: Option<&'a std::path::Path>,
    /// At most so many.
    pub limit: Option<usize>,
}

const COLUMNS: &str =
    "id, recommendation, file, key_path, edit, before, after, raw_before, raw_after, sha256_before,
    sha256_after, status, why, planned_at, applied_at, ended_at, reload";

/// The changes, newest first.
pub fn list(connection: &Connection, filter: Filter<'_>) -> Result<Vec<ConfigChange>, Failure> {
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM config_changes WHERE status = ifnull(?1, status) AND file = ifnull(?2, file)
         ORDER BY seq DESC LIMIT ?3"
    ))?;
    let limit = filter.limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
    let file = filter.file.map(|file| file.display().to_string());
    let mut rows = statement.query(params![filter.status.map(Status::name), file, limit])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(read(row)?);
    }
    Ok(changes)
}

/// The change with this id, or with the only id that begins so.
pub fn find(connection: &Connection, id: &str) -> Result<ConfigChange, Failure> {
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM config_changes WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2"
    ))?;
    let mut rows = statement.query([id])?;
    let unknown =
        || Failure::refused(format!("no change has the id `{id}`")).hint("analyze-logs changes lists them");
    let found = read(rows.next()?.filter(|_| !id.is_empty()).ok_or_else(unknown)?)?;
    if rows.next()?.is_some() && found.id != id {
        return Err(Failure::usage(format!("several changes have an id that begins with `{id}`")));
    }
    Ok(found)
}

/// Ends an applied change well: its key may be changed again.
pub fn keep(ctx: &Ctx, store: &mut Store, id: &str, why: &str) -> Result<ConfigChange, Failure> {
    let _lock = super::lock(ctx)?;
    let mut change = find(store.read(), id)?;
    if change.status != Status::Applied {
        let status = change.status.name();
        return Err(Failure::refused(format!(
            "change {} is {status}: only an applied one is kept",
            change.id
        )));
    }
    store.write(|tx| advance(ctx, tx, &mut change, Status::Kept, why))?;
    Ok(change)
}

/// The open change of a key, if there is one.
pub(super) fn open_change(
    connection: &Connection,
    file: &std::path::Path,
    key: &KeyPath,
) -> Result<Option<ConfigChange>, Failure> {
    let open = [Status::Applying, Status::Applied, Status::Reverting];
    Ok(of_key(connection, file, key)?.into_iter().find(|change| open.contains(&change.status)))
}

/// The changes of one key, newest first.
pub(super) fn of_key(
    connection: &Connection,
    file: &std::path::Path,
    key: &KeyPath,
) -> Result<Vec<ConfigChange>, Failure> {
    let mut changes = list(connection, Filter { file: Some(file), ..Filter::default() })?;
    changes.retain(|change| change.key_path == *key);
    Ok(changes)
}

/// Whether our own changes alone lead from one state of the file to another.
pub(super) fn leads_to(
    connection: &Connection,
    file: &std::path::Path,
    from: &str,
    to: &str,
) -> Result<bool, Failure> {
    let text = file.display().to_string();
    Ok(connection.query_row(
        "WITH RECURSIVE state(sha, seq) AS (
            SELECT ?2, 0 UNION
            SELECT s.sha256_to, s.seq FROM config_states s JOIN state ON s.sha256_from = state.sha AND s.seq > state.seq
            WHERE s.file = ?1)
         SELECT EXISTS (SELECT 1 FROM state WHERE sha = ?3)",
        params![text, from, to],
        |row| row.get(0),
    )?)
}

/// Records that we moved the file from one state to the next.
pub(super) fn moved(
    tx: &Transaction<'_>,
    change: &ConfigChange,
    from: &str,
    to: &str,
) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO config_states (file, sha256_from, sha256_to) VALUES (?1, ?2, ?3)",
        params![change.file.display().to_string(), from, to],
    )?;
    Ok(())
}

/// Writes the row of a change that has none yet, under its present status.
pub(super) fn begin(ctx: &Ctx, tx: &Transaction<'_>, change: &ConfigChange) -> Result<(), Failure> {
    let now = rfc3339(ctx.clock.now());
    let told = || format!("cannot record the change of {}", change.key_path);
    let text = |value: &Value| value.to_string();
    tx.execute(
        &format!("INSERT INTO config_changes ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"),
        params![
            change.id,
            serde_json::to_string(&change.recommendation).or_fail(told)?,
            change.file.display().to_string(),
            change.key_path.to_string(),
            serde_json::to_string(&change.edit).or_fail(told)?,
            change.before.as_ref().map(text),
            text(&change.after),
            change.raw.0,
            change.raw.1,
            change.sha256_before,
            change.sha256_after,
            change.status.name(),
            change.why,
            change.planned_at,
            change.applied_at,
            change.ended_at,
            None::<String>,
        ],
    )?;
    let advice = &change.recommendation;
    let metadata = json!({
        "priority": advice.priority, "confidence": advice.confidence, "estimated_impact": advice.score, "dry_run": false,
        "recommendation_id": advice.id, "expected_saving": advice.saving, "file": change.file,
    });
    let changes = json!({"path": change.key_path, "old_value": change.before, "new_value": change.after,
        "description": advice.title});
    tx.execute(
        "INSERT INTO improvements_applied (improvement_id, recommendation_title, action_type, changes, status, error,
            metadata, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            change.id,
            advice.title,
            serde_json::to_value(advice.action_type).or_fail(told)?.as_str(),
            changes.to_string(),
            change.status.legacy(),
            failed(change.status).then_some(&change.why),
            metadata.to_string(),
            now
        ],
    )?;
    note(ctx, tx, change)
}

/// Moves a change to its next status.
pub(super) fn advance(
    ctx: &Ctx,
    tx: &Transaction<'_>,
    change: &mut ConfigChange,
    status: Status,
    why: &str,
) -> Result<(), Failure> {
    let now = rfc3339(ctx.clock.now());
    why.clone_into(&mut change.why);
    change.status = status;
    match status {
        Status::Applied if change.applied_at.is_none() => change.applied_at = Some(now.clone()),
        Status::Kept | Status::Reverted | Status::Refused | Status::Failed => {
            change.ended_at = Some(now.clone());
        }
        _ => {}
    }
    tx.execute(
        "UPDATE config_changes SET status = ?2, why = ?3, applied_at = ?4, ended_at = ?5 WHERE id = ?1",
        params![change.id, status.name(), why, change.applied_at, change.ended_at],
    )?;
    tx.execute(
        "UPDATE improvements_applied SET status = ?2, applied_at = ?3, rolled_back_at = ?4, error = ?5, updated_at = ?6
         WHERE improvement_id = ?1",
        params![
            change.id,
            status.legacy(),
            change.applied_at,
            change.ended_at.as_ref().filter(|_| status == Status::Reverted),
            failed(status).then_some(why),
            now
        ],
    )?;
    note(ctx, tx, change)
}

/// Records what the program that reads the file was told.
pub(super) fn reloaded(tx: &Transaction<'_>, change: &ConfigChange) -> Result<(), Failure> {
    let text = change
        .reload
        .as_ref()
        .map(serde_json::to_string)
        .transpose()
        .or_fail(|| "cannot record the reload".into())?;
    tx.execute("UPDATE config_changes SET reload = ?2 WHERE id = ?1", params![change.id, text])?;
    Ok(())
}

const fn failed(status: Status) -> bool {
    matches!(status, Status::Refused | Status::Failed)
}

fn note(ctx: &Ctx, tx: &Transaction<'_>, change: &ConfigChange) -> Result<(), Failure> {
    let taking_back = matches!(change.status, Status::Reverting | Status::Reverted);
    let (old, new) = (json!({"value": change.before}), json!({"value": change.after}));
    let (before, mut after) = if taking_back { (new, old) } else { (old, new) };
    after["change"] = change.id.clone().into();
    let entry = Change {
        kind: &format!("config.{}", change.status.name()),
        subject: &format!("{}: {}", change.file.display(), change.key_path),
        before,
        after,
        why: &change.why,
    };
    journal::append(ctx, tx, &entry)?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<ConfigChange, Failure> {
    let id: String = row.get(0)?;
    let text = |column: usize| row.get::<_, String>(column);
    let status: String = text(11)?;
    Ok(ConfigChange {
        recommendation: json_of(&id, &text(1)?)?,
        file: PathBuf::from(text(2)?),
        key_path: json_of(&id, &Value::from(text(3)?).to_string())?,
        edit: json_of(&id, &text(4)?)?,
        before: row.get::<_, Option<String>>(5)?.map(|before| json_of(&id, &before)).transpose()?,
        after: json_of(&id, &text(6)?)?,
        raw: (text(7)?, text(8)?),
        sha256_before: text(9)?,
        sha256_after: text(10)?,
        status: json_of(&id, &Value::from(status).to_string())?,
        why: text(12)?,
        planned_at: text(13)?,
        applied_at: row.get(14)?,
        ended_at: row.get(15)?,
        reload: row.get::<_, Option<String>>(16)?.map(|reload| json_of(&id, &reload)).transpose()?,
        id,
    })
}

fn json_of<T: DeserializeOwned>(id: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).or_fail(|| format!("the record of change {id} cannot be read"))
}

/// The newest change that could be taken back.
pub(super) fn newest_applied(connection: &Connection) -> Result<Option<String>, Failure> {
    let newest =
        "SELECT id FROM config_changes WHERE status IN ('applied', 'kept') ORDER BY seq DESC LIMIT 1";
    Ok(connection.query_row(newest, [], |row| row.get(0)).optional()?)
}
