//! The program `harvest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_harvest::TOOL, nightshift_harvest::run)
}
