//! Registered evaluation sets: hashed, versioned, and never trained on.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::rfc3339;
use crate::error::{Failure, OrFail};
use crate::interaction::Message;
use crate::random::sha256_hex;

/// What a set may be used for. The three uses are disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Questions without a key.
    Traffic,
    /// References may score a gate, never train.
    Gate,
    /// Sealed: read for reports only.
    Report,
}

impl Purpose {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Gate => "gate",
            Self::Report => "report",
        }
    }
}

/// One item; also the JSONL row of `memory evalset add`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalItem {
    /// Unique within the set.
    pub id: String,
    /// The conversation to be answered.
    pub messages: Vec<Message>,
    /// The right answer, where there is one.
    #[serde(default)]
    pub reference: Option<String>,
    /// How an answer is judged: `{"kind": "exact"}` and so on (crate `verify`).
    #[serde(default)]
    pub check: Value,
}

impl EvalItem {
    /// The last user turn.
    pub fn question(&self) -> &str {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == "user")
            .map_or("", |message| &message.content)
    }
}

/// A registered set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalSet {
    /// Its name.
    pub name: String,
    /// Grows with each registration under the same name.
    pub version: i64,
    /// traffic, gate or report.
    pub purpose: String,
    /// Digest of the items.
    pub sha256: String,
    /// How many.
    pub items: i64,
    /// When (RFC 3339).
    pub registered_at: String,
    /// The file it came from.
    pub source: String,
}

/// Digest of items: of their canonical JSON lines.
pub fn digest(items: &[EvalItem]) -> String {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item).unwrap_or_default());
        text.push('\n');
    }
    sha256_hex(text.as_bytes())
}

/// Registers a set, replacing an older version of the same name.
pub fn register(
    tx: &Transaction<'_>,
    now: Timestamp,
    (name, purpose, source): (&str, Purpose, &str),
    items: &[EvalItem],
) -> Result<EvalSet, Failure> {
    let version: Option<i64> =
        tx.query_row("SELECT version FROM eval_sets WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    let set = EvalSet {
        name: name.to_owned(),
        version: version.unwrap_or(0) + 1,
        purpose: purpose.name().to_owned(),
        sha256: digest(items),
        items: items.len() as i64,
        registered_at: rfc3339(now),
        source: source.to_owned(),
    };
    tx.execute("DELETE FROM eval_items WHERE set_name = ?1", [name])?;
    tx.execute(
        "INSERT OR REPLACE INTO eval_sets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![set.name, set.version, set.purpose, set.sha256, set.items, set.registered_at, set.source],
    )?;
    let mut statement = tx.prepare_cached("INSERT INTO eval_items VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (position, item) in items.iter().enumerate() {
        let messages = serde_json::to_string(&item.messages).unwrap_or_default();
        statement
            .execute(params![
                name,
                position as i64,
                item.id,
                messages,
                item.reference,
                item.check.to_string()
            ])
            .or_fail(|| format!("evaluation item `{}` cannot be registered (is its id unique?)", item.id))?;
    }
    Ok(set)
}

/// Every registered set.
pub fn list(connection: &Connection) -> Result<Vec<EvalSet>, Failure> {
    let mut statement = connection.prepare(
        "SELECT name, version, purpose, sha256, items, registered_at, source FROM eval_sets ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(EvalSet {
            name: row.get(0)?,
            version: row.get(1)?,
            purpose: row.get(2)?,
            sha256: row.get(3)?,
            items: row.get(4)?,
            registered_at: row.get(5)?,
            source: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The items of a set in order, or `None` when no such set is registered.
pub fn items(connection: &Connection, name: &str) -> Result<Option<Vec<EvalItem>>, Failure> {
    let known: bool =
        connection
            .query_row("SELECT EXISTS (SELECT 1 FROM eval_sets WHERE name = ?1)", [name], |row| row.get(0))?;
    if !known {
        return Ok(None);
    }
    let mut statement = connection.prepare(
        "SELECT item_id, messages, reference, check_json FROM eval_items WHERE set_name = ?1 ORDER BY position",
    )?;
    let rows = statement.query_map([name], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, String>(3)?))
    })?;
    let mut items = Vec::new();
    for row in rows {
        let (id, messages, reference, check) = row?;
        let damaged = || format!("evaluation item `{id}` of `{name}` is damaged");
        let messages = serde_json::from_str(&messages).or_fail(damaged)?;
        let check = serde_json::from_str(&check).or_fail(damaged)?;
        items.push(EvalItem { id, messages, reference, check });
    }
    Ok(Some(items))
}

/// A question of a gate or report set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The set's name.
    pub set: String,
    /// The item's name.
    pub item: String,
    /// Its last user turn.
    pub question: String,
}

/// Every item of every gate and report set: what training must never see.
pub fn sealed_items(connection: &Connection) -> Result<Vec<Sealed>, Failure> {
    let mut sealed = Vec::new();
    for set in list(connection)? {
        if set.purpose != Purpose::Traffic.name() {
            let items = items(connection, &set.name)?.unwrap_or_default();
            sealed.extend(items.into_iter().map(|item| Sealed {
                set: set.name.clone(),
                question: item.question().to_owned(),
                item: item.id,
            }));
        }
    }
    Ok(sealed)
}

/// The questions of [`sealed_items`].
pub fn sealed_questions(connection: &Connection) -> Result<Vec<String>, Failure> {
    Ok(sealed_items(connection)?.into_iter().map(|sealed| sealed.question).collect())
}
