//! Taking a change back: this key alone, and only while it has the value that we gave it.

use nightshift_core::random::sha256_hex;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail};

use super::edit::{Edit, Edited, Tree, contains, edit, lookup, to_json};
use super::file::ConfigFile;
use super::record::{self, ConfigChange, Status};
use super::{reload, repair};

/// Takes back an applied or kept change. Refused (exit 4) when the key has another value by now; other keys and
/// comments may have been edited, they stay.
pub fn revert(ctx: &Ctx, store: &mut Store, id: &str, why: &str) -> Result<ConfigChange, Failure> {
    let _lock = super::lock(ctx)?;
    repair::all(ctx, store)?;
    let change = record::find(store.read(), id)?;
    locked(ctx, store, change, why)
}

/// The id of the newest change that could be taken back; exit 3 when there is none.
pub fn newest(store: &Store) -> Result<String, Failure> {
    record::newest_applied(store.read())?.ok_or_else(|| Failure::nothing("there is no change to roll back"))
}

/// As [`revert`], under the lock.
pub(super) fn locked(
    ctx: &Ctx,
    store: &mut Store,
    mut change: ConfigChange,
    why: &str,
) -> Result<ConfigChange, Failure> {
    if !matches!(change.status, Status::Applied | Status::Kept) {
        let status = change.status.name();
        return Err(Failure::refused(format!(
            "change {} is {status}: there is nothing to roll back",
            change.id
        )));
    }
    let file = ConfigFile::read(&change.file)?;
    let edited = undone(store, &file, &change)?;
    file.check_writable()?;
    let was = (change.status, change.why.clone());
    store.write(|tx| record::advance(ctx, tx, &mut change, Status::Reverting, why))?;
    ctx.crash.reach("change.reverting", "");
    if let Err(failure) = file.replace(ctx, &change.id, &edited.text) {
        let why = format!("{}; the rollback failed: {}", was.1, failure.chain());
        store.write(|tx| record::advance(ctx, tx, &mut change, was.0, &why))?;
        return Err(failure);
    }
    ctx.crash.reach("change.undone", "");
    let after = sha256_hex(edited.text.as_bytes());
    finish(ctx, store, &mut change, Some((&file.sha256, &after)))?;
    reload::run(ctx, store, &mut change)?;
    Ok(change)
}

/// Records that the file no longer has the change.
pub(super) fn finish(
    ctx: &Ctx,
    store: &mut Store,
    change: &mut ConfigChange,
    moved: Option<(&str, &str)>,
) -> Result<(), Failure> {
    let why = change.why.clone();
    change.reload = reload::Reloaded::pending(ctx);
    store.write(|tx| {
        if let Some((from, to)) = moved {
            record::moved(tx, change, from, to)?;
        }
        record::reloaded(tx, change)?;
        record::advance(ctx, tx, change, Status::Reverted, &why)
    })?;
    ctx.crash.reach("change.reverted", "");
    Ok(())
}

/// The file's text without the change, or why not.
pub(super) fn undone(store: &Store, file: &ConfigFile, change: &ConfigChange) -> Result<Edited, Failure> {
    let key = &change.key_path;
    let documents = file.documents()?;
    let now = documents.iter().find_map(|document| lookup(document, key));
    if !holds(change, now) {
        return Err(drifted(store, file, change, now)?);
    }
    let inverse = change.edit.inverse(change.before.as_ref());
    edit(file.format, &file.text, key, &inverse, Some(&change.raw)).or_exit(Exit::Refused, || {
        format!("change {} cannot be taken back from {}: edit {key} by hand", change.id, file.path.display())
    })
}

/// Whether the key still has what the change gave it.
pub(super) fn holds(change: &ConfigChange, now: Option<&Tree>) -> bool {
    match &change.edit {
        Edit::Append(item) => now.is_some_and(|list| contains(list, item)),
        _ => now.is_some_and(|now| to_json(now) == change.after),
    }
}

/// Says what the key holds instead, and who wrote that as far as we know.
fn drifted(
    store: &Store,
    file: &ConfigFile,
    change: &ConfigChange,
    now: Option<&Tree>,
) -> Result<Failure, Failure> {
    let shown = file.path.display();
    let key = &change.key_path;
    let now = now.map(to_json);
    let by = record::of_key(store.read(), &file.path, key)?.into_iter().find(|other| {
        matches!(other.status, Status::Applied | Status::Kept)
            && other.id != change.id
            && Some(&other.after) == now.as_ref()
    });
    let message = match &now {
        None => format!("{key} is gone from {shown}; {} had set it to {}", change.id, change.after),
        Some(now) => {
            format!("{key} in {shown} is {now}, not {} as change {} left it", change.after, change.id)
        }
    };
    let failure = Failure::refused(message);
    Ok(match by {
        Some(other) => failure.hint(format!("change {} wrote that: roll it back first", other.id)),
        None => failure.hint("somebody else edited it: nothing was touched, decide by hand"),
    })
}
