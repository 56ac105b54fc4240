//! Tells the program that reads the config that it has changed: a signal, an HTTP request, a command, in this
//! order, whichever are set. All of them are tried; one that fails is named.

use std::time::Duration;

use nightshift_core::config::{Reload, ReloadSignal};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail, files, process};
use nightshift_net::openai::{Client, ClientOptions, Timeouts};
use serde::{Deserialize, Serialize};

use super::record::{self, ConfigChange};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// `pending` (not told yet), `done` or `failed`.
    pub state: String,
    /// What was told, or what went wrong.
    pub detail: String,
}

impl Reloaded {
    /// What is recorded with the change, so that a crash before the telling is made up for.
    pub(super) fn pending(ctx: &Ctx) -> Option<Self> {
        let wanted = ctx.config.analyze_logs.reload.is_set();
        wanted.then(|| Self { state: "pending".into(), detail: "not told yet".into() })
    }

    /// Whether the program could not be told.
    pub fn failed(&self) -> bool {
        self.state == "failed"
    }
}

/// Tells, and records what came of it.
pub(super) fn run(ctx: &Ctx, store: &mut Store, change: &mut ConfigChange) -> Result<(), Failure> {
    let settings = &ctx.config.analyze_logs.reload;
    if !settings.is_set() {
        return Ok(());
    }
    let outcome = tell(ctx, settings, change);
    let reloaded = match outcome {
        Ok(told) => Reloaded { state: "done".into(), detail: told },
        Err(failure) => {
            ctx.printer.note(&format!("the reload failed: {}", failure.chain()));
            Reloaded { state: "failed".into(), detail: failure.chain() }
        }
    };
    change.reload = Some(reloaded);
    store.write(|tx| record::reloaded(tx, change))
}

fn tell(ctx: &Ctx, settings: &Reload, change: &ConfigChange) -> Result<String, Failure> {
    let limit = Duration::from_secs_f64(settings.timeout_s);
    let mut told = Vec::new();
    let mut wrong = Vec::new();
    let mut keep = |outcome: Result<String, Failure>| match outcome {
        Ok(text) => told.push(text),
        Err(failure) => wrong.push(failure.chain()),
    };
    if let Some(signal) = &settings.signal {
        keep(send_signal(ctx, signal));
    }
    if let Some(url) = &settings.http {
        keep(post(url, limit, change));
    }
    if !settings.command.is_empty() {
        keep(command(ctx, &settings.command, limit, change));
    }
    if wrong.is_empty() { Ok(told.join("; ")) } else { Err(Failure::failed(wrong.join("; "))) }
}

fn send_signal(ctx: &Ctx, signal: &ReloadSignal) -> Result<String, Failure> {
    let path = ctx.paths.home().join(&signal.pid_file);
    let text = files::read_text(&path)?;
    let pid: i32 =
        text.trim().parse().or_fail(|| format!("{} does not hold a process id", path.display()))?;
    process::signal(pid, &signal.signal)?;
    Ok(format!("{} to process {pid}", signal.signal))
}

/// `POST` with what changed; any 2xx is well.
fn post(url: &str, limit: Duration, change: &ConfigChange) -> Result<String, Failure> {
    let body = serde_json::json!({
        "change": change.id, "file": change.file, "key_path": change.key_path, "status": change.status.name(),
    });
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let (server, path) = url.split_at(url[host..].find('/').map_or(url.len(), |slash| host + slash));
    let timeouts = Timeouts { total: limit, ..Timeouts::default() };
    let client = Client::new(ClientOptions::new(server).timeouts(timeouts))
        .or_fail(|| "analyze_logs.reload.http".into())?;
    client.post_text(path, &body).or_fail(|| "the reload request failed".into())?;
    Ok(format!("POST to {}", client.server()))
}

fn command(ctx: &Ctx, words: &[String], limit: Duration, change: &ConfigChange) -> Result<String, Failure> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Failure::config("analyze_logs.reload.command is empty"))?;
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .current_dir(ctx.paths.home())
        .env("NIGHTSHIFT_CHANGED_FILE", &change.file)
        .env("NIGHTSHIFT_CHANGED_KEY", change.key_path.to_string());
    let ended = process::run(command, limit, &ctx.clock, &ctx.stop)?;
    if ended.code == 0 {
        return Ok(format!("`{program}`"));
    }
    let how = if ended.timed_out { "ran out of time".to_owned() } else { format!("exited {}", ended.code) };
    let said = ended.stderr.trim();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(Failure::failed(format!("`{program}` {how}{said}")))
}
