//! Seven weights that say how much each synergy metric counts: learned from history, forecast,
//! exported, and never changed without evidence.

pub mod learn;
pub mod predict;
mod raster;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What the program says of itself.
pub const TOOL: Tool =
    Tool { name: "synergy-weights", about: "Learn, show and export the seven synergy weights", details: "" };

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forecast a series
    Predict(predict::Arguments),
}

/// Does what the command line asks.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Predict(arguments) => predict::run(ctx, arguments),
    }
}
