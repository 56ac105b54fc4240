//! The running loop: one process in a home, in the foreground for systemd and containers, or detached.
//!
//! The lock `analyze-logs-loop` says whether it runs and names its process; the pid file beside the store is for
//! others. `trigger` leaves a request there that the loop looks for five times a second.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nightshift_core::clock::{parse_time, rfc3339};
use nightshift_core::jiff::Timestamp;
use nightshift_core::lock::Lock;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, files, process};
use serde::Serialize;
use serde_json::{Value, json};

use super::record::{self, AskedBy, Past};
use super::run::cycle;
use super::schedule::Schedule;
use super::{Orders, queue};
use crate::change::{self, Filter, Status};
use crate::learning;

/// Between two looks at the clock and at requests.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks at a lock that is just being taken.
const GLANCE: Duration = Duration::from_millis(5);
/// `status` holds the lock for an instant: `start` waits that out.
const PATIENCE: Duration = Duration::from_secs(1);
const LOCK: &str = "analyze-logs-loop";

fn pid_file(ctx: &Ctx) -> PathBuf {
    ctx.paths.data().join("analyze-logs-loop.pid")
}

fn request_file(ctx: &Ctx) -> PathBuf {
    ctx.paths.data().join("analyze-logs-loop.trigger")
}

/// The process of the running loop.
fn running(ctx: &Ctx) -> Result<Option<i32>, Failure> {
    let path = ctx.paths.lock(LOCK);
    if !path.exists() {
        return Ok(None);
    }
    let end = ctx.clock.elapsed() + PATIENCE;
    loop {
        match Lock::take(&path, ctx.tool) {
            Ok(_) => return Ok(None),
            Err(failure) if failure.exit() != Exit::Busy => return Err(failure),
            Err(_) => {}
        }
        let holder = files::read_text(&path)?;
        let pid = holder.split_once("(pid ").and_then(|(_, rest)| rest.split_once(')'));
        if let Some(pid) = pid.and_then(|(pid, _)| pid.parse().ok()) {
            return Ok(Some(pid));
        }
        // Who takes the lock writes its name an instant later.
        if ctx.clock.elapsed() >= end || !ctx.clock.sleep(GLANCE, &ctx.stop) {
            return Err(Failure::failed(format!("{} names no process", path.display())));
        }
    }
}

/// `loop start`.
pub(super) fn start(ctx: &Ctx, orders: &Orders, schedule: &Schedule) -> Result<Outcome, Failure> {
    let _lock = Lock::wait(&ctx.paths.lock(LOCK), ctx.tool, PATIENCE, &ctx.clock, &ctx.stop)?;
    files::write_atomic(&pid_file(ctx), format!("{}\n", std::process::id()).as_bytes())?;
    let ended = serve(ctx, orders, schedule);
    files::remove_file(&pid_file(ctx))?;
    let cycles = ended?;
    let text = format!("the loop has stopped after {cycles} cycles");
    Ok(Outcome::done(&json!({"cycles": cycles}), text).status("stopped"))
}

/// Cycles until a stop is asked for.
fn serve(ctx: &Ctx, orders: &Orders, schedule: &Schedule) -> Result<u64, Failure> {
    let mut due = first(ctx, orders, schedule)?;
    let told = due.map_or("never".to_owned(), rfc3339);
    ctx.printer.note(&format!("the loop runs ({}), next cycle {told}", orders.settings.mode.name()));
    // A request of before the start was for a loop that is gone.
    files::remove_file(&request_file(ctx))?;
    let mut cycles = 0;
    while ctx.stop.requested().is_none() {
        let asked_by = if request_file(ctx).exists() {
            files::remove_file(&request_file(ctx))?;
            AskedBy::Trigger
        } else if due.is_some_and(|due| ctx.clock.now() >= due) {
            AskedBy::Schedule
        } else {
            ctx.clock.sleep(TICK, &ctx.stop);
            continue;
        };
        match cycle(ctx, orders, schedule, asked_by) {
            Ok((report, _)) => {
                cycles += 1;
                ctx.printer.out(report.text().trim_end());
                ctx.printer.json(&serde_json::to_value(&report).or_fail(|| "cannot print the cycle".into())?);
            }
            Err(_) if ctx.stop.requested().is_some() => break,
            // The next one may go well: a disk that was full, a cycle that somebody else runs.
            Err(failure) => {
                ctx.printer.error(&format!("analyze-logs: error: the cycle failed: {}", failure.chain()));
            }
        }
        due = schedule.next(ctx.clock.now());
    }
    Ok(cycles)
}

/// The first cycle: now, if one was due since the last that was completed, else the next on schedule.
fn first(ctx: &Ctx, orders: &Orders, schedule: &Schedule) -> Result<Option<Timestamp>, Failure> {
    let now = ctx.clock.now();
    let store = learning::open(ctx, &orders.db)?;
    let (_, last) = record::completed(store.read())?;
    let missed = last.as_deref().and_then(parse_time).and_then(|last| schedule.next(last));
    Ok(match missed {
        Some(missed) if missed <= now => Some(now),
        _ => schedule.next(now),
    })
}

/// `loop start --detach`: the same command line without `--detach`, in a process of its own.
pub(super) fn detach(ctx: &Ctx) -> Result<Outcome, Failure> {
    use std::os::unix::process::CommandExt;
    if let Some(pid) = running(ctx)? {
        return Err(Failure::busy(format!("the loop runs already (pid {pid})")));
    }
    let program = std::env::current_exe().or_fail(|| "cannot find this program's own file".into())?;
    let log = ctx.paths.data().join("analyze-logs-loop.log");
    let output = || -> Result<Stdio, Failure> { Ok(files::open_append(&log)?.into()) };
    let mut command = std::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"))
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .process_group(0);
    let mut child = command.spawn().or_fail(|| "cannot start the loop".into())?;
    let end = ctx.clock.elapsed() + Duration::from_secs(20);
    while ctx.clock.elapsed() < end {
        if let Some(status) = child.try_wait().or_fail(|| "cannot wait for the loop".into())? {
            let code = status.code().and_then(Exit::from_code).unwrap_or(Exit::Failed);
            return Err(Failure::new(code, format!("the loop ended at once: see {}", log.display())));
        }
        if running(ctx)?.is_some_and(|pid| pid.unsigned_abs() == child.id()) {
            let text = format!("the loop runs (pid {}), its output goes to {}", child.id(), log.display());
            return Ok(Outcome::done(&json!({"pid": child.id(), "log": log}), text).status("started"));
        }
        ctx.clock.sleep(TICK, &ctx.stop);
    }
    Err(Failure::failed(format!("the loop did not start within 20 s: see {}", log.display())))
}

/// `loop stop`.
pub(super) fn stop(ctx: &Ctx, patience: Duration) -> Result<Outcome, Failure> {
    let Some(pid) = running(ctx)? else {
        files::remove_file(&pid_file(ctx))?;
        return Err(Failure::nothing("no loop runs in this home"));
    };
    process::signal(pid, "TERM")?;
    let end = ctx.clock.elapsed() + patience;
    while running(ctx)? == Some(pid) {
        if ctx.clock.elapsed() >= end || !ctx.clock.sleep(TICK, &ctx.stop) {
            return Err(Failure::failed(format!("the loop (pid {pid}) was asked to stop and still runs"))
                .hint("it ends after the step that it is at; a second SIGTERM ends it at once"));
        }
    }
    Ok(Outcome::done(&json!({"pid": pid}), format!("the loop (pid {pid}) has stopped")).status("stopped"))
}

/// `loop trigger`: by the running loop, or here when none runs.
pub(super) fn trigger(
    ctx: &Ctx,
    orders: &Orders,
    schedule: &Schedule,
    wait: Option<Duration>,
) -> Result<Outcome, Failure> {
    let Some(pid) = running(ctx)? else {
        return once(ctx, orders, schedule, AskedBy::Trigger);
    };
    let store = learning::open(ctx, &orders.db)?;
    let before = record::newest(store.read())?.map_or(0, |past| past.cycle_number);
    files::write_atomic(&request_file(ctx), b"a cycle, please\n")?;
    let Some(patience) = wait else {
        let text = format!("the loop (pid {pid}) was asked for a cycle");
        return Ok(Outcome::done(&json!({"pid": pid}), text).status("asked"));
    };
    let end = ctx.clock.elapsed() + patience;
    while ctx.clock.elapsed() < end {
        if !request_file(ctx).exists()
            && let Some(past) = record::ended_after(store.read(), before)?
        {
            return Ok(told(&past));
        }
        if running(ctx)? != Some(pid) {
            return Err(Failure::failed(format!("the loop (pid {pid}) ended before its cycle did")));
        }
        if !ctx.clock.sleep(TICK, &ctx.stop) {
            break;
        }
    }
    ctx.stop.check()?;
    Err(Failure::new(Exit::Budget, "the cycle has not ended yet")
        .hint("analyze-logs loop status shows how it went"))
}

/// A cycle that another process ran.
fn told(past: &Past) -> Outcome {
    let exit = if past.status == "completed" { Exit::Done } else { Exit::Failed };
    let text = format!("cycle {} {}", past.cycle_number, past.status);
    let report = past.result.clone().unwrap_or_else(|| json!({"cycle_number": past.cycle_number}));
    Outcome::new(exit, &report, text).status(past.status.clone())
}

/// `loop run`: one cycle, here and now.
pub(super) fn once(
    ctx: &Ctx,
    orders: &Orders,
    schedule: &Schedule,
    asked_by: AskedBy,
) -> Result<Outcome, Failure> {
    let (report, exit) = cycle(ctx, orders, schedule, asked_by)?;
    let status = match exit {
        Exit::Refused => "approval_needed",
        Exit::Done => "completed",
        exit => exit.status(),
    };
    let text = report.text();
    Ok(Outcome::new(exit, &report, text.trim_end()).status(status))
}

#[derive(Serialize)]
struct StatusReport {
    running: bool,
    pid: Option<i32>,
    mode: &'static str,
    analysis_frequency: String,
    time_zone: String,
    /// When a running loop has its next cycle.
    next_run: Option<String>,
    /// Cycles that were completed.
    cycles: u64,
    last_cycle: Option<Past>,
    /// Applied changes that wait for a verdict.
    open_changes: usize,
    /// Changes that wait for a person.
    waiting_for_approval: usize,
    quota_left_today: u32,
}

/// `loop status`: exit 0 when a loop runs, 3 when none does.
pub(super) fn status(
    ctx: &Ctx,
    orders: &Orders,
    schedule: &Schedule,
    zone: &str,
) -> Result<Outcome, Failure> {
    let pid = running(ctx)?;
    let now = ctx.clock.now();
    let mut report = StatusReport {
        running: pid.is_some(),
        pid,
        mode: orders.settings.mode.name(),
        analysis_frequency: orders.settings.analysis_frequency.clone(),
        time_zone: zone.to_owned(),
        next_run: schedule.next(now).filter(|_| pid.is_some()).map(rfc3339),
        cycles: 0,
        last_cycle: None,
        open_changes: 0,
        waiting_for_approval: 0,
        quota_left_today: orders.settings.max_daily_improvements,
    };
    if learning::locate(ctx, &orders.db).exists() {
        let store = learning::open(ctx, &orders.db)?;
        report.cycles = record::completed(store.read())?.0;
        report.last_cycle = record::newest(store.read())?;
        let open = Filter { status: Some(Status::Applied), ..Filter::default() };
        report.open_changes = change::list(store.read(), open)?.len();
        report.waiting_for_approval = queue::list(store.read(), false)?.len();
        let used = record::applied_since(store.read(), schedule.day(now))?;
        report.quota_left_today = report.quota_left_today.saturating_sub(used);
    }
    let text = report.text();
    let exit = if report.running { Exit::Done } else { Exit::NothingToDo };
    let word = if report.running { "running" } else { "stopped" };
    Ok(Outcome::new(exit, &report, text).status(word))
}

impl StatusReport {
    fn text(&self) -> String {
        let run = match self.pid {
            Some(pid) => format!("running (pid {pid})"),
            None => "not running".to_owned(),
        };
        let next = self.next_run.as_deref().unwrap_or("-");
        let last = self.last_cycle.as_ref().map_or("none".to_owned(), |past| {
            let counts =
                past.result.as_ref().map_or(Value::Null, |result| result["steps"]["improvements"].clone());
            let count = |name: &str| counts[name].as_u64().unwrap_or(0);
            format!(
                "{} {} at {} (applied {}, queued {}, reverted {})",
                past.cycle_number,
                past.status,
                past.completed_at.as_deref().unwrap_or(&past.started_at),
                count("applied"),
                count("queued"),
                count("reverted")
            )
        });
        format!(
            "{run}, mode {}, {} ({})\nnext cycle: {next}\nlast cycle: {last}\ncycles completed: {}\n\
             changes waiting for a verdict: {}\nchanges waiting for approval: {}\nquota left today: {}",
            self.mode,
            self.analysis_frequency,
            self.time_zone,
            self.cycles,
            self.open_changes,
            self.waiting_for_approval,
            self.quota_left_today
        )
    }
}
