//! Applying a planned change: intent, file, record, reload, in this order.

use nightshift_core::clock::rfc3339;
use nightshift_core::config::OnReloadFailure;
use nightshift_core::random::sha256_hex;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail};

use super::edit::{Edited, edit};
use super::file::{ConfigFile, edited_meanwhile};
use super::plan::{Planned, Verdict};
use super::record::{self, ConfigChange, Status};
use super::reload::{self, Reloaded};
use super::{repair, revert};

/// Applies one plan. The change that comes back is `applied`, or `reverted` when its reload failed and
/// `analyze_logs.reload.on_failure` says so.
///
/// A config that was edited since the plan was made is refused, unless only our own changes of other keys did.
pub fn apply(ctx: &Ctx, store: &mut Store, planned: &Planned) -> Result<ConfigChange, Failure> {
    let Some(change) = planned.change.as_ref().filter(|_| planned.verdict == Verdict::Ready) else {
        return Err(Failure::refused(planned.reason.clone()));
    };
    let _lock = super::lock(ctx)?;
    repair::all(ctx, store)?;
    let mut change = change.clone();
    let (file, text) = match prepare(store, &mut change) {
        Ok(prepared) => prepared,
        Err(failure) => return Err(ended(ctx, store, &mut change, failure)),
    };
    change.status = Status::Applying;
    store.write(|tx| record::begin(ctx, tx, &change))?;
    ctx.crash.reach("change.intended", "");
    if let Err(failure) = file.replace(ctx, &change.id, &text)
        && !reached(&change)
    {
        return Err(ended(ctx, store, &mut change, failure));
    }
    ctx.crash.reach("change.written", "");
    done(ctx, store, &mut change)?;
    reload::run(ctx, store, &mut change)?;
    let failed = change.reload.as_ref().is_some_and(Reloaded::failed);
    if failed && ctx.config.analyze_logs.reload.on_failure == OnReloadFailure::Revert {
        return revert::locked(ctx, store, change, "the reload failed");
    }
    Ok(change)
}

/// Checks everything once more, and gives the file with its new text.
fn prepare(store: &Store, change: &mut ConfigChange) -> Result<(ConfigFile, String), Failure> {
    let file = ConfigFile::read(&change.file)?;
    let edited = again(store, &file, change)?;
    change.raw = edited.raw;
    change.sha256_before.clone_from(&file.sha256);
    change.sha256_after = sha256_hex(edited.text.as_bytes());
    if let Some(open) = record::open_change(store.read(), &change.file, &change.key_path)? {
        return Err(Failure::refused(format!("{}: change {} is not judged yet", change.key_path, open.id))
            .hint("keep it or roll it back first"));
    }
    file.check_writable()?;
    Ok((file, edited.text))
}

/// Whether the file has the new content although the write failed: only its folder could not be synced.
fn reached(change: &ConfigChange) -> bool {
    ConfigFile::read(&change.file).is_ok_and(|file| file.sha256 == change.sha256_after)
}

/// Records that the file has the change.
pub(super) fn done(ctx: &Ctx, store: &mut Store, change: &mut ConfigChange) -> Result<(), Failure> {
    let why = change.why.clone();
    change.reload = Reloaded::pending(ctx);
    store.write(|tx| {
        record::moved(tx, change, &change.sha256_before, &change.sha256_after)?;
        record::reloaded(tx, change)?;
        record::advance(ctx, tx, change, Status::Applied, &why)
    })?;
    ctx.crash.reach("change.recorded", "");
    Ok(())
}

/// The edit of the plan made in the file as it is now.
fn again(store: &Store, file: &ConfigFile, change: &ConfigChange) -> Result<Edited, Failure> {
    let untouched = file.sha256 == change.sha256_before
        || record::leads_to(store.read(), &file.path, &change.sha256_before, &file.sha256)?;
    if !untouched {
        return Err(edited_meanwhile(&file.path));
    }
    let edited = edit(file.format, &file.text, &change.key_path, &change.edit, None)
        .or_exit(Exit::Refused, || format!("{} cannot be changed", file.path.display()))?;
    if edited.before == change.before { Ok(edited) } else { Err(edited_meanwhile(&file.path)) }
}

/// Ends a change that did not come about, whether or not it has a row, and gives the failure back. Where not
/// even that can be recorded, [`repair`](super::repair()) does it later.
fn ended(ctx: &Ctx, store: &mut Store, change: &mut ConfigChange, failure: Failure) -> Failure {
    let status = if failure.exit() == Exit::Refused { Status::Refused } else { Status::Failed };
    let why = failure.chain();
    let recorded = store.write(|tx| {
        if change.status != Status::Planned {
            return record::advance(ctx, tx, change, status, &why);
        }
        change.status = status;
        change.why = why;
        change.ended_at = Some(rfc3339(ctx.clock.now()));
        record::begin(ctx, tx, change)
    });
    if let Err(unrecorded) = recorded {
        tracing::warn!(
            change = change.id,
            "the end of a change could not be recorded: {}",
            unrecorded.chain()
        );
    }
    failure
}
