//! The pointer: which adapter is live. One row per target is the truth; `loras/current` and the
//! servers are projections, repaired from it by [`project`].
//!
//! Every change names the generation it expects, so a process that wakes up late changes nothing.
//! A tentative pointer whose lease has run out counts as taken back for everybody who reads it.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::{Clock, parse_time, rfc3339};
use crate::ctx::Ctx;
use crate::error::{Failure, OrFail};
use crate::journal::{self, Change};
use crate::paths::Paths;
use crate::store::Store;
use crate::{events, files, metrics};

/// The file in a live folder that says for which row it was made.
const NOTE: &str = "pointer.json";

/// The row of one target. Generation 0: nothing was ever deployed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pointer {
    /// Strictly increasing.
    pub generation: i64,
    /// The live adapter; absent for the base model.
    pub adapter_id: Option<String>,
    /// What was live before.
    pub previous_adapter_id: Option<String>,
    /// Not confirmed yet.
    pub tentative: bool,
    /// Until when a tentative switch counts (RFC 3339).
    pub lease_until: Option<String>,
    /// The deployment that made it.
    pub deployment_id: Option<String>,
}

impl Pointer {
    /// True when a tentative switch was abandoned. Leases go by the real wall clock, pinned or not.
    pub fn lapsed(&self, clock: &Clock) -> bool {
        let until = self.lease_until.as_deref().and_then(parse_time);
        self.tentative && until.is_none_or(|until| until <= clock.real())
    }

    /// The adapter that must answer now.
    pub fn effective(&self, clock: &Clock) -> Option<&str> {
        if self.lapsed(clock) { self.previous_adapter_id.as_deref() } else { self.adapter_id.as_deref() }
    }
}

/// The pointer of a target.
pub fn read(connection: &Connection, target: &str) -> Result<Pointer, Failure> {
    let pointer = connection
        .prepare_cached(
            "SELECT generation, adapter_id, previous_adapter_id, tentative, lease_until, deployment_id
             FROM pointer WHERE target = ?1",
        )?
        .query_row([target], |row| {
            Ok(Pointer {
                generation: row.get(0)?,
                adapter_id: row.get(1)?,
                previous_adapter_id: row.get(2)?,
                tentative: row.get(3)?,
                lease_until: row.get(4)?,
                deployment_id: row.get(5)?,
            })
        })
        .optional()?;
    Ok(pointer.unwrap_or_default())
}

/// A wanted change of the pointer.
#[derive(Debug, Clone)]
pub struct Switch<'a> {
    /// The generation that was seen; the change is refused if another one is there.
    pub expected: i64,
    /// The adapter to make live; `None` for the base model.
    pub adapter_id: Option<&'a str>,
    /// Tentative for this long, or good at once.
    pub lease: Option<SignedDuration>,
    /// The deployment that asks.
    pub deployment_id: Option<&'a str>,
    /// The reason, for a person.
    pub why: &'a str,
}

fn fenced(expected: i64, found: i64) -> Failure {
    Failure::busy(format!("the pointer moved from generation {expected} to {found} meanwhile"))
        .hint("another deployment or rollback was faster; look at its result and run again")
}

/// Moves the pointer, with its journal entry, history row, event and metric, all in `tx`.
pub fn switch(ctx: &Ctx, tx: &Transaction<'_>, wanted: &Switch<'_>) -> Result<Pointer, Failure> {
    let target = &ctx.config.target;
    let before = read(tx, target)?;
    if before.generation != wanted.expected {
        return Err(fenced(wanted.expected, before.generation));
    }
    let now = ctx.clock.now();
    let after = Pointer {
        generation: before.generation + 1,
        adapter_id: wanted.adapter_id.map(str::to_owned),
        // A lapsed pointer was never live: what came before it is what was.
        previous_adapter_id: before.effective(&ctx.clock).map(str::to_owned),
        tentative: wanted.lease.is_some(),
        lease_until: wanted.lease.map(|lease| rfc3339(ctx.clock.real() + lease)),
        deployment_id: wanted.deployment_id.map(str::to_owned),
    };
    tx.execute(
        "INSERT OR REPLACE INTO pointer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            target,
            after.generation,
            after.adapter_id,
            after.previous_adapter_id,
            after.tentative,
            after.lease_until,
            after.deployment_id,
            rfc3339(now)
        ],
    )?;
    let state = if after.tentative { "tentative" } else { "good" };
    tx.execute(
        "INSERT INTO pointer_history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            target,
            after.generation,
            after.adapter_id,
            rfc3339(now),
            after.deployment_id,
            state,
            wanted.why
        ],
    )?;
    record(ctx, tx, "pointer.switch", &before, &after, wanted.why)?;
    events::publish(tx, now, events::POINTER_MOVED, target, &json!(after))?;
    metrics::set(tx, metrics::POINTER_GENERATION, "", after.generation as f64)?;
    Ok(after)
}

/// Confirms a tentative pointer.
pub fn confirm(ctx: &Ctx, tx: &Transaction<'_>, expected: i64, why: &str) -> Result<Pointer, Failure> {
    let before = read(tx, &ctx.config.target)?;
    if before.generation != expected || before.lapsed(&ctx.clock) {
        return Err(fenced(expected, before.generation));
    }
    let after = Pointer { tentative: false, lease_until: None, ..before.clone() };
    tx.execute(
        "UPDATE pointer SET tentative = 0, lease_until = NULL WHERE target = ?1",
        [&ctx.config.target],
    )?;
    set_history(tx, &ctx.config.target, expected, "good")?;
    record(ctx, tx, "pointer.confirm", &before, &after, why)?;
    Ok(after)
}

/// Prolongs the lease of a tentative pointer; refused once it has lapsed or moved.
pub fn renew(ctx: &Ctx, tx: &Transaction<'_>, expected: i64, lease: SignedDuration) -> Result<(), Failure> {
    let pointer = read(tx, &ctx.config.target)?;
    if pointer.generation != expected || !pointer.tentative || pointer.lapsed(&ctx.clock) {
        return Err(fenced(expected, pointer.generation));
    }
    tx.execute(
        "UPDATE pointer SET lease_until = ?2 WHERE target = ?1",
        params![ctx.config.target, rfc3339(ctx.clock.real() + lease)],
    )?;
    Ok(())
}

/// Marks a generation in the history, for example `bad`.
pub fn set_history(tx: &Transaction<'_>, target: &str, generation: i64, state: &str) -> Result<(), Failure> {
    tx.execute(
        "UPDATE pointer_history SET state = ?3 WHERE target = ?1 AND generation = ?2",
        params![target, generation, state],
    )?;
    Ok(())
}

fn record(
    ctx: &Ctx,
    tx: &Transaction<'_>,
    kind: &str,
    before: &Pointer,
    after: &Pointer,
    why: &str,
) -> Result<(), Failure> {
    let change =
        Change { kind, subject: &ctx.config.target, before: json!(before), after: json!(after), why };
    journal::append(ctx, tx, &change).map(|_| ())
}

/// A line of "who was live when".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Past {
    /// The generation.
    pub generation: i64,
    /// What was live.
    pub adapter_id: Option<String>,
    /// Since when.
    pub at: String,
    /// tentative, good or bad.
    pub state: String,
    /// Why it came.
    pub why: String,
}

/// The history of a target, newest first.
pub fn history(connection: &Connection, target: &str) -> Result<Vec<Past>, Failure> {
    let mut statement = connection.prepare(
        "SELECT generation, adapter_id, at, state, why FROM pointer_history WHERE target = ?1 ORDER BY generation DESC",
    )?;
    let rows = statement.query_map([target], |row| {
        Ok(Past {
            generation: row.get(0)?,
            adapter_id: row.get(1)?,
            at: row.get(2)?,
            state: row.get(3)?,
            why: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The folder of a generation.
pub fn live_dir(paths: &Paths, generation: i64) -> PathBuf {
    paths.loras().join("live").join(generation.to_string())
}

/// Makes `loras/live/<n>` and `loras/current` agree with the pointer. Idempotent; writes nothing when
/// they already do. `summary` is the file to put beside the adapter's links.
pub fn project(paths: &Paths, pointer: &Pointer, summary: Option<(&str, &Value)>) -> Result<(), Failure> {
    if pointer.generation == 0 {
        return Ok(());
    }
    let loras = paths.loras();
    let live = live_dir(paths, pointer.generation);
    if live.exists() && !describes(&live, pointer) {
        // A store that was restored from a backup counts its generations anew.
        let stale = live.with_file_name(format!(".tmp-stale-{}-{}", pointer.generation, std::process::id()));
        files::rename(&live, &stale)?;
    }
    if !live.exists() {
        stage_live(&loras, &live, pointer)?;
    }
    if let Some((name, summary)) = summary {
        write_summary(&live, name, summary)?;
    }
    let link = loras.join("current");
    let wanted = Path::new("live").join(pointer.generation.to_string());
    if files::read_link(&link).as_deref() != Some(&wanted) {
        files::replace_symlink(&wanted, &link)?;
    }
    Ok(())
}

/// Projects until the row stays the same meanwhile: whoever moves it last also moves the link last,
/// even when a rollback works beside a running deployment. `summary` goes with the first row seen.
pub fn settle(ctx: &Ctx, store: &Store, summary: Option<(&str, &Value)>) -> Result<Pointer, Failure> {
    let target = &ctx.config.target;
    let mut pointer = read(store.read(), target)?;
    project(&ctx.paths, &pointer, summary)?;
    loop {
        let now = read(store.read(), target)?;
        if now.generation == pointer.generation {
            return Ok(now);
        }
        project(&ctx.paths, &now, None)?;
        pointer = now;
    }
}

/// Makes sure that a switch could be projected, before the row moves: both folders take new entries,
/// and nothing but a link is at `loras/current`.
pub fn check_links(paths: &Paths) -> Result<(), Failure> {
    let link = paths.loras().join("current");
    if std::fs::symlink_metadata(&link).is_ok_and(|meta| !meta.file_type().is_symlink()) {
        return Err(Failure::refused(format!(
            "{} is not a link: it was not made by Nightshift",
            link.display()
        ))
        .hint("move it away; deploy and rollback make the link themselves"));
    }
    let live = paths.loras().join("live");
    for folder in [paths.loras(), live] {
        files::create_dir(&folder)?;
        let trial = folder.join(format!(".tmp-trial-{}", std::process::id()));
        files::create_symlink(Path::new("nowhere"), &trial)?;
        files::remove_file(&trial)?;
    }
    Ok(())
}

/// Writes a summary file into a live folder.
pub fn write_summary(live: &Path, name: &str, summary: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(summary).or_fail(|| format!("{name} cannot be written"))?;
    Ok(files::write_atomic(&live.join(name), &text)?)
}

/// True when the folder was made for this very row.
fn describes(live: &Path, pointer: &Pointer) -> bool {
    let note =
        files::read(&live.join(NOTE)).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    note.is_some_and(|note| note["adapter_id"].as_str() == pointer.adapter_id.as_deref())
}

fn stage_live(loras: &Path, live: &Path, pointer: &Pointer) -> Result<(), Failure> {
    let parent = loras.join("live");
    files::create_dir(&parent)?;
    let staged = parent.join(format!(".tmp-{}-{}", pointer.generation, std::process::id()));
    files::remove_dir(&staged)?;
    files::create_dir(&staged)?;
    if let Some(adapter_id) = &pointer.adapter_id {
        for path in files::list(&loras.join(adapter_id))? {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            let target = Path::new("../..").join(adapter_id).join(&name);
            files::create_symlink(&target, &staged.join(&name))?;
        }
    }
    let note = json!({"generation": pointer.generation, "adapter_id": pointer.adapter_id});
    let text = serde_json::to_vec_pretty(&note).or_fail(|| format!("{NOTE} cannot be written"))?;
    files::write_atomic(&staged.join(NOTE), &text)?;
    files::publish_dir(&staged, live).map_err(Failure::from)
}
