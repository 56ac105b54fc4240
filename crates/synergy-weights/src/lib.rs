//! Seven weights that say how much each synergy metric counts: learned from history, forecast,
//! exported, and never changed without evidence.

mod alert;
mod audit;
mod auto;
mod edit;
mod export;
mod history;
pub mod learn;
mod library;
mod picture;
mod place;
pub mod predict;
mod raster;
mod record;
mod report;
mod score;
mod settings;
mod train;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

use crate::place::Place;

pub use export::{Exporter, start_exporter};
pub use library::Weights;

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "synergy-weights",
    about: "Learn, show and export the seven synergy weights",
    details: "
Examples:
  synergy-weights show                              the weights that count, and where each comes from
  synergy-weights export --out weights.json         edit it, then: synergy-weights import weights.json
  synergy-weights train sandbox_data/synergy_history.db
  synergy-weights explain                           how sure each weight is; changes nothing
  synergy-weights history --plot                    how the weights moved, in the terminal and as SVG
  synergy-weights predict --series roi.csv          the next values of a series, with their interval
  synergy-weights score candidates.jsonl            rank patches by the weights
  synergy-weights export-metrics                    /metrics and /health on 127.0.0.1:8003
  synergy-weights auto-train --interval 600         follow the history; each row counts once

Files are those of other programs and keep their form: synergy_weights.json, synergy_weights.log,
synergy_history.db and last_ts.json in the data folder (SANDBOX_DATA_DIR). SYNERGY_WEIGHT_ROI and its
sisters stand over the file. Weights, log, learner and progress are written as one step: a crash leaves
all of it or nothing.

Exit codes: 0 done, 1 failed and nothing was changed, 2 usage, 3 nothing to do, 4 refused (a value or
file that is not what it should be), 7 a file is held by another program, 9 config invalid.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The weights file [env: SYNERGY_WEIGHT_FILE; default: synergy_weights.json in the data folder]
    #[arg(long, global = true, value_name = "FILE")]
    path: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the weights that count, and where each comes from
    Show,
    /// Write the weights to a file or stdout
    Export(edit::Export),
    /// Take weights over from a file
    Import(edit::Import),
    /// Learn from a history and write the weights
    Train(train::Train),
    /// Say how sure each weight is
    Explain(train::Explain),
    /// Set every weight to 1
    Reset(edit::Why),
    /// Show or draw the log of changes
    History(history::Arguments),
    /// Append to the history
    Record(record::Arguments),
    /// Rank candidate patches
    Score(score::Arguments),
    /// Forecast a series
    Predict(predict::Arguments),
    /// Serve the newest history entry to Prometheus
    ExportMetrics(export::Arguments),
    /// Train on new history entries by itself
    AutoTrain(auto::Arguments),
}

/// Does what the command line asks.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let path = arguments.path;
    let place = || Place::new(ctx, path.as_deref());
    match arguments.command {
        Command::Show => edit::show(ctx, &place()?),
        Command::Export(arguments) => edit::export(ctx, &place()?, &arguments),
        Command::Import(arguments) => edit::import(ctx, &place()?, &arguments),
        Command::Train(arguments) => train::train(ctx, &place()?, &arguments),
        Command::Explain(arguments) => train::explain(ctx, &place()?, &arguments),
        Command::Reset(why) => edit::reset(ctx, &place()?, &why),
        Command::History(arguments) => history::run(ctx, &arguments),
        Command::Record(arguments) => record::run(ctx, &arguments),
        Command::Score(arguments) => score::run(ctx, &place()?, &arguments),
        Command::Predict(arguments) => predict::run(ctx, arguments),
        Command::ExportMetrics(arguments) => export::run(ctx, &arguments),
        Command::AutoTrain(arguments) => auto::run(ctx, path.as_deref(), &arguments),
    }
}
