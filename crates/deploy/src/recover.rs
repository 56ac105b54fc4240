//! Finishing or undoing what a killed deployment left.
//!
//! A deployer holds the lock `loras` until it has ended, and the kernel frees the lock of a dead one. So
//! whoever holds the lock knows that an open row and a tentative pointer belong to nobody. Running this
//! twice does the same as running it once.

use nightshift_core::deployment::{self, Deployment};
use nightshift_core::pointer::{self, Pointer};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, Outcome, files};
use serde_json::{Value, json};

use crate::record::{self, Step};
use crate::revert::{TakeBack, take_back};

/// `deploy --recover`.
pub(crate) fn command(ctx: &Ctx) -> Result<Outcome, Failure> {
    if ctx.dry_run {
        let done: Vec<String> = match Store::open_read_only(&ctx.paths.store())? {
            Some(store) => unfinished(ctx, &store)?,
            None => Vec::new(),
        };
        return Ok(Outcome::done(&json!({"would_recover": done}), said(&done)).status("planned"));
    }
    let _lock = ctx.lock("loras")?;
    let mut store = ctx.store()?;
    let done = run(ctx, &mut store)?;
    let live = pointer::read(store.read(), &ctx.config.target)?;
    Ok(Outcome::done(&json!({"recovered": done, "pointer": live}), said(&done)))
}

fn said(done: &[String]) -> String {
    if done.is_empty() { "nothing was left unfinished".into() } else { done.join("\n") }
}

/// Recovers under the lock `loras`; what was done, in words.
pub(crate) fn run(ctx: &Ctx, store: &mut Store) -> Result<Vec<String>, Failure> {
    let done = unfinished(ctx, store)?;
    let live = pointer::read(store.read(), &ctx.config.target)?;
    let open = deployment::open(store.read(), &ctx.config.target)?;
    if live.tentative {
        take_back_abandoned(ctx, store, &live, open.as_ref())?;
    } else if let Some(open) = open {
        close(ctx, store, &open)?;
    }
    ctx.reconcile(store)?;
    rewrite_summary(ctx, store)?;
    Ok(done)
}

/// What there is to recover.
fn unfinished(ctx: &Ctx, store: &Store) -> Result<Vec<String>, Failure> {
    let live = pointer::read(store.read(), &ctx.config.target)?;
    let mut done = Vec::new();
    if live.tentative {
        let adapter = live.adapter_id.as_deref().unwrap_or("no adapter");
        done.push(format!("generation {} ({adapter}) was never confirmed: taken back", live.generation));
    }
    if let Some(open) = deployment::open(store.read(), &ctx.config.target)? {
        done.push(format!(
            "deployment {} ended in state `{}` without saying so: closed",
            open.id, open.state
        ));
    }
    Ok(done)
}

fn take_back_abandoned(
    ctx: &Ctx,
    store: &mut Store,
    live: &Pointer,
    open: Option<&Deployment>,
) -> Result<(), Failure> {
    let back = TakeBack {
        id: open.filter(|row| Some(&row.id) == live.deployment_id.as_ref()).map(|row| row.id.as_str()),
        from: live,
        why: "the deployment died before the candidate was confirmed",
        alarm: false,
        ban: false,
        state: "abandoned",
        ends: true,
        watch: None,
    };
    take_back(ctx, store, &back).map(|_| ())
}

/// An open row whose pointer is settled: a revert that only lacks its end, or a deployment that never
/// exposed anything, or one whose pointer somebody else moved.
fn close(ctx: &Ctx, store: &mut Store, open: &Deployment) -> Result<(), Failure> {
    let step = if open.state == "reverting" {
        Step { state: "rolled_back", ends: true, ..Step::default() }
    } else {
        Step { state: "abandoned", ends: true, reason: Some("its process died"), ..Step::default() }
    };
    store.write(|tx| record::step(ctx, tx, &open.id, &step))
}

/// Puts the summary of the live generation where it belongs, if a crash lost it.
fn rewrite_summary(ctx: &Ctx, store: &Store) -> Result<(), Failure> {
    let live = pointer::read(store.read(), &ctx.config.target)?;
    let Some(id) = &live.deployment_id else { return Ok(()) };
    let kept = deployment::by_id(store.read(), id)?.and_then(|row| row.watch).unwrap_or(Value::Null);
    let (Some(file), summary) = (kept["file"].as_str(), &kept["summary"]) else { return Ok(()) };
    let folder = pointer::live_dir(&ctx.paths, live.generation);
    let there =
        files::read(&folder.join(file)).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if kept["generation"] != live.generation || there.as_ref() == Some(summary) {
        return Ok(());
    }
    pointer::write_summary(&folder, file, summary)
}
