//! `train` and `explain`: what a history says of the weights.
//!
//! `train` is stateless: it starts from the weights that count and learns from the whole history, so that running
//! it again on the same file is no new evidence. `explain` writes nothing.

use std::path::PathBuf;

use clap::Args;
use nightshift_core::metrics;
use nightshift_core::synergy::history::{self, Row};
use nightshift_core::synergy::weights::Change;
use nightshift_core::synergy::{METRICS, Values, object};
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome};
use serde_json::{Map, Value};

use crate::alert::{count, update_failed};
use crate::edit::told;
use crate::learn::{EntriesAre, Learned, Reading, Session, samples};
use crate::place::{Place, history_file, say};
use crate::report::Trained;
use crate::settings::LearnerFlags;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The history, .db or .json
    history: PathBuf,
    #[command(flatten)]
    learner: LearnerFlags,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The history, .db or .json [default: synergy_history.db in the data folder]
    history: Option<PathBuf>,
    #[command(flatten)]
    learner: LearnerFlags,
}

/// Learns and writes the weights, with a line in the log.
pub(crate) fn train(ctx: &Ctx, place: &Place, arguments: &Train) -> Result<Outcome, Failure> {
    let options = arguments.learner.options(ctx)?;
    let result = learn_and_write(ctx, place, arguments, &options);
    match &result {
        Ok(_) if ctx.dry_run => {}
        Ok(_) => count(ctx, metrics::SYNERGY_UPDATES),
        Err(failure) => update_failed(ctx, &place.path, failure, true),
    }
    result
}

fn learn_and_write(
    ctx: &Ctx,
    place: &Place,
    arguments: &Train,
    options: &crate::learn::Options,
) -> Result<Outcome, Failure> {
    let started = ctx.clock.elapsed();
    let rows = history::read(&arguments.history, &scope(&arguments.learner), &ctx.clock, &ctx.stop)?;
    let held = place.hold(ctx)?;
    let before = held.read(&place.start)?;
    say(ctx, &before);
    let start = before.clone().overridden(&place.overrides).weights;
    let (learned, reading) = learn(&rows, start, arguments.learner.entries()?, options)?;
    let history = arguments.history.display();
    let reason = format!("train {history}: {} rows, {}", learned.rows, options.kind);
    if !ctx.dry_run {
        let change = Change { log: &place.log, at: ctx.clock.now(), reason: &reason };
        held.write(&before, &learned.weights, &change, &ctx.crash)?;
    }
    drop(held);
    for name in place.overridden() {
        ctx.printer.note(&format!("note: {name} is set and stands over what was learned"));
    }
    let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    let report = Trained::new(
        &place.path,
        options.kind.name(),
        &before.weights,
        &learned,
        &reading,
        rows.len(),
        seconds,
    );
    let text = format!("{}\n{}", told(&before.weights, &learned.weights), verdict(&learned));
    let exit = if learned.rows == 0 { Exit::NothingToDo } else { Exit::Done };
    let outcome = Outcome::new(exit, &report, text);
    Ok(if ctx.dry_run { outcome.status("planned") } else { outcome })
}

/// Says how sure each weight is, and changes nothing.
pub(crate) fn explain(ctx: &Ctx, place: &Place, arguments: &Explain) -> Result<Outcome, Failure> {
    let started = ctx.clock.elapsed();
    let path = arguments.history.clone().unwrap_or_else(|| history_file(ctx));
    let options = arguments.learner.options(ctx)?;
    let rows = history::read(&path, &scope(&arguments.learner), &ctx.clock, &ctx.stop)?;
    let loaded = place.load(ctx)?;
    let (learned, reading) = learn(&rows, loaded.weights, arguments.learner.entries()?, &options)?;
    let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    let name = options.kind.name();
    let report = Trained::new(&place.path, name, &loaded.weights, &learned, &reading, rows.len(), seconds);
    let mut lines = vec![format!(
        "{:<16}{:>8}{:>9}{:>12}{:>12}{:>8}  evidence",
        "weight", "now", "learned", "estimate", "std error", "z"
    )];
    for (index, name) in METRICS.iter().enumerate() {
        lines.push(format!(
            "{name:<16}{:>8.3}{:>9.3}{:>12.4e}{:>12.4e}{:>8.2}  {}",
            loaded.weights[index],
            learned.weights[index],
            learned.signed[index],
            learned.stderr[index],
            learned.z[index],
            learned.evidence[index]
        ));
    }
    lines.push(verdict(&learned));
    Ok(Outcome::done(&report, lines.join("\n")))
}

fn scope(flags: &LearnerFlags) -> history::Scope {
    match flags.scope.parse() {
        Ok(scope) => scope,
        Err(never) => match never {},
    }
}

/// Learns from all rows, from these weights on.
fn learn(
    rows: &[Row],
    start: Values,
    are: EntriesAre,
    options: &crate::learn::Options,
) -> Result<(Learned, Reading), Failure> {
    let entries: Vec<Map<String, Value>> = rows.iter().map(|row| row.entry.clone()).collect();
    let reading = samples(&entries, are, None);
    let mut session = Session::start(start, options);
    let learned = session.observe(&reading.samples).or_fail(|| "the weights were not learned".into())?;
    Ok((learned, reading))
}

/// One sentence on the whole.
fn verdict(learned: &Learned) -> String {
    let Learned { rows, p, level, enough, .. } = learned;
    let mut text = if *enough {
        format!("{rows} rows say something of the weights (p = {p:.2e}, needed {level:.2e})")
    } else {
        format!("no evidence in {rows} rows (p = {p:.2e}, needed {level:.2e}): no weight moved far")
    };
    if let Some(at) = learned.changes.last() {
        text.push_str(&format!("; the rules changed, last at row {at}"));
    }
    match learned.adopted {
        Some(false) => text
            .push_str("; the network did worse on the newest rows than the critic, whose weights are used"),
        Some(true) => text.push_str("; the network's weights are used"),
        None => {}
    }
    text
}

impl Trained {
    fn new(
        path: &std::path::Path,
        learner: &'static str,
        before: &Values,
        learned: &Learned,
        reading: &Reading,
        rows_read: usize,
        seconds: f64,
    ) -> Self {
        let words = METRICS
            .iter()
            .zip(&learned.evidence)
            .map(|(name, evidence)| ((*name).to_owned(), evidence.to_string().into()));
        Self {
            path: path.to_owned(),
            learner,
            weights: object(&learned.weights),
            before: object(before),
            signed: object(&learned.signed),
            stderr: object(&learned.stderr),
            z: object(&learned.z),
            evidence: words.collect(),
            enough: learned.enough,
            p: learned.p,
            p_needed: learned.level,
            adopted: learned.adopted,
            changes: learned.changes.clone(),
            rows: learned.rows,
            rows_read,
            skipped_rows: reading.skipped_rows,
            skipped_values: reading.skipped_values,
            own_reward: reading.own_reward,
            entries_are: reading.levels.are,
            seconds,
        }
    }
}
