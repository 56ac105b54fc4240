//! Going back: check what can be written, move the row, move the link, see whether the server follows.
//!
//! The row is the truth, so nothing moves before it is known that the links can be written; whatever fails
//! after the row has moved is repaired by the next run of any program that takes the lock `loras`.

use std::time::Duration;

use nightshift_core::journal::{self, Change};
use nightshift_core::lock::Lock;
use nightshift_core::logfile::LogFile;
use nightshift_core::pointer::{self, Pointer};
use nightshift_core::restore::{self, Return};
use nightshift_core::store::Store;
use nightshift_core::summary::{self, RollbackSummary};
use nightshift_core::{Ctx, Exit, Failure, Outcome, deployment, metrics, release};
use nightshift_net::live::{Following, LiveServer};
use nightshift_net::news;
use nightshift_net::webhook::Status;
use serde_json::json;

use crate::Arguments;
use crate::plan::Plan;
use crate::report::Report;

/// How long another program may keep the lock before a rollback goes ahead without it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long the server is given to follow.
const FOLLOW: Duration = Duration::from_secs(5);
/// How often a plan is made anew because somebody else moved the pointer meanwhile.
const ATTEMPTS: usize = 5;

pub(crate) fn run(ctx: &Ctx, arguments: &Arguments) -> Result<Outcome, Failure> {
    let started = ctx.clock.elapsed();
    let lock = emergency_lock(ctx)?;
    let mut store = ctx.store()?;
    let unfinished = deployment::open(store.read(), &ctx.config.target)?.map(|row| row.id);
    // A plan first: with nothing to go back to nothing is touched, not even folders are made.
    Plan::make(ctx, &store, arguments)?;
    pointer::check_links(&ctx.paths)?;
    let (plan, now, mut summary) = go_back(ctx, &mut store, arguments)?;
    let log = LogFile::open(ctx, "deployment");
    let say = |line: &str| match &log {
        Ok(log) => log.say(ctx, line),
        Err(_) => ctx.printer.note(line),
    };
    say(&format!("rollback: {plan}"));
    let now_live = pointer::settle(ctx, &store, Some((summary::ROLLBACK, &json!(summary))))?;
    if now_live.generation != now.generation {
        say(&format!("generation {} is live by now: somebody else moved on", now_live.generation));
    }
    let following = follow(ctx, &now);
    let folder = pointer::live_dir(&ctx.paths, now.generation);
    summary.service_health = match &following {
        Following::Yes => "healthy",
        Following::No(_) => "not_following",
        Following::Down(_) => "unreachable",
    }
    .into();
    pointer::write_summary(&folder, summary::ROLLBACK, &json!(summary))?;
    let (server, server_detail) = match following {
        Following::Yes => ("following", None),
        Following::No(seen) => ("not_following", Some(seen)),
        Following::Down(seen) => ("down", Some(seen)),
    };
    let report = Report {
        from: summary.failed_deployment,
        to: summary.rollback_target,
        generation: now.generation,
        restores_generation: plan.to.original,
        banned: plan.bans,
        reason: plan.reason,
        link_repaired: plan.link,
        lock_held: lock.is_some(),
        unfinished_deployment: unfinished,
        server,
        server_detail,
        seconds: (ctx.clock.elapsed() - started).as_secs_f64(),
        summary: folder.join(summary::ROLLBACK).display().to_string(),
    };
    Ok(outcome(ctx, &report))
}

/// The lock `loras`, or nothing when a deployment keeps it: an emergency does not wait.
fn emergency_lock(ctx: &Ctx) -> Result<Option<Lock>, Failure> {
    match Lock::wait(&ctx.paths.lock("loras"), ctx.tool, LOCK_PATIENCE, &ctx.clock, &ctx.stop) {
        Ok(lock) => Ok(Some(lock)),
        Err(failure) if failure.exit() == Exit::Busy => {
            ctx.printer.note(&format!("{}: going ahead without it", failure.chain()));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Moves the row. A deployment that moves it at the same time is not in the way: the plan is made anew.
fn go_back(
    ctx: &Ctx,
    store: &mut Store,
    arguments: &Arguments,
) -> Result<(Plan, Pointer, RollbackSummary), Failure> {
    let mut attempt = 1;
    loop {
        let plan = Plan::make(ctx, store, arguments)?;
        let wanted = Return {
            from: &plan.from,
            to: &plan.to,
            ban: plan.bans.is_some(),
            deployment_id: None,
            why: &plan.reason,
        };
        let summary = restore::summary(ctx, store, &wanted)?;
        let moved = store.write(|tx| {
            let pointer = restore::go_back(ctx, tx, &wanted)?;
            if let Some(adapter) = plan.to.adapter_id.as_deref().filter(|_| plan.lifts_ban) {
                release::mark(tx, adapter, "good", None)?;
            }
            metrics::add(tx, metrics::ROLLBACK_TRIGGERED, "", 1.0)?;
            let change = Change {
                kind: "rollback",
                subject: &ctx.config.target,
                before: json!({"generation": plan.from.generation, "adapter_id": plan.from.adapter_id}),
                after: json!({"generation": pointer.generation, "restores": plan.to, "banned": plan.bans,
                    "ban_lifted": plan.lifts_ban}),
                why: &plan.reason,
            };
            journal::append(ctx, tx, &change)?;
            Ok(pointer)
        });
        match moved {
            Ok(pointer) => return Ok((plan, pointer, summary)),
            Err(failure) if failure.exit() == Exit::Busy && attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether the server serves what the pointer says now.
fn follow(ctx: &Ctx, now: &Pointer) -> Following {
    match LiveServer::new(ctx, FOLLOW) {
        Ok(server) => {
            server.wait_until_it_follows(&ctx.clock, FOLLOW, now.generation, now.adapter_id.as_deref())
        }
        Err(failure) => Following::Down(failure.chain()),
    }
}

fn outcome(ctx: &Ctx, report: &Report) -> Outcome {
    let ban = report.banned.as_ref().map_or(String::new(), |adapter| format!("; {adapter} is banned"));
    let what = format!("live again: {} (generation {}){ban}", report.to, report.generation);
    let detail = report.server_detail.as_deref().unwrap_or_default();
    let (exit, status, text) = match report.server {
        "following" => (Exit::Done, Status::Warning, format!("{what}; the server follows")),
        "down" => (
            Exit::Done,
            Status::Warning,
            format!("{what}; the server does not run, it will serve this when it starts"),
        ),
        _ => (
            Exit::NotRecovered,
            Status::Error,
            format!("{what} in the store and in loras/current, but the server does not follow: {detail}"),
        ),
    };
    news::tell(ctx, status, "rolled back by hand", &format!("{}: {text}", report.reason));
    Outcome::new(exit, report, text)
}
