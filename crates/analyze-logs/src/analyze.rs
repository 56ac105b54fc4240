//! `analyze`.

use clap::Args;
use nightshift_core::{Ctx, Failure, Outcome};

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs it.
pub fn run(_ctx: &Ctx, _arguments: Arguments) -> Result<Outcome, Failure> {
    Err(Failure::failed("under construction"))
}
