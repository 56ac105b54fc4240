//! `analyze`: reads logs and says what is in them. `merge`: does so for what several machines read.

use std::path::PathBuf;

use clap::Args;
use nightshift_core::clock::{parse_bound, zone};
use nightshift_core::jiff::Timestamp;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, files};

use crate::incremental;
use crate::learning::{self, Db};
use crate::read::{self, Input, Job, Ops, Options, Problem, Window, expand};
use crate::report::AnalyzeReport;
use crate::reports::{self, Format};
use crate::tally::{Findings, Limits, Saved};

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
    #[command(flatten)]
    giving: Giving,
}

/// Where the answer goes.
#[derive(Debug, Args)]
pub struct Giving {
    /// Also write what was counted to this file, for merge
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
    /// Also write a report with charts (.html), or as .md, .csv (findings, and operations beside it) or .txt
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Form of the answer on stdout
    #[arg(long, value_enum, value_name = "FORM", default_value = "text", conflicts_with = "json")]
    format: Format,
    /// Also write findings, recommendations and metrics to the store
    #[arg(long)]
    store: bool,
    #[command(flatten)]
    db: Db,
}

impl Giving {
    /// Refuses a report in no known form, and files in a folder that is not there, before hours of reading.
    fn check(&self) -> Result<(), Failure> {
        for path in &self.report {
            reports::parts(path)?;
        }
        for path in self.report.iter().chain(&self.state_out) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                return Err(Failure::failed(format!(
                    "cannot write {}: there is no folder {}",
                    path.display(),
                    folder.display()
                ))
                .hint("make the folder, or name another one"));
            }
        }
        Ok(())
    }
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
        let window = Window { since: bound(&self.since)?, until: bound(&self.until)? };
        if let (Some(since), Some(until)) = (window.since, window.until)
            && since >= until
        {
            return Err(Failure::usage("nothing lies between --since and --until")
                .hint("--since is the earlier one; --until is the first instant that does not count"));
        }
        Ok(window)
    }
}

/// Runs `analyze`.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let mut paths = arguments.paths;
    paths.extend(arguments.log_dir);
    if paths.is_empty() && ctx.paths.logs().is_dir() {
        paths.push(ctx.paths.logs().display().to_string());
    }
    arguments.giving.check()?;
    let (inputs, problems) = expand(&paths)?;
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
    let look = |findings: &Findings| AnalyzeReport::of(findings, &ctx.config.analyze_logs);
    // Without keeping what was read there is nothing to go on from: a dry run reads everything.
    let (findings, report) = if arguments.incremental && !ctx.dry_run {
        if inputs.contains(&Input::Stdin) {
            return Err(Failure::usage("--incremental cannot know what of stdin is new").hint("name files"));
        }
        let (findings, new, report) = incremental::pass(ctx, &paths, inputs, &options, problems, look)?;
        (findings, AnalyzeReport { incremental: Some(new), ..report })
    } else {
        let findings = pass(ctx, inputs, &options, problems)?;
        let report = look(&findings);
        (findings, report)
    };
    let outcome = finish(ctx, &findings, report, &arguments.giving);
    // The program ends here: giving tens of thousands of pieces back one by one takes longer than all at once.
    std::mem::forget(findings);
    outcome
}

/// One pass over all inputs.
fn pass(
    ctx: &Ctx,
    inputs: Vec<Input>,
    options: &Options<'_>,
    mut problems: Vec<Problem>,
) -> Result<Findings, Failure> {
    let names: Vec<String> = inputs.iter().map(Input::name).collect();
    let mut ops = Ops::default();
    let limits = Limits::of(options.settings);
    let mut findings = Findings::empty(limits);
    let bar = ctx.printer.bar(0, "reading");
    let read = read::read(inputs.into_iter().map(Job::whole).collect(), options, &mut ops, |batch, ops| {
        bar.inc(batch.bytes);
        findings.add(batch, ops, &names[batch.input]);
        Ok(())
    })?;
    bar.finish_and_clear();
    problems.extend(read.problems);
    if read.ends.is_empty() && !problems.is_empty() {
        let named: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.file, p.reason)).collect();
        return Err(Failure::failed(format!("nothing could be read: {}", named.join("; ")))
            .hint("check the paths and their permissions"));
    }
    findings.finish(ops);
    findings.problems = problems;
    Ok(findings)
}

/// Reports, and writes state, store and report files where they are wanted.
fn finish(
    ctx: &Ctx,
    findings: &Findings,
    mut report: AnalyzeReport,
    giving: &Giving,
) -> Result<Outcome, Failure> {
    // An empty part of many has its state too.
    if let Some(path) = giving.state_out.as_ref().filter(|_| !ctx.dry_run) {
        let json = serde_json::to_vec(&Saved::of(findings)).or_fail(|| "cannot write the state".into())?;
        files::write_atomic(path, &json)?;
    }
    report.seconds = ctx.clock.elapsed().as_secs_f64();
    if report.entries + report.bytes == 0 {
        let text = "no log lines there: name files or folders, or put logs into the folder logs of the home";
        return Ok(Outcome::new(Exit::NothingToDo, &report, text));
    }
    if (giving.store || giving.db.db.is_some()) && !ctx.dry_run {
        let mut store = learning::open(ctx, &giving.db)?;
        let mut stored = store.write(|tx| learning::store_analysis(tx, ctx.clock.now(), &report))?;
        stored.db = store.path().display().to_string();
        report.stored = Some(stored);
    }
    write_reports(ctx, findings, &mut report, giving)?;
    let json = ctx.printer.is_json();
    let text = if json { String::new() } else { reports::render(giving.format, &report, findings)? };
    Ok(Outcome::new(Exit::Done, &report, text))
}

/// Writes the reports; a dry run says which files would be written.
fn write_reports(
    ctx: &Ctx,
    findings: &Findings,
    report: &mut AnalyzeReport,
    giving: &Giving,
) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for path in &giving.report {
        parts.extend(reports::parts(path)?);
    }
    if ctx.dry_run {
        report.would_write =
            giving.state_out.iter().cloned().chain(parts.into_iter().map(|(path, _)| path)).collect();
        for path in &report.would_write {
            ctx.printer.note(&format!("would write {}", path.display()));
        }
        return Ok(());
    }
    for (path, format) in parts {
        let text = reports::render(format, report, findings)?;
        files::write_atomic(&path, text.as_bytes()).or_fail(|| "cannot write the report".into())?;
        report.reports.push(path);
    }
    Ok(())
}

/// What is in these inputs, with findings and recommendations: for the feedback loop. No inputs are no entries.
pub(crate) fn examine(
    ctx: &Ctx,
    inputs: Vec<Input>,
    options: &Options<'_>,
) -> Result<AnalyzeReport, Failure> {
    let started = ctx.clock.elapsed();
    let findings = pass(ctx, inputs, options, Vec::new())?;
    let mut report = AnalyzeReport::of(&findings, options.settings);
    report.seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    Ok(report)
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Files that analyze --state-out wrote
    #[arg(required = true, value_name = "STATE")]
    states: Vec<PathBuf>,
    #[command(flatten)]
    giving: Giving,
}

/// Runs `merge`.
pub fn merge(ctx: &Ctx, arguments: MergeArguments) -> Result<Outcome, Failure> {
    arguments.giving.check()?;
    let mut merged: Option<Findings> = None;
    for path in &arguments.states {
        let told = || format!("cannot merge {}", path.display());
        let hint = "name files that analyze --state-out wrote";
        let read = files::read(path).map_err(|failure| Failure::from(failure).hint(hint))?;
        let saved: Saved =
            serde_json::from_slice(&read).or_fail(told).map_err(|failure| failure.hint(hint))?;
        let findings = saved.restore().or_fail(told)?;
        match &mut merged {
            None => merged = Some(findings),
            Some(merged) => merged.absorb(findings).or_fail(told)?,
        }
    }
    let merged = merged.ok_or_else(|| Failure::usage("no state is named"))?;
    let report = AnalyzeReport::of(&merged, &ctx.config.analyze_logs);
    finish(ctx, &merged, report, &arguments.giving)
}
