//! Execution logs: what happened in them, what to change, and whether the change helped.
//!
//! Reads logs (JSON lines of many dialects); writes `learning.db` and, when told to, one key of a config at a time.
//! Exits 0, 1, 2, 3, 4, 5, 6, 7, 9.

pub mod analyze;
mod beside;
pub mod change;
pub mod cycle;
pub mod detect;
mod incremental;
pub mod judge;
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
    about: "Read execution logs, find what stands out, and change a config so that it proves itself",
    details: "
Examples:
  analyze-logs analyze logs/                        every log in a folder, rotated and compressed ones too
  analyze-logs analyze 'logs/agent-*.jsonl' --since 2026-03-01 --json
  zcat old.gz | analyze-logs analyze -
  analyze-logs analyze logs/ --incremental          read only what is new, report everything
  analyze-logs analyze part-7.jsonl --state-out 7.state
  analyze-logs merge *.state                        one answer for what many machines read
  analyze-logs analyze logs/ --json > report.json
  analyze-logs plan --from report.json --target-config config.yaml    the diff, nothing is changed
  analyze-logs apply --from report.json --target-config config.yaml
  analyze-logs rollback --last
  analyze-logs loop run --target-config config.yaml --dry-run         one cycle of the feedback loop
  analyze-logs judge --operation tool:web --at 2026-03-02T02:00:00Z logs/

Dialects may be mixed in one file. A line that cannot be used is counted by class and named with file
and byte offset; the rest is used, and the exit is 0. Further keys: analyze_logs.roles in nightshift.yaml.

Exit codes: 0 done, 1 failed, 2 usage, 3 nothing there (log lines, applicable changes), 4 a change was
refused or waits for approval, 5 a change was taken back, 6 one could not be taken back, 7 another one is
at it, 9 config invalid.",
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
    /// Keep or revert the changes that wait for a verdict; or compare two sides of an operation
    Judge(judge::command::Arguments),
    /// The feedback loop: judge, analyze, recommend, apply, on a schedule
    Loop(cycle::command::LoopArguments),
    /// Apply a change that waits for approval
    Approve(cycle::command::ApproveArguments),
    /// Turn a change down that waits for approval
    Reject(cycle::command::RejectArguments),
    /// Changes that wait for approval
    List(cycle::command::ListArguments),
    /// What came of the changes so far
    Stats(cycle::command::StatsArguments),
    /// What this program changed, with the chain of the journal checked
    Audit(cycle::command::AuditArguments),
    /// Give each line of a file of messages its template
    Templates(templates::Arguments),
    /// Show what recommendations would change in a config, as a diff
    Plan(change::command::PlanArguments),
    /// Make the changes that plan shows
    Apply(change::command::PlanArguments),
    /// Take a config change back: its key alone, if nobody edited that since
    Rollback(change::command::RollbackArguments),
    /// Confirm a config change: its key may be changed again
    Keep(change::command::KeepArguments),
    /// List the config changes
    Changes(change::command::ListArguments),
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
        Command::Judge(arguments) => judge::command::run(ctx, arguments),
        Command::Loop(arguments) => cycle::command::run_loop(ctx, arguments),
        Command::Approve(arguments) => cycle::command::approve(ctx, arguments),
        Command::Reject(arguments) => cycle::command::reject(ctx, arguments),
        Command::List(arguments) => cycle::command::list(ctx, arguments),
        Command::Stats(arguments) => cycle::command::stats(ctx, arguments),
        Command::Audit(arguments) => cycle::command::audit(ctx, arguments),
        Command::Templates(arguments) => templates::run(ctx, arguments),
        Command::Plan(arguments) => change::command::run_plan(ctx, arguments),
        Command::Apply(arguments) => change::command::run_apply(ctx, arguments),
        Command::Rollback(arguments) => change::command::run_rollback(ctx, arguments),
        Command::Keep(arguments) => change::command::run_keep(ctx, arguments),
        Command::Changes(arguments) => change::command::run_list(ctx, arguments),
    }
}
