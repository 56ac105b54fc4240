//! What each step does, and what its exit code means for the night.

use std::process::Command;
use std::time::Duration;

use nightshift_core::clock::{Window, parse_time, rfc3339, zone};
use nightshift_core::{Ctx, Exit, Failure, files, pointer, process};
use nightshift_net::live::{Kind, LiveServer};
use serde_json::{Value, json};

use crate::night::Night;
use crate::{cleanup, record};

/// The steps in order.
pub(crate) const STEPS: [&str; 6] = ["preflight", "harvest", "train", "deploy", "validate", "cleanup"];

/// How a step ended.
#[derive(Debug)]
pub(crate) struct StepEnd {
    /// The exit of the program behind it.
    pub(crate) exit: Exit,
    /// Its report.
    pub(crate) result: Value,
    /// True when its deadline ended it.
    pub(crate) timed_out: bool,
    /// Why, for a person, when it was not simply done.
    pub(crate) why: Option<String>,
}

impl StepEnd {
    fn done(result: Value) -> Self {
        Self { exit: Exit::Done, result, timed_out: false, why: None }
    }
}

/// Minutes a step may take, and whether to skip it, given what the night knows.
pub(crate) fn limit(ctx: &Ctx, step: &str) -> Duration {
    let nightly = &ctx.config.nightly;
    let minutes = match step {
        "harvest" => nightly.harvest_minutes,
        "train" => nightly.train_minutes,
        "deploy" => nightly.deploy_minutes,
        _ => nightly.total_minutes,
    };
    Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX)
}

/// Why a step has nothing to do tonight.
pub(crate) fn reason_to_skip(night: &Night<'_>, step: &str) -> Option<String> {
    match step {
        "train" => match night.result("harvest")["accepted"].as_u64() {
            Some(0) | None => Some("no new training rows".into()),
            Some(_) => None,
        },
        "deploy" => night.result("train")["adapter_id"].is_null().then(|| "no new adapter".into()),
        "validate" => {
            let moved = night.step_state("deploy").is_some_and(|state| state == "done");
            (!moved).then(|| "nothing was deployed".into())
        }
        _ => None,
    }
}

/// Runs a step within a limit.
pub(crate) fn run(night: &mut Night<'_>, step: &str, limit: Duration) -> Result<StepEnd, Failure> {
    match step {
        "preflight" => preflight(night, limit),
        "harvest" => harvest(night, limit),
        "train" => program(night, "train-lora", &[], limit),
        "deploy" => {
            let adapter = night.result("train")["adapter_id"].as_str().unwrap_or_default().to_owned();
            program(night, "deploy", &[&adapter], limit)
        }
        "validate" => validate(night),
        _ => cleanup::run(night.ctx, &mut night.store).map(StepEnd::done),
    }
}

/// Starts a sibling program with `--json` and waits for it.
fn program(night: &Night<'_>, name: &str, arguments: &[&str], limit: Duration) -> Result<StepEnd, Failure> {
    let mut command: Command = night.ctx.sibling(name)?;
    command.arg("--json").args(arguments);
    let ended = process::run(command, limit, &night.ctx.clock, &night.ctx.stop)?;
    for line in ended.stderr.lines().filter(|line| !line.trim().is_empty()) {
        night.log.say(night.ctx, &format!("  {line}"));
    }
    let result = ended.json().unwrap_or(Value::Null);
    let message = result["error"]["message"].as_str().map(str::to_owned);
    let (exit, why) = if ended.timed_out {
        (Exit::Budget, Some(format!("{name} was ended after {:.0} s, its limit", ended.seconds)))
    } else {
        match Exit::from_code(ended.code) {
            Some(exit) => (exit, message),
            None => (Exit::Failed, Some(format!("{name} died with code {}", ended.code))),
        }
    };
    Ok(StepEnd { exit, result, timed_out: ended.timed_out, why })
}

fn preflight(night: &Night<'_>, limit: Duration) -> Result<StepEnd, Failure> {
    let ctx = night.ctx;
    let free = files::disk_free(ctx.paths.home())?;
    let needed = (ctx.config.nightly.min_disk_gb * 1e9) as u64;
    if free < needed {
        return Err(Failure::failed(format!(
            "{:.1} GB free on the disk of {}, {:.1} GB are needed (nightly.min_disk_gb)",
            free as f64 / 1e9,
            ctx.paths.home().display(),
            ctx.config.nightly.min_disk_gb
        ))
        .hint("free some space, or lower nightly.min_disk_gb"));
    }
    let server = LiveServer::new(ctx, Duration::from_secs(30))?;
    let health = server.health().map_err(|error| {
        Failure::upstream(format!("the server is not healthy: {error}"))
            .hint("start serve, or set deploy.server_url")
    })?;
    // A deployment that was cut off is finished or undone before anything new begins.
    let recovered = program(night, "deploy", &["--recover"], limit)?;
    if !matches!(recovered.exit, Exit::Done | Exit::NothingToDo) {
        return Ok(recovered);
    }
    let result = json!({
        "disk_free_bytes": free, "server": health.status, "generation": health.generation, "adapter": health.adapter,
        "recovered": recovered.result,
    });
    Ok(StepEnd::done(result))
}

fn harvest(night: &Night<'_>, limit: Duration) -> Result<StepEnd, Failure> {
    let imported = program(night, "memory", &["import"], limit)?;
    if !matches!(imported.exit, Exit::Done | Exit::NothingToDo) {
        return Ok(imported);
    }
    let since = missed(night)?;
    let arguments: Vec<&str> = match &since {
        Some((from, to)) => vec!["--since", from, "--until", to],
        None => Vec::new(),
    };
    program(night, "harvest", &arguments, limit)
}

/// The span of a night that follows a gap: from where the last harvest ended to the end of yesterday.
/// `None` when yesterday alone is due.
fn missed(night: &Night<'_>) -> Result<Option<(String, String)>, Failure> {
    let ctx = night.ctx;
    let yesterday = Window::yesterday(ctx.clock.now(), &zone(&ctx.config.time_zone)?)?;
    for earlier in record::nights(night.store.read(), &ctx.config.target, 30)? {
        if earlier.run_key == night.run_key {
            continue;
        }
        let step = record::step(night.store.read(), &earlier.run_key, "harvest")?;
        let until = step.filter(|step| step.state == "done" || step.state == "skipped");
        let until = until.and_then(|step| parse_time(step.result["until"].as_str()?));
        if let Some(until) = until {
            let gap = until < yesterday.from;
            return Ok(gap.then(|| (rfc3339(until), rfc3339(yesterday.to))));
        }
    }
    Ok(None)
}

/// The server answers, and with the adapter that the pointer names.
fn validate(night: &Night<'_>) -> Result<StepEnd, Failure> {
    let ctx = night.ctx;
    let pointer = pointer::read(night.store.read(), &ctx.config.target)?;
    let wanted = pointer.effective(&ctx.clock).map(str::to_owned);
    let server = LiveServer::new(ctx, Duration::from_secs(60))?;
    let health = server.health().map_err(|error| {
        Failure::new(Exit::NotRecovered, format!("after the deployment the server is not healthy: {error}"))
            .hint("look at the server's log; `rollback` goes back to the state before")
    })?;
    if !health.serves(pointer.generation, wanted.as_deref()) {
        return Err(Failure::new(
            Exit::NotRecovered,
            format!(
                "the server answers with {:?} of generation {}, the pointer names {wanted:?} of generation {}",
                health.adapter, health.generation, pointer.generation
            ),
        )
        .hint("restart serve: it reads the pointer at its start"));
    }
    let question = [nightshift_core::interaction::Message::user("Are you there?")];
    let answer = server.ask(Kind::Probe, None, &question, 16).map_err(|error| {
        Failure::new(Exit::NotRecovered, format!("after the deployment the server does not answer: {error}"))
    })?;
    Ok(StepEnd::done(json!({
        "generation": pointer.generation, "adapter": answer.adapter, "answer_ms": answer.elapsed.as_secs_f64() * 1e3,
    })))
}
