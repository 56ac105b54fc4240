//! Failed interactions go to a council; what it agrees on becomes training rows.
//!
//! Reads `learning.db`; writes `council_calls` and `harvest_items` there, and
//! `training_data/harvest_YYYYMMDD.jsonl` with its manifest. Every received answer is stored before
//! it is used, so a killed harvest asks nothing twice. Exits 0, 2, 3, 4, 7, 8, 9, 130, 143.

mod calls;
mod council;
mod decide;
mod prompt;
mod quarantine;
mod report;
mod select;
mod write;

use clap::{Args, ValueEnum};
use nightshift_core::config::Scorer;
use nightshift_core::logfile::LogFile;
use nightshift_core::{Ctx, Exit, Failure, Outcome, Tool};

use crate::report::Report;

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "harvest",
    about: "Have a council rewrite failed answers and keep what it agrees on as training rows",
    details: "
Takes yesterday's failures (config time_zone) or those of --since/--until, asks every member of
harvest.council, and accepts an answer when at least harvest.agree members (2) give the same
canonical answer and it differs from the failed one. Open-ended answers abstain. A scan over the
night's rows quarantines one answer or one phrase that is over-represented across unrelated
questions. Questions of registered evaluation sets never enter.

Examples:
  harvest                              yesterday's failures
  harvest --since 2026-03-01 --until 2026-03-04
  harvest --dry-run                    what would be asked, and how many calls that is

Writes training_data/harvest_YYYYMMDD.jsonl, its .manifest.json, and logs/harvest_*.
quality_score is the tier's value (unanimous 0.95, majority 0.8, single 0.5) and is uncalibrated;
legacy_score is the documents' formula and decides nothing unless --scorer legacy.

Exit codes: 0 rows written, 2 usage, 3 nothing to harvest, 4 everything quarantined, 7 another
harvest runs, 8 no council member answered, 9 config invalid.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// From this day or time on (default: yesterday)
    #[arg(long)]
    since: Option<String>,
    /// Before this day or time
    #[arg(long)]
    until: Option<String>,
    /// What decides acceptance
    #[arg(long, value_enum)]
    scorer: Option<ScorerArg>,
    /// Also take answers whose confidence is below this
    #[arg(long, value_name = "P")]
    flag_below: Option<f64>,
    /// Also take this share of the answers, the least sure first
    #[arg(long, value_name = "SHARE")]
    flag_share: Option<f64>,
    /// Most interactions that go to the council
    #[arg(long, value_name = "N")]
    max_items: Option<usize>,
}

/// What decides acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScorerArg {
    /// Agreement of the council
    Tiers,
    /// The formula of the documents
    Legacy,
}

/// Runs the program.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let mut ctx = ctx.clone();
    apply(&mut ctx, &arguments)?;
    let ctx = &ctx;
    let window = select::window(ctx, arguments.since.as_deref(), arguments.until.as_deref())?;
    let members = &ctx.config.harvest.council.members;
    if members.is_empty() {
        return Err(Failure::config("no council is configured")
            .hint("add harvest.council.members with name, base_url and model to nightshift.yaml"));
    }
    let _lock = ctx.lock("harvest")?;
    let mut store = ctx.store()?;
    let selection = select::select(ctx, store.read(), window)?;
    let mut report = Report::new(ctx, window, &selection);
    if ctx.dry_run {
        let calls = selection.items.len() * members.len();
        let text = format!(
            "would ask {} members about {} answers: {calls} calls",
            members.len(),
            selection.items.len()
        );
        return Ok(Outcome::done(&report, text));
    }
    let log = LogFile::open(ctx, "harvest")?;
    log.say(ctx, &selection.sentence());
    select::record_excluded(ctx, &mut store, &selection)?;
    if !selection.items.is_empty() {
        let answers = council::ask(ctx, &log, &mut store, &selection.items, &mut report)?;
        ctx.stop.check()?;
        decide::decide(ctx, &log, &mut store, &selection.items, &answers, &mut report)?;
        ctx.crash.reach("harvest.decided", "");
    }
    quarantine::scan(ctx, &log, &mut store, &selection.ordinary, &mut report)?;
    write::write(ctx, &log, &mut store, &mut report)?;
    ctx.crash.reach("harvest.written", "");
    log.say(ctx, &report.sentence());
    conclude(&report)
}

fn conclude(report: &Report) -> Result<Outcome, Failure> {
    if report.undecided > 0 && report.accepted + report.quarantined == 0 {
        let missing: Vec<String> = report
            .members
            .iter()
            .map(|member| {
                format!("{}: {}", member.name, member.error.as_deref().unwrap_or("answered in part"))
            })
            .collect();
        return Err(Failure::upstream("too few council members answered to decide anything")
            .hint(missing.join("; "))
            .hint("run again when they are back: what was answered is kept"));
    }
    let exit = match (report.accepted, report.quarantined) {
        (0, 0) => Exit::NothingToDo,
        (0, _) => Exit::Refused,
        _ => Exit::Done,
    };
    Ok(Outcome::new(exit, report, report.sentence()))
}

fn apply(ctx: &mut Ctx, arguments: &Arguments) -> Result<(), Failure> {
    let harvest = &mut ctx.config.harvest;
    for (name, value) in [("--flag-below", arguments.flag_below), ("--flag-share", arguments.flag_share)] {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(Failure::usage(format!("{name} is a share from 0 to 1")));
        }
    }
    harvest.flag_below = arguments.flag_below.or(harvest.flag_below);
    harvest.flag_share = arguments.flag_share.or(harvest.flag_share);
    harvest.max_items = arguments.max_items.unwrap_or(harvest.max_items);
    harvest.scorer = match arguments.scorer {
        Some(ScorerArg::Legacy) => Scorer::Legacy,
        Some(ScorerArg::Tiers) => Scorer::Tiers,
        None => harvest.scorer,
    };
    Ok(())
}
