//! `deploy --status`: what is live, how it came there, and whether everything agrees.

use std::fmt::Write;
use std::path::Path;

use nightshift_core::audit::audit;
use nightshift_core::deployment;
use nightshift_core::pointer;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, Outcome};
use serde_json::json;

/// Lines of history and of deployments that are shown.
const SHOWN: usize = 10;

pub(crate) fn run(ctx: &Ctx) -> Result<Outcome, Failure> {
    let store = Store::open_read_only(&ctx.paths.store())?
        .ok_or_else(|| Failure::nothing("nothing was ever deployed here: this home has no store"))?;
    let target = &ctx.config.target;
    let live = pointer::read(store.read(), target)?;
    let mut history = pointer::history(store.read(), target)?;
    history.truncate(SHOWN);
    let deployments = deployment::list(store.read(), target, SHOWN)?;
    // Half-done work is no problem while somebody is at it. (Trying the lock would disturb whoever wants it.)
    let open = deployment::open(store.read(), target)?;
    let idle = open.is_none_or(|row| !Path::new("/proc").join(row.pid.to_string()).exists());
    let problems = audit(ctx, &store, idle)?;
    let mut text = format!(
        "live: {} (generation {}{})",
        live.effective(&ctx.clock).unwrap_or("the base model alone"),
        live.generation,
        if live.tentative { ", tentative" } else { "" }
    );
    for past in &history {
        let adapter = past.adapter_id.as_deref().unwrap_or("no adapter");
        let _ =
            write!(text, "\n  {:>4} {} {adapter} ({}): {}", past.generation, past.at, past.state, past.why);
    }
    for row in &deployments {
        let candidate = row.candidate.as_deref().unwrap_or("?");
        let reason = row.reason.as_deref().unwrap_or_default();
        let _ = write!(text, "\n  {} {candidate}: {} {reason}", row.started_at, row.state);
    }
    for problem in &problems {
        let _ = write!(text, "\nproblem: {problem}");
    }
    if !problems.is_empty() {
        text.push_str("\nhint: deploy --recover repairs what follows from the store");
    }
    let fields = json!({"pointer": live, "history": history, "deployments": deployments, "idle": idle, "problems": problems});
    Ok(Outcome::done(&fields, text).status(if problems.is_empty() { "consistent" } else { "inconsistent" }))
}
