//! `analyze`: reads logs and says what is in them. `merge`: does so for what several machines read.

use std::path::PathBuf;

use clap::Args;
use nightshift_core::clock::{parse_bound, zone};
use nightshift_core::jiff::Timestamp;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, files};

use crate::incremental::{self, New};
use crate::read::{self, Input, Job, Ops, Options, Problem, Window, expand};
use crate::report::AnalyzeReport;
use crate::tally::{Findings, Limits, Saved, Tally};

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files, folders, patterns, or - for stdin [default: the folder --log-dir]
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Folder with logs [default: logs in the home folder]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Read only what is new since the last time; report everything read so far
    #[arg(long, conflicts_with_all = ["since", "until"])]
    incremental: bool,
    /// Also write what was counted to this file, for merge
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
}

/// How logs are read.
#[derive(Debug, Args)]
pub struct Reading {
    /// Only entries from this time on (2026-03-01 or 2026-03-01T02:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Zone of time stamps that name none (IANA)
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Longest line in MiB; longer ones are skipped and counted [default: analyze_logs.max_line_mib, 16]
    #[arg(long, value_name = "MIB")]
    max_line: Option<usize>,
    /// Worker threads; 0 is one a core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl Reading {
    fn zone(&self) -> Result<TimeZone, Failure> {
        zone(&self.time_zone).map_err(|failure| failure.with_exit(Exit::Usage))
    }

    fn window(&self, zone: &TimeZone) -> Result<Window, Failure> {
        let bound = |text: &Option<String>| {
            text.as_deref().map(|text| parse_bound(text, zone).map(Timestamp::as_microsecond)).transpose()
        };
        Ok(Window { since: bound(&self.since)?, until: bound(&self.until)? })
    }
}

/// Runs `analyze`.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let mut paths = arguments.paths;
    paths.extend(arguments.log_dir);
    if paths.is_empty() {
        paths.push(ctx.paths.logs().display().to_string());
    }
    let (inputs, mut problems) = expand(&paths)?;
    let reading = &arguments.reading;
    let zone = reading.zone()?;
    let mut settings = ctx.config.analyze_logs.clone();
    settings.max_line_mib = reading.max_line.unwrap_or(settings.max_line_mib).max(1);
    let options = Options {
        settings: &settings,
        zone: &zone,
        window: reading.window(&zone)?,
        threads: reading.threads,
        stop: &ctx.stop,
    };
    let (mut findings, new) = if arguments.incremental {
        if inputs.contains(&Input::Stdin) {
            return Err(Failure::usage("--incremental cannot know what of stdin is new").hint("name files"));
        }
        let (findings, new) = incremental::pass(ctx, &paths, inputs, &options, &mut problems)?;
        (findings, Some(new))
    } else {
        (pass(ctx, inputs, &options, &mut problems)?, None)
    };
    findings.problems.extend(problems);
    finish(ctx, &findings, new, arguments.state_out)
}

/// One pass over all inputs.
fn pass(
    ctx: &Ctx,
    inputs: Vec<Input>,
    options: &Options<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Findings, Failure> {
    let names: Vec<String> = inputs.iter().map(Input::name).collect();
    let mut ops = Ops::default();
    let mut tally = Tally::new(Limits::of(options.settings));
    let bar = ctx.printer.bar(0, "reading");
    let read = read::read(inputs.into_iter().map(Job::whole).collect(), options, &mut ops, |batch, _| {
        bar.inc(batch.bytes);
        tally.add(batch, &names[batch.input]);
        Ok(())
    })?;
    bar.finish_and_clear();
    problems.extend(read.problems);
    if read.ends.is_empty() && !problems.is_empty() {
        let named: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.file, p.reason)).collect();
        return Err(Failure::failed(format!("nothing could be read: {}", named.join("; ")))
            .hint("check the paths and their permissions"));
    }
    Ok(Findings { ops, tally, problems: Vec::new() })
}

/// Reports, and writes the state where one is wanted.
fn finish(
    ctx: &Ctx,
    findings: &Findings,
    new: Option<New>,
    state_out: Option<PathBuf>,
) -> Result<Outcome, Failure> {
    let mut report = AnalyzeReport::of(findings, &ctx.config.analyze_logs, ctx.clock.elapsed().as_secs_f64());
    report.incremental = new;
    if let Some(path) = state_out {
        let json = serde_json::to_vec(&Saved::of(findings)).or_fail(|| "cannot write the state".into())?;
        files::write_atomic(&path, &json)?;
    }
    let exit = if report.entries + report.bytes == 0 { Exit::NothingToDo } else { Exit::Done };
    let text = if exit == Exit::NothingToDo { "no log lines there".to_owned() } else { report.text() };
    Ok(Outcome::new(exit, &report, text))
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Files that analyze --state-out wrote
    #[arg(required = true, value_name = "STATE")]
    states: Vec<PathBuf>,
    /// Also write the merged state to this file
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
}

/// Runs `merge`.
pub fn merge(ctx: &Ctx, arguments: MergeArguments) -> Result<Outcome, Failure> {
    let mut merged: Option<Findings> = None;
    for path in &arguments.states {
        let told = || format!("cannot merge {}", path.display());
        let saved: Saved = serde_json::from_slice(&files::read(path)?).or_fail(told)?;
        let findings = saved.restore().or_fail(told)?;
        match &mut merged {
            None => merged = Some(findings),
            Some(merged) => merged.absorb(findings).or_fail(told)?,
        }
    }
    let merged = merged.ok_or_else(|| Failure::usage("no state is named"))?;
    finish(ctx, &merged, None, arguments.state_out)
}
