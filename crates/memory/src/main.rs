//! The program `memory`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_memory::TOOL, nightshift_memory::run)
}
