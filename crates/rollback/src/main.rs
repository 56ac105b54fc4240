//! The program `rollback`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_rollback::TOOL, nightshift_rollback::run)
}
