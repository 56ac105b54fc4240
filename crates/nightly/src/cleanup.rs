//! Old logs and releases that nothing refers to. Training rows are never removed.

use std::collections::BTreeSet;

use nightshift_core::jiff::SignedDuration;
use nightshift_core::journal::{self, Change};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, files, pointer, release};
use serde_json::{Value, json};

/// States that a rollback may choose and that therefore stay, beyond the live one.
const KEPT_STATES: usize = 5;

pub(crate) fn run(ctx: &Ctx, store: &mut Store) -> Result<Value, Failure> {
    let logs = old_logs(ctx)?;
    // Whoever holds the adapters is at work on them: next night will do.
    let releases = match ctx.lock("loras") {
        Ok(_lock) => old_releases(ctx, store)?,
        Err(_) => Vec::new(),
    };
    Ok(json!({"logs_removed": logs, "releases_removed": releases}))
}

/// Removes `logs/*_YYYYMMDD_*` older than `nightly.keep_logs_days`, by the date in the name.
fn old_logs(ctx: &Ctx) -> Result<usize, Failure> {
    let age = SignedDuration::from_hours(24 * i64::from(ctx.config.nightly.keep_logs_days));
    let oldest = (ctx.clock.now() - age).strftime("%Y%m%d").to_string();
    let mut removed = 0;
    for path in files::list(&ctx.paths.logs())? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_log = [".log", ".json"].iter().any(|end| name.ends_with(end));
        let date =
            name.split('_').find(|part| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit()));
        if is_log && date.is_some_and(|date| date < oldest.as_str()) {
            files::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes release folders beyond the newest `nightly.keep_releases` that nothing refers to.
fn old_releases(ctx: &Ctx, store: &mut Store) -> Result<Vec<String>, Failure> {
    let target = &ctx.config.target;
    let live = pointer::read(store.read(), target)?;
    let mut kept: BTreeSet<String> =
        [live.adapter_id, live.previous_adapter_id].into_iter().flatten().collect();
    let history = pointer::history(store.read(), target)?;
    kept.extend(
        history
            .into_iter()
            .filter(|past| past.state == "good")
            .filter_map(|past| past.adapter_id)
            .take(KEPT_STATES),
    );
    if let Some(latest) = files::read_link(&ctx.paths.loras().join("latest")) {
        kept.insert(latest.display().to_string());
    }
    let known = release::list(store.read())?;
    let here: Vec<_> = known.iter().filter(|release| release.status != "gone").collect();
    let mut removed = Vec::new();
    for release in here.into_iter().skip(ctx.config.nightly.keep_releases) {
        if kept.contains(&release.adapter_id) {
            continue;
        }
        // A ban outlives the folder: only the folder of a bad release goes.
        let banned = release.status == "bad";
        store.write(|tx| {
            if !banned {
                release::mark(tx, &release.adapter_id, "gone", Some("cleaned up"))?;
            }
            let change = Change {
                kind: "release.remove",
                subject: &release.adapter_id,
                before: json!({"status": release.status}),
                after: json!({"status": if banned { "bad" } else { "gone" }}),
                why: "beyond the newest releases, and nothing refers to it",
            };
            journal::append(ctx, tx, &change)
        })?;
        let folder = ctx.paths.loras().join(&release.adapter_id);
        if folder.exists() {
            files::remove_dir(&folder)?;
            removed.push(release.adapter_id.clone());
        }
    }
    Ok(removed)
}
