//! The feedback loop: on a schedule, judge the changes that were made, analyze the logs, and make the next ones.
//!
//! One cycle at a time in a home (lock `analyze-logs-cycle`), one running loop (lock `analyze-logs-loop`); another
//! one is exit 7. Everything that outlives a cycle is in the store.

mod audit;
pub mod command;
mod queue;
mod record;
mod report;
mod run;
pub mod schedule;
mod select;
mod service;
mod stats;

use std::path::PathBuf;

use nightshift_core::config::{Loop, Split};
use nightshift_core::jiff::tz::TimeZone;

use crate::learning::Db;

/// What a cycle is to do: the settings, and what the command line says over them.
#[derive(Debug, Clone)]
struct Orders {
    settings: Loop,
    paths: Vec<String>,
    zone: TimeZone,
    target: Option<PathBuf>,
    rules: Option<PathBuf>,
    split: Option<Split>,
    db: Db,
}
