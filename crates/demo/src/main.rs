//! `nightshift-demo`: what `nightly demo` starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::cli::main(nightshift_demo::TOOL, nightshift_demo::run)
}
