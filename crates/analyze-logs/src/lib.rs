//! Execution logs: what happened in them, what to change, and whether the change helped.

pub mod analyze;
pub mod read;
pub mod templates;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "analyze-logs",
    about: "Find patterns in execution logs and change the config where it helps",
    details: "",
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
    /// Give each line of a file of messages its template
    Templates(templates::Arguments),
}

/// Does what the command line asks.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Analyze(arguments) => analyze::run(ctx, arguments),
        Command::Templates(arguments) => templates::run(ctx, arguments),
    }
}
