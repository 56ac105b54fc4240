//! Seven weights that say how much each synergy metric counts: learned from history, forecast,
//! exported, and never changed without evidence.

mod audit;
mod edit;
mod export;
mod history;
pub mod learn;
mod picture;
mod place;
pub mod predict;
mod raster;
mod record;
mod report;
mod score;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

use crate::place::Place;

pub use export::{Exporter, start_exporter};

/// What the program says of itself.
pub const TOOL: Tool =
    Tool { name: "synergy-weights", about: "Learn, show and export the seven synergy weights", details: "" };

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
}

/// Does what the command line asks.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let path = arguments.path;
    let place = || Place::new(ctx, path.as_deref());
    match arguments.command {
        Command::Show => edit::show(ctx, &place()?),
        Command::Export(arguments) => edit::export(ctx, &place()?, &arguments),
        Command::Import(arguments) => edit::import(ctx, &place()?, &arguments),
        Command::Reset(why) => edit::reset(ctx, &place()?, &why),
        Command::History(arguments) => history::run(ctx, &arguments),
        Command::Record(arguments) => record::run(ctx, &arguments),
        Command::Score(arguments) => score::run(ctx, &place()?, &arguments),
        Command::Predict(arguments) => predict::run(ctx, arguments),
        Command::ExportMetrics(arguments) => export::run(ctx, &arguments),
    }
}
