//! `nightly demo`: hands over to the sibling program that makes the demo's world.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use nightshift_core::{Ctx, Failure, Outcome, process};

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Nights
    #[arg(long)]
    nights: Option<usize>,
    /// Folder of the demo's home and results (default: a new temporary one)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where trained models are kept for later runs
    #[arg(long)]
    cache_dir: Option<PathBuf>,
    /// A smaller world, one night: what the tests run
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(ctx: &Ctx, args: &DemoArgs) -> Result<Outcome, Failure> {
    let mut command = Command::new(process::sibling("nightshift-demo")?);
    if let Some(nights) = args.nights {
        command.arg("--nights").arg(nights.to_string());
    }
    for (flag, value) in [("--dir", &args.dir), ("--cache-dir", &args.cache_dir)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    if args.quick {
        command.arg("--quick");
    }
    if ctx.printer.is_json() {
        command.arg("--json");
    }
    if let Some(seed) = ctx.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    // The demo takes this program's place: its output and exit code are the answer.
    let error = command.exec();
    Err(Failure::failed("the demo cannot be started").because(error))
}
