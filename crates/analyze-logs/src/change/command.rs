//! `plan`, `apply`, `rollback`, `keep`, `changes`: config changes by hand.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, files};
use serde_json::Value;

use super::record::{self, Filter, Status};
use super::report::{ChangeReport, Item, ListReport, PlanReport};
use super::{Planned, Target, apply, newest, plan, revert};
use crate::recommendation::Recommendation;

/// Arguments of `plan` and `apply`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The config to change [default: analyze_logs.target_config]
    #[arg(long, value_name = "FILE")]
    target_config: Option<PathBuf>,
    /// Recommendations: what analyze --json printed, or - for stdin
    #[arg(long, value_name = "REPORT")]
    from: PathBuf,
    /// Only these, by id
    #[arg(long, value_name = "ID")]
    recommendation: Vec<String>,
    /// Rules of what may be changed [default: analyze_logs.rules, or the shipped ones that fit the config]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The change, or how its id begins
    #[arg(value_name = "ID", required_unless_present = "last", conflicts_with = "last")]
    id: Option<String>,
    /// The newest change that was applied
    #[arg(long)]
    last: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "asked for by hand")]
    reason: String,
}

/// Arguments of `keep`.
#[derive(Debug, Args)]
pub struct KeepArguments {
    /// The change, or how its id begins
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "confirmed by hand")]
    reason: String,
}

/// Arguments of `changes`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only changes that stand so
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    /// Only changes of this config
    #[arg(long, value_name = "FILE")]
    target_config: Option<PathBuf>,
    /// At most so many, the newest first
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Runs `plan`: shows what would change.
pub fn run_plan(ctx: &Ctx, arguments: PlanArguments) -> Result<Outcome, Failure> {
    let target = arguments.target(ctx)?;
    let store = Store::open_read_only(&ctx.paths.store())?;
    let planned = plan(ctx, store.as_ref(), &target, &arguments.recommendations()?)?;
    let report = PlanReport::new(&target, planned.into_iter().map(Item::planned).collect());
    let exit = match (report.count("ready"), report.count("refused")) {
        (1.., _) => Exit::Done,
        (0, 1..) => Exit::Refused,
        (0, 0) => Exit::NothingToDo,
    };
    let outcome = Outcome::new(exit, &report, report.text());
    Ok(if exit == Exit::Done { outcome.status("planned") } else { outcome })
}

/// Runs `apply`.
pub fn run_apply(ctx: &Ctx, arguments: PlanArguments) -> Result<Outcome, Failure> {
    if ctx.dry_run {
        return run_plan(ctx, arguments);
    }
    let target = arguments.target(ctx)?;
    let advice = arguments.recommendations()?;
    let mut store = ctx.store()?;
    let planned = plan(ctx, Some(&store), &target, &advice)?;
    let mut items = Vec::new();
    for planned in planned {
        items.push(apply_one(ctx, &mut store, planned)?);
    }
    let report = PlanReport::new(&target, items);
    let exit = if report.count("reverted") > 0 {
        Exit::RolledBack
    } else if report.count("applied") > 0 {
        Exit::Done
    } else if report.count("refused") > 0 {
        Exit::Refused
    } else {
        Exit::NothingToDo
    };
    let outcome = Outcome::new(exit, &report, report.text());
    Ok(if exit == Exit::Done { outcome.status("applied") } else { outcome })
}

/// What is refused is said in its place; what fails ends the run, after what was applied is said.
fn apply_one(ctx: &Ctx, store: &mut Store, planned: Planned) -> Result<Item, Failure> {
    if planned.change.is_none() {
        return Ok(Item::planned(planned));
    }
    let outcome = apply(ctx, store, &planned);
    let mut item = Item::planned(planned);
    match outcome {
        Ok(change) => {
            ctx.printer.note(&format!("{} {}", change.status.name(), change.key_path));
            change.status.name().clone_into(&mut item.status);
            item.change = Some(change);
        }
        Err(failure) if failure.exit() == Exit::Refused => {
            item.status = "refused".into();
            item.reason = failure.chain();
            item.change = None;
        }
        Err(failure) => return Err(failure),
    }
    Ok(item)
}

/// Runs `rollback`.
pub fn run_rollback(ctx: &Ctx, arguments: RollbackArguments) -> Result<Outcome, Failure> {
    let mut store = existing_store(ctx)?;
    let id = match &arguments.id {
        Some(id) => record::find(store.read(), id)?.id,
        None => newest(&store)?,
    };
    if ctx.dry_run {
        let change = record::find(store.read(), &id)?;
        let text = format!("would set {} in {} back", change.key_path, change.file.display());
        return Ok(Outcome::done(&ChangeReport { change: &change }, text).status("planned"));
    }
    let change = revert(ctx, &mut store, &id, &arguments.reason)?;
    let now =
        change.before.as_ref().map_or_else(|| "gone again".to_owned(), |value| format!("{value} again"));
    let text = format!("{} is {now} in {} (change {})", change.key_path, change.file.display(), change.id);
    Ok(Outcome::done(&ChangeReport { change: &change }, text).status("reverted"))
}

/// Runs `keep`.
pub fn run_keep(ctx: &Ctx, arguments: KeepArguments) -> Result<Outcome, Failure> {
    let mut store = existing_store(ctx)?;
    let change = record::keep(ctx, &mut store, &arguments.id, &arguments.reason)?;
    let text = format!("{} stays {} (change {})", change.key_path, change.after, change.id);
    Ok(Outcome::done(&ChangeReport { change: &change }, text).status("kept"))
}

/// Runs `changes`.
pub fn run_list(ctx: &Ctx, arguments: ListArguments) -> Result<Outcome, Failure> {
    let store = existing_store(ctx)?;
    let file = arguments.target_config.map(|file| std::fs::canonicalize(&file).unwrap_or(file));
    let filter = Filter { status: arguments.status, file: file.as_deref(), limit: arguments.limit };
    let report = ListReport { changes: record::list(store.read(), filter)? };
    if report.changes.is_empty() {
        return Ok(Outcome::new(Exit::NothingToDo, &report, "no such change"));
    }
    Ok(Outcome::done(&report, report.text()))
}

fn existing_store(ctx: &Ctx) -> Result<Store, Failure> {
    if !ctx.paths.store().exists() {
        return Err(Failure::nothing("nothing was ever changed from here: this home has no store"));
    }
    ctx.store()
}

impl PlanArguments {
    fn target(&self, ctx: &Ctx) -> Result<Target, Failure> {
        let configured =
            || ctx.config.analyze_logs.target_config.as_ref().map(|file| ctx.paths.home().join(file));
        let file = self.target_config.clone().or_else(configured).ok_or_else(|| {
            Failure::usage("no config is named")
                .hint("add --target-config FILE, or set analyze_logs.target_config")
        })?;
        Target::open(ctx, &file, self.rules.as_deref())
    }

    /// The recommendations of the report, in its order; exit 2 when an asked one is not among them.
    fn recommendations(&self) -> Result<Vec<Recommendation>, Failure> {
        let name = self.from.display().to_string();
        let text = if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).or_fail(|| "cannot read stdin".into())?;
            text
        } else {
            files::read_text(&self.from)?
        };
        let wrong = || format!("{name} is no report of analyze --json, and no list of recommendations");
        let value: Value = serde_json::from_str(&text).or_exit(Exit::Usage, wrong)?;
        let list = match value {
            Value::Object(mut report) if report.contains_key("recommendations") => {
                report.remove("recommendations").unwrap_or_default()
            }
            one @ Value::Object(_) => Value::Array(vec![one]),
            list => list,
        };
        let mut advice: Vec<Recommendation> = serde_json::from_value(list).or_exit(Exit::Usage, wrong)?;
        for id in &self.recommendation {
            if !advice.iter().any(|advice| advice.id == *id) {
                return Err(Failure::usage(format!("{name} has no recommendation `{id}`")));
            }
        }
        if !self.recommendation.is_empty() {
            advice.retain(|advice| self.recommendation.contains(&advice.id));
        }
        Ok(advice)
    }
}
