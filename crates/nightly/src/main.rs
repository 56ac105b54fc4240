//! The program `nightly`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_nightly::TOOL, nightshift_nightly::run)
}
