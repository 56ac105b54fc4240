//! `judge`: the changes that wait for a verdict; or, without a change, two sides of an operation's calls.

use std::fmt::Write as _;

use clap::Args;
use nightshift_core::clock::{parse_bound, zone};
use nightshift_core::config::Split;
use nightshift_core::jiff::Timestamp;
use nightshift_core::{Ctx, Exit, Failure, Outcome};
use serde::Serialize;

use super::collect::{Question, Selector, collect};
use super::decide::{Asked, Basis, Verdict, decide};
use super::open::{self, Judged, Orders};
use super::pairs::Pairs;
use super::steady::steady;
use crate::learning::{self, Db};
use crate::read::{Options, Problem, Window, expand};
use crate::tally::HOUR_US;

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files, folders or patterns of logs [default: analyze_logs.loop.logs, else logs in the home folder]
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Only this change
    #[arg(long, value_name = "ID")]
    change: Option<String>,
    /// Compare the arms of a split: FIELD=CONTROL,TREATMENT [default: analyze_logs.judge.ab]
    #[arg(long, value_name = "SPLIT", value_parser = parse_split)]
    ab: Option<Split>,
    /// No change of ours: compare the calls of this operation (tool:NAME, llm:MODEL, task:NAME)
    #[arg(long, value_name = "NAME", conflicts_with = "change")]
    operation: Option<String>,
    /// With --operation: when something was changed; before is compared with after
    #[arg(long, value_name = "TIME", requires = "operation")]
    at: Option<String>,
    /// With --operation: look at nothing from this time on [default: now]
    #[arg(long, value_name = "TIME", requires = "operation")]
    until: Option<String>,
    /// Zone of time stamps that name none (IANA)
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    #[command(flatten)]
    db: Db,
}

/// Reads `FIELD=CONTROL,TREATMENT`.
pub(crate) fn parse_split(text: &str) -> Result<Split, String> {
    let parts = text.split_once('=').and_then(|(field, arms)| Some((field, arms.split_once(',')?)));
    match parts {
        Some((field, (control, treatment))) if !field.is_empty() && control != treatment => {
            Ok(Split { field: field.into(), control: control.into(), treatment: treatment.into() })
        }
        _ => Err("write FIELD=CONTROL,TREATMENT, for example metadata/arm=a,b".into()),
    }
}

/// What `judge` prints of changes.
#[derive(Debug, Serialize)]
struct ChangesReport {
    changes: Vec<Judged>,
    problems: Vec<Problem>,
}

/// What `judge --operation` prints.
#[derive(Debug, Serialize)]
struct OperationReport {
    operation: String,
    #[serde(flatten)]
    verdict: Verdict,
    problems: Vec<Problem>,
}

/// Runs `judge`.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let zone = zone(&arguments.time_zone).map_err(|failure| failure.with_exit(Exit::Usage))?;
    let paths = if arguments.paths.is_empty() { log_paths(ctx) } else { arguments.paths.clone() };
    let (inputs, mut problems) = expand(&paths)?;
    let options = Options {
        settings: &ctx.config.analyze_logs,
        zone: &zone,
        window: Window::default(),
        threads: 0,
        stop: &ctx.stop,
    };
    let split = arguments.ab.clone().or_else(|| ctx.config.analyze_logs.judge.ab.clone());
    if let Some(operation) = arguments.operation {
        let bound = |text: &Option<String>| text.as_deref().map(|text| parse_bound(text, &zone)).transpose();
        let (at, until) = (bound(&arguments.at)?, bound(&arguments.until)?);
        let rules = &ctx.config.analyze_logs.judge;
        let question = alone(ctx, &operation, at, until, split)?;
        let hours = collect(inputs, &options, std::slice::from_ref(&question), &mut problems)?;
        let hours = hours.into_iter().next().map(|hours| steady(hours, rules)).unwrap_or_default();
        let pairs = Pairs::of(&hours, &question);
        // Somebody who compares once wants an answer from what is there.
        let asked = Asked { hours_gone: pairs.hours as f64, last: true, ..Asked::default() };
        let verdict = decide(&pairs, rules, asked);
        return Ok(operation_outcome(operation, verdict, problems));
    }
    let _lock = ctx.lock("analyze-logs-cycle")?;
    let mut store = learning::open(ctx, &arguments.db)?;
    let only = match &arguments.change {
        Some(id) => Some(crate::change::find(store.read(), id)?.id),
        None => None,
    };
    let orders = Orders {
        inputs,
        options,
        split,
        only,
        act: !ctx.dry_run,
        rollback: ctx.config.analyze_logs.cycle.enable_rollback,
    };
    let changes = open::open(ctx, &mut store, orders, &mut problems)?;
    Ok(changes_outcome(ChangesReport { changes, problems }))
}

/// The logs of the loop.
pub(crate) fn log_paths(ctx: &Ctx) -> Vec<String> {
    let configured = &ctx.config.analyze_logs.cycle.logs;
    if configured.is_empty() {
        return vec![ctx.paths.logs().display().to_string()];
    }
    configured.iter().map(|path| ctx.paths.home().join(path).display().to_string()).collect()
}

fn alone(
    ctx: &Ctx,
    operation: &str,
    at: Option<Timestamp>,
    until: Option<Timestamp>,
    split: Option<Split>,
) -> Result<Question, Failure> {
    let at = match (at, &split) {
        (Some(at), _) => at.as_microsecond(),
        (None, Some(_)) => 0,
        (None, None) => {
            return Err(
                Failure::usage("when was something changed?").hint("add --at TIME, or --ab for a split")
            );
        }
    };
    let weeks = i64::from(ctx.config.analyze_logs.judge.baseline_weeks);
    let baseline_from = if split.is_some() { at } else { at.saturating_sub(weeks * 168 * HOUR_US) };
    Ok(Question {
        scope: vec![Selector::Operation(operation.into())],
        at,
        baseline_from,
        without: Vec::new(),
        until: until.unwrap_or_else(|| ctx.clock.now()).as_microsecond(),
        late_us: None,
        split,
    })
}

/// Exit 0: not worse, or no harm seen; 4: worse; 3: too few calls.
fn operation_outcome(operation: String, verdict: Verdict, problems: Vec<Problem>) -> Outcome {
    let few = verdict.figures.is_empty() || verdict.basis == Basis::Unproven;
    let (exit, status) = match verdict.basis {
        _ if few => (Exit::NothingToDo, "too_few_calls"),
        Basis::Worse => (Exit::Refused, "worse"),
        Basis::NonInferior => (Exit::Done, "not_worse"),
        _ => (Exit::Done, "no_harm_seen"),
    };
    let text = format!("{operation}: {}", verdict.why);
    Outcome::new(exit, &OperationReport { operation, verdict, problems }, text).status(status)
}

fn changes_outcome(report: ChangesReport) -> Outcome {
    let mut text = String::new();
    for judged in &report.changes {
        let word = serde_json::to_value(judged.outcome).unwrap_or_default();
        let word = word.as_str().unwrap_or_default().replace('_', " ");
        let _ = writeln!(
            text,
            "{word}: {} ({}, change {})\n  {}",
            judged.title, judged.key_path, judged.change_id, judged.why
        );
    }
    let has = |outcome| report.changes.iter().any(|judged| judged.outcome == outcome);
    let exit = if has(open::Outcome::NotReverted) {
        Exit::NotRecovered
    } else if has(open::Outcome::Reverted) {
        Exit::RolledBack
    } else if report.changes.is_empty() {
        Exit::NothingToDo
    } else {
        Exit::Done
    };
    if report.changes.is_empty() {
        text = "no change waits for a verdict".into();
    }
    Outcome::new(exit, &report, text)
}
