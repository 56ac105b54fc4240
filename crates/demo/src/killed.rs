//! One night that is killed with SIGKILL again and again: after each of its steps, in mid-training, and while its
//! deployment is at its most delicate. After every kill the invariants of the home are checked.

use std::process::Stdio;
use std::time::Duration;

use nightshift_core::audit::audit;
use nightshift_core::config::Config;
use nightshift_core::paths::Paths;
use nightshift_core::{Ctx, Failure, OrFail, env, files, process};
use serde_json::Value;

use crate::home::Home;
use crate::nights::Story;
use crate::report::KilledNight;
use crate::stage::{Stage, clock};

/// How long a start of the night may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a shell makes of a death by SIGKILL.
const KILLED: i32 = 128 + 9;

/// When the night is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// `nightly` itself, when it has recorded the end of this step.
    After(&'static str),
    /// `nightly` itself, once the training has a checkpoint; the training dies with it.
    InTraining,
    /// `deploy`, at this crash point.
    Deploy(&'static str),
}

/// In the order in which a night comes by.
const MOMENTS: [Moment; 10] = [
    Moment::After("preflight"),
    Moment::After("harvest"),
    Moment::InTraining,
    Moment::After("train"),
    Moment::Deploy("deploy.gated"),
    Moment::Deploy("deploy.pointer_moved"),
    Moment::Deploy("deploy.watched"),
    Moment::After("deploy"),
    Moment::After("validate"),
    Moment::After("cleanup"),
];

/// Plays it in a copy of the evening.
pub fn play(stage: &Stage<'_>, story: &Story) -> Result<KilledNight, Failure> {
    let (evening, day) = &story.evening;
    let home = evening.copy_to(&stage.dir.join("incidents/killed"))?;
    let server = stage.serve(&home, &stage.council(), *day)?;
    let mut killed = KilledNight::default();
    let mut calls_before_repeats = stage.council_requests()?;
    let next_day = stage.sets.day(stage.seed, day + 1);
    let (last, _) = stage.with_crowd((&home, &server.url()), &next_day, || {
        for moment in MOMENTS {
            let Some(words) = kill(stage, &home, *day, moment)? else { break };
            let found = problems(stage.ctx, &home, false)?;
            killed.violations.extend(found.into_iter().map(|problem| format!("{words}: {problem}")));
            killed.moments.push(words);
            if matches!(moment, Moment::After("harvest")) {
                calls_before_repeats = stage.council_requests()?;
            }
        }
        home.run(stage.ctx, "nightly", &[], &clock(day + 1), &[0, 5])
    })?;
    killed.violations.extend(problems(stage.ctx, &home, true)?);
    killed.repeated_council_calls = stage.council_requests()? - calls_before_repeats;
    server.stop()?;
    killed.resumed = ended(&last.json);
    killed.same_adapter = match (adapter(&last.json), story.evening_adapter.as_deref()) {
        (Some(here), Some(undisturbed)) => Some(here == undisturbed),
        _ => None,
    };
    killed.killed_after = killed.moments.join(", ");
    Ok(killed)
}

/// The night's report, also where the night had ended before this start.
fn night(report: &Value) -> &Value {
    if report["night"].is_object() { &report["night"] } else { report }
}

fn adapter(report: &Value) -> Option<&str> {
    night(report)["train"]["adapter_id"].as_str()
}

/// Whether the night went to its end with its own harvest and training.
fn ended(report: &Value) -> bool {
    night(report)["steps"]["harvest"] == "done" && adapter(report).is_some()
}

/// What does not agree in a home.
fn problems(ctx: &Ctx, home: &Home, idle: bool) -> Result<Vec<String>, Failure> {
    let mut there = ctx.clone();
    there.paths = Paths::new(home.dir().to_owned(), None);
    there.config = Config::default();
    audit(&there, &home.store()?, idle)
}

/// Starts the night and kills it at a moment; in words when. `None` when it ended without coming by.
fn kill(stage: &Stage<'_>, home: &Home, day: usize, moment: Moment) -> Result<Option<String>, Failure> {
    let mut command = home.command("nightly", &["--json"], &clock(day + 1))?;
    let (point, words, dies) = match moment {
        Moment::InTraining => return kill_in_training(stage, home, day),
        Moment::After(step) => (format!("nightly.step_ended:{step}"), format!("after {step}"), KILLED),
        Moment::Deploy(point) => (point.to_owned(), format!("at {point}"), 1),
    };
    command.env(env::NIGHTSHIFT_CRASH_AT, point);
    let ended = process::run(command, PATIENCE, &stage.ctx.clock, &stage.ctx.stop)?;
    stage.ctx.stop.check()?;
    match ended.code {
        code if code == dies => Ok(Some(words)),
        0 | 5 => Ok(None),
        code => Err(Failure::failed(format!(
            "the night to be killed {words} ended with {code}:\n{}",
            ended.stderr.trim_end()
        ))),
    }
}

/// Starts the night and kills it once its training has written a checkpoint.
fn kill_in_training(stage: &Stage<'_>, home: &Home, day: usize) -> Result<Option<String>, Failure> {
    let mut command = home.command("nightly", &["--json"], &clock(day + 1))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::prepare(&mut command);
    let mut child = command.spawn().or_fail(|| "cannot start nightly".into())?;
    let began = stage.ctx.clock.elapsed();
    loop {
        stage.ctx.stop.check()?;
        if let Some(checkpoint) = newest_checkpoint(home)? {
            child.kill().or_fail(|| "cannot kill nightly".into())?;
            child.wait().or_fail(|| "cannot wait for nightly".into())?;
            return Ok(Some(format!("in training ({checkpoint})")));
        }
        let ended = child.try_wait().or_fail(|| "cannot wait for nightly".into())?;
        if ended.is_some() || stage.ctx.clock.elapsed() - began > PATIENCE {
            let _ = process::end(&mut child, &stage.ctx.clock);
            return Err(Failure::failed("the night to be killed ended before its training had a checkpoint"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The newest whole checkpoint of a training under way.
fn newest_checkpoint(home: &Home) -> Result<Option<String>, Failure> {
    for folder in files::list(&home.dir().join("sandbox_data/work"))? {
        let steps = files::list(&folder)?;
        let mut names = steps.iter().filter_map(|path| path.file_name()?.to_str());
        if let Some(name) = names.rfind(|name| name.starts_with("step-")) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}
