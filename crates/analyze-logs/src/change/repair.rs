//! After a crash: what was under way is finished or undone, and reloads that were due are made up for.

use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use serde::Serialize;

use super::edit::lookup;
use super::file::ConfigFile;
use super::record::{self, ConfigChange, Filter, Status};
use super::reload::Reloaded;
use super::{apply, reload, revert};

/// What was done about one change.
#[derive(Debug, Clone, Serialize)]
pub struct Repaired {
    /// Its id.
    pub id: String,
    /// Where it stands now.
    pub status: Status,
    /// Why.
    pub why: String,
}

/// Brings every interrupted change to an end. Nothing happens where there is none.
pub fn repair(ctx: &Ctx, store: &mut Store) -> Result<Vec<Repaired>, Failure> {
    let _lock = super::lock(ctx)?;
    all(ctx, store)
}

/// As [`repair`], under the lock.
pub(super) fn all(ctx: &Ctx, store: &mut Store) -> Result<Vec<Repaired>, Failure> {
    let mut repaired = Vec::new();
    for status in [Status::Applying, Status::Reverting] {
        for mut change in record::list(store.read(), Filter { status: Some(status), ..Filter::default() })? {
            ConfigFile::sweep(&change.file, &change.id)?;
            if status == Status::Applying {
                applying(ctx, store, &mut change)?;
            } else {
                reverting(ctx, store, &mut change)?;
            }
            let line = Repaired { id: change.id, status: change.status, why: change.why };
            ctx.printer.note(&format!(
                "change {} was interrupted: it is {} now",
                line.id,
                line.status.name()
            ));
            repaired.push(line);
        }
    }
    for status in [Status::Applied, Status::Kept, Status::Reverted] {
        for mut change in record::list(store.read(), Filter { status: Some(status), ..Filter::default() })? {
            if change.reload.as_ref().is_some_and(|reload: &Reloaded| reload.state == "pending") {
                reload::run(ctx, store, &mut change)?;
            }
        }
    }
    Ok(repaired)
}

/// In the file already: finished. Not there: it never happened.
fn applying(ctx: &Ctx, store: &mut Store, change: &mut ConfigChange) -> Result<(), Failure> {
    match state(change) {
        Ok(State::New) => apply::done(ctx, store, change),
        Ok(state) => {
            let why = match state {
                State::Other => "interrupted, and the key was edited since",
                _ => "interrupted before the file was written",
            };
            store.write(|tx| record::advance(ctx, tx, change, Status::Failed, why))
        }
        Err(failure) => {
            let why = format!("interrupted, and the file cannot be read any more: {}", failure.chain());
            store.write(|tx| record::advance(ctx, tx, change, Status::Failed, &why))
        }
    }
}

/// Still in the file: taken out now. Gone already: finished.
fn reverting(ctx: &Ctx, store: &mut Store, change: &mut ConfigChange) -> Result<(), Failure> {
    let why = change.why.clone();
    match state(change) {
        Ok(State::New) => {
            store.write(|tx| record::advance(ctx, tx, change, Status::Applied, &why))?;
            match revert::locked(ctx, store, change.clone(), &why) {
                Ok(reverted) => *change = reverted,
                Err(failure) => {
                    let why =
                        format!("{why}; the rollback was interrupted, then refused: {}", failure.chain());
                    store.write(|tx| record::advance(ctx, tx, change, Status::Applied, &why))?;
                }
            }
            Ok(())
        }
        Ok(State::Old) => revert::finish(ctx, store, change, None),
        Ok(State::Other) => {
            change.why = format!("{why}; interrupted, and the key was edited since");
            revert::finish(ctx, store, change, None)
        }
        Err(failure) => {
            let why = format!("{why}; interrupted, and the file cannot be read: {}", failure.chain());
            store.write(|tx| record::advance(ctx, tx, change, Status::Applied, &why))
        }
    }
}

/// What the file holds of a change.
enum State {
    Old,
    New,
    Other,
}

fn state(change: &ConfigChange) -> Result<State, Failure> {
    let file = ConfigFile::read(&change.file)?;
    if change.status == Status::Applying && file.sha256 == change.sha256_before {
        return Ok(State::Old);
    }
    let documents = file.documents()?;
    let now = documents.iter().find_map(|document| lookup(document, &change.key_path));
    Ok(if revert::holds(change, now) {
        State::New
    } else if now.map(super::edit::to_json) == change.before {
        State::Old
    } else {
        State::Other
    })
}
