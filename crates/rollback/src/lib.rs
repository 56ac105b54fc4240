//! Emergency return to an earlier good state.
//!
//! Reads and writes the pointer in the store, `loras/current` and `loras/live/<n>/`; asks the server
//! whether it follows, but needs none. Exits 0, 1, 2, 3, 4, 6, 7, 9.

mod apply;
mod plan;
mod report;

use clap::Args;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, Outcome, Tool};
use serde_json::json;

use crate::plan::Plan;

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "rollback",
    about: "Make the newest earlier good state live again, `no adapter` included",
    details: "
Examples:
  rollback                        back to the newest good state before the present one
  rollback --reason 'wrong tone'  the reason goes into journal, ban list and summary
  rollback --to none              back to the base model alone
  rollback --to 20260301-4be81c09aa12
  rollback --to 7                 back to what generation 7 held
  rollback --dry-run              print what would be done

The adapter that is left is banned, unless --keep is given: it is never chosen again by itself, and
deploy refuses it. Nothing is copied and nothing is erased; going back is a new generation that holds
what an earlier one held. No server is needed: with the server down the store and loras/current are
set, and the server serves the old state when it starts. A dangling or foreign loras/current is
repaired; a folder in its place is refused.

A deployment under way does not stop a rollback: after two seconds it moves the pointer without
waiting for the lock, and the deployment notices and ends with exit 7.

Exit codes: 0 done, 1 failed (nothing was changed), 2 usage, 3 nothing to go back to, 4 refused,
6 done here, but the running server does not follow, 7 the pointer moved too often meanwhile, 9
config invalid.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Adapter, generation, or `none` for the base model alone [default: the newest good state]
    #[arg(long, value_name = "ID|GENERATION|none")]
    to: Option<String>,
    /// Why, for journal, ban list and summary
    #[arg(long, value_name = "TEXT", default_value = "asked for by hand")]
    reason: String,
    /// Do not ban the adapter that is left
    #[arg(long)]
    keep: bool,
    /// Go back to --to even if it is banned or was never good; lifts its ban
    #[arg(long, requires = "to")]
    force: bool,
}

/// Goes back, or says why not.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    if !ctx.paths.store().exists() {
        return Err(Failure::nothing("nothing was ever deployed here: this home has no store"));
    }
    if ctx.dry_run {
        let store = Store::open_read_only(&ctx.paths.store())?
            .ok_or_else(|| Failure::failed("the store belongs to another version of Nightshift"))?;
        let plan = Plan::make(ctx, &store, &arguments)?;
        return Ok(Outcome::done(&json!({"plan": plan}), plan.to_string()).status("planned"));
    }
    apply::run(ctx, &arguments)
}
