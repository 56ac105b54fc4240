//! One night: begin or resume, step by step, until it ends.

use std::time::Duration;

use nightshift_core::clock::zone;
use nightshift_core::lock::Lock;
use nightshift_core::logfile::LogFile;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, Outcome, metrics};
use serde_json::{Map, Value, json};

use crate::notify::{self, News};
use crate::record;
use crate::steps::{self, STEPS, StepEnd};

/// A running night.
#[derive(Debug)]
pub(crate) struct Night<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) log: LogFile,
    pub(crate) store: Store,
    pub(crate) run_key: String,
    pub(crate) resumed: bool,
    results: Map<String, Value>,
    states: Map<String, Value>,
    _lock: Lock,
}

impl Night<'_> {
    /// What a step reported.
    pub(crate) fn result(&self, step: &str) -> &Value {
        self.results.get(step).unwrap_or(&Value::Null)
    }

    /// How a step ended.
    pub(crate) fn step_state(&self, step: &str) -> Option<&str> {
        self.states.get(step).and_then(Value::as_str)
    }
}

/// How the night goes on after a step.
enum Next {
    GoOn,
    End(Exit, String),
}

pub(crate) fn run(ctx: &Ctx) -> Result<Outcome, Failure> {
    let date = ctx.clock.now().to_zoned(zone(&ctx.config.time_zone)?).date().to_string();
    let run_key = format!("{}/{date}", ctx.config.target);
    if ctx.dry_run {
        return plan(ctx, &run_key);
    }
    let lock = ctx.lock("nightly")?;
    let mut store = ctx.store()?;
    let known = record::night(store.read(), &run_key)?;
    if let Some(night) = known.as_ref().filter(|night| night.state == "ended") {
        let summary = night.summary.clone().unwrap_or_default();
        let fields = json!({"run_key": run_key, "date": date, "summary": summary, "night": night.result});
        return Ok(Outcome::done(&fields, format!("already done: {summary}")).status("already_done"));
    }
    let log = LogFile::open(ctx, "nightly")?;
    record::begin(ctx, &mut store, &run_key, &date)?;
    let resumed = known.is_some();
    let mut night =
        Night { ctx, log, store, run_key, resumed, results: Map::new(), states: Map::new(), _lock: lock };
    night.log.say(ctx, &format!("night {}{}", night.run_key, if resumed { ", resumed" } else { "" }));
    let (exit, summary) = go(&mut night)?;
    conclude(&mut night, &date, exit, &summary)
}

fn go(night: &mut Night<'_>) -> Result<(Exit, String), Failure> {
    let ctx = night.ctx;
    let started = ctx.clock.elapsed();
    let whole = Duration::try_from_secs_f64(ctx.config.nightly.total_minutes * 60.0).unwrap_or(Duration::MAX);
    let mut ending: Option<(Exit, String)> = None;
    for step in STEPS {
        if let Some(done) = record::step(night.store.read(), &night.run_key, step)?
            && matches!(done.state.as_str(), "done" | "skipped")
        {
            night.log.say(ctx, &format!("{step}: {} before", done.state));
            keep(night, step, &done.state, done.result);
            continue;
        }
        // After an ending the night only cleans up.
        let reason = ending.as_ref().filter(|_| step != "cleanup").map(|(_, why)| why.clone());
        if let Some(why) = reason.or_else(|| steps::reason_to_skip(night, step)) {
            finish(night, step, "skipped", None, json!({"reason": why}))?;
            continue;
        }
        let left = whole.saturating_sub(ctx.clock.elapsed() - started);
        if left.is_zero() {
            return Ok((
                Exit::Budget,
                format!(
                    "stopped before {step}: the night's {} minutes are over",
                    ctx.config.nightly.total_minutes
                ),
            ));
        }
        record::begin_step(ctx, &mut night.store, &night.run_key, step)?;
        let begun = ctx.clock.elapsed();
        let end = match steps::run(night, step, steps::limit(ctx, step).min(left)) {
            Ok(end) => end,
            Err(failure) => StepEnd {
                exit: failure.exit(),
                result: json!({"error": {"message": failure.chain(), "hints": failure.hints()}}),
                timed_out: false,
                why: Some(failure.chain()),
            },
        };
        let seconds = (ctx.clock.elapsed() - begun).as_secs_f64();
        night.log.say(ctx, &format!("{step}: {} in {seconds:.1} s", end.exit.status()));
        match after(night, step, end)? {
            Next::GoOn => {}
            Next::End(exit, why) if is_final(exit) => {
                ending = Some((exit, why));
            }
            Next::End(exit, why) => return Ok((exit, why)),
        }
        ctx.crash.reach("nightly.step_ended", step);
    }
    Ok(ending.unwrap_or_else(|| (Exit::Done, sentence(night))))
}

/// The night has ended for good, whatever the result; others are resumed.
const fn is_final(exit: Exit) -> bool {
    matches!(exit, Exit::Done | Exit::NothingToDo | Exit::Refused | Exit::RolledBack)
}

/// Records a step's end, sends the news, and says how to go on.
fn after(night: &mut Night<'_>, step: &str, end: StepEnd) -> Result<Next, Failure> {
    let why = end.why.clone();
    let code = Some(i32::from(end.exit.code()));
    let said = |fallback: &str| why.clone().unwrap_or_else(|| fallback.to_owned());
    if let Some(exit) = night.ctx.stop.requested() {
        finish(night, step, "stopped", code, end.result)?;
        return Ok(Next::End(exit, format!("stopped by a signal during {step}; run again to resume")));
    }
    if end.timed_out {
        finish(night, step, "stopped", code, end.result)?;
        notify::send(night, News::Error, &format!("{step} was stuck: {}", said("")));
        return Ok(Next::End(Exit::Budget, format!("stopped: {}", said("a step reached its limit"))));
    }
    match (step, end.exit) {
        (_, Exit::Done) => {
            finish(night, step, "done", code, end.result)?;
            if step == "train" {
                let text = format!(
                    "training completed: {}",
                    night.result("train")["adapter_id"].as_str().unwrap_or("?")
                );
                notify::send(night, News::Trained, &text);
            }
            if step == "deploy" {
                let text = sentence(night);
                notify::send(night, News::Deployed, &text);
            }
            Ok(Next::GoOn)
        }
        ("harvest", Exit::NothingToDo) => {
            let mut result = end.result;
            if result["accepted"].is_null() {
                result["accepted"] = json!(0);
            }
            let text = harvest_sentence(&result, &said("no failures to harvest"));
            finish(night, step, "done", code, result)?;
            Ok(Next::End(Exit::NothingToDo, text))
        }
        ("harvest", Exit::Refused) => {
            let text = format!("no adapter: all {} rows are in quarantine", end.result["quarantined"]);
            finish(night, step, "done", code, end.result)?;
            Ok(Next::End(Exit::Refused, text))
        }
        ("train", Exit::NothingToDo | Exit::Refused) => {
            finish(night, step, "skipped", code, end.result)?;
            Ok(Next::End(end.exit, said("no adapter: too few rows")))
        }
        ("deploy", Exit::Refused) => {
            finish(night, step, "skipped", code, end.result)?;
            let text = format!("refused: {}", said(&gate_sentence(night.result("deploy"))));
            notify::send(night, News::Refused, &text);
            Ok(Next::End(Exit::Refused, text))
        }
        ("deploy", Exit::RolledBack) => {
            finish(night, step, "skipped", code, end.result)?;
            let reason = night.result("deploy")["reason"].as_str().map(str::to_owned);
            let text = format!("taken back: {}", reason.unwrap_or_else(|| said("the adapter regressed")));
            notify::send(night, News::RolledBack, &text);
            Ok(Next::End(Exit::RolledBack, text))
        }
        _ => {
            finish(night, step, "failed", code, end.result)?;
            let text = format!("{step} failed: {}", said(end.exit.status()));
            notify::send(night, News::Error, &text);
            Ok(Next::End(end.exit, text))
        }
    }
}

fn keep(night: &mut Night<'_>, step: &str, state: &str, result: Value) {
    night.results.insert(step.into(), result);
    night.states.insert(step.into(), state.into());
}

fn finish(
    night: &mut Night<'_>,
    step: &str,
    state: &str,
    code: Option<i32>,
    result: Value,
) -> Result<(), Failure> {
    record::end_step(night.ctx, &mut night.store, &night.run_key, step, (state, code, &result))?;
    keep(night, step, state, result);
    Ok(())
}

fn harvest_sentence(result: &Value, otherwise: &str) -> String {
    match (result["asked"].as_u64(), result["agreed"].as_u64()) {
        (Some(asked), Some(agreed)) if asked > 0 => {
            format!("no adapter: {agreed} of {asked} answers agreed on")
        }
        _ => format!("no adapter: {otherwise}"),
    }
}

fn gate_sentence(deploy: &Value) -> String {
    let gate = &deploy["gate"];
    if gate.is_null() {
        return "the adapter was not deployed".into();
    }
    format!(
        "gate {} on {} questions: {} won, {} lost, p {}",
        gate["verdict"].as_str().unwrap_or("?"),
        gate["n"],
        gate["won"],
        gate["lost"],
        gate["p_value"]
    )
}

/// What the night did, in a sentence.
fn sentence(night: &Night<'_>) -> String {
    let deploy = night.result("deploy");
    if deploy["status"].is_null() {
        return harvest_sentence(night.result("harvest"), "nothing to do");
    }
    let adapter = night.result("train")["adapter_id"].as_str().unwrap_or("?");
    let status = deploy["status"].as_str().unwrap_or("deployed");
    format!("{status} {adapter}: {}", gate_sentence(deploy))
}

fn conclude(night: &mut Night<'_>, date: &str, exit: Exit, summary: &str) -> Result<Outcome, Failure> {
    let ctx = night.ctx;
    let state = match exit {
        exit if is_final(exit) => "ended",
        Exit::Budget | Exit::Interrupted | Exit::Terminated => "stopped",
        _ => "failed",
    };
    let report = json!({
        "run_key": night.run_key,
        "date": date,
        "result": exit.status(),
        "summary": summary,
        "resumed": night.resumed,
        "steps": night.states,
        "harvest": night.result("harvest"),
        "train": night.result("train"),
        "deploy": night.result("deploy"),
        "validate": night.result("validate"),
        "cleanup": night.result("cleanup"),
        "log": night.log.path(),
    });
    record::end(ctx, &mut night.store, &night.run_key, (state, summary, &report))?;
    night
        .store
        .write(|tx| metrics::add(tx, metrics::NIGHTS, &metrics::label("result", exit.status()), 1.0))?;
    night.log.say(ctx, &format!("{date}: {summary}"));
    // The single programs answer 3 and 4; a night that had nothing to do, or whose gate refused, went well.
    let code = if matches!(exit, Exit::NothingToDo | Exit::Refused) { Exit::Done } else { exit };
    let status = if state == "ended" { exit.status() } else { state };
    Ok(Outcome::new(code, &report, format!("{date}: {summary}")).status(status))
}

fn plan(ctx: &Ctx, run_key: &str) -> Result<Outcome, Failure> {
    let store = Store::open_read_only(&ctx.paths.store())?;
    let mut text = format!("night {run_key}, at most {} minutes\n", ctx.config.nightly.total_minutes);
    let mut steps = Vec::new();
    for step in STEPS {
        let known =
            store.as_ref().map(|store| record::step(store.read(), run_key, step)).transpose()?.flatten();
        let state = known.map_or_else(|| "due".to_owned(), |row| row.state);
        let minutes = steps::limit(ctx, step).as_secs_f64() / 60.0;
        text.push_str(&format!("  {step:<10} {state:<8} at most {minutes} minutes\n"));
        steps.push(json!({"step": step, "state": state, "limit_minutes": minutes}));
    }
    Ok(Outcome::done(&json!({"run_key": run_key, "steps": steps}), text))
}
