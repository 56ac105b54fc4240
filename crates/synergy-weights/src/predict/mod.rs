//! `predict`: a forecast of one series, or of each metric of a history.

use clap::Args;
use nightshift_core::{Ctx, Failure, Outcome};

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Forecasts.
pub fn run(_ctx: &Ctx, _arguments: Arguments) -> Result<Outcome, Failure> {
    Err(Failure::failed("under construction"))
}
