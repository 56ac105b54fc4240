//! From a recommendation to a config change that can be taken back.
//!
//! [`plan()`] reads only: it finds the rule, the key and the new value, and makes the diff. [`apply()`] writes it:
//! the intent is in the store before the file is touched, so that after a crash at any instant [`repair()`]
//! finishes or undoes it. [`keep`] and [`revert()`] end a change; until then no other change of the same key is
//! applied. Every step has a journal entry in the transaction that makes it.
//!
//! Refusals are [`Failure`]s with exit 4 (recorded as `refused`), failed writes ones with exit 1 (recorded as
//! `failed`); the file is then as it was.

mod apply;
pub mod command;
mod diff;
pub mod edit;
mod file;
mod path;
mod plan;
mod record;
mod reload;
mod repair;
mod report;
mod revert;
pub mod rules;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nightshift_core::lock::Lock;
use nightshift_core::{Ctx, Failure};

pub use apply::apply;
pub use path::KeyPath;
pub use plan::{Planned, Verdict, plan};
pub use record::{ConfigChange, Filter, Status, find, keep, list};
pub use reload::Reloaded;
pub use repair::{Repaired, repair};
pub use revert::{newest, revert};
pub use rules::Rules;

/// How long another process may hold the lock over config changes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The config that may be changed, and the rules by which.
#[derive(Debug)]
pub struct Target {
    /// The file as the user named it; a link is followed when it is read and written.
    pub file: PathBuf,
    /// What may be changed in it.
    pub rules: Rules,
}

impl Target {
    /// The file with the rules of `rules`, of `analyze_logs.rules`, or the shipped ones that fit its shape.
    pub fn open(ctx: &Ctx, file: &Path, rules: Option<&Path>) -> Result<Self, Failure> {
        let configured = || ctx.config.analyze_logs.rules.as_ref().map(|path| ctx.paths.home().join(path));
        let rules = if let Some(path) = rules.map(Path::to_owned).or_else(configured) {
            Rules::read(&path)?
        } else {
            Rules::shipped_for(&file::ConfigFile::read(file)?.documents()?, file)?
        };
        Ok(Self { file: file.to_owned(), rules })
    }
}

/// The lock over everything that changes a config or its record.
fn lock(ctx: &Ctx) -> Result<Lock, Failure> {
    Lock::wait(&ctx.paths.lock("config-changes"), ctx.tool, PATIENCE, &ctx.clock, &ctx.stop)
}
