//! One cycle: repair, judge, analyze, recommend, apply, store.
//!
//! Every step leaves the store and the config whole: a cycle that is killed is `interrupted`, and the next one
//! begins with what the store says. Nothing is applied twice (one open change a key, quota counted in the store).

use nightshift_core::clock::rfc3339;
use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure};
use serde_json::{Map, json};

use super::record::{self, AskedBy};
use super::report::{Analysis, Cycle, Improvements, Item, Judgement, Recommendations};
use super::schedule::Schedule;
use super::select::{Fate, History, Left, fate};
use super::{Orders, queue};
use crate::analyze;
use crate::change::{self, Planned, Status, Target};
use crate::judge::command::log_paths;
use crate::judge::open;
use crate::learning::{self, Metric};
use crate::read::{Options, Window, expand};
use crate::recommendation::Recommendation;
use crate::report::AnalyzeReport;

/// Runs a cycle. The exit says what a crontab wants to know: 5 something was taken back, 6 something could not be,
/// 4 something waits for a person, 3 there were no logs, else 0.
pub(super) fn cycle(
    ctx: &Ctx,
    orders: &Orders,
    schedule: &Schedule,
    asked_by: AskedBy,
) -> Result<(Cycle, Exit), Failure> {
    let _lock = ctx.lock("analyze-logs-cycle")?;
    let mut store = learning::open(ctx, &orders.db)?;
    let now = ctx.clock.now();
    let started = ctx.clock.elapsed();
    let number = if ctx.dry_run { 0 } else { record::begin(&mut store, now, asked_by)? };
    ctx.crash.reach("cycle.begun", "");
    let mut cycle = Cycle {
        cycle_number: number,
        mode: orders.settings.mode.name(),
        dry_run: ctx.dry_run,
        started_at: rfc3339(now),
        ..Cycle::default()
    };
    let outcome = steps(ctx, &mut store, orders, schedule, &mut cycle);
    cycle.duration = (ctx.clock.elapsed() - started).as_secs_f64();
    cycle.completed_at = rfc3339(ctx.clock.now());
    if let Err(failure) = &outcome {
        cycle.failure = Some(failure.chain());
    }
    if !ctx.dry_run {
        let status = if outcome.is_ok() { "completed" } else { "failed" };
        record::end(store.read(), number, status, ctx.clock.now(), &cycle)?;
    }
    outcome?;
    let exit = exit(&cycle);
    Ok((cycle, exit))
}

fn exit(cycle: &Cycle) -> Exit {
    let steps = &cycle.steps;
    if steps.judgement.needs_a_person() {
        Exit::NotRecovered
    } else if steps.judgement.reverted + steps.improvements.reverted > 0 {
        Exit::RolledBack
    } else if steps.improvements.queued > 0 && steps.improvements.applied == 0 {
        Exit::Refused
    } else if steps.analysis.entries == 0 && steps.judgement.changes.is_empty() {
        Exit::NothingToDo
    } else {
        Exit::Done
    }
}

fn steps(
    ctx: &Ctx,
    store: &mut Store,
    orders: &Orders,
    schedule: &Schedule,
    cycle: &mut Cycle,
) -> Result<(), Failure> {
    if !ctx.dry_run {
        cycle.steps.repair = change::repair(ctx, store)?;
        queue::repair(ctx, store)?;
        queue::expire(ctx, store, orders.settings.approval_days)?;
    }
    ctx.crash.reach("cycle.repaired", "");
    let paths = if orders.paths.is_empty() { log_paths(ctx) } else { orders.paths.clone() };
    judge(ctx, store, orders, &paths, cycle)?;
    ctx.crash.reach("cycle.judged", "");
    ctx.stop.check()?;
    let report = analyzed(ctx, orders, &paths, cycle)?;
    ctx.crash.reach("cycle.analyzed", "");
    let confident: Vec<Recommendation> = report
        .recommendations
        .iter()
        .filter(|advice| advice.confidence >= orders.settings.min_confidence)
        .cloned()
        .collect();
    cycle.steps.recommendations = recommendations(&report.recommendations, confident.len());
    ctx.stop.check()?;
    cycle.steps.improvements = improve(ctx, store, orders, schedule, &confident)?;
    if !ctx.dry_run {
        keep(ctx, store, &report, cycle)?;
        ctx.crash.reach("cycle.stored", "");
    }
    Ok(())
}

fn judge(
    ctx: &Ctx,
    store: &mut Store,
    orders: &Orders,
    paths: &[String],
    cycle: &mut Cycle,
) -> Result<(), Failure> {
    let (inputs, problems) = found(paths)?;
    cycle.problems.extend(problems);
    let wanted = open::Orders {
        inputs,
        options: options(ctx, &orders.zone, Window::default()),
        split: orders.split.clone().or_else(|| ctx.config.analyze_logs.judge.ab.clone()),
        only: None,
        act: !ctx.dry_run,
        rollback: orders.settings.enable_rollback,
    };
    let judged = open::open(ctx, store, wanted, &mut cycle.problems)?;
    cycle.steps.judgement = Judgement::of(judged);
    Ok(())
}

/// The inputs; a folder that is not there yet has no logs.
fn found(paths: &[String]) -> Result<(Vec<crate::read::Input>, Vec<crate::read::Problem>), Failure> {
    let there: Vec<String> = paths
        .iter()
        .filter(|path| path.contains(['*', '?', '[']) || std::path::Path::new(path).exists())
        .cloned()
        .collect();
    if there.is_empty() { Ok((Vec::new(), Vec::new())) } else { expand(&there) }
}

fn options<'a>(ctx: &'a Ctx, zone: &'a TimeZone, window: Window) -> Options<'a> {
    Options { settings: &ctx.config.analyze_logs, zone, window, threads: 0, stop: &ctx.stop }
}

/// The last days, with what stands out in them.
fn analyzed(
    ctx: &Ctx,
    orders: &Orders,
    paths: &[String],
    cycle: &mut Cycle,
) -> Result<AnalyzeReport, Failure> {
    let now = ctx.clock.now();
    let since = now.checked_sub((24 * i64::from(orders.settings.analysis_days)).hours());
    let window =
        Window { since: since.ok().map(Timestamp::as_microsecond), until: Some(now.as_microsecond()) };
    let (inputs, _) = found(paths)?;
    let report = analyze::examine(ctx, inputs, &options(ctx, &orders.zone, window))?;
    let mut by_type = std::collections::BTreeMap::new();
    for pattern in &report.patterns {
        let word = serde_json::to_value(pattern.pattern_type).unwrap_or_default();
        *by_type.entry(word.as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    for problem in &report.problems {
        if !cycle.problems.contains(problem) {
            cycle.problems.push(problem.clone());
        }
    }
    cycle.steps.analysis = Analysis {
        entries: report.entries,
        bad_lines: report.bad_lines.values().sum(),
        first_seen: report.first_seen.clone(),
        last_seen: report.last_seen.clone(),
        patterns_found: report.patterns.len(),
        patterns_by_type: by_type,
    };
    Ok(report)
}

fn recommendations(all: &[Recommendation], confident: usize) -> Recommendations {
    let mut by_priority = std::collections::BTreeMap::new();
    for advice in all {
        let word = serde_json::to_value(advice.priority).unwrap_or_default();
        *by_priority.entry(word.as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Recommendations { total: all.len(), by_priority, confident }
}

/// Plans, checks, and applies or queues, the most worthwhile first.
fn improve(
    ctx: &Ctx,
    store: &mut Store,
    orders: &Orders,
    schedule: &Schedule,
    advice: &[Recommendation],
) -> Result<Improvements, Failure> {
    let used = record::applied_since(store.read(), schedule.day(ctx.clock.now()))?;
    let quota_left = orders.settings.max_daily_improvements.saturating_sub(used);
    let mut improvements = Improvements { quota_left, ..Improvements::default() };
    let Some(file) = &orders.target else {
        let why = "no config is named: --target-config, or analyze_logs.target_config";
        for advice in advice {
            improvements.not_applicable += 1;
            improvements.items.push(item(advice, "not_applicable", why.into()));
        }
        return Ok(improvements);
    };
    if advice.is_empty() {
        return Ok(improvements);
    }
    let target = Target::open(ctx, file, orders.rules.as_deref())?;
    for advice in advice {
        ctx.stop.check()?;
        // Planned one by one: what was applied a moment ago is in the file, and in the history.
        let planned = change::plan(ctx, Some(store), &target, std::slice::from_ref(advice))?.remove(0);
        let history = History::read(store.read(), ctx.clock.now(), &orders.settings)?;
        let fate = fate(store.read(), &history, &orders.settings, &planned)?;
        improvements.dry_run += usize::from(planned.change.is_some() && orders.settings.dry_run_first);
        let item = one(ctx, store, advice, planned, fate, &mut improvements)?;
        improvements.items.push(item);
    }
    Ok(improvements)
}

fn item(advice: &Recommendation, status: &'static str, why: String) -> Item {
    Item {
        recommendation: advice.id.clone(),
        title: advice.title.clone(),
        confidence: advice.confidence,
        status,
        why,
        id: None,
        diff: String::new(),
    }
}

fn one(
    ctx: &Ctx,
    store: &mut Store,
    advice: &Recommendation,
    planned: Planned,
    fate: Fate,
    counts: &mut Improvements,
) -> Result<Item, Failure> {
    let line = |status, why: String, id| Item { id, diff: planned.diff.clone(), ..item(advice, status, why) };
    Ok(match fate {
        Fate::Leave(left, why) => {
            let (count, status) = match left {
                Left::NotApplicable => (&mut counts.not_applicable, "not_applicable"),
                Left::Failed => (&mut counts.failed, "failed"),
                Left::Deferred => (&mut counts.deferred, "deferred"),
            };
            *count += 1;
            item(advice, status, why)
        }
        Fate::Queue(why) if ctx.dry_run => line("would_queue", why.into(), None),
        Fate::Queue(why) => {
            let (id, _) = queue::put(ctx, store, &planned, why)?;
            counts.queued += 1;
            line("queued", why.into(), Some(id))
        }
        Fate::Apply if counts.quota_left == 0 => {
            counts.deferred += 1;
            item(advice, "deferred", "max_daily_improvements is used up for today".into())
        }
        Fate::Apply if ctx.dry_run => {
            counts.quota_left -= 1;
            line("would_apply", planned.reason.clone(), None)
        }
        Fate::Apply => match change::apply(ctx, store, &planned) {
            Ok(change) => {
                ctx.crash.reach("cycle.applied", "");
                counts.quota_left -= 1;
                let (count, status) = match change.status {
                    Status::Reverted => (&mut counts.reverted, "reverted"),
                    _ => (&mut counts.applied, "applied"),
                };
                *count += 1;
                line(status, change.why, Some(change.id))
            }
            // One config that cannot be written does not end the cycle; what the store cannot hold does.
            Err(failure) if matches!(failure.exit(), Exit::Refused | Exit::Failed) => {
                counts.failed += 1;
                item(advice, "failed", failure.chain())
            }
            Err(failure) => return Err(failure),
        },
    })
}

/// Stores findings, recommendations and metrics, and lets go of what is old.
fn keep(ctx: &Ctx, store: &mut Store, report: &AnalyzeReport, cycle: &mut Cycle) -> Result<(), Failure> {
    let settings: &AnalyzeLogs = &ctx.config.analyze_logs;
    let now = ctx.clock.now();
    let (start, end) = (cycle.started_at.clone(), rfc3339(now));
    let steps = &cycle.steps;
    let tried = steps.improvements.applied + steps.improvements.failed + steps.improvements.reverted;
    let judged = steps.judgement.kept + steps.judgement.reverted;
    let stored = store.write(|tx| {
        let mut stored = learning::store_analysis(tx, now, report)?.metrics;
        let mut metric = |metric_type: &str, metric_name: &str, value: f64| -> Result<(), Failure> {
            let mut metadata = Map::new();
            metadata.insert("cycle".into(), json!(cycle.cycle_number));
            learning::store_metric(
                tx,
                now,
                &Metric { metric_type, metric_name, value, start: &start, end: &end, metadata },
            )?;
            stored += 1;
            Ok(())
        };
        if tried > 0 {
            metric(
                "success_rate",
                "improvement_application",
                steps.improvements.applied as f64 / tried as f64,
            )?;
        }
        if judged > 0 {
            metric("success_rate", "improvement_kept", steps.judgement.kept as f64 / judged as f64)?;
        }
        metric("cycle_count", "feedback_loop", cycle.cycle_number as f64)?;
        learning::prune(tx, now, settings.keep_days)?;
        Ok(stored)
    })?;
    cycle.steps.metrics.stored = stored;
    Ok(())
}
