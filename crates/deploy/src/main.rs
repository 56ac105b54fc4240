//! The program `deploy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_deploy::TOOL, nightshift_deploy::run)
}
