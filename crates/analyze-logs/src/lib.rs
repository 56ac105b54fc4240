//! Execution logs: what happened in them, what to change, and whether the change helped.
//!
//! Reads logs (JSON lines of many dialects), with --incremental writes `learning.db`; exits 0, 1, 2, 3, 7, 9.

pub mod analyze;
pub mod detect;
mod incremental;
pub mod learning;
pub mod line;
pub mod pattern;
pub mod read;
pub mod recommend;
pub mod recommendation;
mod report;
mod reports;
pub mod series;
pub mod tally;
pub mod templates;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "analyze-logs",
    about: "Read execution logs: counts, times and costs by operation, bad lines, templates",
    details: "
Examples:
  analyze-logs analyze logs/                        every log in a folder, rotated and compressed ones too
  analyze-logs analyze 'logs/agent-*.jsonl' --since 2026-03-01 --json
  zcat old.gz | analyze-logs analyze -
  analyze-logs analyze logs/ --incremental          read only what is new, report everything
  analyze-logs analyze part-7.jsonl --state-out 7.state
  analyze-logs merge *.state                        one answer for what many machines read

Dialects may be mixed in one file. A line that cannot be used is counted by class and named with file
and byte offset; the rest is used, and the exit is 0. Further keys: analyze_logs.roles in nightshift.yaml.

Exit codes: 0 done, 1 nothing could be read, 2 usage, 3 no log lines there, 7 another one reads, 9 config invalid.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read logs and say what is in them
    Analyze(analyze::Arguments),
    /// Merge what several machines have counted
    Merge(analyze::MergeArguments),
    /// Findings that the store holds
    Patterns(learning::PatternsArguments),
    /// Improvements that the store holds
    Improvements(learning::ImprovementsArguments),
    /// Metrics that the store holds
    Metrics(learning::MetricsArguments),
    /// Correlations that the store holds
    Correlations(learning::CorrelationsArguments),
    /// Recommendations that the store holds
    Recommendations(learning::RecommendationsArguments),
    /// Count what the store holds, and drop what is old
    Store(learning::StoreArguments),
    /// Give each line of a file of messages its template
    Templates(templates::Arguments),
}

/// Does what the command line asks.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Analyze(arguments) => analyze::run(ctx, arguments),
        Command::Merge(arguments) => analyze::merge(ctx, arguments),
        Command::Patterns(arguments) => learning::patterns(ctx, arguments),
        Command::Improvements(arguments) => learning::improvements(ctx, arguments),
        Command::Metrics(arguments) => learning::metrics(ctx, arguments),
        Command::Correlations(arguments) => learning::correlations(ctx, arguments),
        Command::Recommendations(arguments) => learning::recommendations(ctx, arguments),
        Command::Store(arguments) => learning::store(ctx, arguments),
        Command::Templates(arguments) => templates::run(ctx, arguments),
    }
}
