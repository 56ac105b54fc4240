//! The program `synergy-weights`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_synergy_weights::TOOL, nightshift_synergy_weights::run)
}
