//! `loop start | stop | run | trigger | status`, `approve`, `reject`, `list`, `stats`, `audit`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use nightshift_core::clock::zone;
use nightshift_core::config::{Mode, Split};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, Outcome};
use serde::Serialize;
use serde_json::json;

use super::record::AskedBy;
use super::schedule::Schedule;
use super::{Orders, queue, service};
use crate::change::Status;
use crate::judge::command::parse_split;
use crate::learning::{self, Db};

/// Arguments of `loop`.
#[derive(Debug, Args)]
pub struct LoopArguments {
    #[command(subcommand)]
    command: LoopCommand,
}

#[derive(Debug, Subcommand)]
enum LoopCommand {
    /// Run cycles on schedule until stopped
    Start {
        #[command(flatten)]
        orders: OrderArguments,
        /// Go to the background; the output goes to analyze-logs-loop.log beside the store
        #[arg(long)]
        detach: bool,
    },
    /// End the running loop after the step that it is at
    Stop {
        /// Seconds to wait for it
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
    },
    /// Run one cycle now; what a crontab calls
    Run(OrderArguments),
    /// Ask the running loop for a cycle now, or run one when none runs
    Trigger {
        #[command(flatten)]
        orders: OrderArguments,
        /// Do not wait for the running loop's cycle
        #[arg(long)]
        no_wait: bool,
        /// Seconds to wait for it
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
    },
    /// Say whether a loop runs, its last and its next cycle
    Status(OrderArguments),
}

/// What the command line says over `analyze_logs.loop`.
#[derive(Debug, Args)]
struct OrderArguments {
    /// manual, semi_auto or full_auto [default: analyze_logs.loop.mode]
    #[arg(long, value_name = "MODE", ignore_case = true)]
    mode: Option<Mode>,
    /// daily (02:00), weekly (Monday 02:00) or a cron expression [default: analyze_logs.loop.analysis_frequency]
    #[arg(long, value_name = "WHEN")]
    analysis_frequency: Option<String>,
    /// Zone of the schedule and of the day of the quota [default: time_zone of the config]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Days of logs to look at [default: analyze_logs.loop.analysis_days]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    analysis_days: Option<u32>,
    /// Recommendations below are left out [default: analyze_logs.loop.min_confidence]
    #[arg(long, value_name = "SHARE")]
    min_confidence: Option<f64>,
    /// Changes in one day [default: analyze_logs.loop.max_daily_improvements]
    #[arg(long, value_name = "N")]
    max_daily_improvements: Option<u32>,
    /// Say what does harm, but take nothing back
    #[arg(long)]
    no_rollback: bool,
    /// The config to change [default: analyze_logs.target_config]
    #[arg(long, value_name = "FILE")]
    target_config: Option<PathBuf>,
    /// Rules of what may be changed [default: analyze_logs.rules, or the shipped ones that fit the config]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Files, folders or patterns of logs; repeatable [default: analyze_logs.loop.logs, else logs in the home folder]
    #[arg(long, value_name = "PATH")]
    log_dir: Vec<String>,
    /// Zone of time stamps in logs that name none
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    log_time_zone: String,
    /// Judge by the arms of a split: FIELD=CONTROL,TREATMENT [default: analyze_logs.judge.ab]
    #[arg(long, value_name = "SPLIT", value_parser = parse_split)]
    ab: Option<Split>,
    #[command(flatten)]
    db: Db,
}

impl OrderArguments {
    fn orders(self, ctx: &Ctx) -> Result<(Orders, Schedule, String), Failure> {
        let usage = |failure: Failure| failure.with_exit(Exit::Usage);
        let mut settings = ctx.config.analyze_logs.cycle.clone();
        settings.mode = self.mode.unwrap_or(settings.mode);
        settings.analysis_days = self.analysis_days.unwrap_or(settings.analysis_days);
        settings.max_daily_improvements =
            self.max_daily_improvements.unwrap_or(settings.max_daily_improvements);
        settings.enable_rollback &= !self.no_rollback;
        if let Some(share) = self.min_confidence {
            if !(0.0..=1.0).contains(&share) {
                return Err(Failure::usage(format!("--min-confidence {share} is no share from 0 to 1")));
            }
            settings.min_confidence = share;
        }
        let name = self.time_zone.clone().unwrap_or_else(|| ctx.config.time_zone.clone());
        let of_schedule = zone(&name).map_err(usage)?;
        let schedule = match self.analysis_frequency {
            Some(text) => {
                let schedule = Schedule::parse(&text, of_schedule).map_err(usage)?;
                settings.analysis_frequency = text;
                schedule
            }
            None => Schedule::parse(&settings.analysis_frequency, of_schedule)?,
        };
        let configured =
            || ctx.config.analyze_logs.target_config.as_ref().map(|file| ctx.paths.home().join(file));
        let orders = Orders {
            settings,
            paths: self.log_dir,
            zone: zone(&self.log_time_zone).map_err(usage)?,
            target: self.target_config.or_else(configured),
            rules: self.rules,
            split: self.ab,
            db: self.db,
        };
        Ok((orders, schedule, name))
    }
}

/// Runs `loop`.
pub fn run_loop(ctx: &Ctx, arguments: LoopArguments) -> Result<Outcome, Failure> {
    match arguments.command {
        LoopCommand::Start { orders, detach } => {
            let (orders, schedule, _) = orders.orders(ctx)?;
            if detach { service::detach(ctx) } else { service::start(ctx, &orders, &schedule) }
        }
        LoopCommand::Stop { timeout } => service::stop(ctx, Duration::from_secs(timeout)),
        LoopCommand::Run(orders) => {
            let (orders, schedule, _) = orders.orders(ctx)?;
            service::once(ctx, &orders, &schedule, AskedBy::Run)
        }
        LoopCommand::Trigger { orders, no_wait, timeout } => {
            let (orders, schedule, _) = orders.orders(ctx)?;
            service::trigger(ctx, &orders, &schedule, (!no_wait).then(|| Duration::from_secs(timeout)))
        }
        LoopCommand::Status(orders) => {
            let (orders, schedule, zone) = orders.orders(ctx)?;
            service::status(ctx, &orders, &schedule, &zone)
        }
    }
}

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub struct ApproveArguments {
    /// The waiting change, or how its id begins
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    db: Db,
}

/// Arguments of `reject`.
#[derive(Debug, Args)]
pub struct RejectArguments {
    /// The waiting change, or how its id begins
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "rejected by hand")]
    reason: String,
    #[command(flatten)]
    db: Db,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Those that were decided too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    db: Db,
}

#[derive(Serialize)]
struct QueueReport {
    waiting: Vec<queue::Waiting>,
}

fn existing(ctx: &Ctx, db: &Db) -> Result<Store, Failure> {
    let path = learning::locate(ctx, db);
    if !path.exists() {
        return Err(Failure::nothing(format!("there is no store at {}", path.display()))
            .hint("fill one with: analyze-logs loop run"));
    }
    learning::open(ctx, db)
}

/// Runs `approve`: applies a waiting change.
pub fn approve(ctx: &Ctx, arguments: ApproveArguments) -> Result<Outcome, Failure> {
    let mut store = existing(ctx, &arguments.db)?;
    let waiting = queue::find(store.read(), &arguments.id)?;
    if ctx.dry_run {
        let text = format!("would apply {}\n{}", waiting.recommendation.title, waiting.diff);
        return Ok(Outcome::done(&json!({"waiting": waiting}), text).status("planned"));
    }
    // Not beside a cycle, which may be about to apply the same.
    let _lock = ctx.lock("analyze-logs-cycle")?;
    let change = queue::approve(ctx, &mut store, &waiting)?;
    let text = format!(
        "{} is {} in {} (change {})",
        change.key_path,
        change.after,
        change.file.display(),
        change.id
    );
    let (exit, status) = if change.status == Status::Reverted {
        (Exit::RolledBack, "reverted")
    } else {
        (Exit::Done, "applied")
    };
    Ok(Outcome::new(exit, &json!({"change": change}), text).status(status))
}

/// Runs `reject`.
pub fn reject(ctx: &Ctx, arguments: RejectArguments) -> Result<Outcome, Failure> {
    let mut store = existing(ctx, &arguments.db)?;
    let waiting = queue::find(store.read(), &arguments.id)?;
    if !ctx.dry_run {
        queue::reject(ctx, &mut store, &waiting, &arguments.reason)?;
    }
    let text = format!("rejected: {} ({})", waiting.recommendation.title, waiting.id);
    Ok(Outcome::done(&json!({"id": waiting.id, "reason": arguments.reason}), text).status("rejected"))
}

/// Runs `list`: what waits for a person; exit 3 when nothing does.
pub fn list(ctx: &Ctx, arguments: ListArguments) -> Result<Outcome, Failure> {
    let store = existing(ctx, &arguments.db)?;
    let report = QueueReport { waiting: queue::list(store.read(), arguments.all)? };
    let mut text = String::new();
    for waiting in &report.waiting {
        let advice = &waiting.recommendation;
        let before = waiting.before.as_ref().map_or_else(|| "(missing)".to_owned(), ToString::to_string);
        let _ = writeln!(
            text,
            "{}  {}  {}: {before} -> {} ({})\n    {} (confidence {:.2}); {}\n{}",
            waiting.id,
            waiting.status,
            waiting.key_path,
            waiting.after,
            waiting.file,
            advice.title,
            advice.confidence,
            waiting.why.as_deref().unwrap_or(&waiting.reason),
            waiting.diff.trim_end()
        );
    }
    let exit = if report.waiting.is_empty() { Exit::NothingToDo } else { Exit::Done };
    Ok(Outcome::new(exit, &report, if text.is_empty() { "nothing waits".into() } else { text }))
}

pub use super::audit::{AuditArguments, audit};
pub use super::stats::{StatsArguments, stats};
