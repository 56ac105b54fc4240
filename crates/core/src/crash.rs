//! Crash points: named instants at which a test kills the process for real.
//!
//! `NIGHTSHIFT_CRASH_AT=name` makes the process send itself SIGKILL when it reaches the point.
//! The names are listed in `POINTS`, so that a test can visit every one of them.

use crate::env::{Env, NIGHTSHIFT_CRASH_AT};

/// Every crash point of the workspace.
pub const POINTS: &[&str] = &[
    "memory.drained",
    "harvest.answer_stored",
    "harvest.decided",
    "harvest.written",
    "train.stepped",
    "train.evaluated",
    "train.best_kept",
    "train.checkpoint_staged",
    "train.checkpointed",
    "train.staged",
    "train.published",
    "deploy.gated",
    "deploy.pointer_moved",
    "deploy.link_moved",
    "deploy.watched",
    "deploy.reverting",
    "nightly.step_ended",
    "analyze_logs.commit",
    "change.intended",
    "change.staged",
    "change.written",
    "change.recorded",
    "change.reverting",
    "change.undone",
    "change.reverted",
    "cycle.begun",
    "cycle.repaired",
    "cycle.looked",
    "cycle.judged",
    "cycle.analyzed",
    "cycle.applied",
    "cycle.stored",
    "commit.write",
];

/// Which crash point is armed in this process.
#[derive(Debug, Clone, Default)]
pub struct CrashPoint(Option<String>);

impl CrashPoint {
    /// As the environment says.
    pub fn from_env(env: &Env) -> Self {
        Self(env.get(NIGHTSHIFT_CRASH_AT).map(str::to_owned))
    }

    /// Kills the process if this point is armed. `name` must be one of [`POINTS`];
    /// `detail` narrows it (`name:detail` arms only that one).
    pub fn reach(&self, name: &str, detail: &str) {
        debug_assert!(POINTS.contains(&name), "unlisted crash point {name}");
        let Some(armed) = &self.0 else { return };
        if armed == name
            || armed.strip_prefix(name).is_some_and(|rest| rest.strip_prefix(':') == Some(detail))
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
