//! Does everything that is derived agree with the store? The invariants of a home, checked in one place.
//!
//! Reads only. `deploy --status` shows what it finds; the crash tests ask it after every kill.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::ctx::Ctx;
use crate::error::Failure;
use crate::pointer::{self, Pointer};
use crate::release::{self, ADAPTER_CONFIG};
use crate::store::Store;
use crate::{deployment, files, journal};

/// Everything that does not agree, in words; empty when all is well. `idle`: nobody is deploying now and the last
/// one was brought to its end, so that nothing may be half-done either. Otherwise `loras/current` may be one
/// generation behind the pointer: it is moved after it.
pub fn audit(ctx: &Ctx, store: &Store, idle: bool) -> Result<Vec<String>, Failure> {
    let target = &ctx.config.target;
    let mut problems = Vec::new();
    if let Err(failure) = journal::verify(store.read()) {
        problems.push(failure.chain());
    }
    let live = pointer::read(store.read(), target)?;
    check_history(store.read(), target, &live, &mut problems)?;
    check_link(ctx, &live, idle, &mut problems);
    if let Some(adapter) = live.effective(&ctx.clock)
        && let Some(release) = release::by_id(store.read(), adapter)?
        && matches!(release.status.as_str(), "bad" | "gone")
    {
        problems.push(format!("the live adapter {adapter} is marked {}", release.status));
    }
    if idle {
        if let Some(left) = deployment::open(store.read(), target)? {
            problems.push(format!("deployment {} was left unfinished ({})", left.id, left.state));
        }
        if live.tentative {
            problems.push(format!("generation {} was left tentative", live.generation));
        }
        for folder in [ctx.paths.loras(), ctx.paths.loras().join("live")] {
            for path in files::list(&folder)? {
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-")) {
                    problems.push(format!("{} is a stray", path.display()));
                }
            }
        }
    }
    Ok(problems)
}

/// One history row, one journal entry and one event for each generation, without gaps.
fn check_history(
    connection: &Connection,
    target: &str,
    live: &Pointer,
    problems: &mut Vec<String>,
) -> Result<(), Failure> {
    let history = pointer::history(connection, target)?;
    let expected: Vec<i64> = (1..=live.generation).rev().collect();
    if history.iter().map(|past| past.generation).collect::<Vec<_>>() != expected {
        problems.push(format!("the history does not hold each of the {} generations once", live.generation));
    }
    if history.first().is_some_and(|newest| newest.adapter_id != live.adapter_id) {
        problems.push("the newest line of the history is not what the pointer says".into());
    }
    for (what, sql) in [
        ("journal entries", "SELECT count(*) FROM journal WHERE kind = 'pointer.switch' AND subject = ?1"),
        ("events", "SELECT count(*) FROM events WHERE topic = 'pointer:moved' AND key = ?1"),
    ] {
        let count: i64 = connection.query_row(sql, params![target], |row| row.get(0))?;
        if count != live.generation {
            problems.push(format!("{count} {what} of {} pointer changes", live.generation));
        }
    }
    Ok(())
}

/// `loras/current` leads to the pointer's generation, and the adapter there is whole.
fn check_link(ctx: &Ctx, live: &Pointer, idle: bool, problems: &mut Vec<String>) {
    let link = ctx.paths.loras().join("current");
    let leads_to = files::read_link(&link);
    let before = (live.generation > 1).then(|| Path::new("live").join((live.generation - 1).to_string()));
    if !idle && live.generation > 0 && leads_to == before {
        // Moved after the pointer: until then it holds the state before, whole, or does not exist.
        if link.join(ADAPTER_CONFIG).exists()
            && let Err(failure) = release::verify(&link)
        {
            problems.push(failure.chain());
        }
        return;
    }
    if live.generation == 0 {
        if leads_to.is_some() {
            problems.push(format!("{} exists although nothing was ever deployed", link.display()));
        }
        return;
    }
    let wanted = Path::new("live").join(live.generation.to_string());
    if leads_to.as_deref() != Some(&wanted) {
        problems.push(format!("{} does not lead to {}", link.display(), wanted.display()));
        return;
    }
    match &live.adapter_id {
        None if link.join(ADAPTER_CONFIG).exists() => {
            problems.push(format!("{} holds an adapter, but none is live", link.display()));
        }
        None if !link.exists() => problems.push(format!("{} leads to nothing", link.display())),
        None => {}
        // Through the links: what a reader of `current` gets.
        Some(adapter) => match release::verify(&link) {
            Ok(manifest) if manifest.adapter_id == *adapter => {}
            Ok(manifest) => {
                problems.push(format!("{} holds {}, not {adapter}", link.display(), manifest.adapter_id));
            }
            Err(failure) => problems.push(failure.chain()),
        },
    }
}
