//! Validate, gate, switch, watch, revert.
//!
//! Reads a release below `loras/`, the gate set and `capture.db`; writes the pointer, `loras/current`,
//! `loras/live/<n>/`, the tables `deployments` and `gate_answers`, the journal and
//! `logs/deployment_*.log`; asks the server over HTTP. Exits 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130, 143.

mod attempt;
mod expose;
mod gate;
mod plan;
mod probe;
mod record;
mod recover;
mod report;
mod revert;
mod status;
mod watch;

use clap::{Args, ValueEnum};
use nightshift_core::config::Rule;
use nightshift_core::{Ctx, Exit, Failure, Outcome, Tool};
use serde_json::json;

use crate::attempt::Attempt;
use crate::plan::Plan;

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "deploy",
    about: "Put an adapter live if it is proven better, watch it, and take it back if it misbehaves",
    details: "
Examples:
  deploy                          deploy the newest trained release (loras/latest)
  deploy 20260301-4be81c09aa12    deploy a release by its name
  deploy --dry-run                check the release and print the plan; nothing is changed
  deploy --watch-s 300            watch for five minutes instead of deploy.watch_s (60)
  deploy --recover                finish or undo what a killed deployment left; does nothing else
  deploy --status                 what is live, how it came there, and whether everything agrees

Steps: the release is checked against its manifest, the ban list and the server's base model; the
server loads it; the gate set is answered by candidate and incumbent and judged in pairs (only PASS
goes on); the pointer is switched for the length of a lease; the candidate is watched, in all and
for each request tag, against the incumbent's own history; then it stays, or is taken back.

SIGINT and SIGTERM during the watch take the candidate back: nothing unwatched stays live.

Exit codes: 0 deployed (status deployed, provisional or already_live), 1 failed, 2 usage, 3 nothing
was trained yet, 4 refused by validation or gate, 5 taken back and the old state is serving, 6 the
server does not serve the old state: a person is needed, 7 another deployment or a rollback was
faster, 8 the server is unavailable, 9 config invalid, 130/143 signals.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Release folder, its name, or a link to it
    #[arg(value_name = "PATH|ID", default_value = "loras/latest")]
    release: String,
    /// Deploy a banned release all the same (gate and watch still decide)
    #[arg(long)]
    force: bool,
    /// Seconds to watch after the switch [env: MONITOR_DURATION; default: deploy.watch_s]
    #[arg(long, value_name = "SECONDS")]
    watch_s: Option<f64>,
    /// What the watch decides by [default: deploy.rule]
    #[arg(long, value_enum)]
    rule: Option<RuleName>,
    /// Only finish or undo what a killed deployment left
    #[arg(long, conflicts_with_all = ["force", "watch_s", "rule", "status"])]
    recover: bool,
    /// Only print what is live, the last deployments, and whether everything agrees
    #[arg(long, conflicts_with_all = ["force", "watch_s", "rule"])]
    status: bool,
}

/// `--rule`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuleName {
    /// Anytime-valid evidence against the incumbent's own rate
    Evalue,
    /// The documents' rule alone: success below 85 % or mean latency above 1000 ms at the end
    Fixed,
}

/// Deploys, or refuses with a reason.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let ctx = &with_flags(ctx, &arguments)?;
    if arguments.status {
        return status::run(ctx);
    }
    if arguments.recover {
        return recover::command(ctx);
    }
    if ctx.dry_run {
        let plan = plan::dry(ctx, &arguments.release, arguments.force)?;
        return Ok(Outcome::done(&json!({"plan": plan}), plan.to_string()).status("planned"));
    }
    let _lock = ctx.lock("loras")?;
    let mut store = ctx.store()?;
    for line in recover::run(ctx, &mut store)? {
        ctx.printer.note(&line);
    }
    let plan = Plan::make(ctx, &store, &arguments.release, arguments.force)?;
    if plan.already_live {
        let text = format!("{} is live already (generation {})", plan.candidate, plan.live.generation);
        return Ok(Outcome::done(&json!({"plan": plan}), text).status("already_live"));
    }
    Attempt::begin(ctx, store, plan)?.run()
}

/// The context with the flags laid over its settings.
fn with_flags(ctx: &Ctx, arguments: &Arguments) -> Result<Ctx, Failure> {
    let mut ctx = ctx.clone();
    let deploy = &mut ctx.config.deploy;
    if let Some(watch_s) = arguments.watch_s {
        if !(watch_s.is_finite() && watch_s >= 0.0) {
            return Err(Failure::new(Exit::Usage, format!("--watch-s {watch_s}: give seconds, 0 or more")));
        }
        deploy.watch_s = watch_s;
    }
    match arguments.rule {
        Some(RuleName::Evalue) => deploy.rule = Rule::Evalue,
        Some(RuleName::Fixed) => deploy.rule = Rule::Fixed,
        None => {}
    }
    Ok(ctx)
}
