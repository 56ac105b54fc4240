//! One training of the auto trainer: rows that are new, in; weights, learner, log line and progress, out.
//!
//! What comes out is one durable step ([`nightshift_core::commit`]): a crash at any instant leaves all of it or
//! nothing, and the next cycle, or any other change of the weights, completes it. Nothing is kept in memory
//! between cycles, so two trainers of the same files count each row once between them.

use std::path::{Path, PathBuf};

use nightshift_core::commit::{Commit, with_suffix};
use nightshift_core::synergy::history::{self, History, Scope};
use nightshift_core::synergy::weights::{Change, Held, Loaded};
use nightshift_core::{Ctx, Failure, OrFail, files};
use serde_json::{Map, Value};

use crate::auto::position::{self, Position, Trail};
use crate::learn::{EntriesAre, LearnError, Learned, Options, Session, samples};
use crate::place::{Place, say};

/// What a trainer works on.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The history.
    pub(crate) history: PathBuf,
    /// The weights file, its log, start and overrides.
    pub(crate) place: Place,
    /// `last_ts.json`.
    pub(crate) progress: PathBuf,
    /// Rows that count.
    pub(crate) scope: Scope,
    /// What entries are.
    pub(crate) are: EntriesAre,
    /// The learner.
    pub(crate) options: Options,
}

/// What a cycle did.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// New rows.
    pub(crate) rows: usize,
    /// Id of the newest row that was counted.
    pub(crate) last_id: i64,
    /// What was learned; none when there was no new row.
    pub(crate) learned: Option<Learned>,
    /// The weights before.
    pub(crate) before: nightshift_core::synergy::Values,
}

/// Trains on what is new.
pub(crate) fn run(ctx: &Ctx, job: &Job) -> Result<Done, Failure> {
    let held = job.place.hold(ctx)?;
    let before = held.read(&job.place.start)?;
    say(ctx, &before);
    history::migrate(&job.history, &ctx.clock, &ctx.stop)?;
    let history = History::open(&job.history)?;
    let trail = Trail::read(&job.progress);
    let position = trail.position(position::last_id(&job.progress), &history)?;
    if let Some(note) = &position.note {
        ctx.printer.note(&format!("note: {note}"));
        tracing::warn!(history = %job.history.display(), note, "the history shrank");
    }
    let rows = history.after(position.after, &job.scope)?;
    let trail = if position.continued { trail } else { Trail::default() };
    let trail = trail.extended(position.after, &rows);
    let last_id = trail.last_id;
    if rows.is_empty() {
        settle(job, &trail, &position)?;
        return Ok(Done { rows: 0, last_id, learned: None, before: before.weights });
    }
    let mut session = session(ctx, job, &before, &position)?;
    let entries: Vec<Map<String, Value>> = rows.iter().map(|row| row.entry.clone()).collect();
    let reading = samples(&entries, job.are, session.levels());
    session.remember(reading.levels);
    let learned = session.observe(&reading.samples).or_fail(|| "the weights were not learned".into())?;
    let reason = format!("auto-train: {} rows up to id {last_id}, {}", rows.len(), job.options.kind);
    let step = step(ctx, job, &held, &before, &learned, &reason)?;
    step.replace(&job.progress, position::text(last_id).into_bytes())
        .replace(&Trail::path(&job.progress), trail.bytes()?)
        .replace(&learner_file(&job.progress), session.to_bytes())
        .run(&ctx.crash)?;
    Ok(Done { rows: rows.len(), last_id, learned: Some(learned), before: before.weights })
}

fn step(
    ctx: &Ctx,
    job: &Job,
    held: &Held,
    before: &Loaded,
    learned: &Learned,
    reason: &str,
) -> Result<Commit, Failure> {
    held.change(before, &learned.weights, &Change { log: &job.place.log, at: ctx.clock.now(), reason })
}

/// Without new rows: progress that moved (an older copy of the history) is kept, a missing file is made.
fn settle(job: &Job, trail: &Trail, position: &Position) -> Result<(), Failure> {
    if position.note.is_none() && job.progress.exists() {
        return Ok(());
    }
    // Nothing was learned, so the order is enough: an old trail is dropped by the new progress.
    make_folder(&job.progress)?;
    files::write_atomic(&job.progress, position::text(trail.last_id).as_bytes())?;
    if position.continued {
        files::write_atomic(&Trail::path(&job.progress), &trail.bytes()?)?;
    }
    Ok(())
}

/// After a failure: the progress file exists, and says what it said.
pub(crate) fn keep_progress(job: &Job) -> Result<(), Failure> {
    if !job.progress.exists() {
        make_folder(&job.progress)?;
        files::write_atomic(&job.progress, position::text(0).as_bytes())?;
    }
    Ok(())
}

/// The learner where it stopped, or a new one that starts from the weights.
fn session(ctx: &Ctx, job: &Job, before: &Loaded, position: &Position) -> Result<Session, Failure> {
    let start = before.clone().overridden(&job.place.overrides).weights;
    let file = learner_file(&job.progress);
    if !position.continued || !file.exists() {
        return Ok(Session::start(start, &job.options));
    }
    let bytes = files::read(&file)?;
    // Overrides are no edit of the file: the learner left other weights there than those that count.
    match Session::restore(&bytes, before.weights, &job.options) {
        Ok(session) => Ok(session),
        Err(
            error @ (LearnError::OtherLearner { .. } | LearnError::OtherShape(_) | LearnError::Damaged(_)),
        ) => {
            ctx.printer.note(&format!("note: {error}; a new learner starts from the weights as they are"));
            Ok(Session::start(start, &job.options))
        }
        Err(error) => Err(Failure::failed("the learner's state cannot be used").because(error)),
    }
}

fn learner_file(progress: &Path) -> PathBuf {
    with_suffix(progress, ".learner")
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map_or(Ok(()), |folder| Ok(files::create_dir(folder)?))
}
