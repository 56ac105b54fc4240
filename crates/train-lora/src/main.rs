//! LoRA fine-tuning; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_core::process::on_huge_pages();
    nightshift_core::cli::main(nightshift_train_lora::TOOL, nightshift_train_lora::run)
}
