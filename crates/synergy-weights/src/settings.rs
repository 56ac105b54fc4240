//! The learner's settings: flags over environment over config.

use clap::Args;
use nightshift_core::{Ctx, Failure};

use crate::learn::{EntriesAre, LearnError, Options};

/// Flags of what learns.
#[derive(Debug, Clone, Args)]
pub(crate) struct LearnerFlags {
    /// actor_critic, dqn, double_dqn, td3 or sac [env: SYNERGY_LEARNER; default: actor_critic]
    #[arg(long, value_name = "NAME")]
    learner: Option<String>,
    /// The learner alone: not from the critic's weights, and adopted whatever comes of it
    #[arg(long)]
    from_scratch: bool,
    /// What the numbers of an entry are
    #[arg(long, value_name = "FORM", default_value = "auto", value_parser = ["deltas", "levels", "auto"])]
    entries_are: String,
    /// Rows that count: all, or those of one source_menace_id
    #[arg(long, value_name = "all|ID", default_value = "all")]
    pub(crate) scope: String,
}

impl Default for LearnerFlags {
    fn default() -> Self {
        Self { learner: None, from_scratch: false, entries_are: "auto".into(), scope: "all".into() }
    }
}

impl LearnerFlags {
    /// The options of a learner; a bad variable is exit 9, a bad flag 2.
    pub(crate) fn options(&self, ctx: &Ctx) -> Result<Options, Failure> {
        let mut options =
            Options { seed: ctx.seed.unwrap_or(0), from_scratch: self.from_scratch, ..Options::default() };
        let wrong = |error: LearnError| Failure::config(error.to_string());
        for name in Options::VARIABLES {
            if let Some(value) = ctx.env.get(name) {
                options.set(name, value).map_err(wrong)?;
            }
        }
        // The config has the environment laid over it already.
        let settings = &ctx.config.synergy;
        if let Some(rate) = settings.learning_rate {
            options.set("SYNERGY_WEIGHTS_LR", &rate.to_string()).map_err(wrong)?;
        }
        if let Some(learner) = &settings.learner {
            options.set("SYNERGY_LEARNER", learner).map_err(wrong)?;
        }
        if let Some(learner) = &self.learner {
            options.kind = learner.parse().map_err(|error: LearnError| Failure::usage(error.to_string()))?;
        }
        Ok(options)
    }

    /// How entries are read.
    pub(crate) fn entries(&self) -> Result<EntriesAre, Failure> {
        self.entries_are.parse().map_err(Failure::usage)
    }
}
