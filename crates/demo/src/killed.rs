//! A night that is killed in the middle of its training, and started again.

use std::process::Stdio;
use std::time::Duration;

use nightshift_core::{Failure, OrFail, files, process};

use crate::home::Home;
use crate::nights::Story;
use crate::report::KilledNight;
use crate::stage::{Stage, clock};

/// How long the first start may take to reach its training.
const PATIENCE: Duration = Duration::from_secs(180);

/// Plays it in a copy of the evening.
pub fn play(stage: &Stage<'_>, story: &Story) -> Result<KilledNight, Failure> {
    let (evening, day) = &story.evening;
    let home = evening.copy_to(&stage.dir.join("incidents/killed"))?;
    let server = stage.serve(&home, &stage.council(), *day)?;
    let before = stage.council_requests()?;
    let checkpoint = kill_in_training(stage, &home, *day)?;
    let after_kill = stage.council_requests()?;
    let (ran, _) = stage.with_crowd((&home, &server.url()), &stage.sets.day(stage.seed, day + 1), || {
        home.run(stage.ctx, "nightly", &[], &clock(day + 1), &[0, 5])
    })?;
    let again = stage.council_requests()? - after_kill;
    server.stop()?;
    let adapter = ran.json["train"]["adapter_id"].as_str();
    let same = adapter.is_some() && adapter == story.evening_adapter.as_deref();
    let resumed = ran.json["resumed"] == true && ran.json["steps"]["harvest"] == "done" && adapter.is_some();
    stage.ctx.printer.note(&format!(
        "  killed at {checkpoint}, {} council calls before; resumed from step {}, {again} calls again; {}",
        after_kill - before,
        ran.json["train"]["resumed_from_step"],
        if same {
            "the adapter is the one of the undisturbed night, byte for byte"
        } else {
            "another adapter"
        }
    ));
    Ok(KilledNight { killed_after: checkpoint, resumed, repeated_council_calls: again })
}

/// Starts the night and kills it with SIGKILL once its training has written a checkpoint.
fn kill_in_training(stage: &Stage<'_>, home: &Home, day: usize) -> Result<String, Failure> {
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
            return Ok(format!("training, {checkpoint}"));
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
