//! The append-only, hash-chained record of every change of live state.
//!
//! `hash = SHA-256(previous_hash, seq, at, tool, run_id, kind, subject, before, after, why)`, fields
//! length-prefixed. An entry is appended in the same transaction as the change it records, so that
//! neither exists without the other. Undoing appends; nothing is ever erased.

use rusqlite::{Connection, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::rfc3339;
use crate::ctx::Ctx;
use crate::error::{Failure, OrFail};
use crate::random::hex;

/// A change to be recorded.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// For example `pointer.switch`.
    pub kind: &'a str,
    /// What changed, for example the target's name.
    pub subject: &'a str,
    /// The state before.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// The reason, for a person.
    pub why: &'a str,
}

/// A recorded change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns are described in the module's first lines")]
pub struct Entry {
    pub seq: i64,
    pub at: String,
    pub tool: String,
    pub run_id: String,
    pub kind: String,
    pub subject: String,
    pub before: Value,
    pub after: Value,
    pub why: String,
    pub hash: String,
}

/// Appends a change within the transaction that makes it. Returns its number.
pub fn append(ctx: &Ctx, transaction: &Transaction<'_>, change: &Change<'_>) -> Result<i64, Failure> {
    let last: Option<(i64, String)> = {
        let mut statement =
            transaction.prepare_cached("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")?;
        let mut rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.next().transpose()?
    };
    let (seq, previous) = last.map_or((1, String::new()), |(seq, hash)| (seq + 1, hash));
    let at = rfc3339(ctx.clock.now());
    let (before, after) = (change.before.to_string(), change.after.to_string());
    let fields = [&at, ctx.tool, &ctx.run_id, change.kind, change.subject, &before, &after, change.why];
    let hash = chain(&previous, seq, &fields);
    transaction
        .prepare_cached("INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
        .execute(params![
            seq,
            at,
            ctx.tool,
            ctx.run_id,
            change.kind,
            change.subject,
            before,
            after,
            change.why,
            previous,
            hash
        ])?;
    Ok(seq)
}

fn chain(previous: &str, seq: i64, fields: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(previous.as_bytes());
    hasher.update(seq.to_le_bytes());
    for field in fields {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hex(&hasher.finalize())
}

/// Reads the whole journal in order and checks the chain; the error names the first bad entry.
pub fn verify(connection: &Connection) -> Result<Vec<Entry>, Failure> {
    let mut statement = connection.prepare(
        "SELECT seq, at, tool, run_id, kind, subject, before, after, why, previous_hash, hash FROM journal ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    let (mut entries, mut previous) = (Vec::new(), String::new());
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let text: Vec<String> = (1..=8).map(|i| row.get(i)).collect::<Result<_, _>>()?;
        let fields: Vec<&str> = text.iter().map(String::as_str).collect();
        let (stored_previous, stored): (String, String) = (row.get(9)?, row.get(10)?);
        let wrong_number = seq != entries.len() as i64 + 1;
        if wrong_number || stored_previous != previous || chain(&previous, seq, &fields) != stored {
            return Err(Failure::failed(format!("the journal's chain breaks at entry {seq}"))
                .hint("the store was edited by hand or damaged: restore a backup"));
        }
        let json =
            |text: &str| serde_json::from_str(text).or_fail(|| format!("journal entry {seq} is not JSON"));
        entries.push(Entry {
            seq,
            at: text[0].clone(),
            tool: text[1].clone(),
            run_id: text[2].clone(),
            kind: text[3].clone(),
            subject: text[4].clone(),
            before: json(&text[5])?,
            after: json(&text[6])?,
            why: text[7].clone(),
            hash: stored.clone(),
        });
        previous = stored;
    }
    Ok(entries)
}
