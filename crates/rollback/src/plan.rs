//! What a rollback would do: pure reading, printable.

use std::fmt;

use nightshift_core::pointer::{self, Past, Pointer};
use nightshift_core::restore::{self, GoodState};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, files, release};
use serde::Serialize;

use crate::Arguments;

/// A checked plan.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// What is left.
    pub(crate) from: Pointer,
    /// What becomes live again.
    pub(crate) to: GoodState,
    /// The adapter that is banned with it.
    pub(crate) bans: Option<String>,
    /// The ban on the wanted adapter is lifted.
    pub(crate) lifts_ban: bool,
    /// Why.
    pub(crate) reason: String,
    /// What is wrong with `loras/current`, which is repaired.
    pub(crate) link: Option<String>,
}

impl Plan {
    /// Decides where to go back to. Changes nothing.
    pub(crate) fn make(ctx: &Ctx, store: &Store, arguments: &Arguments) -> Result<Self, Failure> {
        let from = pointer::read(store.read(), &ctx.config.target)?;
        if from.generation == 0 {
            return Err(Failure::nothing("nothing was ever deployed here: the base model is live"));
        }
        let (to, lifts_ban) = match arguments.to.as_deref() {
            None => (newest(ctx, store, &from)?, false),
            Some(wanted) => chosen(ctx, store, &from, wanted, arguments.force)?,
        };
        Ok(Self {
            bans: from.adapter_id.clone().filter(|_| !arguments.keep),
            to,
            lifts_ban,
            reason: arguments.reason.clone(),
            link: link_trouble(ctx, &from),
            from,
        })
    }
}

fn newest(ctx: &Ctx, store: &Store, from: &Pointer) -> Result<GoodState, Failure> {
    restore::newest_restorable(ctx, store)?.ok_or_else(|| {
        let live = from.adapter_id.as_deref().unwrap_or("the base model alone");
        Failure::nothing(format!(
            "there is nothing to go back to: {live} is live, and no other good state is known"
        ))
        .hint("deploy --status shows the history; --to names a state")
    })
}

/// The state that `--to` means, and whether a ban has to be lifted for it.
fn chosen(
    ctx: &Ctx,
    store: &Store,
    from: &Pointer,
    wanted: &str,
    force: bool,
) -> Result<(GoodState, bool), Failure> {
    let history = pointer::history(store.read(), &ctx.config.target)?;
    let unknown = || {
        Failure::refused(format!("`{wanted}` was never live here")).hint("deploy --status shows the history")
    };
    let adapter_id = if wanted == "none" {
        None
    } else if let Ok(generation) = wanted.parse::<i64>() {
        let past = history.iter().find(|past| past.generation == generation);
        // Before the first generation the base model was live.
        if generation == 0 { None } else { past.ok_or_else(unknown)?.adapter_id.clone() }
    } else {
        Some(wanted.to_owned())
    };
    if adapter_id == from.adapter_id {
        let live = adapter_id.as_deref().unwrap_or("the base model alone");
        return Err(Failure::nothing(format!("{live} is what the pointer names already")));
    }
    let of_it: Vec<&Past> = history.iter().filter(|past| past.adapter_id == adapter_id).collect();
    let good = || of_it.iter().filter(|past| past.state == "good");
    let Some(adapter) = &adapter_id else {
        let generation = of_it.first().map_or(0, |past| past.generation);
        return Ok((GoodState { generation, adapter_id, original: 0 }, false));
    };
    let newest = good().next().or(of_it.first()).ok_or_else(unknown)?;
    let original = good().next_back().unwrap_or(newest);
    let known = release::by_id(store.read(), adapter)?.ok_or_else(unknown)?;
    let banned = known.status == "bad";
    if banned && !force {
        let why = known.reason.as_deref().unwrap_or("no reason was recorded");
        return Err(Failure::refused(format!("{adapter} is banned: {why}"))
            .hint("add --force to lift the ban and make it live again"));
    }
    if good().next().is_none() && !force {
        return Err(Failure::refused(format!("{adapter} was live, but never confirmed as good"))
            .hint("deploy it through gate and watch, or add --force"));
    }
    release::verify(&ctx.paths.loras().join(adapter))?;
    let state = GoodState {
        generation: newest.generation,
        adapter_id: adapter_id.clone(),
        original: original.generation,
    };
    Ok((state, banned))
}

/// What is wrong with `loras/current`, in words.
fn link_trouble(ctx: &Ctx, from: &Pointer) -> Option<String> {
    let link = ctx.paths.loras().join("current");
    let wanted = format!("live/{}", from.generation);
    match files::read_link(&link) {
        Some(target) if target.as_os_str() == wanted.as_str() && link.exists() => None,
        Some(target) if target.as_os_str() == wanted.as_str() => {
            Some(format!("it leads to nothing ({wanted})"))
        }
        Some(target) => Some(format!("it leads to {} instead of {wanted}", target.display())),
        None => Some("it is missing".into()),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |adapter: &Option<String>| adapter.clone().unwrap_or_else(|| "the base model alone".into());
        write!(
            f,
            "from {} (generation {}) back to {}",
            named(&self.from.adapter_id),
            self.from.generation,
            named(&self.to.adapter_id)
        )?;
        match self.to.original {
            0 => write!(f, ", as before the first deployment")?,
            original => write!(f, ", first live in generation {original}")?,
        }
        if let Some(adapter) = &self.bans {
            write!(f, "\n  ban {adapter}: {}", self.reason)?;
        }
        if self.lifts_ban {
            write!(f, "\n  lift the ban on {} (--force)", named(&self.to.adapter_id))?;
        }
        if let Some(trouble) = &self.link {
            write!(f, "\n  repair loras/current: {trouble}")?;
        }
        Ok(())
    }
}
