//! The `--json` object of `rollback`.

use serde::Serialize;

/// What a rollback did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The adapter that was left; `none` for the base model.
    pub(crate) from: String,
    /// What is live again; `none` for the base model.
    pub(crate) to: String,
    /// Generation of the pointer now.
    pub(crate) generation: i64,
    /// The generation that first brought what is live again; 0 is the time before the first deployment.
    pub(crate) restores_generation: i64,
    /// The adapter that was banned.
    pub(crate) banned: Option<String>,
    /// Why.
    pub(crate) reason: String,
    /// What was wrong with `loras/current` and is repaired.
    pub(crate) link_repaired: Option<String>,
    /// False when a deployment held the lock: the rollback went ahead without it.
    pub(crate) lock_held: bool,
    /// The deployment that was under way, or had died.
    pub(crate) unfinished_deployment: Option<String>,
    /// following, not_following or down.
    pub(crate) server: &'static str,
    /// What the server was seen doing instead.
    pub(crate) server_detail: Option<String>,
    /// Seconds from the start to the end of the waiting.
    pub(crate) seconds: f64,
    /// The summary beside what is live again.
    pub(crate) summary: String,
}
