//! The whole pipeline as one resumable run per target and date; what cron calls.
//!
//! Starts `memory`, `harvest`, `train-lora` and `deploy` by their command lines and branches on their
//! exit codes only. Steps, deadlines and results are rows of `runs` and `run_steps`: a killed night
//! goes on where it was, a stuck step is ended and said.

mod cleanup;
mod demo;
mod night;
mod notify;
mod record;
mod status;
mod steps;

use clap::{Args, Subcommand};
use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "nightly",
    about: "Run the whole improvement pipeline once a night, resumably",
    details: "
Steps: preflight, harvest, train, deploy, validate, cleanup. One run per target and date: started
again while it runs it is busy (7), started again after it ended it does nothing (already_done).

Examples:
  nightly                      tonight's run; put it in the crontab: 0 2 * * * .../cron/nightly_improvement.sh
  nightly --dry-run            the steps with their limits
  nightly status               one sentence per night, newest first
  nightly demo                 watch the loop close on a small world that is made on the spot

Exit codes: 0 ended (also when there was nothing to do or the gate refused; the verdict is in the
JSON), 1 failed, 5 an adapter regressed and was taken back, 6 a person is needed, 7 running already,
8 the server or the council is unavailable, 9 config invalid, 10 a deadline ended it; run again to resume.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One sentence per night, newest first
    Status {
        /// Most nights
        #[arg(long, default_value_t = 14)]
        limit: usize,
    },
    /// Watch the loop close on a small world that is made on the spot
    Demo(demo::DemoArgs),
}

/// Runs the program.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        None => night::run(ctx),
        Some(Command::Status { limit }) => status::run(ctx, limit),
        Some(Command::Demo(args)) => demo::run(ctx, &args),
    }
}
