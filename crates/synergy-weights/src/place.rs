//! Which files the program works on, and what the environment says of the weights.

use std::path::{Path, PathBuf};

use nightshift_core::synergy::start::{Start, overrides};
use nightshift_core::synergy::weights::{self, Held, Loaded};
use nightshift_core::{Ctx, Failure};

/// The weights file, its log, and what stands over and under the file.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The weights file.
    pub(crate) path: PathBuf,
    /// The log of changes.
    pub(crate) log: PathBuf,
    /// Weights of a missing file or key.
    pub(crate) start: Start,
    /// Weights that the environment sets.
    pub(crate) overrides: [Option<f64>; 7],
}

impl Place {
    /// `--path`, else the configured file, else the one in the data folder.
    pub(crate) fn new(ctx: &Ctx, path: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self {
            path: path.map_or_else(|| weights_file(ctx), Path::to_owned),
            log: log_file(ctx),
            start: Start::from_env(&ctx.env),
            overrides: overrides(&ctx.env)?,
        })
    }

    /// The weights that count, overrides included; what was odd is said.
    pub(crate) fn load(&self, ctx: &Ctx) -> Result<Loaded, Failure> {
        let loaded = weights::read(&self.path, &self.start)?;
        say(ctx, &loaded);
        Ok(loaded.overridden(&self.overrides))
    }

    /// Takes the file for a change.
    pub(crate) fn hold(&self, ctx: &Ctx) -> Result<Held, Failure> {
        Held::take(&self.path, ctx.tool, &ctx.clock, &ctx.stop)
    }

    /// Names of the weights that the environment keeps where they are, for a note after a change.
    pub(crate) fn overridden(&self) -> Vec<&'static str> {
        let names = nightshift_core::env::SYNERGY_WEIGHTS.into_iter().zip(&self.overrides);
        names.filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }
}

/// Says what was wrong with a file.
pub(crate) fn say(ctx: &Ctx, loaded: &Loaded) {
    for note in &loaded.notes {
        ctx.printer.note(&format!("note: {note}"));
    }
}

/// The weights file when none is given.
pub(crate) fn weights_file(ctx: &Ctx) -> PathBuf {
    let set = ctx.config.synergy.weights.as_ref();
    set.map_or_else(|| ctx.paths.data().join("synergy_weights.json"), |path| ctx.paths.home().join(path))
}

/// The history when none is given.
pub(crate) fn history_file(ctx: &Ctx) -> PathBuf {
    let set = ctx.config.synergy.history.as_ref();
    set.map_or_else(|| ctx.paths.data().join("synergy_history.db"), |path| ctx.paths.home().join(path))
}

/// The log of changes.
pub(crate) fn log_file(ctx: &Ctx) -> PathBuf {
    ctx.paths.data().join("synergy_weights.log")
}
