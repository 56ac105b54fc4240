//! Settings: flags > environment > `nightshift.yaml` > defaults.
//!
//! Flags are each tool's own; this module does the other three. A bad file stops every tool
//! with exit 9, file, line, column and a suggestion.

mod analyze_logs;
mod forms;
mod improve;
mod load;
mod schema;
mod synergy;

pub use analyze_logs::{AnalyzeLogs, Objectives, OnReloadFailure, Reload, ReloadSignal, Words};
pub use forms::Ordered;
pub use improve::{Guard, Judge, Loop, Mode, Split, Unproven};
pub use load::{load, nearest, parse};
pub use schema::{
    Config, Council, Deploy, Dtype, Engine, Harvest, Keep, Member, MemberPrompt, Memory, Nightly, Notify,
    Objective, Overlong, Quantize, Rule, Scan, Schedule, Scorer, Serve, Train,
};
pub use synergy::Synergy;
