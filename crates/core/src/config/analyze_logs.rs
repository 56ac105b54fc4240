//! Settings of `analyze-logs`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::forms::Ordered;
use super::improve::{Judge, Loop};

/// How logs are read, and from where on something in them counts as a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnalyzeLogs {
    /// Further keys by role (`tool`, `duration_ms`, ...), before the built-in ones; `a/b` is key `b` in the object `a`.
    pub roles: Ordered<Vec<String>>,
    /// Further words for events and operations.
    pub words: Words,
    /// Longest line in MiB; longer ones are skipped and counted.
    pub max_line_mib: usize,
    /// Fewest equal errors that are a pattern.
    pub min_error_occurrences: u64,
    /// Seconds above which a call is slow.
    pub slow_operation_threshold: f64,
    /// US dollars above which a call is expensive.
    pub high_cost_threshold: f64,
    /// Seconds above which a call counts as one that ran into its limit.
    pub timeout_threshold: f64,
    /// When changes are made.
    #[serde(rename = "loop")]
    pub cycle: Loop,
    /// When they stay.
    pub judge: Judge,
    /// What savings are worth when recommendations are ranked.
    pub objectives: Objectives,
    /// Days after which findings, metrics and closed improvements leave the store; 0 keeps everything.
    pub keep_days: u32,
    /// The config that `plan` and `apply` change, where --target-config is not given.
    pub target_config: Option<PathBuf>,
    /// Rules file of config changes; the shipped rules that fit the config when absent.
    pub rules: Option<PathBuf>,
    /// How the program that reads the changed config is told.
    pub reload: Reload,
    /// Share of findings of statistical tests that may be false.
    pub false_discovery_rate: f64,
    /// Share of calls that may fail; bursts are measured in multiples of it.
    pub error_budget: f64,
    /// Days within which the crossing of a limit is forecast.
    pub forecast_days: f64,
}

impl Default for AnalyzeLogs {
    fn default() -> Self {
        Self {
            roles: Ordered::default(),
            words: Words::default(),
            max_line_mib: 16,
            min_error_occurrences: 3,
            slow_operation_threshold: 5.0,
            high_cost_threshold: 0.10,
            timeout_threshold: 30.0,
            cycle: Loop::default(),
            judge: Judge::default(),
            objectives: Objectives::default(),
            keep_days: 365,
            target_config: None,
            rules: None,
            reload: Reload::default(),
            false_discovery_rate: 0.01,
            error_budget: 0.01,
            forecast_days: 14.0,
        }
    }
}

/// Weights of the three things that a change can save; 0 leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objectives {
    /// Of seconds.
    pub time: f64,
    /// Of US dollars.
    pub money: f64,
    /// Of failed calls.
    pub failures: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self { time: 1.0, money: 1.0, failures: 1.0 }
    }
}

/// How a program is told that its config has changed; whichever are set, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// A signal to the process whose id a file holds.
    pub signal: Option<ReloadSignal>,
    /// URL that is sent a `POST` with what changed.
    pub http: Option<String>,
    /// Program and arguments; `NIGHTSHIFT_CHANGED_FILE` and `NIGHTSHIFT_CHANGED_KEY` say what changed.
    pub command: Vec<String>,
    /// Seconds that request and command may take, each.
    pub timeout_s: f64,
    /// What becomes of a change whose reload failed.
    pub on_failure: OnReloadFailure,
}

impl Reload {
    /// Whether anything is to be told.
    pub const fn is_set(&self) -> bool {
        self.signal.is_some() || self.http.is_some() || !self.command.is_empty()
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            signal: None,
            http: None,
            command: Vec::new(),
            timeout_s: 30.0,
            on_failure: OnReloadFailure::Keep,
        }
    }
}

/// A signal to a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadSignal {
    /// File that holds the process id.
    pub pid_file: PathBuf,
    /// `HUP`, `USR1`, `USR2`, `INT` or `TERM`.
    #[serde(default = "hup")]
    pub signal: String,
}

fn hup() -> String {
    "HUP".into()
}

/// What becomes of a change whose reload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReloadFailure {
    /// It stays, and the failure is said.
    Keep,
    /// It is taken back.
    Revert,
}

/// Words of an event's or operation's name, by what they stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Words {
    /// A tool ran.
    pub tool: Vec<String>,
    /// A model answered.
    pub llm: Vec<String>,
    /// A task ended.
    pub task: Vec<String>,
}
