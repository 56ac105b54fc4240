//! `--incremental`: reads only what is new since the last time, and reports everything read so far.
//!
//! Offsets and counts are committed in one transaction, so that a crash at any instant neither
//! loses a line nor counts one twice. A last line without its newline is reported, but read again
//! next time.

mod files;
mod store;

use nightshift_core::random::sha256_hex;
use nightshift_core::rusqlite::config::DbConfig;
use nightshift_core::{Ctx, Failure, OrFail};
use serde::Serialize;

use crate::beside::beside;
use crate::read::{self, Input, Job, Ops, Options, Problem};
use crate::tally::{Findings, Limits};

use files::{Known, Plan};
use store::{Change, Recent, Touched};

/// Bytes of the store that are read where they lie.
const MAPPED: i64 = 1 << 28;

/// What this run had to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct New {
    /// Entries.
    entries: u64,
    /// Plain bytes.
    bytes: u64,
    /// Files never seen before, or with another content than before.
    files: usize,
    /// Files read from where they were left.
    resumed: usize,
    /// Files that nothing happened to.
    unchanged: usize,
}

/// Reads what is new under `paths` and commits it. Gives all that was ever read there, what was new, and what
/// `look` makes of it, which is at work while the disk is.
pub(crate) fn pass<T>(
    ctx: &Ctx,
    paths: &[String],
    inputs: Vec<Input>,
    options: &Options<'_>,
    mut problems: Vec<Problem>,
    look: impl FnOnce(&Findings) -> T,
) -> Result<(Findings, New, T), Failure> {
    let _lock = ctx.lock("analyze-logs")?;
    let limits = Limits::of(options.settings);
    let (key, paths) = identity(paths, limits, options)?;
    let mut store = ctx.store()?;
    let scan = store::scan(store.read(), &key)?;
    if scan.is_some() {
        // A re-run waits for one sync, not for three: the write-ahead log is folded into the file by
        // the first run, and then every thousand pages instead of at each end.
        store.read().set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // The counts are read once, from beginning to end: a cache of their pages would be for nothing.
        store.read().pragma_update(None, "mmap_size", MAPPED)?;
    }
    let known = scan.as_ref().map_or(&[][..], |scan| &scan.files);
    let plans = files::plan(inputs, known, &mut problems);
    let mut counts = New::default();
    for plan in &plans {
        *match (plan.unchanged, plan.known) {
            (true, _) => &mut counts.unchanged,
            (false, Some(_)) => &mut counts.resumed,
            (false, None) => &mut counts.files,
        } += 1;
    }
    let (unchanged, mut reading): (Vec<Plan>, Vec<Plan>) = plans.into_iter().partition(|plan| plan.unchanged);
    let jobs: Vec<(Job, String)> =
        reading.iter_mut().map(|plan| (plan.job(known), plan.input.name())).collect();
    let (counted, before) = beside(
        || count(jobs, options, limits),
        || scan.as_ref().map(|scan| store::load(store.read(), scan.id)).transpose(),
    );
    let (new, late, read) = counted?;
    let mut after: Vec<Known> = read.ends.iter().map(|end| reading[end.input].after(known, end)).collect();
    // Files that are still there are not forgotten.
    after.extend(unchanged.iter().filter_map(|plan| plan.known.map(|index| known[index].clone())));
    let (mut merged, recent) = before?.unwrap_or_else(|| (Findings::empty(limits), Recent::default()));
    merged.problems = problems;
    merged.problems.extend(read.problems);
    counts.entries = new.tally.entries + late.tally.entries;
    counts.bytes = new.tally.bytes + late.tally.bytes;
    let touched = Touched::of(&new);
    recent.add_to(&mut merged, store.read(), &touched)?;
    merged.absorb(new).or_fail(|| "cannot add to the stored counts".into())?;
    merged.detected.settle(limits);
    let change = if reading.is_empty() { None } else { Some(Change::of(&merged, &touched, after)?) };
    merged.absorb(late).or_fail(|| "cannot add the last lines".into())?;
    let Some(change) = change else {
        let answer = look(&merged);
        return Ok((merged, counts, answer));
    };
    let commit = || {
        ctx.crash.reach("analyze_logs.commit", "before");
        store.write(|tx| store::save(tx, ctx.clock.now(), (&key, &paths), &change))?;
        ctx.crash.reach("analyze_logs.commit", "after");
        Ok::<(), Failure>(())
    };
    let (committed, answer) = beside(commit, || look(&merged));
    committed?;
    Ok((merged, counts, answer))
}

/// Counts the jobs, which have the names of their files: whole lines, and apart from them last lines without a newline.
fn count(
    jobs: Vec<(Job, String)>,
    options: &Options<'_>,
    limits: Limits,
) -> Result<(Findings, Findings, read::Read), Failure> {
    let (jobs, names): (Vec<Job>, Vec<String>) = jobs.into_iter().unzip();
    let (mut whole, mut late) = (Findings::empty(limits), Findings::empty(limits));
    let mut ops = Ops::default();
    let read = read::read(jobs, options, &mut ops, |batch, ops| {
        let findings = if batch.unterminated { &mut late } else { &mut whole };
        findings.add(batch, ops, &names[batch.input]);
        Ok(())
    })?;
    whole.finish(ops.clone());
    late.finish(ops);
    Ok((whole, late, read))
}

/// The key of a scan, and its paths: with other paths, or other settings that its counts depend on,
/// everything is read anew.
fn identity(paths: &[String], limits: Limits, options: &Options<'_>) -> Result<(String, String), Failure> {
    let absolute = |path: &String| std::path::absolute(path).map(|path| path.display().to_string());
    let mut paths: Vec<String> =
        paths.iter().map(absolute).collect::<Result<_, _>>().or_fail(|| "cannot use the paths".into())?;
    paths.sort();
    paths.dedup();
    let settings = options.settings;
    let zone = options.zone.iana_name();
    // The number goes up when what is kept changes its meaning.
    let key = (2, &paths, zone, limits, &settings.roles, &settings.words, settings.max_line_mib);
    let json = |value: Result<String, serde_json::Error>| value.or_fail(|| "cannot use the paths".into());
    Ok((sha256_hex(json(serde_json::to_string(&key))?.as_bytes()), json(serde_json::to_string(&paths))?))
}
