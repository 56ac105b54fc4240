//! The program `analyze-logs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_analyze_logs::TOOL, nightshift_analyze_logs::run)
}
