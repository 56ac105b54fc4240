//! What `serve` prints under `--json`: one line when ready, one when it ends.

use std::path::PathBuf;

use serde::Serialize;

/// The line of a server that takes requests; also the content of `--ready-file`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    /// `serve`.
    pub(crate) tool: &'static str,
    /// `ready`.
    pub(crate) status: &'static str,
    /// Where it listens, the port resolved.
    pub(crate) address: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Name of the served model.
    pub(crate) target: String,
    /// The base model's folder.
    pub(crate) base: PathBuf,
    /// Its fingerprint.
    pub(crate) base_fingerprint: String,
    /// The live adapter.
    pub(crate) adapter: Option<String>,
    /// Pointer generation that answers.
    pub(crate) generation: i64,
    /// Whether the pointer is followed.
    pub(crate) follow: bool,
    /// Whether exchanges are recorded.
    pub(crate) record: bool,
    /// Seconds from the start to ready.
    pub(crate) seconds: f64,
}

/// The fields of the last line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stopped {
    /// Where it listened.
    pub(crate) address: String,
    /// Requests that the model answered or failed to answer.
    pub(crate) requests: u64,
    /// Of these, answered without failure.
    pub(crate) succeeded: u64,
    /// Requests whose client went away.
    pub(crate) cancelled: u64,
    /// Exchanges on file.
    pub(crate) recorded: u64,
    /// Adapter switches.
    pub(crate) switches: u64,
    /// Whether every request under way was answered before the limit.
    pub(crate) drained: bool,
    /// Seconds it was ready.
    pub(crate) seconds: f64,
}

/// What `--dry-run` found out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Where it would listen.
    pub(crate) listen: String,
    /// Name of the served model.
    pub(crate) target: String,
    /// The base model's folder.
    pub(crate) base: PathBuf,
    /// Its fingerprint.
    pub(crate) base_fingerprint: String,
    /// Number of its weights.
    pub(crate) parameters: usize,
    /// Longest prompt and answer together, tokens.
    pub(crate) context: usize,
    /// Whether it has a chat template.
    pub(crate) chat_template: bool,
    /// The adapter that would be live.
    pub(crate) adapter: Option<String>,
    /// Whether the pointer would be followed.
    pub(crate) follow: bool,
    /// Whether exchanges would be recorded.
    pub(crate) record: bool,
}
