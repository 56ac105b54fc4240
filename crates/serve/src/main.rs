//! The binary `serve`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::process::on_huge_pages();
    nightshift_core::cli::main(nightshift_serve::TOOL, nightshift_serve::run)
}
