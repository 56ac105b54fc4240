//! Makes execution logs in three dialects, with planted problems, and the truth about them.
//!
//!     generate_logs --out logs.jsonl --truth truth.json [--mb 500] [--days 7] [--seed 1] [--clean] [--no-garbage] [--draw]

mod counted;
mod ledger;
mod lines;
mod plan;
mod texts;
mod week;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nightshift_core::{Failure, OrFail, files};

#[derive(Debug, Parser)]
struct Arguments {
    /// The log
    #[arg(long)]
    out: PathBuf,
    /// The truth about it
    #[arg(long)]
    truth: PathBuf,
    /// About how many megabytes (10^6)
    #[arg(long, default_value_t = 500.0)]
    mb: f64,
    /// Days that it spans
    #[arg(long, default_value_t = 7)]
    days: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant nothing
    #[arg(long)]
    clean: bool,
    /// No broken lines
    #[arg(long)]
    no_garbage: bool,
    /// Draw the fleet and its problems from the seed, in short lines without broken ones
    #[arg(long)]
    draw: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "generate_logs: {}", failure.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = world::Plan {
        seed: arguments.seed,
        bytes: (arguments.mb * 1e6) as u64,
        days: arguments.days.max(1),
        clean: arguments.clean,
        garbage: !arguments.no_garbage,
    };
    let mut truth = None;
    files::write_atomic_with(&arguments.out, |file| {
        truth = Some(if arguments.draw {
            serde_json::to_value(week::generate(&plan, file)?)
        } else {
            serde_json::to_value(world::generate(&plan, file)?)
        });
        Ok(())
    })?;
    let told = || "cannot write the truth".into();
    let truth = serde_json::to_vec_pretty(&truth.transpose().or_fail(told)?).or_fail(told)?;
    files::write_atomic(&arguments.truth, &truth)?;
    Ok(())
}
